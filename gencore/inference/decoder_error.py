"""How far decoded codes are from a target, as a loss of latents in which the code is affine."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DecoderError"]

# Layers that are affine maps of each row of their input.
_AFFINE = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)  # fmt: skip


class DecoderError:
    r"""The squared errors of a decoder, [N], as a function of latents δ, for fixed codes.

    .. math:: L_n(\delta) = \Bigl\lVert \mathrm{Dec}\bigl(c_n + \sum_k \delta_k D_{nk}\bigr) - y_n
              \Bigr\rVert^2

    It knows its gradient by δ (`gencore.samplers.GradientEnergy`) and takes no other, of parameters
    or codes. Linear layers and convolutions at the start of the decoder, if it is an
    `nn.Sequential` without hooks, are affine in δ too: they are applied to c and D once, and not in
    each call. Where linear layers and ReLUs are all that follows, autograd is not used either: it
    takes most of the time of small layers.

    Args:
        decoder: codes [N, ...] → frames [N, ...]; it is not to change while this is in use.
        constant: c, [N, ...].
        slopes: D, [N, K, ...].
        target: y, of the shape of the frames.
        num_calls: how often it will be called, about; what is done ahead has to pay.

    Example:
        >>> import torch
        >>> from gencore.inference import DecoderError, infer_latents
        >>> decoder = torch.nn.Linear(2, 2)
        >>> constant, slopes = torch.rand(5, 2), torch.rand(5, 1, 2)
        >>> error = DecoderError(decoder, constant, slopes, torch.rand(5, 2))
        >>> delta = infer_latents(error, torch.zeros(5, 1), num_steps=20, step_size=0.1)
        >>> bool((error(delta) <= error(torch.zeros(5, 1))).all())
        True
    """

    @torch.no_grad()
    def __init__(
        self,
        decoder: nn.Module,
        constant: Tensor,
        slopes: Tensor,
        target: Tensor,
        *,
        num_calls: int = 10,
    ) -> None:
        if constant.shape[:1] != slopes.shape[:1] or constant.shape[1:] != slopes.shape[2:]:
            raise ValueError(
                f"DecoderError: constant has shape {list(constant.shape)} and slopes "
                f"{list(slopes.shape)}; expected [N, ...] and [N, K, ...]"
            )
        first, self._rest = _split(decoder)
        # A pass for c and each D beside a forward and a backward pass in each call.
        if first and 2 + slopes.shape[1] < 2 * num_calls:
            # Of an affine map A, A(c + Σₖ δₖ Dₖ) = A(c) + Σₖ δₖ (A(Dₖ) − A(0)).
            rows = torch.cat([torch.zeros_like(constant[:1]), constant, slopes.flatten(0, 1)])
            at_zero, constant, slopes = first(rows).tensor_split([1, 1 + len(constant)])
            slopes = (slopes - at_zero).unflatten(0, (len(constant), -1))
        else:
            self._rest = decoder
        # Autocast may have made them of half precision, in which steps would be lost.
        self._constant = constant.to(target.dtype)
        self._slopes = [slope.to(target.dtype).contiguous() for slope in slopes.unbind(1)]
        self._flat_slopes = [slope.flatten(1) for slope in self._slopes]
        self._target = target
        # Layers that work in place may change what they are given, but not a leaf of a graph.
        self._is_in_place = any(getattr(m, "inplace", False) for m in self._rest.modules())
        self._is_perceptron = constant.dim() == 2 and _is_perceptron(self._rest)

    def __call__(self, delta: Tensor) -> Tensor:
        """L(δ) [N] of δ [N, K], with a graph to δ and to the decoder's parameters behind what was
        done ahead."""
        return _square(self._rest(self._at(delta)) - self._target)

    def energy_and_grad(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """L(δ) [N] and ∂L/∂δ [N, K]."""
        with torch.no_grad():
            hidden = self._at(delta)
            if self._is_perceptron:
                value, grad = self._by_hand(hidden)
            else:
                value, grad = self._by_autograd(hidden)
                grad = grad.flatten(1)
            grad = grad.to(self._target.dtype)
            products = [torch.linalg.vecdot(slope, grad) for slope in self._flat_slopes]
            return value.to(delta.dtype), torch.stack(products, 1).to(delta.dtype)

    def _at(self, delta: Tensor) -> Tensor:
        """c + Σₖ δₖ Dₖ."""
        hidden = self._constant
        for weight, slope in zip(delta.unbind(1), self._slopes, strict=True):
            hidden = torch.addcmul(hidden, slope, weight.view(-1, *(1,) * (hidden.dim() - 1)))
        return hidden

    def _by_autograd(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """L and its gradient by what goes into the remaining layers."""
        with torch.inference_mode(False):  # and with gradients
            hidden = (hidden.clone() if hidden.is_inference() else hidden).requires_grad_()
            given = hidden.clone() if self._is_in_place else hidden
            value = _square(self._rest(given) - self._target)
            (grad,) = torch.autograd.grad(value, hidden, torch.ones_like(value))
        return value.detach(), grad

    def _by_hand(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The same."""
        assert isinstance(self._rest, nn.Sequential)
        passed: list[tuple[nn.Module, Tensor]] = []
        for layer in self._rest:
            hidden = (
                functional.linear(hidden, layer.weight, layer.bias)
                if isinstance(layer, nn.Linear)
                else hidden.relu()
            )
            passed.append((layer, hidden))
        difference = hidden - self._target
        grad = 2 * difference
        for layer, output in reversed(passed):
            if isinstance(layer, nn.Linear):
                grad = grad @ layer.weight
            else:
                grad = torch.ops.aten.threshold_backward(grad, output, 0)
        return _square(difference), grad


def _square(difference: Tensor) -> Tensor:
    return difference.square().flatten(1).sum(1)


def _has_hooks(module: nn.Module) -> bool:
    return any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def _split(decoder: nn.Module) -> tuple[nn.Sequential, nn.Module]:
    """The affine layers at a decoder's start, none if it is no plain sequence, and the others."""
    if type(decoder).forward is not nn.Sequential.forward or _has_hooks(decoder):
        return nn.Sequential(), decoder
    assert isinstance(decoder, nn.Sequential)
    layers = list(decoder)
    num = len(list(itertools.takewhile(lambda layer: type(layer) in _AFFINE, layers)))
    return nn.Sequential(*layers[:num]), nn.Sequential(*layers[num:])


def _is_perceptron(layers: nn.Module) -> bool:
    """Whether these are linear layers and ReLUs only."""
    if type(layers).forward is not nn.Sequential.forward or _has_hooks(layers):
        return False
    assert isinstance(layers, nn.Sequential)
    return all(type(layer) in (nn.Linear, nn.ReLU) for layer in layers)
