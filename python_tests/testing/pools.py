"""What the tests of phase pooling and unpooling share: pools, their elements, maps."""

import ctypes
import itertools

import torch
from testing.host_executor import DTYPES

# Pools with and without overlap, in a circle of features and not, over padding, along 1, 2, 3 axes.
POOLS = {
    "columns": {"kernel_size": (1, 1, 4), "stride": (1, 1, 3)},
    "rows": {"kernel_size": (1, 3, 1), "stride": (1, 2, 1), "padding": (2, 0)},
    "features": {"kernel_size": (3, 1, 1), "stride": (2, 1, 1)},
    "line": {"kernel_size": (3, 1, 1), "stride": (1, 1, 1), "circular": False},
    "planes": {"kernel_size": (1, 3, 2), "stride": (1, 2, 1), "padding": (1, 1)},
    "features_columns": {"kernel_size": (2, 1, 3), "stride": (1, 2, 4), "circular": False},
    "volumes": {"kernel_size": (4, 3, 4), "stride": 2, "padding": (1, 2)},
    "blocks": {"kernel_size": 2},
}


def triple(value):
    return (value,) * 3 if isinstance(value, int) else tuple(value)


def kernel_stride_padding(pools):
    kernel = triple(pools["kernel_size"])
    return kernel, triple(pools.get("stride", kernel)), (0, *pools.get("padding", (0, 0)))


def numbers(pools):
    """The integers of the operator's schema."""
    kernel, stride, padding = kernel_stride_padding(pools)
    return *kernel, *stride, *padding[1:], pools.get("circular", True)


def counts(sizes, pools):
    """How many pools there are along each axis."""
    kernel, stride, padding = kernel_stride_padding(pools)
    axes = zip(sizes, kernel, stride, padding, strict=True)
    found = [(size + 2 * p - k) // s + 1 for size, k, s, p in axes]
    return (sizes[0] // stride[0] if pools.get("circular", True) else found[0], *found[1:])


def members(pool, sizes, pools):
    """The elements of a pool: where they are in the map, and their coordinates."""
    kernel, stride, padding = kernel_stride_padding(pools)
    for element in itertools.product(*(range(k) for k in kernel)):
        axes = zip(pool, stride, element, padding, strict=True)
        place = [g * s + e - p for g, s, e, p in axes]
        place[0] %= sizes[0]
        if all(0 <= at < size for at, size in zip(place, sizes, strict=True)):
            axes = zip(element, kernel, strict=True)
            yield tuple(place), [-1 + 2 * e / (k - 1) for e, k in axes if k > 1]


def maps(*shape, dtype=torch.float64, device="cpu", seed=2):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


# What the CUDA kernels are called with.

_TRIPLE = ctypes.c_int64 * 3
GEOMETRY = [
    ("dtype", ctypes.c_int),
    ("images", ctypes.c_int64),
    *((name, _TRIPLE) for name in ("size", "kernel", "stride", "padding", "pools")),
]


def geometry(dtype, images, sizes, pools):
    kernel, stride, padding = kernel_stride_padding(pools)
    return {
        "dtype": DTYPES[dtype], "images": images, "size": _TRIPLE(*sizes),
        "kernel": _TRIPLE(*kernel), "stride": _TRIPLE(*stride), "padding": _TRIPLE(*padding),
        "pools": _TRIPLE(*counts(sizes, pools)),
    }  # fmt: skip
