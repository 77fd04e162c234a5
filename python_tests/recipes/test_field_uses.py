"""Options that would have no effect with the others are refused, and left out of presets."""

import dataclasses

import pytest

from gencore.recipes.adversarial.gan import GANRecipe
from gencore.recipes.autoregressive.agave import AGAVERecipe
from gencore.recipes.autoregressive.nade import NADERecipe
from gencore.recipes.autoregressive.pixelcnn import PixelCNNRecipe
from gencore.recipes.autoregressive.pixelrnn import PixelRNNRecipe
from gencore.recipes.autoregressive.vqvae import VQVAERecipe
from gencore.recipes.ebm.multigrid import MultiGridRecipe
from gencore.recipes.hybrids.avade import AVADERecipe

# Settings, one more that has no effect with them, and what it has an effect with.
WITHOUT_EFFECT = [
    (PixelCNNRecipe, {"model": "gated"}, {"dropout": 0.5}, "model pixelcnn++"),
    (PixelCNNRecipe, {"model": "pixelcnn"}, {"num_scales": 2}, "model pixelcnn++"),
    (PixelCNNRecipe, {"model": "gated"}, {"weight_norm": True}, "model pixelcnn++"),
    (PixelCNNRecipe, {"model": "pixelcnn++"}, {"kernel_size": 5}, "model pixelcnn or gated"),
    (PixelCNNRecipe, {"model": "pixelcnn++"}, {"output_channels": 8}, "model pixelcnn or gated"),
    (PixelCNNRecipe, {"model": "gated"}, {"num_components": 5}, "likelihood mixture, or auto"),
    (
        PixelCNNRecipe, {"model": "pixelcnn++", "likelihood": "categorical"},
        {"num_components": 5}, "likelihood mixture, or auto and model pixelcnn++",
    ),
    (PixelRNNRecipe, {"model": "row_lstm"}, {"factor": 4}, "model multiscale"),
    (PixelRNNRecipe, {"model": "diagonal_bilstm"}, {"kernel_size": 5}, "model row_lstm"),
    (NADERecipe, {"model": "darn"}, {"hidden_widths": (5,)}, "model nade or eonade or made"),
    (NADERecipe, {"model": "nade"}, {"latents": (5,)}, "model darn"),
    (NADERecipe, {"model": "eonade"}, {"num_masks": 2}, "model made"),
    (NADERecipe, {"model": "made"}, {"order_agnostic": True}, "model made and num_masks above 1"),
    (VQVAERecipe, {"update": "loss"}, {"decay": 0.5}, "update ema"),
    (MultiGridRecipe, {"chains": "data"}, {"buffer_size": 99}, "chains persistent"),
    (AGAVERecipe, {"model": "pixelcnn"}, {"iaf_steps": 1}, "model agave or vae or naive"),
    (AGAVERecipe, {"model": "auxiliary-pixelcnn"}, {"latent_size": 4}, "model agave or vae"),
    (AGAVERecipe, {"model": "pixelcnn"}, {"target": "grey"}, "model agave or naive or shallow"),
    (AGAVERecipe, {"model": "vae"}, {"target_bins": 4}, "model agave or naive or shallow"),
    (AGAVERecipe, {"model": "agave"}, {"target_factor": 4}, "target small and model agave"),
    (AGAVERecipe, {"model": "naive"}, {"kl_weight": 8.0}, "model agave"),
    (AGAVERecipe, {"model": "naive"}, {"pretrain_steps": 3}, "model agave"),
    (AGAVERecipe, {"model": "vae"}, {"auxiliary_drop_step": 3}, "model agave"),
    (AGAVERecipe, {"model": "shallow"}, {"num_scales": 2}, "model agave or pixelcnn or naive or g"),
    (AGAVERecipe, {"model": "shallow"}, {"dropout": 0.5}, "model agave or pixelcnn or naive or g"),
    (AGAVERecipe, {"model": "vae"}, {"channels": 4}, "model agave or pixelcnn or naive"),
    (AVADERecipe, {"model": "vade"}, {"gradient_penalty": 1.0}, "model gan or avgde or avade"),
    (AVADERecipe, {"model": "gan"}, {"adversarial_weight": 1.0}, "model avgde or avade"),
    (AVADERecipe, {"model": "avgde"}, {"flow_channels": 4}, "model vade or avade"),
    (AVADERecipe, {"model": "vade"}, {"train_features": True}, "model avade"),
]  # fmt: skip


@pytest.mark.parametrize(("recipe", "settings", "extra", "what"), WITHOUT_EFFECT)
def test_what_has_no_effect_is_refused(recipe, settings, extra, what):
    ((name, value),) = extra.items()
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        recipe(**settings, **extra)
    start = f"{recipe.__name__}: {name} is {value!r}, but it has an effect with {what}"
    assert str(raised.value).startswith(start)
    # Its default is no choice of anyone's.
    default = {field.name: field.default for field in dataclasses.fields(recipe)}[name]
    assert recipe(**settings, **{name: default}) == recipe(**settings)


@pytest.mark.parametrize(
    "recipe",
    [
        AGAVERecipe,
        AVADERecipe,
        GANRecipe,
        MultiGridRecipe,
        NADERecipe,
        PixelCNNRecipe,
        PixelRNNRecipe,
        VQVAERecipe,
    ],
)
def test_what_is_named_are_fields_that_shape_a_run(recipe):
    assert recipe.used_by.keys() <= recipe().fields().keys() - recipe.changeable


class TestPresets:
    @pytest.mark.parametrize("name", AGAVERecipe.presets)
    @pytest.mark.parametrize("model", ["vae", "pixelcnn", "shallow", "auxiliary-pixelcnn"])
    def test_other_models_have_what_they_use_of_a_preset(self, name, model):
        preset, default = AGAVERecipe.presets[name], AGAVERecipe().fields()
        # The command line gives a preset's values once more.
        for again in ({}, preset):
            fields = AGAVERecipe.preset(name, **{**again, "model": model}).fields()
            for field, value in preset.items():
                use = AGAVERecipe.used_by.get(field)
                used = use is None or use.holds(fields)
                assert fields[field] == (value if used else default[field]), field

    def test_what_a_user_adds_is_refused(self):
        with pytest.raises(ValueError, match=r"kl_weight is 3\.0, but it has an effect with model"):
            AGAVERecipe.preset("lucas2020", model="pixelcnn", kl_weight=3.0)
