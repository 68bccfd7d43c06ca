"""Measure one job: a model on a task's data."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, cast

from cocabench.core import __version__
from cocabench.core.errors import CocabenchError
from cocabench.core.types import Context, Machine, Model, Note, Progress, Record
from cocabench.kinds.base import notes_of
from cocabench.metrics.base import Samples, estimate, stack
from cocabench.models.cached import Cached
from cocabench.models.hardware import Hardware, cuda_version, machine_name, threads
from cocabench.models.spoken import Spoken
from cocabench.results.records import given_params
from cocabench.run.plan import INTERVAL_SEED, Job
from cocabench.run.prepare import Settings


class Site(NamedTuple):
    """Where a model runs, for kinds and for information. device: of what kinds train here, as probes."""

    machine: Machine
    environment: Mapping[str, str]
    device: str


def site_of(hardware: Hardware) -> Site:
    """Return the Site of this machine."""
    machine = planned_machine(hardware)._replace(threads=threads())
    return Site(machine, environment(hardware), hardware.device)


def measure(
    job: Job,
    model: Cached,
    settings: Settings,
    site: Site,
    progress: Progress,
    *,
    beside: Mapping[str, Model] | None = None,
) -> tuple[Record, Samples]:
    """Return the Record of a ready job, and its samples. beside: the kind's extra models, loaded."""
    assert job.data, "a ready job has data"
    assert job.signature, "a ready job has a signature"
    kind, dataset, spec, metrics = job.task.kind, job.data.dataset, job.task.spec, job.data.metrics
    notes: list[Note] = []
    machine = site.machine._replace(java=settings.java)
    from cocabench.models.probes import AdamW  # with torch, which plans do without
    from cocabench.models.scores import ScoresOnDevice

    further, solve = job.data.further, AdamW(site.device)
    gpu = partial(ScoresOnDevice, device=site.device) if site.device.startswith("cuda") else None
    context = Context(progress, notes.append, beside or {}, further, machine, model.cache, solve, gpu)
    model.contents.clear()
    start = time.perf_counter()
    spoken = Spoken(model, spec.language, tells="text_language" in job.signature.model) if spec.language else None
    samples = stack(kind.score(cast(Model, spoken or model), dataset, context))
    said = {note.code for note in notes}
    notes += [note for note in spoken.notes() if note.code not in said] if spoken else ()
    for name in ("id", "image_id") if len(samples) else ():
        if wrong := [value for value in samples[name] if not isinstance(value, str)]:
            raise CocabenchError(f"{spec.evaluator}.score", f"a sample's {name} is {wrong[0]!r}"[:200], wanted="text")
    seconds = time.perf_counter() - start
    pictures = job.data.pictures(model.cache, model.contents)
    of_kind = notes_of(kind, dataset, samples, metrics.values(), primary=spec.primary)
    record = Record(
        task=spec.name,
        model=job.source.id,
        evaluator=spec.evaluator,
        primary=spec.primary,
        groups=spec.groups,
        signature=job.signature,
        metrics={name: estimate(metric, samples, seed=settings.seed) for name, metric in metrics.items()},
        definitions={name: metric.info for name, metric in metrics.items()},
        skipped_metrics=dict(job.data.missing),
        skipped_images=tuple(sorted({e.id for e in dataset.examples} - set(samples["image_id"]))),
        notes=(*model.notes, *job.data.notes, *dataset.notes, *of_kind, *dict.fromkeys(notes)),
        timing={"seconds": round(seconds, 3)},
        parameters=dict(model.parameters),
        environment={**site.environment, INTERVAL_SEED: str(settings.seed), **given_params(job.task.given)},
        pictures=pictures.contents,
        pictures_by_id=pictures.by_id,
        image_files=job.data.image_files,
        rows=job.data.rows(),
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    return record, samples


def renewed(job: Job, settings: Settings, samples: Samples) -> Record:
    """Return a job's stored Record with all metrics recomputed from its samples, for example for another K.

    Its metrics are kept even if this machine could not measure them.
    """
    assert job.data, "a finished job has data"
    assert job.record, "a finished job has a Record"
    able = {m.name: m for m in job.task.kind.metrics(job.data.dataset) if m.readable(samples.columns)}
    changed = {
        "metrics": {name: estimate(metric, samples, seed=settings.seed) for name, metric in able.items()},
        "definitions": {name: metric.info for name, metric in able.items()},
        "skipped_metrics": {name: why for name, why in job.data.missing.items() if name not in able},
        "primary": job.task.spec.primary,
        "environment": {**job.record.environment, INTERVAL_SEED: str(settings.seed)},
    }
    return job.record.model_copy(update=changed)


def planned_machine(hardware: Hardware) -> Machine:
    """Return the Machine for plans: its threads are counted where a task names them (``prepare``)."""
    return Machine(machine_name(hardware.device), None, hardware.device_type)


def environment(hardware: Hardware) -> dict[str, str]:
    """Return versions and hardware, for information; they are never compared."""
    packages = ("torch", "torchvision", "pillow", "open_clip_torch", "numpy", "pycocoevalcap", "transformers")
    versions = {name: _version(name) for name in packages}
    device = machine_name(hardware.device)
    run = {"cocabench": __version__, "python": platform.python_version()}
    machine = {"system": platform.system(), "device": device, "threads": str(threads())}
    return {**run, **versions, **machine, **({"cuda": cuda_version(), "driver": _driver()} if hardware.on_gpu else {})}


def _driver() -> str:
    """Return the version line of the NVIDIA driver on Linux."""
    path = Path("/proc/driver/nvidia/version")
    return path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
