"""Compiled part of gencore; tensors go through torch.ops.gencore."""

from collections.abc import Sequence

version: str
compiled_torch: str
compiler: str
cpu_level: str
cuda_architectures: str

def philox4x32_10(counter: Sequence[int], key: Sequence[int]) -> list[int]: ...
