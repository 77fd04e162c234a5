"""A transform's parameters, the same for all data or an affine function of each one's context."""

from torch import Tensor, nn

from gencore.nn.context import check_context

__all__ = ["AmortisedParameters"]


class AmortisedParameters(nn.Module):
    """Parameters [1, P], or [N, P] moved by a linear map of the contexts that starts at zero.

    Args:
        owner: the name that errors begin with.
        initial: [P].
        features: of the data, with which the contexts come.
        context_size: C; 0 for none, and contexts are then ignored.

    Raises:
        ValueError: for data that are not [N, features], and for contexts that are not [N, C].
    """

    def __init__(self, owner: str, initial: Tensor, features: int, context_size: int) -> None:
        super().__init__()
        if features < 1 or context_size < 0:
            raise ValueError(
                f"{owner}: features is {features} and context_size {context_size}; expected one "
                "feature or more"
            )
        self.owner, self.features, self.context_size = owner, features, context_size
        self.values = nn.Parameter(initial)
        self.by_context: nn.Linear | None = None
        if context_size:
            self.by_context = nn.Linear(context_size, len(initial), bias=False)
            nn.init.zeros_(self.by_context.weight)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        if x.dim() != 2 or x.shape[1] != self.features:
            raise ValueError(
                f"{self.owner}: got data of shape {list(x.shape)}; expected [N, {self.features}]"
            )
        if self.by_context is None:
            return self.values.unsqueeze(0)
        weight = self.by_context.weight
        check_context(self.owner, context, x.shape[0], self.context_size, weight)
        assert context is not None
        moved: Tensor = self.values + self.by_context(context.to(weight.dtype))
        return moved

    def extra_repr(self) -> str:
        return f"features={self.features}, context_size={self.context_size}"
