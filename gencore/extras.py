"""One sentence for a missing package of an extra."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

__all__ = [
    "compress_extra",
    "data_extra",
    "flows_extra",
    "language_extra",
    "samplers_extra",
    "training_extra",
    "transport_extra",
]

_PACKAGES = {
    "compress": frozenset({"PIL", "constriction"}),
    "data": frozenset(
        {
            "PIL",
            "av",
            "braceexpand",
            "mlxtend",
            "ratinabox",
            "rich",
            "skimage",
            "skvideo",
            "webdataset",
        }
    ),
    "flows": frozenset({"torchdiffeq"}),
    "language": frozenset({"sacrebleu"}),
    "samplers": frozenset({"arviz", "matplotlib", "torchdiffeq"}),
    "train": frozenset(
        {
            "PIL",
            "lightning_fabric",
            "matplotlib",
            "rich",
            "safetensors",
            "sklearn",
            "tensorboard",
            "tomli",
            "torchmetrics",
        }
    ),
    "transport": frozenset({"ot"}),
}


def training_extra(needed_for: str = "training") -> AbstractContextManager[None]:
    """Imports in this block that miss a package of the extra say how to install it.

    Example:
        >>> with training_extra():
        ...     raise ModuleNotFoundError("No module named 'rich'", name="rich")
        Traceback (most recent call last):
            ...
        ModuleNotFoundError: training needs the package rich: pip install 'gencore[train]'
    """
    return _extra("train", needed_for)


def samplers_extra(needed_for: str) -> AbstractContextManager[None]:
    """`training_extra` for the packages of the samplers.

    Example:
        >>> with samplers_extra("summary"):
        ...     raise ModuleNotFoundError("No module named 'arviz'", name="arviz")
        Traceback (most recent call last):
            ...
        ModuleNotFoundError: summary needs the package arviz: pip install 'gencore[samplers]'
    """
    return _extra("samplers", needed_for)


def flows_extra(needed_for: str) -> AbstractContextManager[None]:
    """`training_extra` for the package that solves the differential equations of flows.

    Example:
        >>> with flows_extra("ContinuousTransform"):
        ...     raise ModuleNotFoundError("No module named 'torchdiffeq'", name="torchdiffeq")
        Traceback (most recent call last):
            ...
        ModuleNotFoundError: ContinuousTransform needs the package torchdiffeq: pip install \
'gencore[flows]'
    """
    return _extra("flows", needed_for)


def language_extra(needed_for: str) -> AbstractContextManager[None]:
    """`training_extra` for the package that measures captions.

    Example:
        >>> with language_extra("bleu"):
        ...     raise ModuleNotFoundError("No module named 'sacrebleu'", name="sacrebleu")
        Traceback (most recent call last):
            ...
        ModuleNotFoundError: bleu needs the package sacrebleu: pip install 'gencore[language]'
    """
    return _extra("language", needed_for)


def data_extra(needed_for: str) -> AbstractContextManager[None]:
    """`training_extra` for the packages that bring data sets or read films and shards.

    Example:
        >>> with data_extra("load_video"):
        ...     raise ModuleNotFoundError("No module named 'av'", name="av")
        Traceback (most recent call last):
            ...
        ModuleNotFoundError: load_video needs the package av: pip install 'gencore[data]'
    """
    return _extra("data", needed_for)


def compress_extra(needed_for: str) -> AbstractContextManager[None]:
    """`training_extra` for the packages that code images losslessly.

    Example:
        >>> with compress_extra("this"):
        ...     raise ModuleNotFoundError("No module named 'constriction'", name="constriction")
        Traceback (most recent call last):
            ...
        ModuleNotFoundError: this needs the package constriction: pip install 'gencore[compress]'
    """
    return _extra("compress", needed_for)


def transport_extra(needed_for: str) -> AbstractContextManager[None]:
    """`training_extra` for the package that solves transport exactly.

    Example:
        >>> with transport_extra("exact_transport_cost"):
        ...     raise ModuleNotFoundError("No module named 'ot'", name="ot")
        Traceback (most recent call last):
            ...
        ModuleNotFoundError: exact_transport_cost needs the package ot: pip install \
'gencore[transport]'
    """
    return _extra("transport", needed_for)


@contextmanager
def _extra(extra: str, needed_for: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES[extra]:
            raise
        message = f"{needed_for} needs the package {package}: pip install 'gencore[{extra}]'"
        raise ModuleNotFoundError(message, name=error.name) from None
