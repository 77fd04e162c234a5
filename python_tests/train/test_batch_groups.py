"""Several batches in a step: the same data on one process and on two."""

import torch

from gencore.train import Batch
from gencore.train.batch_groups import BatchGroups, split_group
from gencore.train.batches import BatchOrder


class Source:
    """Rows of a shuffled set, as one rank sees them."""

    def __init__(self, rank=0, world_size=1):
        self.order = BatchOrder(20, 4, seed=0, rank=rank, world_size=world_size)

    def __getitem__(self, step):
        index = self.order.indices(step)
        return Batch(index[:, None].float(), index % 3, index, self.order.first)


def test_each_step_of_a_player_has_its_own_batch():
    groups, plain = BatchGroups(Source(), 3), Source()
    for step in (0, 4):
        for number, batch in enumerate(split_group(groups[step], 3)):
            expected = plain[3 * step + number]
            assert torch.equal(batch.x, expected.x)
            assert torch.equal(batch.label, expected.label)
            assert torch.equal(batch.index, expected.index)
            assert batch.first == 0


def test_two_ranks_see_what_one_process_sees():
    whole = split_group(BatchGroups(Source(), 3)[2], 3)
    ranks = [split_group(BatchGroups(Source(rank, 2), 3)[2], 3) for rank in range(2)]
    for number, batch in enumerate(whole):
        parts = [rank[number] for rank in ranks]
        assert torch.equal(torch.cat([part.index for part in parts]), batch.index)
        key = torch.tensor([5, 0])
        noise = torch.cat([part.normal((2,), key=key) for part in parts])
        assert torch.equal(noise, batch.normal((2,), key=key))


def test_one_batch_is_left_as_it_is():
    source = {0: Batch(torch.ones(2, 1), None, torch.arange(2))}
    assert BatchGroups(source, 1)[0] is source[0]
