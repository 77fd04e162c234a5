"""The sums of all coordinates before each, as hidden units of autoregressive networks are."""

from collections.abc import Iterator

from torch import Tensor

__all__ = ["running_sums"]

# Coordinates whose hidden units are computed at once; of 8 to 112 these were among the fastest.
_CHUNK = 28


def running_sums(
    start: Tensor, u: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Iterator[tuple[slice, Tensor]]:
    r"""The sums before each coordinate, a_t = start + Σ_{s<t} (u_s w_s + b_s), some t at a time.

    Sums within a part are a product with a triangular matrix, which is faster than a cumulative
    sum and than a loop over coordinates.

    Args:
        start: [H].
        u: inputs [N, D], in order.
        weight: rows w_s, [D, H].
        bias: rows b_s, [D, H].

    Returns:
        Slices of t, of length T, and their sums [N, T, H].
    """
    features = u.shape[1]
    before = u.new_ones(_CHUNK, _CHUNK).tril(-1)
    total = start.expand(len(u), -1)
    for first in range(0, features, _CHUNK):
        part = slice(first, min(first + _CHUNK, features))
        seen, rows = before[: part.stop - first, : part.stop - first], weight[part]
        sums = (seen * u[:, None, part]) @ rows + total.unsqueeze(1)
        total = total + u[:, part] @ rows
        if bias is not None:
            sums = sums + seen @ bias[part]
            total = total + bias[part].sum(0)
        yield part, sums
