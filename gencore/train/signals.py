"""Ctrl-C, SIGTERM and SIGHUP as a request that the loop reads between two steps."""

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from gencore.train.devices import under_torchrun

__all__ = ["Interrupted", "StopRequest"]

# torchrun passes the terminal's Ctrl-C, which its workers have already had, on to them once more.
_FORWARDED_WITHIN = 2.0


class Interrupted(KeyboardInterrupt):
    """A run was stopped by Ctrl-C, SIGTERM or SIGHUP, after it had written its checkpoint.

    Attributes:
        step: optimisation steps done and saved.
        number: the signal's.
    """

    def __init__(self, message: str, step: int, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.step = step
        self.number = number


class StopRequest:
    """While entered, the first SIGINT, SIGTERM or SIGHUP is noted; a further SIGINT or SIGTERM
    aborts at once, by a KeyboardInterrupt or a SystemExit with the status 143.

    A further SIGHUP does not, because the kernel and the shell both send one when a terminal ends,
    and none counts as the first of two. Under nohup SIGHUP stays ignored.

    Attributes:
        number: the first signal's, 0 before.

    Example:
        >>> with StopRequest() as stop:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     stop.number == signal.SIGTERM
        True
    """

    def __init__(self) -> None:
        self.number = 0
        self._aborts = False
        self._since = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        # Python delivers signals to the main thread alone; elsewhere the caller has to handle them.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number = number
            if int(os.environ.get("LOCAL_RANK", "0")) == 0:
                # os.write, because the signal may have come in the middle of another print; it
                # fails where the terminal is gone.
                with suppress(OSError):
                    os.write(2, b"\nstopping after this step; once more aborts at once\n")
        if number == signal.SIGHUP:
            return
        if not self._aborts:
            self._aborts, self._since = True, time.monotonic()
            return
        forwarded = time.monotonic() - self._since < _FORWARDED_WITHIN
        if under_torchrun() and forwarded:
            return
        if number == signal.SIGTERM:
            raise SystemExit(128 + number)
        raise KeyboardInterrupt
