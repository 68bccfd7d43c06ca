"""Records for experiment trackers: trackio, wandb, mlflow and tensorboard, by their own packages.

A model is a run; checkpoints of a training are steps of one run, step = epoch. Its config is the signature; each metric
comes with the ends of its interval; samples are a table. Where a tracker writes, and whether it talks to a server, is
said by its own settings (WANDB_MODE, MLFLOW_TRACKING_URI, TRACKIO_DIR …); tensorboard's files go below the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cocabench.core.errors import ResultsError, UsageError
from cocabench.core.formatting import escape, table
from cocabench.core.signature import digest, flat, short
from cocabench.core.types import Record
from cocabench.results.epochs import epoch_of
from cocabench.results.store import RecordSet, slug

PROJECT = "cocabench"
MAX_ROWS = 1000
"""Samples of a task that a table holds; all are in the results folder."""


MODULES = {name: name for name in ("trackio", "wandb", "mlflow")} | {"tensorboard": "torch.utils.tensorboard"}
"""{tracker: the module that logs to it}."""


@dataclass(frozen=True)
class Point:
    """What one model measured. run: its name, the same for checkpoints of one training. step: the epoch, else 0.

    config: the leaves of the signatures, by task. numbers: values and interval ends, unscaled. tables: samples by task.
    """

    run: str
    step: int
    config: dict[str, Any]
    numbers: dict[str, float]
    tables: dict[str, pd.DataFrame]

    @property
    def id(self) -> str:
        """Identifies the run to trackers, so that later steps and a repeated command continue it."""
        return digest(self.run)


def points(results: RecordSet) -> Iterator[Point]:
    """Yield a Point for each model, checkpoints in order of epoch."""
    models: dict[str, list[Record]] = {}
    for record in results:
        models.setdefault(record.model, []).append(record)
    for model in sorted(models, key=_step):
        epoch, tables = epoch_of(model), {}
        for record in models[model]:
            try:
                tables[record.task] = _plain(results.samples(record).head(MAX_ROWS))
            except ResultsError:
                continue  # imported, or stored without samples: there is nothing to show
        yield Point(
            epoch.run if epoch else model,
            _step(model),
            {
                f"{record.task}.{key}": value if isinstance(value, int | float | str) else str(value)
                for record in models[model]
                for key, value in {"signature": short(record.signature), **_parts(record)}.items()
            },
            {key: value for record in models[model] for key, value in _numbers(record)},
            tables,
        )


def _step(model: str) -> int:
    return epoch.number if (epoch := epoch_of(model)) else 0


def _parts(record: Record) -> dict[str, Any]:
    return flat({"protocol": record.signature.protocol, "model": record.signature.model})


def _numbers(record: Record) -> Iterator[tuple[str, float]]:
    """Yield ``emoji_flags/acc1`` and, where there is an interval, ``…/acc1/low`` and ``…/high``; none undefined."""
    for name, estimate in record.metrics.items():
        safe = name.replace("@", "_at_").replace("[", "_").replace("]", "")  # mlflow's letters
        for part, value in (("", estimate.value), ("/low", estimate.low), ("/high", estimate.high)):
            if value is not None:
                yield f"{record.task}/{safe}{part}", value


def _plain(samples: pd.DataFrame) -> pd.DataFrame:
    """Return samples whose cells every tracker takes: lists as text."""
    made = samples.copy()
    for name in made:
        if made[name].map(lambda value: isinstance(value, list | tuple | np.ndarray)).any():
            made[name] = made[name].map(lambda value: "" if value is None else str(list(value)))
    return made


def imported(tracker: str) -> Any:
    """Return the module of one of the trackers in MODULES; UsageError if its package is not installed."""
    try:
        return import_module(MODULES[tracker])
    except ImportError as error:
        raise UsageError(f"--track {tracker}", f"not importable ({error})", fix=f"pip install {tracker}") from None


def track(tracker: str, results: RecordSet, folder: Path) -> int:
    """Send results to a tracker and return how many runs they are. folder: the results folder."""
    module, runs = imported(tracker), set()
    senders: dict[str, Callable[[Any, Point, Path], None]] = {
        "trackio": _trackio,
        "wandb": _wandb,
        "mlflow": _mlflow,
        "tensorboard": _tensorboard,
    }
    for point in points(results):
        senders[tracker](module, point, folder)
        runs.add(point.run)
    return len(runs)


def _trackio(trackio: Any, point: Point, folder: Path) -> None:
    trackio.init(
        project=PROJECT,
        name=point.run,
        config=point.config,
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    tables = {f"{task}/samples": trackio.Table(dataframe=frame) for task, frame in point.tables.items()}
    trackio.log({**point.numbers, **tables}, step=point.step)
    trackio.finish()


def _wandb(wandb: Any, point: Point, folder: Path) -> None:
    with wandb.init(
        project=PROJECT, name=point.run, id=point.id, config=point.config, resume="allow", dir=folder
    ) as run:
        tables = {f"{task}/samples": wandb.Table(dataframe=frame) for task, frame in point.tables.items()}
        run.log({**point.numbers, **tables}, step=point.step)


def _mlflow(mlflow: Any, point: Point, folder: Path) -> None:
    experiment = mlflow.set_experiment(PROJECT)
    found = mlflow.search_runs(
        [experiment.experiment_id], f"tags.`cocabench.run` = '{point.id}'", max_results=1, output_format="list"
    )
    new = None if found else point.run
    with mlflow.start_run(run_id=found[0].info.run_id if found else None, run_name=new, log_system_metrics=False):
        mlflow.set_tag("cocabench.run", point.id)
        mlflow.log_dict(point.config, f"config/step_{point.step}.json")
        mlflow.log_metrics(point.numbers, step=point.step)
        for task, frame in point.tables.items():
            mlflow.log_table(frame, f"samples/step_{point.step}/{slug(task)}.json")


def _tensorboard(tensorboard: Any, point: Point, folder: Path) -> None:
    with tensorboard.SummaryWriter(str(folder / "tensorboard" / slug(point.run))) as writer:
        config = pd.Series(point.config, dtype=object).rename("value").to_frame().astype(str)
        writer.add_text("config", _markdown(config.reset_index()), point.step)
        for name, value in point.numbers.items():
            writer.add_scalar(name, value, point.step)
        for task, frame in point.tables.items():
            writer.add_text(f"{task}/samples", _markdown(frame), point.step)


def _markdown(frame: pd.DataFrame) -> str:
    return table([str(name) for name in frame.columns], [[escape(str(v)) for v in row] for row in frame.to_numpy()])
