"""Adam on rows of latents, tables of them, and the best posterior of each data point."""

import math

import pytest
import torch
from torch.distributions import kl_divergence

from gencore.inference import (
    DataLatents,
    LatentAdam,
    NormalParameters,
    optimise_latents,
    optimise_posterior,
)
from gencore.models import ProbabilisticPCA

TARGET = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-4.0, 0.1]], dtype=torch.float64)


def loss_to(target):
    return lambda z: (z - target).square().sum(1) + (z - target).pow(4).sum(1)


def torch_adam(row, start, num_steps, learning_rate=0.1):
    """One row by torch's Adam."""
    z = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], learning_rate)
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss_to(TARGET[row : row + 1])(z).sum().backward()
        optimizer.step()
    return z.detach()


class TestAdam:
    def test_rows_step_as_by_torch(self):
        latents, state = optimise_latents(loss_to(TARGET), torch.zeros_like(TARGET), num_steps=7)
        for row in range(3):
            expected = torch_adam(row, torch.zeros(1, 2, dtype=torch.float64), 7)
            torch.testing.assert_close(latents[row : row + 1], expected, rtol=1e-12, atol=1e-12)
        assert state.num_steps.tolist() == [7, 7, 7]

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_other_dtypes_go_the_same_way(self, dtype):
        """Whose numbers near 1 are too few for the second mean."""
        exact, _ = optimise_latents(loss_to(TARGET), torch.zeros_like(TARGET), num_steps=20)
        start, target = torch.zeros(3, 2, dtype=dtype), TARGET.to(dtype)
        found, state = optimise_latents(loss_to(target), start, num_steps=20)
        assert found.dtype == dtype
        assert state.first.dtype == state.second.dtype == torch.float32
        near = 0.1 if dtype == torch.bfloat16 else 0.02
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=near)

    def test_a_projection_is_applied_after_each_step(self):
        def to_ball(z):
            return z / z.norm(dim=1, keepdim=True).clamp(min=1)

        latents, _ = optimise_latents(
            loss_to(TARGET), torch.zeros_like(TARGET), num_steps=300, project=to_ball
        )
        torch.testing.assert_close(latents.norm(dim=1), torch.ones(3, dtype=torch.float64))

    def test_a_factor_scales_the_rate(self):
        start = torch.zeros_like(TARGET)
        half, _ = optimise_latents(loss_to(TARGET), start, num_steps=3, factor=0.5)
        same, _ = optimise_latents(
            loss_to(TARGET), start, num_steps=3, optimizer=LatentAdam(learning_rate=0.05)
        )
        torch.testing.assert_close(half, same)

    @pytest.mark.parametrize(
        "settings",
        [{"learning_rate": -1.0}, {"betas": (0.9, 1.0)}, {"betas": (0.9,)}, {"eps": math.nan}],
    )
    def test_settings_that_are_none(self, settings):
        with pytest.raises(ValueError, match="LatentAdam: "):
            LatentAdam(**settings)

    def test_losses_that_are_not_finite_are_named(self):
        with pytest.raises(ValueError, match="optimise_latents: the latents of 1 of 2 rows"):
            optimise_latents(
                lambda z: z.sum(1) * torch.tensor([1.0, math.nan]), torch.ones(2, 2), num_steps=1
            )


