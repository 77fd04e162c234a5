"""The dynamic generator and its learning by alternating back-propagation through time."""

import math

import pytest
import torch
from testing.bump_films import circling_film
from torch import Tensor, nn

from gencore.inference import LatentChains, LatentLangevin
from gencore.models import DynamicGenerator, LinearDynamics
from gencore.nn import MLP, StateTransition
from gencore.recipes.video.hidden_pixels import copy_previous, hide_frames

_LENGTH, _STATES, _NOISE, _PIXELS, _STD = 6, 2, 1, 3, 1.5
_MATRICES = {
    "a": torch.tensor([[0.8, -0.4], [0.3, 0.7]], dtype=torch.float64),
    "b": torch.tensor([[0.5], [-0.9]], dtype=torch.float64),
    "c": torch.tensor([[1.0, 0.2], [-0.4, 0.9], [0.3, -0.6]], dtype=torch.float64),
}


def _linear_model(reduction="sum") -> DynamicGenerator:
    """s_t = A s_{t−1} + B ξ_t, x_t = C s_t + ε_t."""
    transition = StateTransition(_STATES, _NOISE, (), residual=False, bounded=False)
    emission = nn.Linear(_STATES, _PIXELS, bias=False)
    model = DynamicGenerator(transition, emission, noise_std=_STD, reduction=reduction).double()
    with torch.no_grad():
        layer = transition.network.last
        layer.weight.copy_(torch.cat([_MATRICES["a"], _MATRICES["b"]], 1))
        layer.bias.zero_()
        emission.weight.copy_(_MATRICES["c"])
    return model


def _map(a: Tensor, b: Tensor, c: Tensor, length: int = _LENGTH) -> Tensor:
    """H [T·D, T·Z + S] with x = H (ξ, s_0): blocks C A^{t−k} B and C A^t."""
    rows = []
    for t in range(1, length + 1):
        blocks = [
            c @ torch.linalg.matrix_power(a, t - k) @ b if k <= t else torch.zeros_like(c @ b)
            for k in range(1, length + 1)
        ]
        rows.append(torch.cat([*blocks, c @ torch.linalg.matrix_power(a, t)], 1))
    return torch.cat(rows)


