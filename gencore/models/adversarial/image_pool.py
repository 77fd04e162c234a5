"""A pool of past samples, for discriminators that are not to forget (Shrivastava et al. 2017)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from gencore.ops import random_key
from gencore.ops.random import philox_uniform
from gencore.sizes import check_positive

__all__ = ["ImagePool"]


class ImagePool(nn.Module):
    """Samples of earlier generators, mixed with those of the present one.

    The first samples fill the pool. After that each sample is, by the toss of a coin, either handed
    on or put in the place of another, which is handed on instead. So half of what a discriminator
    sees is older than its generator, and by a number of steps of geometric distribution.

    Args:
        capacity: samples in the pool; 50 in CycleGAN.
        shape: of one sample.

    Raises:
        ValueError: for a capacity that is not positive; on a call, for samples of another shape, or
            more of them than the capacity.

    References:
        Shrivastava et al., "Learning from simulated and unsupervised images through adversarial
        training", 2017, §2.3. Zhu et al., "Unpaired image-to-image translation using
        cycle-consistent adversarial networks", 2017, §4.

    Example:
        >>> import torch
        >>> from gencore.models import ImagePool
        >>> pool, x = ImagePool(4, (2,)), torch.randn(4, 2)
        >>> torch.equal(pool(x), x)  # it was empty
        True
        >>> y = torch.randn(4, 2)
        >>> mixed = pool(y)
        >>> [bool((row == x).all(1).any() or (row == y).all(1).any()) for row in mixed]
        [True, True, True, True]
    """

    def __init__(self, capacity: int, shape: Sequence[int]) -> None:
        super().__init__()
        check_positive("ImagePool", capacity=capacity)
        self.capacity, self.count = capacity, 0
        self.samples: Tensor
        self.register_buffer("samples", torch.zeros(capacity, *shape))

    @torch.no_grad()
    def forward(
        self, x: Tensor, *, generator: Generator | None = None, key: Tensor | None = None
    ) -> Tensor:
        """As many samples as are given, [N, ...], without gradients.

        Args:
            x: new samples.
            generator: draws the key where none is given.
            key: int64 [seed, offset] of the coins and of what is replaced.
        """
        if x.shape[1:] != self.samples.shape[1:] or len(x) > self.capacity:
            raise ValueError(
                f"ImagePool: samples have shape {list(x.shape)}; expected "
                f"[N, {', '.join(map(str, self.samples.shape[1:]))}] of at most {self.capacity}"
            )
        if key is None:
            key = random_key(generator, device=x.device)
        num_added = min(len(x), self.capacity - self.count)
        self.samples[self.count : self.count + num_added] = x[:num_added]
        self.count += num_added
        num_mixed = len(x) - num_added
        if not num_mixed:
            return x.detach().clone()
        # Places without repetition: two samples of a batch do not replace the same one.
        uniform = philox_uniform((num_mixed + self.capacity,), key)
        kept = uniform[:num_mixed] < 0.5
        places = uniform[num_mixed:].argsort()[:num_mixed]
        new, old = x[num_added:], self.samples[places]
        kept = kept.view(-1, *[1] * (x.ndim - 1))
        self.samples[places] = torch.where(kept, old, new)
        return torch.cat([x[:num_added], torch.where(kept, new, old)])

    def get_extra_state(self) -> Any:
        return {"count": self.count}

    def set_extra_state(self, state: Any) -> None:
        self.count = state["count"]

    def extra_repr(self) -> str:
        return f"capacity={self.capacity}, shape={tuple(self.samples.shape[1:])}"
