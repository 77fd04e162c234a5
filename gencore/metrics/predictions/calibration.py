"""Whether a discriminator's probabilities are right on average."""

import math

from torch import Tensor

__all__ = ["calibration_statistic"]


def calibration_statistic(real: Tensor, fake: Tensor) -> float:
    r"""How far the number of data is from what the discriminator says, in standard deviations.

    .. math:: Z = \frac{\sum_i y_i - D_i}{\sqrt{\sum_i D_i (1 - D_i)}}, \qquad D = \sigma(\ell)

    over N data, y = 1, and M samples, y = 0. Of a calibrated discriminator Z has mean 0 and
    variance 1, and is nearly normal. A Z near 0 does not prove that it is calibrated: errors of
    both signs may cancel.

    Args:
        real: logits ℓ of data [N] that the discriminator was neither trained nor calibrated on.
        fake: logits of samples [M].

    Returns:
        Z; positive where the discriminator takes too much for samples. ±infinity where it is
        certain and wrong, beyond float64.

    Raises:
        ValueError: for logits of another shape, or none of them.

    Source:
        Dawid, "Prequential analysis", 1997. Turner, Hung, Frank, Saatchi and Yosinski,
        "Metropolis-Hastings generative adversarial networks", 2019.

    Example:
        >>> import torch
        >>> calibration_statistic(torch.zeros(60), torch.zeros(40))  # 60 of 100, for 50 ± 5
        2.0
    """
    for name, logits in (("real", real), ("fake", fake)):
        if logits.ndim != 1 or not len(logits):
            raise ValueError(
                f"calibration_statistic: {name} has shape {list(logits.shape)}; expected [N], N ≥ 1"
            )
    real, fake = real.detach().double(), fake.detach().double()
    excess = ((-real).sigmoid().sum() - fake.sigmoid().sum()).item()
    variance = sum((each.sigmoid() * (-each).sigmoid()).sum().item() for each in (real, fake))
    if variance == 0:
        return math.copysign(math.inf, excess) if excess else 0.0
    return excess / math.sqrt(variance)
