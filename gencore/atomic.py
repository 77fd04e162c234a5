"""Files that are either the old one or the new one, whenever the machine stops."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cannot_write", "leftovers", "remove_leftovers", "replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path near `path`; when the block ends well, it takes `path`'s place.

    The bytes are on the disk before the rename and the rename is before the return (fsync of the
    file, then of the folder). When the block raises, `path` is as it was. The temporary file lies
    in a hidden folder of its own, since some writers put further files beside theirs: what a killed
    process leaves has a name that `remove_leftovers` knows.

    Raises:
        OSError: what the block or the renaming met, as "cannot write" with the name of `path`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with replacing(path) as temporary:
        ...     _ = temporary.write_text("new")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('new', 1)
    """
    folder = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary = folder / path.name
    try:
        folder.mkdir(exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers make files that only their owner can read
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cannot_write(what: object, error: OSError) -> OSError:
    """The error in one sentence that names `what`, a path say, of the same kind and number."""
    sentence = type(error)(f"cannot write {what}: {error.strerror or error}")
    sentence.errno = error.errno
    return sentence


def remove_leftovers(folder: Path, names: str) -> None:
    """Removes what killed processes left of replacing the files whose names match `names`.

    Args:
        folder: where the files lie; no process may be replacing one of them now.
        names: a regular expression.
    """
    for path in leftovers(folder, names):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:  # of a version that had no folders for them
            path.unlink()


def leftovers(folder: Path, names: str) -> list[Path]:
    """What `remove_leftovers` removes."""
    pattern = re.compile(rf"\.(?:{names})\.\d+\.tmp")
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)]


def _fsync(path: Path) -> None:
    # Windows cannot open a folder for this; there the rename alone has to do.
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
