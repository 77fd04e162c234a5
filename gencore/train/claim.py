"""One run at a time in a folder: a claim that the kernel takes back when its process ends."""

import errno
import fcntl
import os
import socket
import warnings
from contextlib import suppress
from pathlib import Path

__all__ = ["CLAIM_NAME", "Claim"]

CLAIM_NAME = ".lock"

# What file systems answer that know no locks: Lustre without its option flock, some FUSE ones.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class Claim:
    """The exclusive use of a folder, from its making to `release`.

    It is a lock of the operating system (flock) on a file in the folder. However the process
    ends, SIGKILL included, the lock ends with it, so that no claim is ever stale. Processes of one
    machine see each other's; those of different machines do on file systems that share locks (NFS
    does, Lustre where it is mounted with flock). One that knows no locks brings a warning.

    Args:
        folder: is made if need be.

    Raises:
        FileExistsError: another process, or another `Claim` of this one, has it.
        OSError: the folder cannot be made or written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> claim = Claim(folder)
        >>> claim.release()
        >>> folder.exists()
        False
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CLAIM_NAME
        parents = [folder, *folder.parents]
        self._made = [parent for parent in parents if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self._lock()
        with suppress(OSError):  # a full disk; it is for messages only
            os.ftruncate(self._file, 0)
            os.write(self._file, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def release(self) -> None:
        """Gives the folder back, and takes away those that were made for the claim and are empty
        still."""
        # Before the lock ends: afterwards the file may be another process's.
        self._path.unlink(missing_ok=True)
        os.close(self._file)
        with suppress(OSError):  # the run is in one of them
            for folder in self._made:
                folder.rmdir()

    def _lock(self) -> int:
        while True:
            # NFS gives exclusive locks on files that are open for writing only.
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    owner = os.read(file, 200).decode(errors="replace") or "another process"
                    os.close(file)
                    if not isinstance(error, BlockingIOError):
                        raise
                    raise FileExistsError(
                        f"{self._path.parent} is in use by another run ({owner}): wait for its "
                        "end, or name another folder (--out)"
                    ) from error
                warnings.warn(
                    f"the file system of {self._path.parent} knows no locks ({error.strerror}): "
                    "nothing keeps a second run out of it",
                    stacklevel=2,
                )
            if self._is_current(file):
                return file
            os.close(file)  # its owner has removed it between our opening and our locking

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False
