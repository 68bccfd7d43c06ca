"""Lookup by name: task files on disk; kinds of task, loaders and model libraries by entry point.

A plugin package adds them through the entry point groups ``cocabench.kinds``, ``cocabench.datasets``,
``cocabench.models``, and a folder of task files through ``cocabench.tasks`` (a package that holds *.toml).
"""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast, get_args, runtime_checkable

from pydantic import BaseModel, JsonValue, ValidationError

from cocabench.core.errors import CocabenchError, ModelError, SpecError, UnknownNameError, UsageError
from cocabench.core.files import expanded
from cocabench.core.types import Ability, Dataset, Model, Note, Source
from cocabench.specs.aliases import spellings, task_name
from cocabench.specs.groups import groups
from cocabench.specs.spec import (
    Expect,
    ModelSpec,
    TaskSpec,
    WeightsKind,
    check_preprocess,
    guess,
    listed,
    parse_models,
    problems,
    task_tables,
)

if TYPE_CHECKING:
    from cocabench.kinds.base import Kind
    from cocabench.models.hardware import Hardware


@runtime_checkable
class Loader(Protocol):
    """A loader: a class whose fields are the keys of a task file's [data] table."""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the data set in root without reading images; MissingDataError if its files are missing."""


@dataclass(frozen=True)
class Task:
    """A parsed and validated task file, with its kind and loader. given: params that replace the file's."""

    spec: TaskSpec
    kind: Kind
    loader: Loader
    path: Path
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def param_names(self) -> list[str]:
        """The keys that [params] may have."""
        return _keys(type(self.kind))

    def with_params(self, params: Mapping[str, Any]) -> Task:
        """Return the task with the given params replaced, as far as its kind has them; SpecError for wrong values."""
        own = {key: value for key, value in params.items() if key in self.param_names}
        if not own:
            return self
        table = self.kind.model_dump(by_alias=True, exclude_unset=True)
        found: list[str] = []
        kind = _checked(type(self.kind), table | own, "params.", found)
        if found:
            raise SpecError(str(self.path), found)
        return replace(self, kind=cast("Kind", kind), given={**self.given, **own})

    def with_split(self, split: str) -> Loader:
        """Return the task's loader for another split; SpecError if it has no splits."""
        loader = cast(BaseModel, self.loader)
        if "split" not in type(loader).model_fields:
            raise SpecError(
                str(self.path), [f"data.loader: {self.spec.loader!r} has no splits; the split {split!r} is needed"]
            )
        table = loader.model_dump(by_alias=True, exclude_unset=True)
        return cast(Loader, type(loader).model_validate(table | {"split": split}))


GROUP_NOUNS = {"kinds": "evaluator", "datasets": "loader", "models": "model library"}
"""The names of members of the entry point groups ``cocabench.…``, for messages."""

OLD_KINDS = "evaluators"
"""The name of the group ``kinds`` in version 0.1."""


def entry(group: Literal["kinds", "datasets", "models"], name: str) -> Any:
    """Load the entry point of that name; UnknownNameError with the closest names if there is none."""
    return _entry(group, name, tuple(sys.path))


@cache
def _entry(group: str, name: str, path: tuple[str, ...]) -> Any:
    """Return what an entry point names; cached, since each of 800 tasks asks for two."""
    points = entry_points(group, path)
    if name not in points.names:
        if group == "kinds" and name in (old := entry_points(OLD_KINDS, path)).names:
            got = f"{old[name].value} is declared in the entry point group cocabench.{OLD_KINDS}"
            fix = "rename the group in that package and reinstall it"
            raise UsageError(f"evaluator {name}", got, wanted="cocabench.kinds", fix=fix)
        raise UnknownNameError(GROUP_NOUNS[group], name, sorted(points.names))
    if len(values := sorted({point.value for point in points.select(name=name)})) > 1:
        got, fix = f"offered by {' and '.join(values)}", "uninstall one of them, or rename its entry point"
        raise UsageError(f"{GROUP_NOUNS[group]} {name}", got, wanted="one", fix=fix)
    return points[name].load()


@cache
def entry_points(group: str, path: tuple[str, ...]) -> metadata.EntryPoints:
    """Return the entry points of a group for a sys.path; cached, since it takes 5 ms."""
    return metadata.entry_points(group=f"cocabench.{group}")


