"""Langevin chains over latents of several kinds, and the table that keeps them."""

import pytest
import torch

from gencore.inference import LatentChains, LatentLangevin, LatentShapes

_SHAPES = LatentShapes({"noise": (3, 2), "start": (4,), "level": ()})


def _energy(latents):
    """½‖z − 1‖² of all latents."""
    rows = torch.cat([part.reshape(len(part), -1) for part in latents.values()], 1)
    return 0.5 * (rows - 1).square().sum(1)


class TestShapes:
    def test_rows_have_the_latents_in_order(self):
        latents = _SHAPES.normal(5)
        rows = _SHAPES.pack(dict(reversed(latents.items())))
        assert rows.shape == (5, _SHAPES.size) == (5, 11)
        assert torch.equal(rows[:, :6], latents["noise"].flatten(1))
        assert torch.equal(rows[:, 10], latents["level"])
        assert all(map(torch.equal, _SHAPES.unpack(rows).values(), latents.values()))

    def test_draws_do_not_depend_on_how_they_are_split(self):
        key = torch.tensor([1, 2])
        whole, part = _SHAPES.normal(5, key=key), _SHAPES.normal(2, key=key, first=3)
        assert all(torch.equal(whole[name][3:], part[name]) for name in whole)

    def test_what_does_not_fit_is_told(self):
        latents = _SHAPES.normal(5)
        for wrong in (
            {**latents, "other": latents["start"]},
            {**latents, "start": latents["start"][:, :3]},
            {**latents, "start": latents["start"][:3]},
        ):
            with pytest.raises(ValueError, match=r"LatentShapes\.pack"):
                _SHAPES.pack(wrong)
        with pytest.raises(ValueError, match=r"rows have shape \[5, 10\]"):
            _SHAPES.unpack(torch.zeros(5, 10))
        for shapes in ({}, {"start": (-1,)}):
            with pytest.raises(ValueError, match="expected shapes by name"):
                LatentShapes(shapes)


class TestLangevin:
    def test_a_step_without_noise(self):
        """z − δ²/2 (∂E + λ z), with E = ½‖z − 1‖²."""
        start = {name: part.double() for name, part in _SHAPES.normal(5).items()}
        langevin = LatentLangevin(0.4, 1, noise=False, prior_precision=0.7)
        for name, part in langevin.sample(_energy, start).items():
            expected = start[name] - 0.08 * (start[name] - 1 + 0.7 * start[name])
            torch.testing.assert_close(part, expected)

    def test_the_noise_of_a_step_has_its_deviation(self):
        start = {"z": torch.zeros(50_000, 2)}
        langevin = LatentLangevin(0.4, 1, prior_precision=0.0)
        generator = torch.Generator().manual_seed(0)
        moved = langevin.sample(lambda z: 0 * z["z"].sum(1), start, generator=generator)["z"]
        assert abs(moved.std() - 0.4) < 5 * 0.4 / (2 * 100_000) ** 0.5

    @pytest.mark.parametrize("metropolis", [False, True])
    def test_films_do_not_depend_on_each_other(self, metropolis):
        start, key = _SHAPES.normal(5), torch.tensor([1, 2])
        langevin = LatentLangevin(0.5, 4, metropolis=metropolis)
        whole = langevin.sample(_energy, start, key=key)
        part = {name: latent[3:] for name, latent in start.items()}
        moved = langevin.sample(_energy, part, key=key, first=3)
        for name, latent in moved.items():
            torch.testing.assert_close(latent, whole[name][3:])

    def test_a_correction_moves_all_latents_of_a_point_or_none(self):
        start = _SHAPES.normal(400)
        langevin = LatentLangevin(1.1, 1, metropolis=True)
        moved = langevin.sample(_energy, start, generator=torch.Generator().manual_seed(0))
        changed = [(moved[name] != start[name]).flatten(1).any(1) for name in ("noise", "start")]
        assert torch.equal(*changed)
        assert 0 < changed[0].sum() < 400

    def test_what_is_given_is_left_as_it_is(self):
        start = _SHAPES.normal(3)
        before = {name: part.clone() for name, part in start.items()}
        LatentLangevin(num_steps=2).sample(_energy, start)
        assert all(torch.equal(start[name], before[name]) for name in start)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"step_std": -1.0}, "step_std"),
            ({"num_steps": -1}, "num_steps"),
            ({"prior_precision": -1.0}, "prior_precision is -1"),
            ({"metropolis": True, "noise": False}, "metropolis=True"),
        ],
    )
    def test_settings_that_do_not_fit_are_told(self, settings, message):
        with pytest.raises(ValueError, match=message):
            LatentLangevin(**settings)


class TestChains:
    def test_a_batch_moves_its_rows_alone(self):
        chains = LatentChains(_SHAPES.normal(6))
        before = chains(torch.arange(6))
        index = torch.tensor([4, 1])
        moved = chains.advance(_energy, index, LatentLangevin(0.3, 3))
        after = chains(torch.arange(6))
        rest = torch.tensor([0, 2, 3, 5])
        for name, latent in after.items():
            assert torch.equal(latent[rest], before[name][rest])
            assert torch.equal(latent[index], moved[name])
            assert (latent[index] != before[name][index]).all()

    def test_a_state_dict_brings_them_back(self):
        chains, other = LatentChains(_SHAPES.normal(6)), LatentChains(_SHAPES.normal(6))
        chains.advance(_energy, torch.arange(6), LatentLangevin(0.3, 3))
        other.load_state_dict(chains.state_dict())
        index = torch.arange(6)
        assert all(map(torch.equal, chains(index).values(), other(index).values()))

    def test_chains_can_be_put_elsewhere(self):
        chains = LatentChains(_SHAPES.normal(6))
        chains.write(
            torch.tensor([2]), {name: part[:1] for name, part in _SHAPES.normal(1).items()}
        )
        latents = _SHAPES.normal(1)
        chains.write(torch.tensor([2]), latents)
        found = chains(torch.tensor([2]))
        assert all(torch.equal(found[name], latents[name]) for name in latents)
