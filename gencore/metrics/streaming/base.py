"""What all streaming measures share."""

from typing import Any

import torch

from gencore.extras import training_extra

with training_extra("a streaming measure"):
    from torchmetrics import Metric

__all__ = ["StreamingMetric"]


class StreamingMetric(Metric):
    """A torchmetrics measure whose sums are kept in double precision."""

    is_differentiable = False
    full_state_update = False

    def __init__(self, dtype: torch.dtype = torch.float64, **options: Any) -> None:
        super().__init__(**options)
        # Lists of states are joined over processes in the measure's dtype.
        self.set_dtype(dtype)
