"""The unconstrained monotonic neural network (Wehenkel and Louppe 2019)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from gencore.nn.bracketed_root import bracketed_root, newton_steps
from gencore.nn.networks.mlp import MLP
from gencore.ops._support.checks import accumulation_dtype, finite
from gencore.sizes import check_positive

__all__ = ["MonotonicNetwork"]


class MonotonicNetwork(nn.Module):
    r"""An increasing function of a number, the integral of a positive network.

    .. math:: F(x; h) = h_0 + \int_0^x g(t; h)\,dt, \qquad
              g(t; h) = \epsilon + \mathrm{softplus}(\mathrm{MLP}(t, h_1, \dots, h_E) + b)

    with b such that an MLP of zero gives the slope 1, and a least slope ε. The network is free of
    constraints; what makes F increase is that g is positive. Beyond [−B, B] the slope stays what it
    is at ±B, as with splines: the quadrature then has one interval to resolve, F takes every value,
    and data far out are moved along a line.

    The integral is Clenshaw and Curtis's quadrature, whose error falls exponentially with the
    number of nodes for a smooth g; F′ is g itself. A g that changes by orders of magnitude from
    node to node needs more of them, or the quadrature's sum may fail to increase with x. The
    inverse is a root within a bracket, to rounding, whose derivatives are those of the implicit
    function, to the third.

    Args:
        embedding_size: E; 0 for the same shape everywhere.
        hidden_widths: of the MLP.
        activation: of the MLP; a smooth one, for the sake of the quadrature.
        num_nodes: of the quadrature, at least 2.
        tail_bound: B > 0.
        min_slope: ε, from 0 to below 1.
        input_scale: bound of the first layer's weights of t, and of its biases, at the start. With
            those of torch the units are smooth over the scale of data of variance 1: of a mixture
            of three normals 300 steps left a divergence of 0.03, and with 2 one of 0.001.

    Shape:
        x [...] and h [..., 1 + E] → F [...] and log F′ [...]. F′ = 1 at first.

    Raises:
        ValueError: for sizes, a bound or a slope that do not fit, and on a call for an h of another
            shape.

    References:
        Wehenkel and Louppe, "Unconstrained monotonic neural networks", 2019, §2.

    Example:
        >>> import torch
        >>> from gencore.nn import MonotonicNetwork
        >>> network = MonotonicNetwork(4)
        >>> x, h = torch.linspace(-2, 2, 5), torch.randn(5, 5)
        >>> y, log_slope = network(x, h)
        >>> torch.allclose(network.inverse(y, h)[0], x, atol=1e-5)
        True
    """

    def __init__(
        self,
        embedding_size: int,
        hidden_widths: Sequence[int] = (32, 32),
        *,
        activation: str = "silu",
        num_nodes: int = 33,
        tail_bound: float = 5.0,
        min_slope: float = 1e-3,
        input_scale: float = 2.0,
    ) -> None:
        super().__init__()
        if embedding_size < 0:
            raise ValueError(f"MonotonicNetwork: embedding_size is {embedding_size}; expected >= 0")
        check_positive("MonotonicNetwork", num_nodes=num_nodes)
        if num_nodes < 2:
            raise ValueError(f"MonotonicNetwork: num_nodes is {num_nodes}; expected at least 2")
        for name, value in {"tail_bound": tail_bound, "input_scale": input_scale}.items():
            if not finite("MonotonicNetwork", name, value) > 0:
                raise ValueError(f"MonotonicNetwork: {name} is {value}; expected a positive number")
        if not 0 <= min_slope < 1:
            raise ValueError(
                f"MonotonicNetwork: min_slope is {min_slope}; expected 0 or more, below 1"
            )
        self.embedding_size, self.num_nodes = embedding_size, num_nodes
        self.tail_bound, self.min_slope = float(tail_bound), float(min_slope)
        self.network = MLP(1 + embedding_size, hidden_widths, 1, activation=activation)
        if hidden_widths:
            first = self.network.layers[0]
            assert isinstance(first, nn.Linear)
            with torch.no_grad():
                first.weight[:, 0].uniform_(-input_scale, input_scale)
                first.bias.uniform_(-input_scale, input_scale)
        # Numbers, and no buffers, which would lose digits with the weights' dtype.
        self._nodes, self._weights = clenshaw_curtis(num_nodes)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """F(x; h) and log F′(x; h), of the shape of x."""
        self._check(x, h)
        y, slope = self._function(x.to(accumulation_dtype(x)), h)
        return y.to(x.dtype), slope.log()

    def inverse(self, y: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """x with F(x; h) = y, and log F′(x; h), of the shape of y."""
        self._check(y, h)
        if torch.compiler.is_compiling():
            _refuse_export()
            from gencore.nn.transforms.traced import uncompiled_inverse

            x, log_slope = uncompiled_inverse(self, y, h)
            return x, log_slope
        target = y.to(accumulation_dtype(y))

        def excess(x: Tensor) -> tuple[Tensor, Tensor]:
            value, slope = self._function(x, h)
            return value - target, slope

        with torch.no_grad():
            x = self._search(target, excess)
        x = newton_steps(excess, x)
        return x.to(y.dtype), self._slope(x, h).log()

    def _search(self, target: Tensor, excess: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """The root between the bounds, or on the line beyond."""
        bound = torch.full_like(target, self.tail_bound)
        (below, slope_below), (above, slope_above) = excess(-bound), excess(bound)
        low = torch.where(below > 0, -bound - below / slope_below, -bound)
        high = torch.where(above < 0, bound - above / slope_above, bound)
        # From where a straight line between the bounds has its root, or the root beyond them.
        share = (below / (below - above)).clamp(0, 1)
        precision = 4 * torch.finfo(target.dtype).eps * (1 + target.abs())
        return bracketed_root(excess, low + share * (high - low), low, high, precision=precision)

    def _function(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """F and F′ in the dtype of x, that of sums."""
        inner = x.clamp(-self.tail_bound, self.tail_bound)
        slopes = self._slope(inner.unsqueeze(-1) * x.new_tensor(self._nodes), h.unsqueeze(-2))
        integral = inner * (slopes * x.new_tensor(self._weights)).sum(-1)
        slope = slopes[..., 0]  # at the first node, the interval's end
        return h[..., 0].to(x.dtype) + integral + (x - inner) * slope, slope

    def _slope(self, x: Tensor, h: Tensor) -> Tensor:
        """g(x; h), with g(±B) beyond the bounds."""
        inner = x.clamp(-self.tail_bound, self.tail_bound)
        embedding = h[..., 1:].expand(*x.shape, self.embedding_size)
        inputs = torch.cat([inner.unsqueeze(-1).to(h.dtype), embedding], -1)
        raw: Tensor = self.network(inputs.reshape(-1, 1 + self.embedding_size))
        raw = raw.reshape(x.shape).to(x.dtype)
        identity = math.log(math.expm1(1 - self.min_slope))
        return self.min_slope + functional.softplus(raw + identity)

    def _check(self, x: Tensor, h: Tensor) -> None:
        if h.shape != (*x.shape, 1 + self.embedding_size):
            raise ValueError(
                f"MonotonicNetwork: h has shape {list(h.shape)} beside x of shape {list(x.shape)}; "
                f"expected {[*x.shape, 1 + self.embedding_size]}"
            )

    def extra_repr(self) -> str:
        return (
            f"num_nodes={self.num_nodes}, tail_bound={self.tail_bound}, min_slope={self.min_slope}"
        )


def _refuse_export() -> None:
    if torch.compiler.is_exporting():
        raise RuntimeError(
            "MonotonicNetwork: torch.export cannot trace its inverse: how many steps it takes "
            "depends on the data; export the density alone, or a CouplingFlow, MAF or PlanarFlow"
        )


def clenshaw_curtis(num_nodes: int) -> tuple[list[float], list[float]]:
    """Nodes and weights of ∫₀¹, from 1 to 0; exact for polynomials of degree below their number.

    References:
        Clenshaw and Curtis, "A method for numerical integration on an automatic computer", 1960.

    Example:
        >>> nodes, weights = clenshaw_curtis(3)  # Simpson's rule
        >>> [round(node, 4) for node in nodes], [round(weight, 4) for weight in weights]
        ([1.0, 0.5, 0.0], [0.1667, 0.6667, 0.1667])
    """
    last = num_nodes - 1
    nodes, weights = [], []
    for k in range(num_nodes):
        angle = math.pi * k / last
        # Of the cosine series through the values at the nodes, the even terms have the integrals
        # 1/(1 − j²) over the interval; its first and last term, and the ends' values, count half.
        series = sum(
            math.cos(j * angle) / (1 - j * j) * (1 if 0 < j < last else 0.5)
            for j in range(0, num_nodes, 2)
        )
        nodes.append((1 + math.cos(angle)) / 2)
        weights.append(2 * series / last * (1 if 0 < k < last else 0.5))
    return nodes, weights
