"""The torch that runs the tests, for what an older one cannot do."""

import torch

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