def _posterior(x: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and covariance of (ξ, s_0) given a film [T, D], in closed form."""
    h, x = _map(**_MATRICES), x.flatten()
    if visible is not None:
        h, x = h[visible.flatten()], x[visible.flatten()]
    precision = torch.eye(h.shape[1], dtype=torch.float64) + h.T @ h / _STD**2
    covariance = torch.linalg.inv(precision)
    return covariance @ h.T @ x / _STD**2, covariance


def _film(generator: torch.Generator) -> Tensor:
    return torch.randn(_LENGTH, _PIXELS, dtype=torch.float64, generator=generator)


def _small_model(**settings) -> DynamicGenerator:
    """Nonlinear, in float64, with frames [4]."""
    torch.manual_seed(1)
    code_size = settings.pop("code_size", 0)
    size = 3 + settings.get("appearance_size", 0)
    emission = nn.Sequential(nn.Linear(size, 6), nn.Tanh(), nn.Linear(6, 4))
    transition = StateTransition(3, 2, (5,), code_size=code_size, activation="tanh")
    return DynamicGenerator(transition, emission, **settings).double()


class TestModel:
    def test_g16_a_film_is_a_function_of_its_latents(self):
        model = _small_model(appearance_size=2, code_size=1)
        latents = model.prior_latents(3, 5)
        film = model.reconstruct(latents)
        assert film.shape == (3, 5, 4)
        assert torch.equal(film, model.reconstruct(latents))
        assert torch.equal(film, model.sample(3, 5, latents=latents))
        assert not torch.equal(film, model.sample(3, 5, latents={"start": latents["start"]}))

    def test_burn_in_is_the_beginning_of_a_longer_film(self):
        model = _small_model()
        latents = model.prior_latents(2, 9)
        whole = model.sample(2, 9, latents=latents)
        torch.testing.assert_close(model.sample(2, 4, burn_in=5, latents=latents), whole[:, 5:])

    def test_films_do_not_depend_on_how_they_are_split(self):
        model, key = _small_model(), torch.tensor([3, 4])
        whole = model.sample(5, 4, key=key)
        part = model.sample(2, 4, key=key, first=3)
        torch.testing.assert_close(part, whole[3:])

    def test_g16_linear_networks_are_a_linear_dynamical_system(self):
        model = _linear_model()
        latents = model.prior_latents(4, _LENGTH)
        a, b, c = _MATRICES.values()
        system = LinearDynamics(a, b, c, torch.zeros(_PIXELS).double(), _STD, a @ a.T + b @ b.T)
        states = system.states(latents["start"], latents["noise"])
        torch.testing.assert_close(model.states(latents), states)
        torch.testing.assert_close(model.decode(latents), system.decode(states))
        z = torch.cat([latents["noise"].flatten(1), latents["start"]], 1)
        torch.testing.assert_close(model.decode(latents).flatten(1), z @ _map(a, b, c).T)

    def test_g16_one_frame_is_a_static_generator(self):
        model = _small_model(noise_std=0.3)
        latents = model.prior_latents(5, 1)
        image = torch.randn(5, 4, dtype=torch.float64)
        layers = [*model.transition.network.layers]
        hidden = torch.cat([latents["start"], latents["noise"][:, 0]], 1)
        state = (latents["start"] + layers[2](layers[1](layers[0](hidden)))).tanh()
        error = (image - model.emission(state)).square().sum(1) / 0.3**2
        prior = hidden.square().sum(1)
        torch.testing.assert_close(
            model.log_joint(image.unsqueeze(1), latents), -0.5 * (error + prior)
        )

    def test_the_mean_over_frames_divides_the_likelihood_by_their_number(self):
        latents, film = _linear_model().prior_latents(2, 6), torch.randn(2, 6, 3).double()
        whole = _linear_model().log_likelihood(film, latents)
        torch.testing.assert_close(_linear_model("mean").log_likelihood(film, latents), whole / 6)

    def test_codes_are_fixed_over_time(self):
        model = _small_model(appearance_size=2, code_size=1)
        torch.nn.init.zeros_(model.transition.network.last.weight)
        torch.nn.init.zeros_(model.transition.network.last.bias)
        latents = model.prior_latents(1, 4)
        still = {**latents, "start": torch.zeros(1, 3).double()}
        film = model.reconstruct(still)
        torch.testing.assert_close(film, film[:, :1].expand_as(film))

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda m: m.sample(2, 0), "num_frames is 0"),
            (lambda m: m.sample(2, 3, burn_in=-1), "burn_in -1"),
            (lambda m: m.sample(2, 3, latents={"nose": torch.zeros(2, 3, 2)}), "LatentShapes.pack"),
            (lambda m: m.sample(2, 3, latents={"start": torch.zeros(2, 4)}), "LatentShapes.pack"),
            (lambda m: m.log_joint(torch.zeros(2, 3, 5), m.prior_latents(2, 3)), "frames are"),
            (lambda m: m.interpolate({}, {}, 3), "codes are"),
            (lambda m: m.decode({"start": torch.zeros(1, 3), "noise": torch.zeros(2, 3, 2)}),
             "noise"),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_told(self, call, message):
        with pytest.raises(ValueError, match=message):
            call(_small_model())

    def test_settings_that_do_not_fit_are_told(self):
        transition, emission = StateTransition(3, 2), nn.Linear(3, 4)
        with pytest.raises(ValueError, match="noise_std is 0"):
            DynamicGenerator(transition, emission, noise_std=0.0)
        with pytest.raises(ValueError, match="reduction"):
            DynamicGenerator(transition, emission, reduction="max")
        with pytest.raises(ValueError, match="emission network"):
            DynamicGenerator(transition, emission, appearance_size=2)
        with pytest.raises(ValueError, match="appearance_size is -1"):
            DynamicGenerator(transition, emission, appearance_size=-1)


class TestGradients:
    def test_gradcheck(self):
        model = _small_model(appearance_size=2, code_size=1, noise_std=0.6)
        film = torch.randn(2, 4, 4, dtype=torch.float64)
        latents = model.prior_latents(2, 4)
        names, values = list(latents), [latent.requires_grad_() for latent in latents.values()]

        def joint(*values):
            return model.log_joint(film, dict(zip(names, values, strict=True)))

        assert torch.autograd.gradcheck(joint, values)

    def test_g17_noise_moves_its_own_frame_and_later_ones(self):
        """(3.9), with the sum from t_0 on; as printed it begins one frame late."""
        model = _small_model()
        latents, film = model.prior_latents(1, 5), torch.randn(1, 5, 4).double()
        noise = latents["noise"].requires_grad_()
        jacobian = torch.autograd.functional.jacobian(
            lambda noise: model.decode({**latents, "noise": noise})[0], noise
        )[:, :, 0]  # [t, pixels, t_0, Z]
        (grad,) = torch.autograd.grad(model.log_joint(film, latents).sum(), noise)
        error = (film - model.decode(latents)).detach()[0]
        for t0 in range(5):
            assert not jacobian[:t0, :, t0].any()
            terms = torch.einsum("td,tdz->tz", error, jacobian[:, :, t0])
            torch.testing.assert_close(grad[0, t0], terms[t0:].sum(0) - noise[0, t0].detach())
            assert terms[t0].abs().max() > 1e-3

    def test_g17_gradients_of_linear_networks(self):
        """(3.7) and (3.8), the latter by its recursion ∂s_t = A ∂s_{t−1} + (∂A) s_{t−1}."""
        model = _linear_model()
        latents, film = model.prior_latents(1, _LENGTH), torch.randn(1, _LENGTH, 3).double()
        model.log_likelihood(film, latents).sum().backward()
        a, _, c = _MATRICES.values()
        states = model.states(latents).detach()[0]
        error = (film[0] - states @ c.T) / _STD**2
        torch.testing.assert_close(model.emission.weight.grad, error.T @ states)
        by_a = torch.zeros(_STATES, _STATES, dtype=torch.float64)
        before = torch.cat([latents["start"], states[:-1]])
        for row in range(_STATES):
            for column in range(_STATES):
                change = torch.zeros(_STATES, dtype=torch.float64)
                for t in range(_LENGTH):
                    change = a @ change
                    change[row] += before[t, column]
                    by_a[row, column] += error[t] @ c @ change
        grad = model.transition.network.last.weight.grad[:, :_STATES]
        torch.testing.assert_close(grad, by_a)


class TestPosterior:
    """The linear model, whose posterior is Gaussian and known."""

    def _run(self, num: int, langevin: LatentLangevin) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        model, film = _linear_model(), _film(generator)
        films = film.expand(num, -1, -1)
        latents = model.infer(films, langevin, generator=generator)
        return film, torch.cat([latents["noise"].flatten(1), latents["start"]], 1)

    def _check(self, z: Tensor, mean: Tensor, covariance: Tensor) -> None:
        # Five standard errors of a mean, and of a product's: var(uv) = Σ_uu Σ_vv + Σ_uv².
        num, variance = len(z), covariance.diagonal()
        assert ((z.mean(0) - mean).abs() < 5 * (variance / num).sqrt()).all()
        error = 5 * ((variance[:, None] * variance + covariance.square()) / num).sqrt()
        assert ((z.T.cov() - covariance).abs() < error).all()

    def test_g17_langevin_has_the_mean_and_the_covariance_of_its_step(self):
        """With precision Λ and step a = δ²/2 the chain's covariance is (Λ (I − aΛ/2))⁻¹."""
        film, z = self._run(4000, LatentLangevin(step_std=0.5, num_steps=70))
        mean, covariance = _posterior(film)
        precision = torch.linalg.inv(covariance)
        identity = torch.eye(len(mean), dtype=torch.float64)
        own = torch.linalg.inv(precision @ (identity - 0.5**2 / 4 * precision))
        assert (own - covariance).abs().max() > 0.01  # the step's bias is large enough to be seen
        self._check(z, mean, own)

    def test_g17_the_correction_leaves_no_bias(self):
        langevin = LatentLangevin(step_std=0.6, num_steps=80, metropolis=True)
        film, z = self._run(4000, langevin)
        self._check(z, *_posterior(film))

    def test_g17_without_noise_chains_climb_to_the_mode(self):
        film, z = self._run(3, LatentLangevin(step_std=0.5, num_steps=200, noise=False))
        torch.testing.assert_close(z, _posterior(film)[0].expand(3, -1), rtol=1e-6, atol=1e-6)

    def test_g17_the_mean_gradient_over_the_posterior_is_that_of_the_marginal(self):
        """Fisher's identity (3.3), by the exact log p(x) = log N(0, H Hᵀ + σ² I)."""
        num, generator = 6000, torch.Generator().manual_seed(0)
        model, film = _linear_model(), _film(generator)
        langevin = LatentLangevin(step_std=0.6, num_steps=80, metropolis=True)
        latents = model.infer(film.expand(num, -1, -1), langevin, generator=generator)
        a, b, c = (matrix.clone().requires_grad_() for matrix in _MATRICES.values())
        h = _map(a, b, c)
        covariance = h @ h.T + _STD**2 * torch.eye(len(h), dtype=torch.float64)
        exact = torch.distributions.MultivariateNormal(torch.zeros(len(h)).double(), covariance)
        by_a, by_b, by_c = torch.autograd.grad(exact.log_prob(film.flatten()), (a, b, c))

        names = dict(model.named_parameters())

        def joint(weights, film, noise, start):
            given = {"noise": noise[None], "start": start[None]}
            return torch.func.functional_call(
                _Joint(model), {f"model.{name}": w for name, w in weights.items()},
                (film[None], given),
            ).sum()  # fmt: skip

        weights = {name: parameter.detach() for name, parameter in names.items()}
        grads = torch.func.vmap(torch.func.grad(joint), (None, None, 0, 0))(
            weights, film, latents["noise"], latents["start"]
        )
        pairs = {
            "transition.network.layers.0.weight": torch.cat([by_a, by_b], 1),
            "emission.weight": by_c,
        }
        for name, expected in pairs.items():
            found = grads[name]
            error = 5 * found.std(0) / math.sqrt(num)
            assert ((found.mean(0) - expected).abs() < error).all()
            assert (error < 0.2 * expected.abs().max()).all()

    def test_g17_a_warm_start_goes_on_with_the_chains(self):
        model, generator = _linear_model(), torch.Generator().manual_seed(0)
        films = torch.stack([_film(generator) for _ in range(4)])
        start, index = model.prior_latents(4, _LENGTH, generator=generator), torch.arange(4)
        chains = LatentChains(start)
        energy = model.posterior_energy(films)
        for steps, offset in ((3, 0), (4, 3)):
            chains.advance(
                energy, index, LatentLangevin(num_steps=steps), key=torch.tensor([5, offset])
            )
        whole = LatentLangevin(num_steps=7).sample(energy, start, key=torch.tensor([5, 0]))
        for name, latent in chains(index).items():
            assert torch.equal(latent, whole[name])
            assert not torch.equal(latent, start[name])

    def test_weights_and_their_gradients_are_left_alone(self):
        model = _small_model()
        before = [parameter.clone() for parameter in model.parameters()]
        model.infer(torch.randn(1, 4, 4).double())
        for parameter, old in zip(model.parameters(), before, strict=True):
            assert parameter.grad is None
            assert parameter.requires_grad
            assert torch.equal(parameter, old)


class _Joint(nn.Module):
    """The log joint density as a forward pass."""

    def __init__(self, model: DynamicGenerator) -> None:
        super().__init__()
        self.model = model

    def forward(self, film: Tensor, latents: dict[str, Tensor]) -> Tensor:
        return self.model.log_joint(film, latents)


class TestIncomplete:
    def test_g19_what_is_hidden_has_no_effect(self):
        model, generator = _small_model(), torch.Generator().manual_seed(0)
        film = torch.randn(2, 5, 4, dtype=torch.float64, generator=generator)
        mask = torch.rand(2, 5, 4, generator=generator) < 0.6
        start, key = model.prior_latents(2, 5), torch.tensor([1, 2])
        found = []
        for garbage in (0.0, 7.0, math.nan, math.inf):
            given = torch.where(mask, film, garbage)
            latents = model.infer(given, mask=mask, start=start, key=key)
            model.zero_grad()
            value = model.log_joint(given, latents, mask).sum()
            value.backward()
            grads = [parameter.grad.clone() for parameter in model.parameters()]
            found.append([value, *latents.values(), *grads, model.recover(given, mask, latents)])
        for other in found[1:]:
            assert all(map(torch.equal, found[0], other))
        assert torch.equal(found[0][-1][mask], film[mask])
        assert not torch.equal(found[0][-1][~mask], film[~mask])

    def test_whole_frames_may_be_hidden_by_a_broadcast_mask(self):
        model = _small_model()
        film, latents = torch.randn(2, 5, 4).double(), model.prior_latents(2, 5)
        mask = torch.tensor([True, False, True, True, False]).view(1, 5, 1)
        visible = model.log_likelihood(film, latents, mask)
        torch.testing.assert_close(
            visible, model.log_likelihood(film, latents, mask.expand(2, 5, 4).clone())
        )
        error = (film - model.decode(latents))[:, [0, 2, 3]]
        torch.testing.assert_close(visible, -0.5 * error.square().sum((1, 2)))

    @pytest.mark.parametrize("hidden", ["frames", "pixels"])
    def test_g19_recovered_frames_are_those_of_the_kalman_smoother(self, hidden):
        generator = torch.Generator().manual_seed(2)
        model, film = _linear_model(), _film(generator)
        mask = torch.rand(_LENGTH, 1 if hidden == "frames" else _PIXELS, generator=generator) < 0.5
        mask = mask.unsqueeze(0)
        assert not mask.all()
        a, b, c = _MATRICES.values()
        system = LinearDynamics(a, b, c, torch.zeros(_PIXELS).double(), _STD, a @ a.T + b @ b.T)
        langevin = LatentLangevin(step_std=0.5, num_steps=200, noise=False)
        latents = model.infer(film[None], langevin, mask=mask, generator=generator)
        z = torch.cat([latents["noise"].flatten(1), latents["start"]], 1)
        mean, _ = _posterior(film, mask[0].expand_as(film))
        torch.testing.assert_close(z[0], mean, rtol=1e-6, atol=1e-6)
        smoothed = system.smooth(film[None], mask)
        torch.testing.assert_close(model.states(latents), smoothed.mean, rtol=1e-6, atol=1e-6)
        recovered = model.recover(film[None], mask, latents)
        torch.testing.assert_close(recovered, system.recover(film[None], mask))

    def test_masks_that_do_not_fit_are_told(self):
        model, film = _small_model(), torch.zeros(2, 5, 4).double()
        latents = model.prior_latents(2, 5)
        with pytest.raises(TypeError, match="mask is"):
            model.log_joint(film, latents, torch.ones(2, 5, 4).double())
        for shape in ((2, 5), (2, 4, 1), (3, 2, 5, 4)):
            with pytest.raises(ValueError, match="mask has shape"):
                model.log_joint(film, latents, torch.ones(shape, dtype=torch.bool))


def _image_model(
    channels: int, side: int, width: int, hidden: tuple[int, ...], appearance_size: int = 0
) -> DynamicGenerator:
    """States of 3 numbers, shown by a small network as images."""
    torch.manual_seed(0)
    pixels = channels * side**2
    network = MLP(3 + appearance_size, (width, width), pixels, activation="relu", zero_last=False)
    emission = nn.Sequential(network, nn.Tanh(), nn.Unflatten(1, (channels, side, side)))
    return DynamicGenerator(
        StateTransition(3, 2, hidden), emission, appearance_size=appearance_size, noise_std=0.1
    )


def _learn(
    model: DynamicGenerator,
    films: Tensor,
    *,
    steps: int,
    learning_rate: float,
    step_std: float,
    mask: Tensor | None = None,
) -> LatentChains:
    """Algorithm 4."""
    chains = LatentChains(model.prior_latents(*films.shape[:2]))
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, betas=(0.5, 0.999))
    index, langevin = torch.arange(len(films)), LatentLangevin(step_std=step_std, num_steps=4)
    for _ in range(steps):
        latents = chains.advance(model.posterior_energy(films, mask), index, langevin)
        optimizer.zero_grad()
        (-model.log_likelihood(films, latents, mask).mean()).backward()
        optimizer.step()
    return chains