def task_folders() -> list[Path]:
    """Return the task folder of the wheel or checkout, then those of plugins."""
    package = Path(str(resources.files("cocabench")))
    shipped = next(p for p in (package / "_tasks", package.parent / "tasks") if p.is_dir())
    plugins = (Path(str(resources.files(point.value))) for point in entry_points("tasks", tuple(sys.path)))
    return [shipped, *plugins]


def read_tasks(path: Path) -> list[Task]:
    """Return the tasks of a file: one, or one per variant. SpecError with all problems of the file."""
    tables = task_tables(path)
    found: list[list[str]] = [[] for _ in tables]
    tasks = [_task(table, path, lines) for table, lines in zip(tables, found, strict=True)]
    if wrong := _by_variant(found):
        raise SpecError(str(path), wrong)
    made = [task for task in tasks if task]
    if repeated := sorted(name for name, n in Counter(task.name for task in made).items() if n > 1):
        raise SpecError(str(path), [f"name: several variants are named {name!r}" for name in repeated])
    return made


def _task(table: dict[str, Any], path: Path, found: list[str]) -> Task | None:
    """Return a table's task; None if it has problems, which are added to found."""
    spec = _checked(TaskSpec, table, "", found)
    data = table.get("data", {}) if isinstance(table.get("data", {}), dict) else {}
    data = {key: _relative(value, path) for key, value in data.items()}
    params = table.get("params", {}) if isinstance(table.get("params", {}), dict) else {}
    params = _language(table) | {key: _relative(value, path) for key, value in params.items()}
    loader = _made("datasets", data.pop("loader", None), "data.", "data.loader", data, found)
    kind = cast("Kind | None", _made("kinds", table.get("evaluator"), "params.", "evaluator", params, found))
    if isinstance(spec, TaskSpec) and kind is not None:
        found += _unknown_counts(spec.expect, kind)
    if found:
        return None
    return Task(cast(TaskSpec, spec), cast("Kind", kind), cast(Loader, loader), path)


def _language(table: dict[str, Any]) -> dict[str, Any]:
    """Return the language of a task's texts as a param of its kind, if the kind has such a one."""
    language, name = table.get("language"), table.get("evaluator")
    if not language or not isinstance(name, str) or name not in entry_points("kinds", tuple(sys.path)).names:
        return {}
    return {"language": language} if "language" in _keys(entry("kinds", name)) else {}


def _unknown_counts(expect: Expect, kind: Kind) -> list[str]:
    """Return a line per unknown key of [expect]."""
    known = {"": ("images", "texts", *kind.counted), **dict.fromkeys(kind.splits(), ("images", "texts"))}
    tables: dict[str, Mapping[str, object]] = {"": dict(expect)}
    tables |= {key: value for key, value in expect if isinstance(value, dict)}
    return [
        f"{'.'.join(part for part in ('expect', table, key) if part)}: unknown key; {guess(key, names)}"
        for table, counts in tables.items()
        for key, value in counts.items()
        for names in [known.get(table, ()) if not isinstance(value, dict) else tuple(known)[1:]]
        if key not in names
    ]


def _by_variant(found: Sequence[Sequence[str]]) -> list[str]:
    """Return the problems of a file's tables: those common to all first, then those of single variants."""
    shared = [line for line in found[0] if all(line in lines for lines in found)]
    own = [f"variants.{k}: {line}" for k, lines in enumerate(found) for line in lines if line not in shared]
    return [*dict.fromkeys(shared + own)]


def _relative(value: Any, path: Path) -> Any:
    """Resolve a path that starts with ./ or ../ relative to its task file."""
    return str((path.parent / value).resolve()) if isinstance(value, str) and value.startswith(("./", "../")) else value


def _checked(model: type[BaseModel], table: dict[str, Any], prefix: str, found: list[str]) -> BaseModel | None:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        below = _keys(Expect) if model is TaskSpec else []
        found += problems(error, sorted([*_keys(model), *below]), prefix)
        return None


