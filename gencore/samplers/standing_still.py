"""Which Python values never change, and which code is taken not to."""

import enum
import re
from collections import namedtuple
from decimal import Decimal
from fractions import Fraction
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    GenericAlias,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
    UnionType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["TRUSTED", "is_constant", "is_same", "is_trusted"]

TRUSTED = frozenset((
    "builtins", "math", "cmath", "operator", "_operator", "functools", "_functools", "itertools",
    "collections", "_collections", "_collections_abc", "typing", "typing_extensions", "types",
    "dataclasses", "contextlib", "abc", "_abc", "enum", "copy", "numbers", "string", "re",
    "warnings", "_warnings", "torch", "numpy", "gencore",
))  # fmt: skip
"""Packages whose code stands still and looks at neither clocks, files nor random numbers."""

_NUMBERS = (bool, int, float, complex, str, bytes, range, slice, torch.device, np.generic)
_FIELD = type(namedtuple("_Point", "x").x)  # type: ignore[attr-defined]
_CONSTANTS = (
    *_NUMBERS, type(None), type(...), type(NotImplemented), torch.dtype, torch.layout,
    torch.memory_format, torch.Size, np.dtype, np.ufunc, re.Pattern, Decimal, Fraction,
    GenericAlias, MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType,
    GetSetDescriptorType, UnionType, CodeType, MemberDescriptorType, _FIELD,
)  # fmt: skip
_CONSTANT_MODULES = ("typing", "torch._ops", "torch._library.custom_ops", "torch.fx")
_UNSAFE = {"open", "input", "eval", "exec", "globals", "__import__", "compile", "breakpoint"}


def is_trusted(module: str | None) -> bool:
    """Whether the code of a module of this name is taken to stand still."""
    name = module or "builtins"
    return name.partition(".")[0] in TRUSTED and not name.startswith(("numpy.random", "torch._C."))


def is_constant(value: Any) -> bool:
    """Whether the value is what it is for good: numbers, strings, types and code of libraries."""
    if isinstance(value, (np.generic, enum.EnumMeta)) or type(value) in _CONSTANTS:
        return True
    if isinstance(value, ModuleType):
        return is_trusted(value.__name__)
    if isinstance(value, BuiltinFunctionType):
        owner = value.__self__
        if owner is None or isinstance(owner, (ModuleType, type)):
            return value.__name__ not in _UNSAFE and _is_library_code(value)
        return False
    if isinstance(value, type):
        return is_trusted(value.__module__) and not value.__module__.startswith("gencore.")
    return type(value).__module__ in _CONSTANT_MODULES


def _is_library_code(value: Any) -> bool:
    module = value.__module__ or getattr(value.__self__, "__module__", None)
    return module is None or module.startswith("torch._C") or is_trusted(module)


def is_same(new: Any, old: Any) -> bool:
    """Whether a program for `old` serves for `new`: tensors do for tensors, equal numbers too."""
    if new is old:
        return True
    if isinstance(new, Tensor):
        return isinstance(old, Tensor)
    return _is_equal(new, old)


def _is_equal(new: Any, old: Any) -> bool:
    if type(new) is not type(old):
        return False
    if type(new) in (tuple, torch.Size):
        return len(new) == len(old) and all(map(_is_equal, new, old))
    # By what is written, where 0.0 is another than -0.0, and nan the same as nan.
    return new is old or (isinstance(new, _NUMBERS) and repr(new) == repr(old))
