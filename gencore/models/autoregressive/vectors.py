"""Distributions of vectors of levels as products of conditionals in an order."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from torch import Tensor

from gencore.models.autoregressive.ancestral import ancestral
from gencore.models.autoregressive.level_draws import level_log_prob
from gencore.models.autoregressive.orders import check_order
from gencore.models.autoregressive.vector_model import VectorModel
from gencore.nn.fixed_buffers import with_values

__all__ = ["AutoregressiveVectorModel"]


class AutoregressiveVectorModel(VectorModel):
    r"""The distribution of vectors that is the product of its conditionals in an order σ.

    .. math:: p(x) = \prod_{t=1}^{D} p\big(x_{\sigma(t)} \mid x_{\sigma(1)}, \dots,
              x_{\sigma(t-1)}\big)

    A subclass gives :meth:`logits`, for all coordinates at once, and :meth:`steps`, which samples
    and which a coordinate should cost less than all.

    Args:
        features: D.
        levels: of a coordinate.
        order: σ, the coordinates from first to last; ``None``: as they come.

    Raises:
        ValueError: for sizes that are too small, or an order that is no permutation.
    """

    order: Tensor

    def __init__(
        self, features: int, levels: int = 2, order: Sequence[int] | Tensor | None = None
    ) -> None:
        super().__init__(features, levels)
        with with_values():
            order = check_order(type(self).__name__, order, features)
        self.register_fixed("order", order)

    @abstractmethod
    def logits(self, u: Tensor) -> Tensor:
        """The logits of all conditionals, [N, D, 1 or levels], of inputs u = x / (levels − 1).

        Those of coordinate σ(t) depend on u at σ(1), …, σ(t − 1) alone. Differentiable in u.
        """

    def conditionals(self, x: Tensor) -> Tensor:
        """The logits of p(x_i | what comes before i) for all i, [N, D, 1 or levels].

        Args:
            x: integers [N, D].

        Raises:
            ValueError, TypeError: for data that do not fit.
        """
        self._check(x)
        return self.logits(self.inputs(x))

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), [N].

        Args:
            x: integers [N, D].

        Raises:
            ValueError, TypeError: for data that do not fit.
        """
        return level_log_prob(self.conditionals(x), x).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        """−log p(x), [N]: what training minimises."""
        return -self.log_prob(x)

    @abstractmethod
    def steps(self, u: Tensor) -> Iterator[Tensor]:
        """The logits [N, 1 or levels] of one coordinate after another in the order.

        Args:
            u: inputs [N, D]. Whoever iterates writes coordinate σ(t) after the t-th logits came.
        """

    def _check_exact(self, known: Tensor) -> None:
        if _is_prefix(known[:, self.order]):
            return
        self._needs_particles(known, "the known coordinates do not come first in its order")

    def _draw(self, x: Tensor, known: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        return ancestral(x, known, draws, self.order, self.steps, self.inputs)


def _is_prefix(known: Tensor) -> bool:
    """Whether in every row [D] of bool nothing true comes after something false."""
    return not bool((known[:, 1:] & ~known[:, :-1]).any())