def _keys(model: type[BaseModel]) -> list[str]:
    """Return the keys of a table."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _made(
    group: Literal["kinds", "datasets"], name: Any, prefix: str, key: str, table: dict[str, Any], found: list[str]
) -> BaseModel | None:
    """Create the kind or loader of a task file from its table, collecting problems in found."""
    if not isinstance(name, str):
        found.append(f"{key}: missing" if name is None else f"{key}: got {name!r}; wanted a name")
        return None
    try:
        return _checked(entry(group, name), table, prefix, found)
    except UnknownNameError as error:
        found.append("; ".join(part for part in (f"{key}: {error.got}", error.fix) if part))
        return None


def all_tasks() -> dict[str, Task]:
    """Return all tasks by name, sorted by folder and name. Two files with one task name are an error."""
    tasks: dict[str, Task] = {}
    python = tuple(sys.path)
    for folder in task_folders():
        found = [task for path in sorted(folder.rglob("*.toml")) for task in _installed(path, _state(path), python)]
        for task in sorted(found, key=lambda task: (task.path.parent, task.name)):
            _add(tasks, task)
    return tasks


@cache
def _installed(path: Path, state: tuple[int, int] | None, python: tuple[str, ...]) -> list[Task]:
    """Return the tasks of a file; cached, since a process that evaluates often would read 90 files each time."""
    return read_tasks(path)


def _state(path: Path) -> tuple[int, int] | None:
    """Return what changes with a file's contents: time stamp and size; None if it cannot be read."""
    return ((found := path.stat()).st_mtime_ns, found.st_size) if path.is_file() else None


class Family(NamedTuple):
    """A task, or the languages of a set. name: ``xtd10/…`` of a set. about: the summary; of a set, of one language."""

    name: str
    about: str
    specs: tuple[TaskSpec, ...]


def families(specs: Iterable[TaskSpec]) -> list[Family]:
    """Return tasks in their order, those of the languages of a set together."""
    found: dict[str, list[TaskSpec]] = {}
    for spec in specs:
        found.setdefault(f"{spec.family}/…" if spec.language else spec.name, []).append(spec)
    return [
        Family(name, own[0].summary, (own[0],))
        if not own[0].language
        else Family(name, f"{_in_short([spec.language for spec in own])}: {own[0].summary}", tuple(own))
        for name, own in found.items()
    ]


def _in_short(languages: Sequence[str]) -> str:
    """Return ``11 languages (de, en, es …)``."""
    if len(languages) <= MAX_LANGUAGES_LISTED:
        return f"{len(languages)} languages ({', '.join(languages)})" if len(languages) > 1 else languages[0]
    return f"{len(languages)} languages ({', '.join(languages[:MAX_LANGUAGES_LISTED])} …)"


MAX_LANGUAGES_LISTED = 12


def check_primary(task: Task, dataset: Dataset | None = None) -> None:
    """Raise SpecError if a task's primary metric is not among its metrics on the data set (None: on any)."""
    try:
        names = [metric.name for metric in task.kind.metrics(dataset)]
    except CocabenchError:
        if dataset is None:
            return  # class names or prompts depend on the data: checked with the data
        raise
    primary = task.spec.primary
    if (primary if dataset else primary.partition("[")[0]) not in names:
        close = difflib.get_close_matches(primary, names, n=1)
        guess = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
        raise SpecError(str(task.path), [f"primary: {primary!r} is not among the metrics; {guess}"])


def _add(tasks: dict[str, Task], task: Task) -> None:
    if (other := tasks.get(task.name)) is not None and other.path != task.path:
        raise SpecError(str(task.path), [f"name: {task.name!r} is already used by {other.path}"])
    tasks[task.name] = task


def find_tasks(wanted: Iterable[str]) -> list[Task]:
    """Return the tasks for names, groups, paths of TOML files and lists of them (*.txt), each once, in the given order.

    Raises UsageError for unknown names, SpecError for invalid files and primary metrics.
    """
    tasks = all_tasks()
    chosen: dict[str, Task] = {}
    unknown: list[UnknownNameError] = []
    for item in wanted:
        for one in listed(expanded(item)) if item.endswith(".txt") else [item]:
            try:
                for task in _matching(one, tasks):
                    _add(chosen, task)
            except UnknownNameError as error:
                unknown.append(error)
    if len(unknown) > 1:
        raise UsageError("--tasks", "; ".join(f"{e.got} ({e.fix.partition(';')[0]})" for e in unknown))
    if unknown:
        raise unknown[0]
    for task in chosen.values():
        check_primary(task)
    return list(chosen.values())


