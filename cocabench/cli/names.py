"""Names for shell completion, read from files without torch or open_clip, because the shell waits."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata, resources, util
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cocabench.core.types import Record


def models(incomplete: str) -> list[str]:
    """Complete --model: our models and open_clip's architectures."""
    from cocabench.demo import MODELS
    from cocabench.specs.aliases import CAPTIONERS

    found = util.find_spec("open_clip")
    folders = found.submodule_search_locations if found else None
    configs = [path.stem for one in folders or () for path in Path(one, "model_configs").glob("*.json")]
    known = ["demo", *(f"demo/{name}" for name in MODELS), *sorted(configs), *CAPTIONERS]
    return _complete_list(incomplete, known)


def tasks(incomplete: str) -> list[str]:
    """Complete --tasks: tasks and groups."""
    from cocabench.specs.groups import groups as own_groups
    from cocabench.specs.registry import task_folders
    from cocabench.specs.spec import task_tables

    files = [path for folder in task_folders() for path in sorted(folder.rglob("*.toml"))]
    tables = [table for path in files for table in task_tables(path)]
    groups = {group for table in tables for group in table.get("groups", ())} | set(own_groups())
    return _complete_list(incomplete, [*sorted(groups), *(table["name"] for table in tables)])


def caption_metrics(incomplete: str) -> list[str]:
    """Complete --metrics of ``score``."""
    from cocabench.captioneval import MODEL_BASED, NAMES

    families = [name.partition("@")[0].partition("-")[0].lower() for name in (*NAMES, *MODEL_BASED)]
    return _complete_list(incomplete, families)


def recipes(incomplete: str) -> list[str]:
    """Complete the names of shipped recipes."""
    folder = Path(str(resources.files("cocabench") / "train" / "recipes"))
    return _complete(incomplete, sorted(path.stem for path in folder.glob("*.toml")))


def loaders(incomplete: str) -> list[str]:
    """Complete the names of loaders."""
    return _complete(incomplete, sorted(metadata.entry_points(group="cocabench.datasets").names))


def stored_models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the models of the results in the command so far."""
    return _complete_list(incomplete, (record.model for record in _records(ctx)))


def stored_tasks(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the tasks of the results in the command so far."""
    return _complete(incomplete, (record.task for record in _records(ctx)))


def stored_metrics(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the metrics of the results in the command so far."""
    return _complete(incomplete, (name for record in _records(ctx) for name in record.metrics))


def _records(ctx: typer.Context) -> Iterable[Record]:
    """Return the Records of the folders in the command; none if they cannot be read."""
    from cocabench.core.errors import CocabenchError
    from cocabench.results.store import load

    typed = ctx.params.get("results") or [word for word in ctx.args if not word.startswith("-")]
    try:
        return load(*typed)
    except CocabenchError:
        return ()


def _complete(incomplete: str, known: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(known) if name.lower().startswith(incomplete.lower())]


def _complete_list(incomplete: str, known: Iterable[str]) -> list[str]:
    """Complete the last of comma-separated names."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in _complete(last, known)]
