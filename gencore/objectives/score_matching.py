"""Score matching: objectives of ∇ log p that need neither samples of a model nor its constant."""

from torch import Tensor, nn

from gencore.nn.held_norms import held_norms
from gencore.objectives.recovery import recovery_mean, row_scale

__all__ = ["denoising_score_matching"]


def denoising_score_matching(
    energy: nn.Module, x: Tensor, noisy: Tensor, noise_std: float | Tensor
) -> Tensor:
    """Denoising score matching of s_θ = −∇E_θ, a mean over the rows (2.20):

        E ‖x − (x̃ + σ²s_θ(x̃))‖² / (2σ²),   x̃ = x + σε

    Its minimum is the score of the noisy points, and not of the data: N(0, s²) is learned as
    N(0, s² + σ²). Here it differs from `gencore.objectives.recovery_loss`.

    Args:
        energy: E_θ, [N, ...] → [N], twice differentiable.
        x: data, [N, ...]; for noisy copies x̃ = a·x + σε, the scaled data a·x.
        noisy: x̃, [N, ...].
        noise_std: σ, a number or one a row, [N].

    Returns:
        Scalar.

    Raises:
        ValueError: if `noisy` is not of the shape of `x`, or for a σ that is not positive.

    Example:
        >>> import torch
        >>> energy = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Flatten(0))
        >>> _ = torch.nn.init.zeros_(energy[0].weight)
        >>> denoising_score_matching(energy, torch.zeros(1, 1), torch.ones(1, 1), 0.5).item()
        2.0

    References:
        Vincent, "A connection between score matching and denoising autoencoders", 2011; Gao,
        "Effective Learning of Descriptive and Generator Models and Learning Representations for
        Grid Cells and V1 Cells", 2021, §2.3.3, whose equation number is used.
    """
    if noisy.shape != x.shape:
        raise ValueError(
            f"denoising_score_matching: noisy has shape {list(noisy.shape)}; expected "
            f"{list(x.shape)}, as x has"
        )
    scale = row_scale("denoising_score_matching", noise_std, x)
    with held_norms(energy, advance=True):
        mean = recovery_mean(energy, noisy, noise_std, differentiable=True)
    return 0.5 * ((x - mean) / scale).flatten(1).square().sum(1).mean()
