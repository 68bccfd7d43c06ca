"""cocabench list, doctor, setup and cache: names, checks of this machine, downloads, and the cache."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.text import Text

from cocabench.cli import names
from cocabench.cli.console import print_json, print_table, say
from cocabench.cli.options import Cache, DataRoot, Java, Json, flag, option
from cocabench.cli.usage import Commands
from cocabench.core.errors import CocabenchError, ResultsError, UnknownNameError
from cocabench.core.formatting import plural
from cocabench.core.packages import OPEN_CLIP, check_open_clip, too_new
from cocabench.specs.aliases import CAPTIONERS

if TYPE_CHECKING:
    from cocabench.metrics.base import Metric

lists = typer.Typer(
    cls=Commands,
    help="List tasks, models, metrics, and the weights in a checkpoint.\n\nExample: cocabench list tasks retrieval",
    no_args_is_help=True,
)
setup = typer.Typer(
    cls=Commands,
    help="Download what a metric needs beyond pip's packages.\n\nExample: cocabench setup spice",
    no_args_is_help=True,
)
cache = typer.Typer(
    cls=Commands,
    help="Show or clear the cache of features, captions and scores.\n\nExample: cocabench cache info",
    no_args_is_help=True,
)

Wanted = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", autocompletion=names.tasks, help="Only these tasks and groups.")
]


def _show(header: list[str], rows: list[list[str]], as_json: bool) -> None:
    if as_json:
        print_json([dict(zip(header, row, strict=True)) for row in rows])
    else:
        print_table(header, rows)


@lists.command()
def tasks(wanted: Wanted = None, as_json: Json = False) -> None:
    """List the tasks for --tasks, with their groups. The languages of a set are one row, unless it is named.

    Example: cocabench list tasks vtab+
    """
    from cocabench.kinds import find
    from cocabench.specs.registry import Family, all_tasks, families, find_tasks

    specs = [task.spec for task in (find_tasks(wanted) if wanted else all_tasks().values())]
    alone = as_json or len({spec.family for spec in specs}) == 1
    listed = [Family(spec.name, spec.summary, (spec,)) for spec in specs] if alone else families(specs)
    shown = [(name, about, own[0]) for name, about, own in listed]
    rows = [[name, spec.evaluator, spec.primary, ", ".join(spec.groups), about] for name, about, spec in shown]
    _show(["task", "evaluator", "primary", "groups", "summary"], rows, as_json)
    if wanted and not as_json:
        for kind in dict.fromkeys(spec.evaluator for spec in specs):
            print(*find(kind).shown.guide, sep="\n", end="\n" if find(kind).shown.guide else "")


@lists.command()
def models(
    part: Annotated[str, typer.Argument(metavar="PART", help="Only models with this in their name: coca.")] = "",
    as_json: Json = False,
) -> None:
    """List the models for --model: architectures with their default tag and all published tags, and captioners by name.

    Example: cocabench list models coca
    """
    check_open_clip()
    from cocabench.demo import MODELS
    from cocabench.models.open_clip.blueprint import default_tag
    from cocabench.models.open_clip.published import architectures, tags
    from cocabench.specs.registry import entry_points

    rows = [[f"demo/{name}", "", "comes with cocabench"] for name in MODELS]
    for name in architectures():
        own = tags(name)
        rows.append([name, default_tag(name, own), ", ".join(own)])
    rows += [[name, "", "Apple's, on the hub"] for name in CAPTIONERS]
    plugins = [point for point in entry_points("models", tuple(sys.path)) if not point.module.startswith("cocabench.")]
    for point in sorted(plugins, key=lambda point: point.name):
        rows.append([f"{point.name}::…", "", f"models of {point.dist.name if point.dist else point.module}"])
    rows = [row for row in rows if part.lower() in row[0].lower()]
    if not rows:
        raise UnknownNameError("model", part, architectures(), fix="see `cocabench list models`")
    _show(["model", "default", "tags"], rows, as_json)


@lists.command()
def weights(file: Annotated[Path, typer.Argument(help="A checkpoint file.")], as_json: Json = False) -> None:
    """List the weights in a checkpoint file: its own, and their moving average (EMA) if it has one.

    Example: cocabench list weights checkpoints/epoch_5.pt
    """
    from cocabench.core.errors import ModelError
    from cocabench.models.open_clip.checkpoint import held

    if not file.is_file():
        raise ModelError(str(file), "no such file", fix="check the path")
    rows = [[f"NAME:{file}{one.mark}", f"{one.tensors:,}", f"{one.numbers:,}"] for one in held(file)]
    _show(["model", "tensors", "numbers"], rows, as_json)


@lists.command()
def metrics(as_json: Json = False) -> None:
    """List the metrics and their definitions, each once with the kinds of task that have it.

    Example: cocabench list metrics
    """
    from cocabench.kinds import every, in_words

    known: dict[str, list[tuple[str, Metric]]] = {}
    for kind in every():
        for metric in kind.listed():
            known.setdefault(metric.name, []).append((in_words(kind.name), metric))
    rows = []
    for name, ((first, m), *others) in known.items():
        kinds = dict.fromkeys([first, *(kind for kind, _ in others)])
        more = [f"{kind}: {other.summary}" for kind, other in others if other.summary != m.summary]
        better = "higher" if m.higher_is_better else "lower"
        rows.append([name, ", ".join(kinds), m.unit, better, " ".join([m.summary, *more])])
    _show(["metric", "kinds", "unit", "better", "summary"], rows, as_json)


class Check(NamedTuple):
    """The result of one check. ok: None if it is neither good nor bad."""

    name: str
    ok: bool | None
    found: str


def doctor(
    gpu: Annotated[bool, flag("--gpu", "Also run a smoke test on the GPU, about a minute.")] = False,
    data_root: DataRoot = Path("data"),
    java: Java = None,
    as_json: Json = False,
) -> None:
    """Check this machine: packages, devices, caption metrics, data. Exit code 1 if something required is broken.

    Example: cocabench doctor --data-root /data
    """
    checks = [*_software(), *_hardware(), *_caption_metrics(java), *_data(data_root), *(_smoke() if gpu else ())]
    if as_json:
        print_json([check._asdict() for check in checks])
    else:
        marks = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "yellow")}
        print_table(["", "what", "found"], [[Text(*marks[c.ok]), c.name, c.found] for c in checks])
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


def _software() -> Iterator[Check]:
    yield Check("python", True, platform.python_version())
    for package in ("cocabench", "torch", "torchvision", "open_clip_torch", "clip-benchmark", "pycocoevalcap"):
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            yield Check(package, False, f"not installed; run `pip install {package}`")
            continue
        said = too_new(version) if package == OPEN_CLIP else ""
        yield Check(package, not said, said or version)
    yield _transformers()


def _transformers() -> Check:
    """Return whether ``transformers::`` models can be loaded; nothing else needs the package."""
    from cocabench.models.hf import families

    version = families.installed()
    if said := families.unsupported(version):
        return Check("transformers", None, said)
    works = f"models of transformers:: work with {families.SUPPORTED}, NaFlex from {families.FIRST_WITH_NAFLEX}"
    return Check("transformers", True, f"{version}; {works}")


def _hardware() -> Iterator[Check]:
    import torch

    yield Check("CPU", True, f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads")
    if not torch.cuda.is_available():
        yield Check("CUDA", None, "no device; models run on the CPU")
        return
    for i in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(i).total_memory / 2**30
        yield Check(f"cuda:{i}", True, f"{torch.cuda.get_device_name(i)}, {memory:.0f} GiB")


def _caption_metrics(java: Path | None) -> Iterator[Check]:
    from cocabench import captioneval

    missing = captioneval.unavailable(captioneval.NAMES, java=java)
    for name in captioneval.NAMES:
        yield Check(name, None if name in missing else True, missing.get(name, "can run"))
    yield Check(" and ".join(captioneval.MODEL_BASED), True, "can run with any model whose weights are available")


def _data(root: Path) -> Iterator[Check]:
    from cocabench.run.prepare import Settings, prepare
    from cocabench.specs.registry import all_tasks

    remedy = "" if root.is_dir() else " does not exist; set --data-root or COCABENCH_DATA"
    yield Check("data root", True if root.is_dir() else None, f"{root.resolve()}{remedy}")
    for task in all_tasks().values() if root.is_dir() else ():
        if "demo" not in task.spec.groups:
            try:
                data = prepare(task, Settings(data_root=root), modes={})
            except CocabenchError as error:
                yield Check(task.name, None, str(error))
            else:
                notes = "".join(f"; {note.text}" for note in data.notes)
                yield Check(task.name, True, f"{plural(len(data.dataset), 'image', form=',')}{notes}")


def _smoke() -> Iterator[Check]:
    """Encode and caption the demo on the GPU in fp32, fp16 and bf16, and compare it with the CPU."""
    import torch

    if not torch.cuda.is_available():
        yield Check("GPU smoke test", False, "no CUDA device; install a driver and a CUDA build of torch")
        return
    from cocabench.models.smoke import deviations

    for name, deviation, allowed in deviations("cuda"):
        found = f"differs from the CPU by {deviation:.2g} at most, allowed {allowed:.2g}"
        yield Check(f"GPU {name}", deviation <= allowed, found)


@setup.command()
def spice(
    corenlp: Annotated[Path | None, option("DIR", "Folder with the CoreNLP 3.6.0 jars.")] = None,
) -> None:
    """Install SPICE's CoreNLP 3.6.0 jars: from a folder, by Maven, or from the Stanford site.

    Example: cocabench setup spice
    """
    from cocabench.captioneval import corenlp as jars

    say(f"SPICE can run with CoreNLP 3.6.0 in {jars.setup(corenlp)}")


@setup.command()
def clipscore(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            autocompletion=names.models,
            help="Model that scores, as for --model; the published one is ViT-B-32:openai.",
        ),
    ],
) -> None:
    """Download the weights of the model for CLIPScore.

    Example: cocabench setup clipscore ViT-B-32:openai
    """
    from cocabench.specs.registry import FailedSource, one_model

    source = one_model(model, download=True)
    if isinstance(source, FailedSource):
        raise source.error
    say(f"CLIPScore can run with {source.id}")


@cache.command()
def info(cache: Cache = None, as_json: Json = False) -> None:
    """Show the folder, contents and size of the cache.

    Example: cocabench cache info
    """
    from cocabench.core.cache import DiskCache, size_limit, spaces_folder

    held = DiskCache(folder := spaces_folder(cache), size_limit()).usage()
    if as_json:
        spaces = [space._asdict() for space in held]
        print_json({"folder": str(folder), "limit": size_limit(), "spaces": spaces})
        return
    rows = [[space.label, f"{space.entries:,}", _size(space.size), _date(space.used)] for space in held]
    if rows:
        print_table(["cached", "entries", "size", "last used"], rows)
    total = _size(sum(space.size for space in held))
    say(f"{folder}: {total} of at most {_size(size_limit())} (COCABENCH_CACHE_GB)")


@cache.command()
def clear(cache: Cache = None) -> None:
    """Remove the cache. Results, and downloads of `cocabench setup`, are kept.

    Example: cocabench cache clear
    """
    from cocabench.core.cache import DiskCache, size_limit, spaces_folder

    folder = spaces_folder(cache)
    try:
        freed = DiskCache(folder, size_limit()).clear()
    except OSError as error:
        raise ResultsError(str(error.filename), f"cannot be removed ({error.strerror})") from None
    say(f"{folder}: {_size(freed)} removed")


def _size(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
