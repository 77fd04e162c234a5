"""The motion-based generator: its recursion, its objective, and what it recovers."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gencore.data import DriftingTextures, to_float
from gencore.inference import LatentChains, LatentLangevin
from gencore.metrics import intrackability
from gencore.models import MotionGenerator, transfer_motion

SIZES = {
    "motion_size": 3, "residual_size": 2, "noise_size": 2, "appearance_size": 4, "width": 2,
    "hidden_widths": (5,),
}  # fmt: skip
WEIGHTS = (0.5, 1.0, 2.0, 5.0)


class Recorded(nn.Module):
    """Gives what it is told, row by row, and keeps what it is given."""

    def __init__(self, value, latent_size=None):
        super().__init__()
        self.value, self.latent_size, self.given = nn.Parameter(value), latent_size, None

    def forward(self, z):
        self.given = z
        return self.value.expand(len(z), *self.value.shape[-3:])


def make(shape=(1, 8, 8), **options):
    torch.manual_seed(0)
    return MotionGenerator(shape, **{**SIZES, **options})


def replaced(model, *, image=None, motion=None, residual=None):
    """The model with decoders that give constants, or a table of rows."""
    for name, value in (("appearance", image), ("displacement", motion), ("residual", residual)):
        if value is not None:
            size = model.appearance.latent_size if name == "appearance" else None
            setattr(model, name, Recorded(value, size))
    return model


def draw(model, num_steps=4, num=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return model.latent_shapes(num_steps + 1).normal(num, generator=generator, dtype=dtype)


class TestFilm:
    def test_g22_nothing_moves_and_nothing_is_left(self):
        model = replaced(
            make((3, 8, 7)), motion=torch.zeros(2, 8, 7), residual=torch.zeros(3, 8, 7)
        )
        film = model(draw(model))
        still = model.appearance(draw(model)["appearance"])
        for t in range(5):
            assert torch.equal(film.frames[:, t], still)

    def test_g22_whole_displacements_shift_and_residuals_add(self):
        """The trackable image moves on from itself, not from the frame with its residual."""
        image = torch.rand(1, 6, 9)
        motion = torch.tensor([-2.0, 0.0]).view(2, 1, 1).expand(2, 6, 9)  # to the right
        model = replaced(
            make((1, 6, 9)), image=image, motion=motion, residual=torch.full((1, 6, 9), 0.25)
        )
        film = model(draw(model, num_steps=3))
        for t in range(4):
            torch.testing.assert_close(
                film.frames[:, t, :, :, 2 * t :] - 0.25,
                image[None, :, :, : 9 - 2 * t].expand(2, -1, -1, -1),
            )
            assert torch.equal(film.trackable[0, t, 0, :, : 2 * t + 1].flatten().unique(),
                               image[0, :, 0].unique())  # fmt: skip
        assert (film.residuals == 0.25).all()

    def test_g22_states_and_codes_go_where_they_belong(self):
        """Motion has the first numbers of s_1 … s_T, residuals the rest of s_0 … s_T."""
        model = replaced(
            make(motion_code_size=2, residual_code_size=1),
            motion=torch.zeros(2, 8, 8), residual=torch.zeros(1, 8, 8),
        )  # fmt: skip
        latents = draw(model, num_steps=3)
        model(latents)
        states = [latents["start"]]
        for t in range(3):
            states.append(model.transition(states[-1], latents["noise"][:, t]))
        s_motion = torch.stack([s[:, :3] for s in states[1:]], 1)
        s_residual = torch.stack([s[:, 3:] for s in states], 1)
        for given, expected, code in (
            (model.displacement.given, s_motion, latents["motion_code"]),
            (model.residual.given, s_residual, latents["residual_code"]),
        ):
            num_frames = expected.shape[1]
            rows = given.view(2, num_frames, -1)
            torch.testing.assert_close(rows[..., : expected.shape[2]], expected)
            for t in range(num_frames):
                assert torch.equal(rows[:, t, expected.shape[2] :], code)

    def test_sequences_are_by_themselves(self):
        model = make(motion_code_size=2, residual_code_size=1).double()
        for part in (model.displacement.decoder, model.residual):
            nn.init.normal_(part.ups[-1].weight, std=0.3)
        latents = draw(model, num=3, dtype=torch.float64)
        whole = model(latents)
        for row in range(3):
            alone = model({name: z[row : row + 1] for name, z in latents.items()})
            for part, together in zip(alone, whole, strict=True):
                torch.testing.assert_close(part[0], together[row])


class TestCodes:
    def test_g22_codes_of_motion_swap_motions_alone(self):
        """Of films with the same states, codes of motion change motions, and nothing else."""
        model = make(motion_code_size=2, residual_code_size=2)
        for part in (model.displacement.decoder, model.residual):
            nn.init.normal_(part.ups[-1].weight, std=0.3)
        latents = draw(model)
        for name in ("start", "noise"):
            latents[name] = latents[name][:1].expand_as(latents[name])
        film = model(latents)
        swapped = model({**latents, "motion_code": latents["motion_code"].flip(0)})
        assert (film.motion[0] - film.motion[1]).abs().max() > 0.1
        torch.testing.assert_close(swapped.motion, film.motion.flip(0))
        assert torch.equal(swapped.trackable[:, 0], film.trackable[:, 0])
        assert torch.equal(swapped.residuals, film.residuals)
        other = model({**latents, "residual_code": latents["residual_code"].flip(0)})
        torch.testing.assert_close(other.residuals, film.residuals.flip(0))
        assert torch.equal(other.trackable, film.trackable)

    def test_g22_images_move_as_the_other_film_has(self):
        model = make(motion_code_size=2)
        nn.init.normal_(model.displacement.decoder.ups[-1].weight, std=0.3)
        latents = draw(model)
        film = model(latents)
        both = ("motion_code", "start", "noise")
        swapped = model({**latents, **{name: latents[name].flip(0) for name in both}})
        torch.testing.assert_close(
            swapped.trackable, transfer_motion(film.trackable[:, 0], film.motion.flip(0))
        )


class TestGradients:
    def test_g22_they_reach_image_and_fields_through_all_warps(self):
        generator = torch.Generator().manual_seed(2)
        image = torch.rand(1, 2, 4, 5, dtype=torch.float64, generator=generator)
        # Off the grid, where the interpolant has no kink, and some of it outside of the image.
        whole = torch.randint(-2, 3, (1, 4, 2, 4, 5), generator=generator)
        part = 0.2 + 0.6 * torch.rand(1, 4, 2, 4, 5, dtype=torch.float64, generator=generator)
        motion = whole + part
        inputs = (image.requires_grad_(), motion.requires_grad_())
        assert torch.autograd.gradcheck(transfer_motion, inputs)

    def test_g22_the_last_frame_alone_reaches_them(self):
        image = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
        motion = torch.full((1, 4, 2, 6, 6), 0.3, dtype=torch.float64, requires_grad=True)
        transfer_motion(image, motion)[:, 4].square().sum().backward()
        assert (image.grad != 0).any()
        assert (motion.grad[0] != 0).flatten(1).any(1).all()

    @pytest.mark.parametrize("form", ["norm", "square"])
    def test_g22_of_the_energy_by_all_latents(self, form):
        model = make(
            (1, 5, 5), motion_code_size=2, residual_code_size=1, residual_form=form, width=1
        ).double()
        for part in (model.displacement.decoder, model.residual):
            nn.init.normal_(part.ups[-1].weight, std=1.0)
        latents = draw(model, num=1, dtype=torch.float64)
        frames = torch.rand(1, 5, 1, 5, 5, dtype=torch.float64)
        names = list(latents)

        def energy(*values):
            return model.energy(frames, dict(zip(names, values, strict=True)))

        values = [latents[name].requires_grad_() for name in names]
        assert torch.autograd.gradcheck(energy, values)
        assert all((g != 0).any() for g in torch.autograd.grad(energy(*values).sum(), values))


class TestObjective:
    @pytest.mark.parametrize(("form", "penalty"), [("norm", 3 * 2.0), ("square", 3 * 4.0)])
    def test_it_is_the_weighted_sum(self, form, penalty):
        """Three frames of 5×6 pixels: I is 1, R of length 2, the observed 3, M a ramp."""
        level = 2 / 30**0.5
        ramp = torch.stack([0.5 * torch.arange(6.0).expand(5, 6), torch.zeros(5, 6)])
        model = replaced(
            sized(form, noise_std=0.5, residual_weight=0.7, roughness_weight=0.1),
            image=torch.ones(1, 5, 6), motion=ramp, residual=torch.full((1, 5, 6), level),
        )  # fmt: skip
        latents = draw(model, num_steps=2)
        frames = torch.full((2, 3, 1, 5, 6), 3.0)
        error = 3 * 30 * (3 - 1 - level) ** 2
        roughness = 2 * 5 * 5 * 0.25  # two fields, five rows of five pairs
        expected = error / (2 * 0.25) + 0.7 * penalty + 0.1 * roughness
        torch.testing.assert_close(model.energy(frames, latents), torch.full((2,), expected))
        terms = model.loss(frames, latents)
        values = (expected, error / (2 * 0.25), penalty, roughness)
        for found, value in zip(terms, values, strict=True):
            assert found.item() == pytest.approx(value, rel=1e-5)

    @pytest.mark.parametrize("form", ["norm", "square"])
    @pytest.mark.parametrize("noise_std", [1.0, 0.5])
    def test_g23_intrackability_of_noise_at_the_minimum_falls(self, form, noise_std):
        """Nothing moves and I is zero. The energy is convex in R, and its minimum is X_t shortened
        by λσ², or divided by 1 + 2λσ²."""
        generator = torch.Generator().manual_seed(3)
        frames = torch.randn(1, 4, 1, 5, 6, generator=generator, dtype=torch.float64)
        frames *= torch.tensor([0.05, 0.3, 0.6, 1.0]).view(4, 1, 1, 1)
        lengths = frames.flatten(2).norm(dim=2)[..., None, None, None]
        scores = []
        for weight in WEIGHTS:
            model = sized(form, residual_weight=weight, noise_std=noise_std).double()
            shift = weight * noise_std**2
            kept = (1 - shift / lengths).clamp(min=0) if form == "norm" else 1 / (1 + 2 * shift)
            best = (kept * frames)[0]
            zero = torch.zeros(1, 5, 6, dtype=torch.float64)
            replaced(model, image=zero, motion=zero.expand(2, 5, 6), residual=best)
            latents = draw(model, num_steps=3, num=1, dtype=torch.float64)

            def energy(residuals, model=model, latents=latents):
                model.residual.value.data = residuals
                return model.energy(frames, latents).item()

            least = energy(best)
            for size in (1e-2, -1e-2):
                for t in range(4):
                    nearby = best.clone()
                    nearby[t] += size * frames[0, t]
                    assert energy(nearby) > least
                step = torch.randn(best.shape, generator=generator, dtype=torch.float64)
                assert energy(best + size * step) > least
            scores.append(intrackability(best[None], frames).item())
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] < 0.8 * scores[0]


def sized(form, **options):
    return make((1, 5, 6), residual_form=form, **options)


class TestTransfer:
    def test_g23_the_first_frame_is_the_new_image(self):
        generator = torch.Generator().manual_seed(4)
        images = torch.rand(3, 2, 7, 6, generator=generator)
        motion = torch.randn(1, 5, 2, 7, 6, generator=generator)
        moved = transfer_motion(images, motion)
        assert moved.shape == (3, 6, 2, 7, 6)
        assert torch.equal(moved[:, 0], images)
        for row in range(3):
            torch.testing.assert_close(moved[row], transfer_motion(images[row, None], motion)[0])

    def test_g23_the_motion_of_a_film_moves_another_image_as_itself(self):
        image, other = torch.rand(2, 1, 1, 6, 9)
        motion = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1).expand(1, 3, 2, 6, 9)  # upwards
        film = transfer_motion(image, motion)
        moved = transfer_motion(other, motion)
        for t in range(4):
            assert torch.equal(film[0, t, :, : 6 - t], image[0, :, t:])
            assert torch.equal(moved[0, t, :, : 6 - t], other[0, :, t:])

    def test_no_motion(self):
        images = torch.rand(2, 3, 5, 5)
        assert torch.equal(transfer_motion(images, torch.zeros(2, 0, 2, 5, 5))[:, 0], images)


class TestSample:
    def test_given_latents_are_kept_and_others_drawn(self):
        model = make(motion_code_size=2)
        nn.init.normal_(model.displacement.decoder.ups[-1].weight, std=1.0)
        nn.init.zeros_(model.residual.ups[-1].weight)
        key = torch.tensor([3, 5])
        given = {"appearance": torch.randn(6, 4)}
        films = model.sample(6, 4, latents=given, key=key)
        torch.testing.assert_close(films[:, 0], model.appearance(given["appearance"]))
        part = {"appearance": given["appearance"][4:]}
        torch.testing.assert_close(model.sample(2, 4, latents=part, key=key, first=4), films[4:])
        again = model.sample(6, 4, latents=given, key=key + 1)
        assert (again[:, 1:] - films[:, 1:]).abs().flatten(1).amax(1).min() > 1e-3

    def test_the_first_image_comes_after_the_burn_in(self):
        """Only the states are burnt in: films start with the image of their appearance."""
        model = make()
        nn.init.normal_(model.displacement.decoder.ups[-1].weight, std=1.0)
        latents = draw(model, num_steps=6)
        whole = model(latents)
        late = model._decode_end(latents, 3)
        moved = transfer_motion(whole.trackable[:, 0], whole.motion[:, 4:])
        torch.testing.assert_close(late, moved + whole.residuals[:, 4:])

    def test_a_single_frame(self):
        model = make()
        latents = draw(model, num_steps=0)
        film = model(latents)
        assert film.motion.shape == (2, 0, 2, 8, 8)
        torch.testing.assert_close(
            film.frames[:, 0], model.appearance(latents["appearance"]) + film.residuals[:, 0]
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_std": 0.0}, "noise_std is 0.0"),
        ({"residual_weight": -1.0}, "residual_weight must be finite and not negative"),
        ({"motion_code_size": -1}, "motion_code_size is -1"),
        ({"motion_size": 0}, "motion_size is 0"),
        ({"shape": (1, 4, 8)}, "image_shape is"),
        ({"residual_form": "l1"}, "residual_form is 'l1'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_bad_calls():
    model = make()
    latents = draw(model)
    with pytest.raises(
        ValueError,
        match=r"frames are torch.float32 \[2, 4, 1, 8, 8\]; expected floating point \[2, 5",
    ):
        model.energy(torch.zeros(2, 4, 1, 8, 8), latents)
    del latents["start"]
    with pytest.raises(ValueError, match="MotionGenerator: latents have no 'start'"):
        model(latents)


def learn(frames, steps, *, chain_steps=1, rate=0.01, **options):
    """A small model of films [M, T + 1, C, H, W], by Algorithm 4."""
    torch.manual_seed(0)
    num, num_frames, *shape = frames.shape
    sizes = {
        **SIZES, "residual_size": 4, "width": 12, "hidden_widths": (20,), "max_displacement": 6.0,
        **options,
    }  # fmt: skip
    model = MotionGenerator(shape, **sizes)
    chains = LatentChains(model.latent_shapes(num_frames).normal(num))
    langevin = LatentLangevin(0.03, chain_steps)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    index = torch.arange(num)
    for _ in range(steps):
        latents = chains.advance(model.posterior_energy(frames), index, langevin)
        optimizer.zero_grad()
        model.loss(frames, latents).loss.backward()
        optimizer.step()
    with torch.no_grad():
        return SimpleNamespace(model=model, latents=latents, film=model(latents))


def textures(*velocities, length=5, side=16):
    """A texture for each velocity, [M, T + 1, 1, S, S] in [−1, 1]."""
    clips = [
        DriftingTextures(
            clip_length=length, num_clips=len(velocities), image_size=side, channels=1,
            velocity=velocity, seed=2,
        )[index]
        for index, velocity in enumerate(velocities)
    ]  # fmt: skip
    return to_float(torch.stack(clips), -1, 1)


def inside(motion):
    """Away from the border, where the film shows what the first image does not have."""
    return motion[..., 3:-3, 3:-3]


def test_g22_translating_texture():
    """What is learned of a texture that moves by (1, 0) is that motion, and nothing is left."""
    frames = textures((1.0, 0.0))
    found = learn(frames, 150, residual_weight=2.0)
    motion = inside(found.film.motion)
    true = torch.tensor([-1.0, 0.0]).view(2, 1, 1)
    assert (motion.mean((0, 1, 3, 4)) - true.flatten()).abs().max() < 0.15
    assert (motion - true).abs().mean() < 0.15
    assert intrackability(found.film.residuals, frames).item() < 0.03
    assert (found.film.frames - frames).square().mean() < 0.05 * frames.var()


@pytest.mark.long
def test_g22_codes_of_motion_carry_most_of_what_tells_motions_apart():
    """Two textures, one that moves to the right and one that moves down, learned together. States
    and noise are each film's own as well, so that they may keep a part of the difference."""
    frames = textures((1.0, 0.0), (0.0, 1.0))
    found = learn(frames, 600, motion_code_size=3, residual_weight=2.0)
    code = found.latents["motion_code"].flip(0)
    with torch.no_grad():
        swapped = found.model({**found.latents, "motion_code": code})
    assert torch.equal(swapped.trackable[:, 0], found.film.trackable[:, 0])
    assert torch.equal(swapped.residuals, found.film.residuals)
    before, after = (
        inside(film.motion).mean((1, 3, 4)) for film in (found.film, swapped)
    )  # of each film, to the right and down
    assert (before + torch.eye(2)).abs().max() < 0.3
    between = before.flip(0) - before
    carried = ((after - before) * between).sum(1) / between.square().sum(1)
    assert carried.mean() > 0.4
    assert (carried > 0.2).all()


@pytest.mark.slow
def test_g23_noise_is_intrackable_and_its_score_falls_with_the_preference():
    """Beside a texture that moves, of the same size."""
    generator = torch.Generator().manual_seed(0)
    noise = 2 * torch.rand(1, 4, 1, 16, 16, generator=generator) - 1
    scores = [
        intrackability(learn(noise, 150, residual_weight=weight).film.residuals, noise).item()
        for weight in (0.5, 5.0)
    ]
    frames = textures((1.0, 0.0), length=4)
    rigid = learn(frames, 150, residual_weight=0.5).film.residuals
    rigid_score = intrackability(rigid, frames).item()
    assert scores[0] > 0.3
    assert scores[1] < 0.8 * scores[0]
    assert rigid_score < 0.25 * scores[0]
