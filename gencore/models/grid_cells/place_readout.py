"""Place cells read a vector: which place answers most, and what the best linear readout is."""

import torch
from torch import Tensor

__all__ = ["decode_place", "least_squares_readout"]

# Answers that are held at once.
_ANSWERS_AT_ONCE = 2**24


def decode_place(v: Tensor, codebook: Tensor) -> Tensor:
    r"""The place whose vector has the largest inner product with v.

    .. math:: \hat x = \arg\max_{x'} \langle v, u(x') \rangle \qquad (5.15)

    With vectors of places of one length, v(x') in the place of u(x'), it is the nearest one (5.35).
    Of equal answers the first place's counts.

    Args:
        v: [..., *S], such as [N, K, M].
        codebook: a vector a place, [P, *S].

    Returns:
        Numbers of places, int64 [...].

    Raises:
        ValueError: for vectors of another shape than the places'.

    Example:
        >>> import torch
        >>> from gencore.models import decode_place
        >>> decode_place(torch.tensor([[0.9, 0.1], [0.0, 2.0]]), torch.eye(2)).tolist()
        [0, 1]
    """
    row = codebook.shape[1:]
    leading = v.shape[: v.ndim - len(row)]
    if v.shape[len(leading) :] != row or not len(codebook):
        raise ValueError(
            f"decode_place: v has shape {list(v.shape)} and the codebook {list(codebook.shape)}; "
            "expected [..., *S] and [P, *S]"
        )
    places = codebook.detach().flatten(1)
    flat = v.detach().reshape(-1, places.shape[1])
    rows = max(1, _ANSWERS_AT_ONCE // len(places))
    found = [(part @ places.mT).argmax(1) for part in flat.split(rows)]
    return torch.cat(found).view(leading)


def least_squares_readout(codebook: Tensor, adjacency: Tensor) -> Tensor:
    r"""The readout u that fits place fields best, without a sign.

    .. math:: u = \arg\min_u \sum_{x, x'} \left(A(x, x') - \langle v(x), u(x') \rangle\right)^2

    Its error is at least the sum of the squares of A's singular values beyond the number of units.

    Args:
        codebook: v [P, *S], a vector a place.
        adjacency: A [P, P], rows x, columns x'.

    Returns:
        u [P, *S].

    Raises:
        ValueError: for an A of another shape.
    """
    num = len(codebook)
    if adjacency.shape != (num, num):
        raise ValueError(
            f"least_squares_readout: the adjacency has shape {list(adjacency.shape)}; expected "
            f"[{num}, {num}], a row and a column a place"
        )
    # Not lstsq: v has fewer dimensions than units where modules repeat one another.
    return (torch.linalg.pinv(codebook.flatten(1)) @ adjacency).mT.reshape(codebook.shape)