def _matching(item: str, tasks: dict[str, Task]) -> list[Task]:
    if item.endswith(".toml"):
        found = read_tasks(Path(item))
        for task in found:
            _add(dict(tasks), task)
        return found
    if name := next((name for name in (item, task_name(item), *spellings(item)) if name in tasks), ""):
        return [tasks[name]]
    if members := [task for task in tasks.values() if item in task.spec.groups]:
        return members
    if item in (named := groups()):
        return [tasks[member.task] for member in named[item]]
    groups_of_tasks = {group for task in tasks.values() for group in task.spec.groups}
    raise UnknownNameError(
        "task or group", item, [*tasks, *sorted({*groups_of_tasks, *named})], fix="see `cocabench list tasks`"
    )


@dataclass(frozen=True)
class FailedSource:
    """A model that cannot be used; its tasks fail with its error, other models are not affected."""

    id: str
    error: ModelError
    abilities: frozenset[Ability] = frozenset(get_args(Ability))
    notes: tuple[Note, ...] = ()
    available: bool = False
    packages: tuple[str, ...] = ()
    features_version: int = 1

    def signature(self) -> dict[str, JsonValue]:
        raise self.error

    def load(self, hardware: Hardware) -> Model:
        raise self.error


class ModelLibrary(Protocol):
    """The function behind an entry point of the group cocabench.models."""

    def __call__(self, spec: ModelSpec, *, download: bool) -> list[Source]: ...


def model_sources(
    specs: Iterable[ModelSpec],
    *,
    quick_gelu: bool | None = None,
    preprocess: str = "",
    resize: str = "own",
    download: bool = True,
) -> list[Source]:
    """Return the Sources of model strings. With download=False, sources without local weights are not ``available``.

    An unknown name raises an error; a model that cannot be used becomes a FailedSource. quick_gelu, preprocess, resize:
    the values of --quick-gelu, --preprocess and --resize, for all models.
    """
    found: list[Source] = []
    for spec in specs:
        if spec.kind is WeightsKind.PLUGIN and spec.name == "open_clip":
            raise UsageError(f"model {spec.text}", "open_clip's models have no prefix", fix=f"write {spec.weights}")
        library: ModelLibrary = entry("models", spec.name if spec.kind is WeightsKind.PLUGIN else "open_clip")
        try:
            asked = replace(spec, quick_gelu=quick_gelu, preprocess=preprocess, resize=resize)
            own = library(asked, download=download)
            found += [_resized(_named(source, spec.text), resize) for source in own]
        except UnknownNameError as error:
            if spec.name not in entry_points("models", tuple(sys.path)).names:
                raise
            fix = f"did you mean {spec.name}::{spec.weights or '…'}?"
            if spec.name == "open_clip":
                fix = "its models have no prefix: write NAME:WEIGHTS, as ViT-B-32:openai"
            raise UsageError(error.where, f"{spec.name} is a model library", fix=fix) from None
        except ModelError as error:
            found.append(FailedSource(spec.text, error))
    return found


def _named(source: Source, text: str) -> Source:
    """Return a Source whose id is a name; ModelError for another, which a plugin may make."""
    if not isinstance(name := getattr(source, "id", None), str) or not name.strip():
        raise ModelError(
            f"model {text}", f"a source with the id {name!r}"[:200], wanted="a name; report it to the plugin"
        )
    return source


def _resized(source: Source, resize: str) -> Source:
    """Return a Source that follows --resize: its ``resize`` says so; ModelError for one that does not."""
    if getattr(source, "resize", "own") != resize:
        got = "a model whose library prepares images in its own way"
        raise ModelError(f"--resize {resize}", got, wanted="a checkpoint of open_clip", fix="leave it out")
    return source


def one_model(
    name: str, *, download: bool = False, preprocess: str = "", resize: str = "own", typed: bool = False
) -> Source:
    """Return the Source of a model string; UsageError if it matches several models. typed: see ``ModelSpec``."""
    specs = parse_models(name, typed=typed)
    check_preprocess(specs, preprocess)
    found = model_sources(specs, preprocess=preprocess, resize=resize, download=download)
    if len(found) != 1:
        raise UsageError(f"model {name}", f"{len(found)} models", wanted="one")
    return found[0]