class TestDataLatents:
    def make(self, **settings):
        return DataLatents(torch.zeros(5, 2, dtype=torch.float64), **settings)

    def descend(self, latents, rows, num_steps):
        index = torch.tensor(rows)
        return latents.descend(loss_to(TARGET[index % 3]), index, num_steps=num_steps)

    def test_rows_visited_at_other_times_step_as_if_alone(self):
        latents = self.make()
        for rows in ([0, 1], [1, 2], [2, 0], [1]):
            self.descend(latents, rows, 3)
        for row, visits in enumerate((2, 3, 2)):
            expected = torch_adam(row, torch.zeros(1, 2, dtype=torch.float64), 3 * visits)
            torch.testing.assert_close(latents(torch.tensor([row])), expected)
        assert latents.num_steps.tolist() == [6, 9, 6, 0, 0]

    def test_rows_out_of_the_batch_keep_their_bits(self):
        latents = DataLatents(torch.randn(5, 2, dtype=torch.float64))
        before = latents.values.clone()
        self.descend(latents, [3, 1], 4)
        assert torch.equal(latents.values[[0, 2, 4]], before[[0, 2, 4]])
        assert not (latents.values[[1, 3]] == before[[1, 3]]).any()

    def test_of_a_point_that_is_twice_in_a_batch_the_last_is_kept(self):
        latents, index = self.make(), torch.tensor([2, 0, 2])
        target = TARGET[[0, 1, 2]]
        found = latents.descend(loss_to(target), index, num_steps=3)
        assert torch.equal(latents(index[1:]), found[1:])
        assert not torch.equal(found[0], found[2])
        assert latents.num_steps.tolist() == [3, 0, 3, 0, 0]

    def test_of_many_writes_the_last_is_kept(self):
        latents, index = DataLatents(torch.zeros(20, 1)), torch.randint(20, (300,))
        values = torch.rand(300, 1)
        latents.write(index, values)
        expected = torch.zeros(20, 1)
        for row, value in zip(index.tolist(), values, strict=True):
            expected[row] = value
        assert torch.equal(latents.values, expected)

    def test_a_batch_of_very_many_points(self):
        """All at once: memory that grows with their square is more than there is."""
        latents, num = DataLatents(torch.zeros(400_000, 1)), 400_000
        found = latents.descend(lambda z: (z - 1).square().sum(1), torch.arange(num), num_steps=1)
        assert torch.equal(latents.values, found)

    def test_without_a_state_each_visit_begins_anew(self):
        latents = self.make(keep_state=False)
        self.descend(latents, [0], 2)
        self.descend(latents, [0], 2)
        once = torch_adam(0, torch.zeros(1, 2, dtype=torch.float64), 2)
        torch.testing.assert_close(latents(torch.tensor([0])), torch_adam(0, once, 2))
        assert latents.first.numel() == 0

    def test_a_checkpoint_goes_on_bit_for_bit(self):
        whole, loaded = self.make(), self.make()
        self.descend(whole, [0, 4], 3)
        loaded.load_state_dict(whole.state_dict())
        for latents in (whole, loaded):
            self.descend(latents, [4, 2], 3)
        for name, part in whole.state_dict().items():
            assert torch.equal(part, loaded.state_dict()[name])

    def test_parts_of_a_batch_are_gathered(self):
        """As on two processes, each of which has half of the batch."""
        alone = self.make()
        self.descend(alone, [0, 1], 3)
        other = {}
        halves = [self.make(), self.make()]
        for row, latents in enumerate(halves):
            self.descend(latents, [row], 3)
            other[row] = [torch.tensor([row]), latents.values[[row]]]
        gathered = self.make(keep_state=False, gather=lambda part: torch.cat([
            part, other[1][0] if part.dtype == torch.int64 else other[1][1]
        ]))  # fmt: skip
        self.descend(gathered, [0], 3)
        torch.testing.assert_close(gathered.values, alone.values)

    @pytest.mark.parametrize(
        ("index", "error", "message"),
        [
            ([5], ValueError, "indices are from 5 to 5; expected 0 to 4"),
            ([-1], ValueError, "indices are from -1 to -1"),
            ([0.5], TypeError, r"index is torch.float32 \[1\]; expected int64 \[N\]"),
        ],
    )
    def test_indices_that_are_none(self, index, error, message):
        latents = self.make()
        with pytest.raises(error, match=f"DataLatents: {message}"):
            latents.descend(lambda z: z.sum(1), torch.tensor(index), num_steps=1)

    def test_starts_that_are_none(self):
        with pytest.raises(ValueError, match=r"start has shape \[3\]; expected \[M, ...\]"):
            DataLatents(torch.zeros(3))


def test_the_optimisation_trick_finds_the_best_diagonal_gaussian():
    """Of a linear model with columns that are not orthogonal: the posterior's mean, the variances
    1/Λᵢᵢ, and the gap that no diagonal Gaussian closes (Yan 2022, §2.1.6)."""
    torch.manual_seed(0)
    weight = torch.tensor([[1.0, 0.8], [0.3, 1.2], [0.0, 0.5]], dtype=torch.float64)
    truth = ProbabilisticPCA(3, 2, weight=weight, variance=0.4)
    x = torch.randn(6, 3, dtype=torch.float64)
    start = NormalParameters(*torch.zeros(2, 6, 2, dtype=torch.float64))
    q = optimise_posterior(
        lambda q, key: truth.elbo(x, q.mean, q.log_std.exp()), start, num_steps=1500,
        optimizer=LatentAdam(0.02),
    )  # fmt: skip
    precision = weight.T @ weight / 0.4 + torch.eye(2, dtype=torch.float64)
    mean = torch.linalg.solve(precision, weight.T @ x.T / 0.4).T
    torch.testing.assert_close(q.mean, mean, rtol=0, atol=1e-4)
    variance = 1 / precision.diagonal()
    torch.testing.assert_close((2 * q.log_std).exp(), variance.expand(6, 2), rtol=1e-4, atol=1e-4)
    gap = kl_divergence(
        torch.distributions.MultivariateNormal(q.mean, torch.diag_embed((2 * q.log_std).exp())),
        torch.distributions.MultivariateNormal(mean, precision_matrix=precision.expand(6, 2, 2)),
    )
    expected = 0.5 * (precision.diagonal().log().sum() - precision.logdet())
    torch.testing.assert_close(gap, expected.expand(6), rtol=1e-3, atol=1e-4)
