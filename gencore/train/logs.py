"""The scalars of a run: in log.csv, for TensorBoard and at other loggers."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencore.atomic import cannot_write, replacing
from gencore.extras import training_extra
from gencore.train.devices import on_rank_zero
from gencore.train.progress import ProgressDisplay
from gencore.train.recipe import Recipe
from gencore.train.run_folder import EVENTS_SUFFIX, RunFolder

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.loggers.logger import Logger

    from gencore.train.loggers import LoggerChoice

__all__ = ["CsvLog", "OtherLog", "RunLog", "TensorBoardLog", "read_log"]


class CsvLog:
    """Appends rows to a CSV file whose first column is the step.

    Args:
        path: the file.
        after: the run continues after this step: rows beyond it, written between the checkpoint and
            a crash, are dropped, and so is a last row that was cut. 0 starts an empty file.

    Attributes:
        last: the step of the last row that the file had before the cut, 0 if it had none.

    Raises:
        ValueError: the file to continue is damaged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "log.csv"
        >>> log = CsvLog(path)
        >>> log.write(10, {"loss": 0.5})
        >>> log.write(20, {"loss": 0.25})
        >>> log.close()
        >>> log = CsvLog(path, after=10)
        >>> log.write(20, {"loss": 0.125})
        >>> log.close()
        >>> read_log(path)
        {'step': [10.0, 20.0], 'loss': [0.5, 0.125]}
    """

    def __init__(self, path: Path, *, after: int = 0) -> None:
        self._path = path
        lines = _lines(path)
        steps = [int(line.partition(",")[0]) for line in lines[1:]]
        self.last = max(steps, default=0)
        kept = [line for line, step in zip(lines[1:], steps, strict=True) if step <= after]
        with replacing(path) as temporary:
            temporary.write_text("".join(lines[:1] + kept) if after else "", encoding="utf-8")
        self._columns = next(csv.reader(lines[:1]), None) if after else None
        self._open()

    def _open(self) -> None:
        # Line-buffered: what a reader sees are whole rows.
        self._file = self._path.open("a", encoding="utf-8", buffering=1, newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a row. Where a resumed run has other columns than before, nan fills the gaps."""
        if self._columns is None:
            self._columns = ["step", *values]
            self._write_row(self._columns)
        if new := [name for name in values if name not in self._columns]:
            self._add_columns(new)
        self._write_row([step, *(values.get(name, math.nan) for name in self._columns[1:])])

    def close(self) -> None:
        """Flushes what is not on the disk yet."""
        with _naming(self._path):
            self._file.close()

    def _add_columns(self, names: Sequence[str]) -> None:
        assert self._columns is not None
        self._file.close()
        header, *rows = _lines(self._path)
        gaps = "".join(",nan" for _ in names)
        with replacing(self._path) as temporary:
            lines = [f"{header[:-1]},{','.join(names)}\n", *(f"{row[:-1]}{gaps}\n" for row in rows)]
            temporary.write_text("".join(lines), encoding="utf-8")
        self._columns = [*self._columns, *names]
        self._open()

    def _write_row(self, row: Sequence[object]) -> None:
        with _naming(self._path):
            self._writer.writerow(row)


class TensorBoardLog:
    """Writes scalars as TensorBoard events; where `after` is given, earlier ones from beyond that
    step are hidden."""

    def __init__(self, folder: Path, *, after: int | None = None) -> None:
        with training_extra():
            from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        purge = None if after is None else after + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge, filename_suffix=EVENTS_SUFFIX)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one point to each curve."""
        with _naming(self._folder):  # an error of an earlier row, since another thread writes them
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes what is not on the disk yet."""
        with _naming(self._folder):
            self._writer.close()


class OtherLog:
    """Sends rows to a logger of Lightning's interface, each only once.

    Args:
        logger: where they go.
        after: rows up to this step are there already.
    """

    def __init__(self, logger: "Logger", *, after: int = 0) -> None:
        self._logger, self._after = logger, after

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Sends a row."""
        if step > self._after:
            self._logger.log_metrics(dict(values), step)

    def close(self, status: str = "success") -> None:
        """Ends the logger's run with this status, "success" or "failed"."""
        self._logger.finalize(status)


