"""Where the scalars of a run go beside log.csv and TensorBoard: Weights & Biases, MLflow, or any
logger of Lightning's interface.

The two are written on their own packages: Lightning's loggers for them come with pytorch-lightning,
which brings a second copy of lightning-fabric.
"""

import os
import time
from abc import abstractmethod
from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from gencore.choices import check_choice
from gencore.extras import training_extra

with training_extra():
    from lightning_fabric.loggers.logger import Logger

__all__ = ["LoggerChoice", "LoggerName", "MLflowLogger", "WandbLogger", "check_loggers"]

LoggerName = Literal["tensorboard", "wandb", "mlflow", "none"]
LoggerChoice: TypeAlias = LoggerName | Logger

_METHODS = ("log_hyperparams", "log_metrics", "finalize")


def check_loggers(loggers: Sequence[LoggerChoice]) -> None:
    """Raise unless a run can log there.

    Args:
        loggers: names, or objects with the methods of `lightning_fabric.loggers.Logger`.

    Raises:
        ValueError: an unknown name, or "none" beside others.
        TypeError: neither a name nor a logger.
        ModuleNotFoundError: a package is missing.

    Example:
        >>> check_loggers(["tensorboard", "disk"])
        Traceback (most recent call last):
            ...
        ValueError: fit: logger is 'disk'; expected one of tensorboard, wandb, mlflow, none
    """
    for logger in loggers:
        if not isinstance(logger, str):
            if not all(hasattr(logger, method) for method in _METHODS):
                raise TypeError(
                    f"fit: a logger is a {type(logger).__name__}; expected a name or an object "
                    f"with the methods {', '.join(_METHODS)}"
                )
            continue
        check_choice("fit", "logger", logger, get_args(LoggerName))
        if logger == "none" and len(loggers) > 1:
            raise ValueError("fit: the logger none excludes others")
        if logger in ("wandb", "mlflow") and not _is_installed(logger):
            raise ModuleNotFoundError(
                f"the logger {logger} needs the package {logger}: pip install {logger}",
                name=logger,
            )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # it is in sys.modules without a spec
        return False


class RemoteLogger(Logger):
    """A logger whose run has an identity there, by which a resumed run goes on with it.

    Args:
        folder: the run's.
        run_id: what `version` was before; None starts a run there.

    Raises:
        ValueError: there is no connection, or no such run.
    """

    service: str

    def __init__(self, folder: Path, run_id: str | None = None) -> None:
        self._folder = folder
        try:
            self._run_id = self._start(run_id)
        except Exception as error:  # each package has its own
            raise ValueError(f"the logger {self.service} cannot start: {error}") from error

    @abstractmethod
    def _start(self, run_id: str | None) -> str:
        """Connects and returns the identity of the run."""

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self._folder.absolute().name

    @property
    def version(self) -> str:
        """The identity of the run there."""
        return self._run_id


class WandbLogger(RemoteLogger):
    """Logs to Weights & Biases by ``wandb``, which reads its settings from ``WANDB_…`` variables:
    the project (``WANDB_PROJECT``, else "gencore"), ``WANDB_MODE=offline`` and so on."""

    service = "wandb"

    def _start(self, run_id: str | None) -> str:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "gencore"),
            name=self.name,
            id=run_id,
            resume="allow",
            dir=str(self._folder),
        )
        identity: str = self._run.id
        return identity

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        self._run.config.update(params, allow_val_change=True)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._run.log(dict(metrics), step=step)

    def finalize(self, status: str) -> None:
        self._run.finish(exit_code=int(status != "success"))


class MLflowLogger(RemoteLogger):
    """Logs to MLflow by ``mlflow``, which reads its settings from ``MLFLOW_…`` variables: where to
    (``MLFLOW_TRACKING_URI``), the experiment (``MLFLOW_EXPERIMENT_NAME``, else "gencore")."""

    service = "mlflow"

    def _start(self, run_id: str | None) -> str:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        if run_id is not None:
            self._client.update_run(run_id, status="RUNNING")
            return run_id
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", "gencore")
        experiment = self._client.get_experiment_by_name(title)
        place = experiment.experiment_id if experiment else self._client.create_experiment(title)
        identity: str = self._client.create_run(place, run_name=self.name).info.run_id
        return identity

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        from mlflow.entities import Param

        items = dict(params).items() if isinstance(params, dict) else vars(params).items()
        self._client.log_batch(self._run_id, params=[Param(k, str(v)) for k, v in items])

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        rows = [Metric(name, value, now, step or 0) for name, value in metrics.items()]
        self._client.log_batch(self._run_id, metrics=rows)

    def finalize(self, status: str) -> None:
        self._client.set_terminated(self._run_id, "FINISHED" if status == "success" else "FAILED")


REMOTE: Mapping[str, type[RemoteLogger]] = {"wandb": WandbLogger, "mlflow": MLflowLogger}
