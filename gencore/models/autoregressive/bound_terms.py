"""What the bounds of models with an auxiliary image are made of."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["BoundTerms"]


class BoundTerms(NamedTuple):
    """The terms of an objective, a number for each image, in nats."""

    primary: Tensor
    """Primary reconstruction, [N]: the log-likelihood of the image; 0 of a model without it."""
    auxiliary: Tensor
    """Auxiliary reconstruction, [N]: the log-likelihood of the auxiliary image."""
    kl: Tensor
    """The divergence of the posterior from the prior, [N]; 0 of a model without latents."""

    def objective(self, *, kl_weight: float = 1.0, auxiliary_weight: float = 1.0) -> Tensor:
        """What training maximises, [N]: (3.13) with λ = kl_weight; (3.6) without the auxiliary.

        Args:
            kl_weight: λ.
            auxiliary_weight: of the auxiliary reconstruction, which is 1 in (3.13).
        """
        return self.primary + auxiliary_weight * self.auxiliary - kl_weight * self.kl