class RunLog:
    """Everything that shows a run's scalars: files, other loggers, the terminal. Only rank 0 has
    any.

    A run that is resumed goes on in the same runs of its loggers. The steps between the checkpoint
    and a crash, which they have seen, they do not see again, as their rows are the same. Where
    settings have changed the rows may differ, and the loggers begin a new run.

    Args:
        fabric: the run's processes.
        folder: where the files go; its config is written.
        recipe: what runs.
        start: steps done before; a log that goes beyond is cut there.
        progress: show progress on the terminal.
        loggers: where the rows go beside log.csv, as `check_loggers` allows.

    Raises:
        ValueError: the log to continue is damaged, or a logger cannot start.
    """

    def __init__(
        self,
        fabric: "Fabric",
        folder: RunFolder,
        recipe: Recipe,
        start: int,
        progress: bool,
        loggers: Sequence["LoggerChoice"] = ("tensorboard",),
    ) -> None:
        self._files: list[CsvLog | TensorBoardLog] = []
        self._others: list[OtherLog] = []
        shown = progress and fabric.is_global_zero
        self._display = ProgressDisplay(recipe.name, start, recipe.steps, enabled=shown)
        try:
            on_rank_zero(fabric, lambda: self._open(folder, recipe, start, loggers))
        except BaseException:
            self._close("failed")
            raise

    def _open(
        self, folder: RunFolder, recipe: Recipe, start: int, loggers: Sequence["LoggerChoice"]
    ) -> None:
        from gencore.train.loggers import REMOTE

        rows = CsvLog(folder.log, after=start)
        self._files.append(rows)
        if "tensorboard" in loggers:
            after = start if start or rows.last else None
            self._files.append(TensorBoardLog(folder.tensorboard, after=after))
        others = [logger for logger in loggers if logger not in ("tensorboard", "none")]
        if not others:
            return
        config = folder.read_config()
        runs: dict[str, dict[str, Any]] = config["logger_runs"]
        names: list[str] = []
        for choice in others:
            name = choice if isinstance(choice, str) else type(choice).__name__
            if name in names:  # a second one of its kind
                name += f" {1 + sum(n.partition(' ')[0] == name for n in names)}"
            names.append(name)
            known = runs.get(name, {})
            run = known.get("id")
            logger = REMOTE[choice](folder.path, run) if isinstance(choice, str) else choice
            # After two crashes it may have seen more than the log still has.
            seen = max(known["seen"], rows.last) if known else 0
            self._others.append(OtherLog(logger, after=seen))
            if not known:
                with suppress(NotImplementedError):  # of Fabric's CSVLogger
                    logger.log_hyperparams({"recipe": recipe.name, **config["fields"]})
            runs[name] = {"id": str(logger.version), "seen": seen}
        folder.write_json(folder.config, config)

    def advance(self, step: int) -> None:
        """`step` steps are done; cheap enough to call after each."""
        self._display.advance(step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one row."""
        for log in (*self._files, *self._others):
            log.write(step, values)
        self._display.report(step, values)

    def __enter__(self) -> "RunLog":
        self._display.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._display.stop()
        self._close("failed" if kind else "success")

    def _close(self, status: str) -> None:
        with ExitStack() as stack:  # each is closed, whatever becomes of the others
            for other in self._others:
                stack.callback(other.close, status)
            for file in self._files:
                stack.callback(file.close)


def read_log(path: Path) -> dict[str, list[float]]:
    """The columns of a file that `CsvLog` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    rows = list(csv.reader(_lines(path)))
    if not rows:
        return {}
    return {name: [float(row[i]) for row in rows[1:]] for i, name in enumerate(rows[0])}


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of writing in this block name `path`."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def _lines(path: Path) -> list[str]:
    """The header and the rows of numbers, but for a last one that was cut."""
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        lines = lines if not lines or lines[-1].endswith("\n") else lines[:-1]
        columns = next(csv.reader(lines[:1]), ["step"])
        if columns[:1] != ["step"]:
            raise ValueError(f"its first line is {lines[0]!r}")
        for index, line in enumerate(lines[1:], 2):
            step, *values = line.split(",")
            if len([int(step), *map(float, values)]) != len(columns):
                raise ValueError(f"line {index} does not have {len(columns)} columns")
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return lines
