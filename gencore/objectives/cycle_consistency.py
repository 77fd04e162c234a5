"""Losses of two maps between domains without pairs (Zhu et al. 2017)."""

from torch import Tensor

__all__ = ["cycle_consistency_loss", "identity_loss"]


def cycle_consistency_loss(x: Tensor, cycled_x: Tensor, y: Tensor, cycled_y: Tensor) -> Tensor:
    r"""How far the maps G: X → Y and F: Y → X are from inverses of each other.

    .. math:: \mathcal L_{cyc} = \mathbb E_x \tfrac1{D_x} \lVert F(G(x)) - x \rVert_1 +
              \mathbb E_y \tfrac1{D_y} \lVert G(F(y)) - y \rVert_1 \qquad (2)

    The norms are means over the D numbers of a data point, as in the authors' program.

    Args:
        x: data of X, [N, ...].
        cycled_x: F(G(x)).
        y: data of Y, [M, ...].
        cycled_y: G(F(y)).

    Returns:
        A scalar.

    Raises:
        ValueError: for shapes that differ.

    References:
        Zhu, Park, Isola and Efros, "Unpaired image-to-image translation using cycle-consistent
        adversarial networks", 2017.

    Example:
        >>> import torch
        >>> from gencore.objectives import cycle_consistency_loss
        >>> x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 8.0], [2.0, 0.0]])
        >>> there, back = (lambda x: 2 * x), (lambda y: y / 2)
        >>> cycle_consistency_loss(x, back(there(x)), y, there(back(y)))
        tensor(0.)
    """
    return _difference("cycle_consistency_loss", x, cycled_x) + _difference(
        "cycle_consistency_loss", y, cycled_y
    )


def identity_loss(x: Tensor, mapped_x: Tensor, y: Tensor, mapped_y: Tensor) -> Tensor:
    r"""How far each map is from leaving alone what is already in its target domain.

    .. math:: \mathcal L_{identity} = \mathbb E_y \tfrac1{D_y} \lVert G(y) - y \rVert_1 +
              \mathbb E_x \tfrac1{D_x} \lVert F(x) - x \rVert_1

    It keeps colours where the domains are images of the same kind.

    Args:
        x: data of X, [N, ...].
        mapped_x: F(x).
        y: data of Y, [M, ...].
        mapped_y: G(y).

    Returns:
        A scalar.

    Raises:
        ValueError: for shapes that differ, as where X and Y are of different sizes.

    References:
        As for `cycle_consistency_loss`, §5.2.

    Example:
        >>> import torch
        >>> from gencore.objectives import identity_loss
        >>> x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 8.0]])
        >>> identity_loss(x, x + 1, y, y - 2)
        tensor(3.)
    """
    return _difference("identity_loss", x, mapped_x) + _difference("identity_loss", y, mapped_y)


def _difference(owner: str, data: Tensor, mapped: Tensor) -> Tensor:
    if mapped.shape != data.shape:
        raise ValueError(
            f"{owner}: data have shape {list(data.shape)} and what maps make of them "
            f"{list(mapped.shape)}; expected the same"
        )
    return (mapped - data).abs().mean()