def _way(films: Tensor) -> Tensor:
    """Where the weight of films [N, T, C, H, W] in [0, 1] is, [N, T, 2]."""
    weight, pixels = films.sum(2).square(), torch.arange(1.0 * films.shape[-1])
    moments = torch.stack([weight.sum(3) @ pixels, weight.sum(2) @ pixels], 2)
    return moments / weight.sum((2, 3)).unsqueeze(2)


@pytest.mark.slow
class TestLearning:
    def test_g18_another_appearance_has_another_colour_and_the_same_way(self):
        """A red and a blue bump that circle at opposite sides."""
        bumps = torch.stack([circling_film(0.0, 10, 12, 5.0), circling_film(math.pi, 10, 12, 5.0)])
        colours = torch.tensor([[1.0, 0.2, 0.1], [0.1, 0.4, 1.0]])
        films = bumps[:, :, None] * colours[:, None, :, None, None]
        model = _image_model(3, 12, 48, (20, 20), appearance_size=2)
        chains = _learn(model, 2 * films - 1, steps=500, learning_rate=6e-3, step_std=0.04)
        latents = chains(torch.arange(2))
        swapped = {**latents, "appearance": latents["appearance"].flip(0)}
        shown, other = ((model.reconstruct(z) + 1) / 2 for z in (latents, swapped))
        for film, order in ((shown, (0, 2)), (other, (2, 0))):
            strength = film.sum((1, 3, 4))
            assert strength[0, order[0]] > 2 * strength[0, order[1]]
            assert strength[1, order[1]] > 2 * strength[1, order[0]]
        apart = (_way(films) - _way(films.flip(0))).norm(dim=2).mean()
        for film in (shown, other):
            assert (_way(film) - _way(films)).norm(dim=2).mean() < 0.4 * apart
        middle = model.interpolate(latents, swapped, 3)
        torch.testing.assert_close(middle[:, 0], model.reconstruct(latents))
        torch.testing.assert_close(middle[:, 2], model.reconstruct(swapped))

    def test_g19_a_moving_bump_is_recovered_better_than_by_the_frame_before(self):
        film = 2 * circling_film(0.0, 14, 8, 3.0)[None, :, None] - 1
        mask = hide_frames(film.shape, 0.5, seed=0)
        model = _image_model(1, 8, 32, (20,))
        chains = _learn(
            model, torch.where(mask, film, math.nan),
            steps=250, learning_rate=1e-2, step_std=0.05, mask=mask,
        )  # fmt: skip
        recovered = model.recover(film, mask, chains(torch.arange(1)))
        hidden = ~mask.expand_as(film)
        error = (recovered - film)[hidden].abs().mean()
        assert error < 0.9 * (copy_previous(film, mask) - film)[hidden].abs().mean()
