"""Ctrl-C and SIGTERM as a request that the loop reads between two steps."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from gencore.train.devices import under_torchrun

__all__ = ["Interrupted", "StopRequest"]

# torchrun passes the terminal's Ctrl-C, which its workers have already had, on to them once more.
_FORWARDED_WITHIN = 2.0


class Interrupted(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or SIGTERM, after it had written its checkpoint.

    Attributes:
        step: optimisation steps done and saved.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class StopRequest:
    """While entered, the first SIGINT or SIGTERM sets `requested`, the next one aborts at once.

    Example:
        >>> with StopRequest() as stop:
        ...     signal.raise_signal(signal.SIGINT)
        ...     stop.requested
        True
    """

    def __init__(self) -> None:
        self.requested = False
        self._since = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        # Python delivers signals to the main thread alone; elsewhere the caller has to handle them.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._since = True, time.monotonic()
            if int(os.environ.get("LOCAL_RANK", "0")) == 0:
                # os.write, because the signal may have come in the middle of another print.
                os.write(2, b"\nstopping after this step; once more aborts at once\n")
            return
        forwarded = time.monotonic() - self._since < _FORWARDED_WITHIN
        if under_torchrun() and forwarded:
            return
        raise KeyboardInterrupt
