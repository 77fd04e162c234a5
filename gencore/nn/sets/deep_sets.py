"""Deep Sets: functions of a set from the sum of features of its members (Zaheer et al. 2017)."""

from typing import Literal, get_args

from torch import Tensor, nn

from gencore.choices import check_choice

__all__ = ["DeepSets", "SetPooling"]

SetPooling = Literal["max", "mean", "sum"]


class DeepSets(nn.Module):
    r"""A network of the pooled features of the members of a set.

    .. math:: f(x) = \rho\Bigl(\sum_b \varphi(x_b)\Bigr)

    Args:
        member_network: φ, members [N·B, ...] → features [N·B, K].
        set_network: ρ, [N, K] → [N, ...].
        pooling: "sum", or "mean" or "max" in its place.

    Shape:
        [N, B, ...] → what ρ gives.

    Raises:
        ValueError: for another pooling, and on a call for sets without members.

    References:
        Zaheer, Kottur, Ravanbakhsh, Poczos, Salakhutdinov and Smola, "Deep sets", 2017, theorem 2.

    Example:
        >>> import torch
        >>> from gencore.nn import MLP, DeepSets
        >>> DeepSets(MLP(2, [16], 8, zero_last=False), MLP(8, [16], 1))(torch.randn(5, 4, 2)).shape
        torch.Size([5, 1])
    """

    def __init__(
        self, member_network: nn.Module, set_network: nn.Module, *, pooling: SetPooling = "sum"
    ) -> None:
        super().__init__()
        check_choice("DeepSets", "pooling", pooling, get_args(SetPooling))
        self.member_network, self.set_network = member_network, set_network
        self.pooling: SetPooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 2 or not x.shape[1]:
            raise ValueError(
                f"DeepSets: x has shape {list(x.shape)}; expected [N, B, ...], with B of 1 or more"
            )
        features: Tensor = self.member_network(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        if self.pooling == "max":
            pooled = features.amax(1)
        else:
            pooled = features.sum(1) if self.pooling == "sum" else features.mean(1)
        outputs: Tensor = self.set_network(pooled)
        return outputs

    def extra_repr(self) -> str:
        return f"pooling={self.pooling!r}"
