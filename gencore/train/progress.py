"""What the person at the terminal sees of a running loop."""

import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from gencore.extras import training_extra

__all__ = ["ProgressDisplay"]

# A bar that moves ten times a second looks alive; a log file wants a line now and then.
_BAR_PERIOD = 0.1
_LINE_PERIOD = 10.0


class ProgressDisplay:
    """A bar with steps/s and the latest losses on a terminal, a line every ten seconds elsewhere.

    A terminal that is gone ends no run: what cannot be shown is not.

    Args:
        name: what is running.
        start: steps done before.
        steps: of the whole run.
        enabled: False shows nothing.
    """

    def __init__(self, name: str, start: int, steps: int, *, enabled: bool = True) -> None:
        with training_extra():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )
            from rich.table import Column

        self._name, self._steps = name, steps
        self._enabled = enabled
        console = Console(stderr=True)
        self._live = enabled and console.is_terminal
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            # On a narrow terminal the losses give way, not the count.
            TextColumn("{task.fields[values]}", table_column=Column(ratio=1, no_wrap=True)),
            expand=True,
            console=console,
            disable=not self._live,
        )
        self._task = self._bar.add_task(name, total=steps, completed=start, speed="", values="")
        self._shown_at = self._speed_at = time.monotonic()
        self._speed_step = start
        self._speed = self._values = ""

    def advance(self, step: int) -> None:
        """`step` steps are done; cheap enough to call after each."""
        if not self._enabled:
            return
        now = time.monotonic()
        if self._live and now - self._shown_at > _BAR_PERIOD:
            self._shown_at = now
            with suppress(OSError):
                self._bar.update(self._task, completed=step)

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """New values of the losses, as logged at `step`."""
        if not self._enabled:
            return
        now = time.monotonic()
        rate = (step - self._speed_step) / max(now - self._speed_at, 1e-9)
        self._speed_step, self._speed_at = step, now
        self._speed = f"{rate:.1f} steps/s" if rate < 100 else f"{rate:.0f} steps/s"
        self._values = "  ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:3])
        if self._live:
            with suppress(OSError):
                self._bar.update(self._task, completed=step, speed=self._speed, values=self._values)
        elif now - self._shown_at > _LINE_PERIOD or step == self._steps:
            self._shown_at = now
            line = f"{self._name}  step {step}/{self._steps}  {self._speed}  {self._values}"
            with suppress(OSError):
                print(line, file=sys.stderr, flush=True)

    def start(self) -> None:
        """Shows the bar."""
        with suppress(OSError):
            self._bar.start()

    def stop(self) -> None:
        """Leaves the bar as it is and gives the terminal back."""
        with suppress(OSError):
            self._bar.stop()
