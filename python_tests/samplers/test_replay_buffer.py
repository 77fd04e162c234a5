"""The replay buffer's invariants."""

import math

import pytest
import torch
from testing.chain_testing import assert_variance, key

from gencore.samplers import ReplayBuffer


class TestReplayBuffer:
    def test_a_draw_has_different_slots_and_the_size_stays(self):
        buffer = ReplayBuffer(20, (2,))
        for _ in range(50):
            x, slots = buffer.draw(15)
            assert len(slots.unique()) == 15
            buffer.put(x, slots)
        assert buffer.chains.shape == (20, 2)

    def test_every_slot_is_drawn_as_often(self):
        buffer, draws = ReplayBuffer(10, (1,)), 2000
        generator = torch.Generator().manual_seed(0)
        counts = torch.zeros(10)
        for _ in range(draws):
            counts[buffer.draw(3, generator=generator)[1]] += 1
        assert ((counts - 0.3 * draws).abs() < 5 * math.sqrt(0.3 * 0.7 * draws)).all()

    @pytest.mark.parametrize("fraction", [0.0, 0.05, 0.5, 1.0])
    def test_the_fraction_restarts(self, fraction):
        num = 20_000
        buffer = ReplayBuffer(num, (2,), reinit_fraction=fraction)
        buffer.put(torch.full((num, 2), 100.0), torch.arange(num))
        x, _ = buffer.draw(num, key=key(0))
        fresh = (x < 50).all(1)
        assert torch.equal(fresh, (x < 50).any(1))
        error = math.sqrt(fraction * (1 - fraction) / num)
        assert abs(fresh.double().mean().item() - fraction) <= 5 * error
        if fraction == 1:
            assert_variance(x, 1.0)

    def test_chains_are_copied_in_and_out(self):
        buffer = ReplayBuffer(6, (3,), reinit_fraction=0.0)
        before = buffer.chains.clone()
        x, slots = buffer.draw(4)
        assert torch.equal(x, before[slots])
        x.fill_(7.0)
        assert torch.equal(buffer.chains, before)
        buffer.put(x, slots)
        x.zero_()
        assert (buffer.chains[slots] == 7).all()
        others = torch.ones(6, dtype=torch.bool).index_fill(0, slots, False)
        assert torch.equal(buffer.chains[others], before[others])

    def test_no_graph_enters_the_buffer(self):
        buffer = ReplayBuffer(4, (1,))
        buffer.put(torch.ones(2, 1, requires_grad=True) * 2, torch.tensor([0, 3]))
        assert not buffer.chains.requires_grad

    def test_state_round_trip(self):
        source, target = ReplayBuffer(5, (2,)), ReplayBuffer(5, (2,))
        state = source.state_dict()
        assert all(isinstance(value, torch.Tensor) for value in state.values())
        target.load_state_dict({name: value.clone() for name, value in state.items()})
        for copy, original in zip(
            target.draw(3, key=key(1)), source.draw(3, key=key(1)), strict=True
        ):
            assert torch.equal(copy, original)
        with pytest.raises(RuntimeError, match="size mismatch"):
            ReplayBuffer(6, (2,)).load_state_dict(state)

    def test_processes_draw_the_parts_of_one_draw(self):
        buffer = ReplayBuffer(12, (3,), reinit_fraction=0.5)
        whole = buffer.draw(8, key=key(2))
        parts = [buffer.draw(4, key=key(2), first=4 * rank, total=8) for rank in range(2)]
        for one, *several in zip(whole, *parts, strict=True):
            assert torch.equal(torch.cat(several), one)

    def test_starts_can_be_of_another_distribution(self):
        def uniform(size, key, *, first_element=0):
            return torch.rand(*size)

        buffer = ReplayBuffer(100, (2,), reinit_fraction=1.0, start=uniform)
        x, _ = buffer.draw(100)
        assert 0 <= min(x.min(), buffer.chains.min()) <= max(x.max(), buffer.chains.max()) <= 1

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
    def test_another_dtype_stays(self, dtype):
        buffer = ReplayBuffer(50, (3,), reinit_fraction=0.5, key=key(3)).to(dtype)
        x, slots = buffer.draw(40, key=key(4))
        assert x.dtype == dtype
        buffer.put(x, slots)
        assert torch.equal(buffer.chains[slots], x)
        single, _ = ReplayBuffer(50, (3,), reinit_fraction=0.5, key=key(3)).draw(40, key=key(4))
        torch.testing.assert_close(x, single.to(dtype))

    def test_bad_input_is_explained(self):
        with pytest.raises(ValueError, match="size is 0"):
            ReplayBuffer(0, (1,))
        with pytest.raises(ValueError, match=r"reinit_fraction is 1\.5"):
            ReplayBuffer(5, (1,), reinit_fraction=1.5)
        buffer = ReplayBuffer(5, (1,))
        with pytest.raises(ValueError, match="6 chains"):
            buffer.draw(6)
        with pytest.raises(ValueError, match=r"expected \[2, 1\]"):
            buffer.put(torch.zeros(3, 1), torch.tensor([0, 1]))
