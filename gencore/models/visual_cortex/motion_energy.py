"""Complex cells, and cells of spatiotemporal energy that prefer one motion."""

import torch
from torch import Tensor

from gencore.ops._support.checks import check_state

__all__ = ["align_step", "complex_energy", "motion_energy"]


def complex_energy(v: Tensor) -> Tensor:
    """‖v⁽ᵏ⁾‖², the activities of complex cells.

    Of a pair in quadrature it does not depend on the phase of a grating, and of orthogonal matrices
    of motion no displacement changes it.

    Args:
        v: of simple cells, [N, K, n, ...].

    Returns:
        [N, K, ...].

    Source:
        Gao, "Effective Learning of Descriptive and Generator Models and Learning Representations
        for Grid Cells and V1 Cells", 2021, §6.3.4.

    Example:
        >>> complex_energy(torch.tensor([[[3.0, 4.0]]]))
        tensor([[25.]])
    """
    check_state("complex_energy", v, "v")
    if v.dim() < 3:
        raise ValueError(f"complex_energy: v has shape {list(v.shape)}; expected [N, K, n, ...]")
    return v.square().sum(2)


def align_step(state: Tensor | None, v: Tensor, matrices: Tensor) -> Tensor:
    r"""One frame more of the responses of spatiotemporal filters:

    .. math:: u_i = v_{t+i} + M(\delta)\, u_{i-1}, \qquad u_{-1} = 0

    Args:
        state: u_{i−1}, [N, D, K, n, h, w], or None before the first frame.
        v: v_{t+i}, [N, K, n, h, w].
        matrices: M of D displacements, [D, K, n, n].

    Returns:
        u_i, [N, D, K, n, h, w].

    Raises:
        ValueError: shapes do not fit.

    Source:
        Gao, 2021, §6.3.5.

    Example:
        >>> v, quarter = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, -1.0], [1.0, 0.0]])
        >>> v, quarter = v.view(1, 1, 2, 1, 1), quarter.view(1, 1, 2, 2)
        >>> align_step(align_step(None, v, quarter), v, quarter).flatten()
        tensor([1., 1.])
    """
    check_state("align_step", v, "v")
    fits = v.dim() == 5 and matrices.dim() == 4
    if not fits or matrices.shape[1:] != (*v.shape[1:3], v.shape[2]):
        raise ValueError(
            f"align_step: v has shape {list(v.shape)} and matrices {list(matrices.shape)}; "
            "expected [N, K, n, h, w] and [D, K, n, n]"
        )
    size = (v.shape[0], len(matrices), *v.shape[1:])
    if state is None:
        return v.unsqueeze(1).expand(size)
    if state.shape != size:
        raise ValueError(f"align_step: state has shape {list(state.shape)}; expected {list(size)}")
    return v.unsqueeze(1) + torch.einsum("dkij,ndkjhw->ndkihw", matrices, state)


def motion_energy(v: Tensor, matrices: Tensor) -> Tensor:
    r"""How well the vectors of successive frames are aligned under each of D velocities:

    .. math:: \lVert u \rVert^2, \qquad u = \sum_{i=0}^m M(\delta)^{m-i}\, v_{t+i}
              \qquad (6.12)

    by :func:`align_step`, which keeps no frames. Its largest entry is the velocity. Of orthogonal
    matrices and two frames that is the arg min of :func:`motion_costs`, and the arg max of
    ⟨v_{t+1}, M(δ) v_t⟩.

    Args:
        v: of m + 1 frames, [N, m + 1, K, n, h, w].
        matrices: M of D displacements a frame, [D, K, n, n].

    Returns:
        [N, D, h, w].

    Raises:
        ValueError: shapes do not fit.

    Source:
        Gao, 2021, §6.3.5; Adelson and Bergen, "Spatiotemporal energy models for the perception of
        motion", 1985.

    Example:
        >>> still, half_a_turn = torch.eye(2), -torch.eye(2)
        >>> v = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]).view(1, 3, 1, 2, 1, 1)
        >>> motion_energy(v, torch.stack([still, half_a_turn])[:, None]).flatten()
        tensor([1., 9.])
    """
    if v.dim() != 6 or v.shape[1] < 1:
        raise ValueError(
            f"motion_energy: v has shape {list(v.shape)}; expected [N, m + 1, K, n, h, w]"
        )
    state = None
    for frame in v.unbind(1):
        state = align_step(state, frame, matrices)
    assert state is not None
    return state.square().sum((2, 3))
