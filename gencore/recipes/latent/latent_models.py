"""The models that the recipe glf names, for images of a shape."""

from collections.abc import Sequence

from torch import nn

from gencore.metrics import ClassifierFeatures
from gencore.models import VAE, Autoencoder, CouplingFlow, GaussianLikelihood, half_squared_error
from gencore.nn import MLP, InfoGANDecoder, InfoGANEncoder, PerceptualDistance
from gencore.recipes.latent.glf import GLFRecipe

__all__ = [
    "classifier_distance",
    "make_adversary",
    "make_autoencoder",
    "make_decoder",
    "make_flow",
    "make_second_vae",
    "make_vae",
]


def make_autoencoder(
    recipe: GLFRecipe, shape: Sequence[int], distance: nn.Module | None = None
) -> Autoencoder:
    """The networks of Table 3.6 with the recipe's widths."""
    encoder, decoder = _networks(recipe, shape, recipe.latent_size, sigmoid=True)
    return Autoencoder(
        encoder, decoder, recipe.latent_size,
        distance=half_squared_error if distance is None else distance,
    )  # fmt: skip


def make_decoder(recipe: GLFRecipe, shape: Sequence[int]) -> nn.Module:
    """The decoder of the autoencoder alone."""
    return _networks(recipe, shape, recipe.latent_size, sigmoid=True)[1]


def make_flow(recipe: GLFRecipe) -> CouplingFlow:
    """The flow of Figure 3.1(b), whose couplings have three fully connected layers each."""
    return CouplingFlow(
        recipe.latent_size,
        num_layers=2 * recipe.flow_blocks,
        hidden_widths=(recipe.flow_width,) * 2,
        mixing="permutation",
    )


def make_vae(recipe: GLFRecipe, shape: Sequence[int]) -> VAE:
    """A VAE with the same networks, whose encoder's last layer is twice as wide."""
    is_gaussian = recipe.likelihood == "gaussian"
    encoder, decoder = _networks(recipe, shape, 2 * recipe.latent_size, sigmoid=is_gaussian)
    return VAE(
        encoder,
        decoder,
        recipe.latent_size,
        prior=make_flow(recipe) if recipe.model == "vae-flow-prior" else None,
        likelihood=GaussianLikelihood(learned=recipe.learn_scale) if is_gaussian else "bernoulli",
        recon_weight=recipe.recon_weight,
    )


def make_second_vae(recipe: GLFRecipe) -> VAE:
    """The VAE of the latents of the first one."""
    size, widths = recipe.latent_size, (recipe.second_width,) * recipe.second_layers
    encoder = MLP(size, widths, 2 * size, activation="relu", zero_last=False)
    decoder = MLP(size, widths, size, activation="relu", zero_last=False)
    return VAE(encoder, decoder, size, likelihood=GaussianLikelihood(learned=True))


def make_adversary(recipe: GLFRecipe) -> MLP:
    """The adversary of the codes: four hidden layers of rectified units."""
    widths = (recipe.adversary_width,) * 4
    return MLP(recipe.latent_size, widths, 1, activation="relu", zero_last=False)


def classifier_distance(features: ClassifierFeatures) -> PerceptualDistance:
    """The distance in the features after each rectification of a classifier."""
    layers = list(features.body)
    ends = [place + 1 for place, layer in enumerate(layers) if isinstance(layer, nn.ReLU)]
    starts = [0, *ends[:-1]]
    return PerceptualDistance(
        [nn.Sequential(*layers[start:end]) for start, end in zip(starts, ends, strict=True)]
    )


def _networks(
    recipe: GLFRecipe, shape: Sequence[int], encoded: int, *, sigmoid: bool
) -> tuple[InfoGANEncoder, InfoGANDecoder]:
    sizes = {"channels": recipe.channels, "hidden_features": recipe.hidden_features}
    try:
        return (
            InfoGANEncoder(shape, encoded, **sizes),
            InfoGANDecoder(recipe.latent_size, shape, sigmoid=sigmoid, **sizes),
        )
    except ValueError as error:
        _, height, width = shape
        raise ValueError(
            f"GLFRecipe: the images are {height}x{width}; expected sides that are multiples of 4 "
            "(set image_size)"
        ) from error
