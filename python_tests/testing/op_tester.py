"""What every operator has to pass. A subclass names the function, its tensors and its variants."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from gencore.ops import backend

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# One rounding of the result in its own dtype, on top of the rounding of the accumulation dtype.
TOLERANCE = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 4e-6, "atol": 4e-6},
    torch.bfloat16: {"rtol": 2.0**-7, "atol": 1e-5},
    torch.float16: {"rtol": 2.0**-10, "atol": 1e-5},
}
# In every dtype: less than a vector, vectors and a rest, rows shorter than one, several threads.
SHAPES = ((5,), (7, 33), (64, 2), (2, 20001))
# In float32 alone: what is decided before the dtype is.
PLAIN_SHAPES = ((), (1,), (3, 0, 2), (2, 3, 5, 7), (3, 1000))


def transposed(t: Tensor) -> Tensor:
    return t.mT.contiguous().mT


def strided(t: Tensor) -> Tensor:
    wide = torch.zeros(*t.shape[:-1], 2 * t.shape[-1], dtype=t.dtype, device=t.device)
    wide[..., ::2] = t
    return wide[..., ::2]


def offset(t: Tensor) -> Tensor:
    """Contiguous, but aligned to its own element only."""
    room = torch.zeros(t.numel() + 1, dtype=t.dtype, device=t.device)
    room[1:] = t.flatten()
    return room[1:].view(t.shape)


def channels_last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last)


def expanded(t: Tensor) -> Tensor:
    return t[:1].expand(t.shape)


LAYOUTS: tuple[Callable[[Tensor], Tensor], ...] = (transposed, strided, offset, channels_last)


def outputs(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


def assert_equal(result: Any, expected: Any) -> None:
    for a, b in zip(outputs(result), outputs(expected), strict=True):
        assert torch.equal(a, b)


class OpTester:
    """Base of an operator's tests.

    ``function`` takes the tensors of :meth:`tensors` by keyword together with the numbers of one of
    the ``variants``; everything random comes from a ``key`` among them. It returns a tensor of the
    tensors' dtype, or several, of which those of another shape may be of the accumulation dtype.
    """

    function: ClassVar[Callable[..., Any]]
    overload: ClassVar[Any]
    differentiable: ClassVar[tuple[str, ...]]
    variants: ClassVar[Mapping[str, Mapping[str, Any]]]
    traced: ClassVar[tuple[str, ...]] = ()  # variants for opcheck and the compiler, if not all
    needs_chains: ClassVar[bool] = False  # no tensors without dimensions
    gradient_tolerance: ClassVar[dict[str, float] | None] = None  # where not that of the dtype

    def tensors(
        self, variant: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> dict[str, Tensor]:
        raise NotImplementedError

    def overload_arguments(self, variant: str, device: torch.device) -> tuple[Any, ...]:
        raise NotImplementedError

    def call(self, variant: str, tensors: Mapping[str, Tensor], **more: Any) -> Any:
        return type(self).function(**tensors, **self.variants[variant], **more)

    def leaves(self, variant: str, shape: tuple[int, ...], device: torch.device) -> Any:
        tensors = self.tensors(variant, shape, torch.float64, device)
        names = [name for name in self.differentiable if name in tensors]
        leaves = tuple(tensors[name].requires_grad_() for name in names)

        def function(*values: Tensor) -> Any:
            return self.call(variant, {**tensors, **dict(zip(names, values, strict=True))})

        return function, leaves

    @classmethod
    def shapes_and_dtypes(cls) -> list[tuple[tuple[int, ...], torch.dtype]]:
        plain = PLAIN_SHAPES[1:] if cls.needs_chains else PLAIN_SHAPES
        return [*itertools.product(SHAPES, DTYPES), *((shape, torch.float32) for shape in plain)]

    def test_matches_the_reference(self, variant, shape, dtype, device):
        tensors = self.tensors(variant, shape, dtype, device)
        result = self.call(variant, tensors)
        with backend("reference"):
            expected = self.call(variant, tensors)
        assert outputs(result)[0].dtype == dtype
        for ours, reference in zip(outputs(result), outputs(expected), strict=True):
            torch.testing.assert_close(ours, reference, **TOLERANCE[ours.dtype])

    @pytest.mark.parametrize(
        ("shape", "dtype"),
        [((0,), torch.float32), *itertools.product(((7, 33), (2, 20001)), DTYPES[1:3])],
        ids=str,
    )
    def test_gradients_match_the_reference(self, variant, shape, dtype, device):
        grads = []
        for name in ("native", "reference"):
            tensors = self.tensors(variant, shape, dtype, device)
            leaves = [t.requires_grad_() for n, t in tensors.items() if n in self.differentiable]
            with backend(name):
                results = [r for r in outputs(self.call(variant, tensors)) if r.requires_grad]
            weights = [
                torch.linspace(-1, 1, r.numel(), device=device, dtype=r.dtype).view(r.shape)
                for r in results
            ]
            grads.append(torch.autograd.grad(results, leaves, weights))
        for ours, reference in zip(*grads, strict=True):
            torch.testing.assert_close(
                ours, reference, **(self.gradient_tolerance or TOLERANCE[dtype])
            )

    def test_layout_does_not_change_the_result(self, variant, device):
        tensors = self.tensors(variant, (2, 3, 5, 7), torch.float32, device)
        for layout in LAYOUTS:
            laid_out = {
                name: layout(t)
                if t.dim() == 4
                else t  # per-chain tensors and keys stay as they are
                for name, t in tensors.items()
            }
            result = self.call(variant, laid_out)
            assert_equal(result, self.call(variant, tensors))
            expected = torch.empty_like(laid_out[self.differentiable[0]])
            for output in outputs(result):
                assert output.stride() == expected.stride() or output.shape != expected.shape

    def test_broadcast_memory_is_read_correctly(self, variant, device):
        tensors = self.tensors(variant, (4, 6), torch.float32, device)
        views = {n: expanded(t) if t.dim() == 2 else t for n, t in tensors.items()}
        copies = {n: t.contiguous() for n, t in views.items()}
        assert_equal(self.call(variant, views), self.call(variant, copies))

    def test_gradcheck(self, variant, device):
        function, leaves = self.leaves(variant, (4, 3), device)
        assert torch.autograd.gradcheck(function, leaves, check_forward_ad=True)

    def test_gradgradcheck(self, variant, device):
        function, leaves = self.leaves(variant, (4, 3), device)
        assert torch.autograd.gradgradcheck(function, leaves)

    def test_opcheck(self, variant, device):
        torch.library.opcheck(type(self).overload, self.overload_arguments(variant, device))

    def test_compiles_without_graph_breaks(self, variant, device):
        tensors = self.tensors(variant, (5, 4), torch.float32, device)
        leaves = [t.requires_grad_() for n, t in tensors.items() if n in self.differentiable]

        def loss() -> Tensor:
            results = outputs(self.call(variant, tensors))
            return torch.stack([r.square().sum() for r in results]).sum()

        expected = torch.autograd.grad(loss(), leaves)
        torch.compiler.reset()
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
        for ours, eager in zip(torch.autograd.grad(compiled(), leaves), expected, strict=True):
            torch.testing.assert_close(ours, eager)

    def test_autocast_leaves_the_dtype_alone(self, variant, device):
        tensors = self.tensors(variant, (5, 4), torch.float32, device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            result = self.call(variant, tensors)
        assert_equal(result, self.call(variant, tensors))

    def test_is_deterministic_for_any_number_of_threads(self, variant, device):
        tensors = self.tensors(variant, (3, 50001), torch.float32, device)
        before, results = torch.get_num_threads(), []
        try:
            for threads in (1, 2, 1):
                torch.set_num_threads(threads)
                results.append(self.call(variant, tensors))
        finally:
            torch.set_num_threads(before)
        assert_equal(results[0], results[1])
        assert_equal(results[0], results[2])
