"""A second task on images that a first one encoded, against the same task as the first.

python -m benchmarks cache [--json] [--images 256] [--model ViT-B-32]

The task itself is timed: classification with its texts, scores and intervals; both sides load the model before.
The features must be the same to the bit.
"""

from __future__ import annotations

from typing import Any

from benchmarks import small_set
from benchmarks.sides import Options, Row, Work


def ours(options: Options) -> Work:
    """The task after retrieval on the same images."""
    return _task(options, before=("find",))


def theirs(options: Options) -> Work:
    """The task with an empty cache."""
    return _task(options, before=())


def _task(options: Options, before: tuple[str, ...]) -> Work:
    import torch

    from cocabench.core.cache import Cache, open_cache
    from cocabench.core.types import silent
    from cocabench.models.cached import Cached
    from cocabench.models.hardware import hardware
    from cocabench.run.execute import planner_for
    from cocabench.run.measure import measure, site_of
    from cocabench.run.prepare import Settings
    from cocabench.specs.registry import find_tasks, model_sources
    from cocabench.specs.spec import parse_models

    torch.set_num_threads(options.threads)
    root = small_set.write(small_set.folder(), options.images)
    settings = Settings(data_root=root, output=root / "results", cache=root / "features")
    machine = hardware(device="cpu", precision="fp32", workers=0)
    names = [*before, "classes"]
    models = model_sources(parse_models(f"{options.model}:random@0"))
    planner = planner_for(settings, machine)
    (cell,) = planner.plan(models, find_tasks([str(root / f"{name}.toml") for name in names])).cells
    jobs = [planner.job(cell.model, step) for step in cell.steps]
    model = models[0].load(machine)

    def run(job: Any, cache: Cache) -> Any:
        made = Cached(model, cache, job.signature.model, "cpu")
        return measure(job, made, settings, site_of(machine), silent)[1]

    def work() -> Any:
        with open_cache(settings.cache, print) as cache:
            return run(jobs[-1], cache)["top5_scores"].tolist()

    with open_cache(settings.cache, print) as cache:
        for job in jobs[:-1]:
            run(job, cache)
    return work


ROW = Row(
    name="cache",
    what="classification on {images} images that retrieval encoded before, {model}:random, fp32",
    against="the same as the first task",
    target=20,
    ours=ours,
    theirs=theirs,
    tolerance=0,
    arguments={"--model": "ViT-B-32", "--images": 256},
)

if __name__ == "__main__":
    ROW.main()
