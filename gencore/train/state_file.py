"""Nested Python state in one safetensors file, without pickle.

Tensors are safetensors entries; the structure around them (dicts with any plain keys, lists,
tuples, numbers, strings) is JSON in the file's metadata, in which ``{"dict": [[key, value], …]}``,
``{"tuple": […]}`` and ``{"tensor": name}`` stand for what JSON lacks. A CRC-32 over the structure
and every tensor's bytes finds damage that the format itself cannot see.
"""

import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gencore.atomic import replacing
from gencore.extras import training_extra

__all__ = ["read_state", "write_state"]

_FORMAT = "gencore-state"
_VERSION = 1


def write_state(path: str | Path, state: dict[str, Any]) -> None:
    """Writes `state` to `path` atomically.

    Args:
        path: the file, replaced only when the new one is complete on the disk.
        state: nested dicts, lists, tuples and Counters of tensors, numbers, strings and None.
            Tensors that share all their memory (tied weights) are stored once.

    Raises:
        TypeError: for anything else inside, naming where it is.
        OSError: the file cannot be written, for want of room say.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "state.safetensors"
        >>> write_state(path, {"step": 3, "moments": {0: torch.zeros(2)}, "betas": (0.9, 0.999)})
        >>> read_state(path)
        {'step': 3, 'moments': {0: tensor([0., 0.])}, 'betas': (0.9, 0.999)}
    """
    with training_extra():
        from safetensors import SafetensorError
        from safetensors.torch import save_file

    path = Path(path)
    tensors = _Tensors()
    structure = json.dumps(_encode(state, "", tensors))
    metadata = {
        "format": _FORMAT,
        "version": str(_VERSION),
        "structure": structure,
        "crc32": _checksum(structure, tensors.by_name),
    }
    with replacing(path) as temporary:
        try:
            save_file(tensors.by_name, temporary, metadata)
        except SafetensorError as error:  # the tensors are good, so it is the disk that is not
            raise OSError(str(error)) from error


def read_state(path: str | Path) -> dict[str, Any]:
    """The state that `write_state` wrote, its tensors on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or is not one of gencore's.
    """
    with training_extra():
        from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") == _FORMAT and metadata.get("version") != str(_VERSION):
                raise ValueError(
                    f"{path} has version {metadata.get('version')} of the checkpoint format, "
                    f"this gencore reads version {_VERSION}"
                )
            # safetensors maps the file; a clone outlives it and is aligned as torch aligns memory.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged or no checkpoint: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path} is no checkpoint of gencore's, or its header is damaged")
    structure = metadata.get("structure", "")
    if metadata.get("crc32") != _checksum(structure, tensors):
        raise ValueError(f"{path} is damaged: its contents do not match their checksum")
    state = _decode(json.loads(structure), tensors)
    assert isinstance(state, dict)
    return state


class _Tensors:
    """The tensors of a state, each memory area once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}
        self._storages: set[int] = set()

    def add(self, tensor: Tensor, path: str) -> str:
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise TypeError(
                f"checkpoint: {path} is a {tensor.layout} tensor; only dense ones go in"
            )
        tensor = tensor.detach()
        storage = tensor.untyped_storage().data_ptr()
        view = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)
        identity = (tensor.device, storage, *view)
        if tensor.numel() and identity in self._names:
            return self._names[identity]
        stored = tensor.cpu().contiguous()
        if stored is tensor and storage in self._storages:
            stored = tensor.clone()  # safetensors refuses two different views of one memory area
        self._storages.add(storage)
        name = path
        while name in self.by_name:  # the keys 0 and "0" of one dict
            name += "'"
        self.by_name[name] = stored
        self._names[identity] = name
        return name


def _encode(value: Any, path: str, tensors: _Tensors) -> Any:
    """`value` as JSON data, its tensors moved to `tensors`."""

    def inner(key: object, item: Any) -> Any:
        return _encode(item, f"{path}/{key}" if path else str(key), tensors)

    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return {"tensor": tensors.add(value, path)}
    if isinstance(value, list | tuple):
        items = [inner(index, item) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict):
        for key in value:
            if not (key is None or isinstance(key, bool | int | float | str)):
                raise TypeError(f"checkpoint: {path} has the key {key!r}; keys must be plain")
        kind = "counter" if isinstance(value, Counter) else "dict"
        return {kind: [[key, inner(key, item)] for key, item in value.items()]}
    raise TypeError(
        f"checkpoint: {path} is a {type(value).__name__}; a state may hold tensors, numbers, "
        "strings, None, and dicts, lists and tuples of them"
    )


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    pairs = {key: _decode(item, tensors) for key, item in content}
    return Counter(pairs) if kind == "counter" else pairs


def _checksum(structure: str, tensors: dict[str, Tensor]) -> str:
    crc = zlib.crc32(structure.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"
