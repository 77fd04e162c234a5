"""Latents that belong to data points, kept by the points' indices through a training."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gencore.inference.latent_adam import AdamState, LatentAdam
from gencore.inference.latent_optimisation import optimise_latents
from gencore.ops._support.checks import check_state

__all__ = ["DataLatents"]


class DataLatents(nn.Module):
    """A table of latents, one row for each of M data points, with the state of Adam on them.

    A training step optimises the rows of its batch, `descend`, and then the weights of a decoder
    with the rows held fixed. All tensors are buffers, which a checkpoint keeps; rows that are not
    in a batch keep their bits. Without a state the next visit of a row begins Adam anew.

    Of several processes each has its own part of a batch. `gather` puts the parts together, so that
    every process writes the rows of all, and all tables stay alike.

    Args:
        start: the latents at the beginning, [M, ...]; means and logarithms of standard deviations
            [M, 2L], say, or codes.
        optimizer: of the rows; ``LatentAdam()`` if None.
        keep_state: whether Adam's means and its count of steps are kept from visit to visit.
        project: puts latents back where they are to be after each step.
        gather: the parts of all processes as one tensor, in their order; of one process the
            identity.

    Raises:
        TypeError, ValueError: for latents that are not floating point or not finite, and in use for
            indices that are no whole numbers or not below M.

    References:
        Yan, "Deep Generative Models: Design, Improvements and Applications", 2022, Algorithm 1.
        Bojanowski, Joulin, Lopez-Paz and Szlam, "Optimizing the latent space of generative
        networks", 2018, (2).

    Example:
        >>> import torch
        >>> from gencore.inference import DataLatents
        >>> latents = DataLatents(torch.zeros(100, 2))
        >>> rows = latents.descend(
        ...     lambda z: (z - 1).square().sum(1), torch.tensor([7, 3]), num_steps=5
        ... )
        >>> rows.shape, latents.values.count_nonzero(), latents.num_steps[[3, 4, 7]]
        (torch.Size([2, 2]), tensor(4), tensor([5, 0, 5]))
    """

    values: Tensor
    first: Tensor
    second: Tensor
    num_steps: Tensor

    def __init__(
        self,
        start: Tensor,
        *,
        optimizer: LatentAdam | None = None,
        keep_state: bool = True,
        project: Callable[[Tensor], Tensor] | None = None,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        check_state("DataLatents", start, "start")
        if start.dim() < 2 or not bool(start.isfinite().all()):
            raise ValueError(
                f"DataLatents: start has shape {list(start.shape)}; expected [M, ...], all finite"
            )
        self.optimizer = LatentAdam() if optimizer is None else optimizer
        self.keep_state, self.project, self._gather = keep_state, project, gather
        self.register_buffer("values", start.detach().clone())
        state = self.optimizer.start(self.values)
        kept = state if keep_state else AdamState(*(part[:0] for part in state))
        for name, part in kept._asdict().items():
            self.register_buffer(name, part)

    def __len__(self) -> int:
        return len(self.values)

    def forward(self, index: Tensor) -> Tensor:
        """The latents of data points, a copy [N, ...] of rows `index` [N]."""
        self._check(index)
        return self.values[index]

    def descend(
        self,
        loss: Callable[[Tensor], Tensor],
        index: Tensor,
        *,
        num_steps: int,
        factor: float = 1.0,
    ) -> Tensor:
        """Optimise the latents of data points, and keep them.

        Args:
            loss: maps latents [N, ...] of these points to losses [N].
            index: the points, int64 [N]. Of a point that is there twice, as where a batch has the
                end of an epoch and the beginning of the next, the last row is kept.
            num_steps: of Adam.
            factor: of the learning rate.

        Returns:
            The latents afterwards, [N, ...], without a graph.
        """
        self._check(index)
        state = None
        if self.keep_state:
            state = AdamState(self.first[index], self.second[index], self.num_steps[index])
        latents, state = optimise_latents(
            loss, self.values[index], num_steps=num_steps, optimizer=self.optimizer, state=state,
            project=self.project, factor=factor,
        )  # fmt: skip
        self.write(index, latents, state if self.keep_state else None)
        return latents

    @torch.no_grad()
    def write(self, index: Tensor, latents: Tensor, state: AdamState | None = None) -> None:
        """Keep latents [N, ...] of data points, and Adam's state where one is given."""
        self._check(index)
        parts = {"values": latents, **({} if state is None else state._asdict())}
        gather = self._gather
        rows = index if gather is None else gather(index)
        # Which of several writes to a row comes last is not defined on a GPU.
        order = rows.argsort(stable=True)
        last = order[rows[order].diff(append=rows.new_full((1,), -1)) != 0]
        for name, part in parts.items():
            part = part if gather is None else gather(part)
            getattr(self, name)[rows[last]] = part[last]

    def _check(self, index: Tensor) -> None:
        if index.dtype != torch.int64 or index.dim() != 1:
            raise TypeError(
                f"DataLatents: index is {index.dtype} {list(index.shape)}; expected int64 [N]"
            )
        if index.device.type == "cpu" and index.numel():
            low, high = int(index.min()), int(index.max())
            if low < 0 or high >= len(self):
                raise ValueError(
                    f"DataLatents: indices are from {low} to {high}; expected 0 to {len(self) - 1}"
                )

    def extra_repr(self) -> str:
        return f"latents={list(self.values.shape)}, keep_state={self.keep_state}"
