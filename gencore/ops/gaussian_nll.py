"""The negative log-density of a flow with standard normal latents."""

import math

from torch import Tensor

from gencore.ops.checks import accumulation_dtype

__all__ = ["gaussian_nll"]


def gaussian_nll(z: Tensor, log_det: Tensor) -> Tensor:
    r"""−log p(x) = ½‖z‖² + (D/2) log 2π − log_det of latents z [N, ...] and log_det [N]; [N]."""
    z = z.to(accumulation_dtype(z)).flatten(1)
    return 0.5 * z.square().sum(1) + 0.5 * z.shape[1] * math.log(2 * math.pi) - log_det
