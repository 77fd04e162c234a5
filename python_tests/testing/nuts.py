"""Trees of NUTS, for the tests of its operator."""

import torch


def quartic(x):
    """Energies and gradients of Σx⁴/4 + cos x, in the dtypes of a sampler."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    y = x.flatten(1).to(wide)
    return (y**4 / 4 + y.cos()).sum(1), (x.to(wide) ** 3 - x.to(wide).sin()).to(x.dtype)


def copy(tree):
    return type(tree)(*(t.clone() for t in tree))
