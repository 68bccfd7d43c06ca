"""The settings of a run, and the preparation of a task's data. Decodes no image, loads no model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, cast

from pydantic import Field, JsonValue

from cocabench.core.errors import CocabenchError, DataError, ModelError
from cocabench.core.formatting import plural
from cocabench.core.signature import Allowance, digest, remembering_files
from cocabench.core.types import Cache, Dataset, ImageSource, Machine, Note, Source
from cocabench.data import fetch
from cocabench.data.base import fingerprint, limited, readable, rows_hash
from cocabench.data.images import PLAIN, UNKNOWN_RANGE, UnconvertedImage, WatermarkedImage, is_16_bit
from cocabench.data.remote import url_of
from cocabench.metrics.base import Metric
from cocabench.models import contents
from cocabench.models.hardware import Hardware, hardware, threads
from cocabench.run import outline as outlines
from cocabench.run.outline import Named, Outline
from cocabench.specs.registry import FailedSource, Loader, Task, check_primary, one_model

if TYPE_CHECKING:
    from cocabench.kinds.base import Kind

HERE = Machine()
MAX_THREADS = 1 << 20
"""More than any machine has."""
EXTRA_DATA = "extra_data"
"""The protocol's key for the fingerprints of a kind's further splits."""


@dataclass(frozen=True)
class Settings:
    """The settings of a run. Plain values, since plans pass them to other processes; checked where a plan is read.

    output: None stores no results. cache: the folder of the cache's spaces; None caches for one run only. device,
    precision, batch_size, workers, compile: as for ``models.hardware.hardware``. quick_gelu, preprocess: for all
    checkpoint files; None: as their architecture says, '': open_clip's default. resize: ``own`` or ``fast``
    (``models.pixels.with_resize``). java: for caption metrics; None: the
    first suitable one.
    """

    data_root: Path = Path("data")
    output: Path | None = Path("results")
    cache: Path | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    download: bool = False
    fresh: bool = False
    skip_bad_images: bool = False
    device: str = "auto"
    precision: str = "auto"
    batch_size: Annotated[int, Field(ge=1)] | None = None
    workers: Annotated[int, Field(ge=0)] | None = None
    compile: bool = False
    quick_gelu: bool | None = None
    preprocess: str = ""
    resize: Literal["own", "fast"] = "own"
    java: Path | None = None

    def hardware(self) -> Hardware:
        """Return the Hardware; UsageError for a device that this machine does not have."""
        return hardware(
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            workers=self.workers,
            skip_bad_images=self.skip_bad_images,
            compile=self.compile,
        )


@dataclass(frozen=True)
class Loaded:
    """A task's data sets in memory.

    dataset: with --limit a subset. further: the kind's extra data. metrics: those that the kind has on them. found: the
    data sets as loaded, by split ('' for the task's own), before a limit. modes: the number of images in each of
    Pillow's modes. images: all that are read, with their ids and marks (``contents.marks``).
    """

    dataset: Dataset
    further: Mapping[str, Dataset]
    metrics: Sequence[Metric]
    found: Mapping[str, Dataset] = field(repr=False)
    modes: Mapping[str, int]
    images: Sequence[ImageSource] = field(repr=False)
    ids: Sequence[str] = field(repr=False)
    marks: Sequence[str] = field(repr=False)


@dataclass(frozen=True)
class Data:
    """A task's prepared data, and what to measure on them.

    outline: all that a plan needs; if an earlier run kept it, the data themselves are read when first asked for.
    protocol: the protocol part of the signature. missing: reasons why metrics are unavailable. beside: the sources of
    the kind's available extra models. load: returns the data, or DataError if they changed since the outline was made.
    """

    outline: Outline
    protocol: dict[str, JsonValue]
    missing: Mapping[str, str]
    beside: Mapping[str, Source]
    load: Callable[[], Loaded] = field(repr=False)

    @cached_property
    def loaded(self) -> Loaded:
        return self.load()

    @property
    def dataset(self) -> Dataset:
        return self.loaded.dataset

    @property
    def further(self) -> Mapping[str, Dataset]:
        return self.loaded.further

    @property
    def notes(self) -> tuple[Note, ...]:
        """Deviations from the standard protocol."""
        return self.outline.notes

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """The available metrics by name."""
        return {metric.name: metric for metric in self.loaded.metrics if metric.plain not in self.missing}

    @property
    def versions(self) -> Mapping[str, int]:
        """The versions of the available metrics by name."""
        return {metric.name: metric.version for metric in self.outline.metrics if metric.plain not in self.missing}

    @property
    def fingerprint(self) -> str:
        return digest(self.protocol["data"])

    @property
    def image_files(self) -> str:
        """The hash of the marks: as long as it is the same, so are the images."""
        return self.outline.image_files

    def pictures(self, cache: Cache | None, known: Mapping[int, bytes | None] | None = None) -> contents.Pictures:
        """Return what identifies the images; known: contents by ``id(source)``, the others are read."""
        if not known and cache is not None and (kept := contents.kept_pictures(self.image_files, cache)):
            return kept
        return contents.pictures(self.loaded.ids, self.loaded.images, self.loaded.marks, cache, known or {})

    def known_contents(self, cache: Cache) -> list[bytes]:
        """Return the content hashes of the task's own images, as far as known without reading them again."""

        def find() -> list[bytes]:
            own = slice(self.outline.images)
            return contents.known_images(self.loaded.images[own], cache, self.loaded.marks[own])

        return contents.known_of_set(self.image_files, self.outline.images, cache, find)

    def rows(self) -> str:
        """Return the hash of the examples, in any order."""
        return rows_hash({"": self.dataset, **self.further})


def prepare(
    task: Task,
    settings: Settings,
    precision: str = "fp32",
    machine: Machine = HERE,
    *,
    found: Mapping[str, Dataset] | None = None,
    modes: Mapping[str, int] | None = None,
    cache: Cache | None = None,
) -> Data:
    """Locate and parse a task's data, unless the cache holds their outline. Reads the headers of images not cached.

    precision: of the run. found, modes: of an earlier call, which saves reading the files again.
    """
    read = partial(_read, task, settings, machine, found or {}, modes, cache)
    root = fetch.root_of(settings.data_root)
    done: list[JsonValue] = [settings.limit, settings.seed if settings.limit else 0, settings.download]
    place = None if cache is None or found else outlines.key(task, root, machine, *done)
    loaded: Loaded | None
    if cache is None or place is None:
        outline, _, loaded = read()
    else:
        outline, loaded = outlines.recalled(cache, place, read)

    def load() -> Loaded:
        if loaded is not None:
            return loaded
        assert cache is not None, "only what was kept is not loaded"
        assert place is not None, "as above"
        now, again = outlines.read_and_keep(cache, place, read)
        if now.to_json() != outline.to_json():
            raise DataError(task.name, "its files changed since the run was planned", fix="run it again")
        return again

    beside = {key: ExtraModel.of(name, precision) for key, name in task.kind.extra_models().items()}
    missing = task.kind.unavailable(machine._replace(java=settings.java))
    problems = {metric.name: beside[metric.model].problem for metric in outline.metrics if metric.model in beside}
    return Data(
        outline,
        {**outline.protocol, **{key: one.identity for key, one in beside.items()}},
        missing | {name: problem for name, problem in problems.items() if problem},
        {key: one.plan for key, one in beside.items() if one.plan is not None},
        load,
    )


def _read(
    task: Task,
    settings: Settings,
    machine: Machine,
    found: Mapping[str, Dataset],
    modes: Mapping[str, int] | None,
    cache: Cache | None,
) -> tuple[Outline, Sequence[ImageSource], Loaded]:
    """Return a task's data with their outline and all images."""
    kind = task.kind
    whole = found.get("") or _built(task, task.loader, settings)
    further = {
        key: found.get(split) or _built(task, task.with_split(split), settings)
        for key, split in kind.extra_data().items()
    }
    loaded = {"": whole, **{split: further[key] for key, split in kind.extra_data().items()}}
    kind.check(whole, further)
    whole_data, further_data = fingerprint(whole), {key: fingerprint(data) for key, data in further.items()}
    counts: dict[str, JsonValue] = {**whole_data, **kind.counts(whole)}
    notes = [
        *_not_standard(counts, dict(task.spec.expect)),
        *(said for key, own in further_data.items() for said in _not_standard(own, task.spec.expected(key), key)),
    ]
    dataset = limited(whole, settings.limit, settings.seed) if settings.limit else whole
    check_primary(task, dataset)
    named = [pair for split, data in {"": dataset, **further}.items() for pair in _named(split, data)]
    ids, images = [name for name, _ in named], [image for _, image in named]
    marks = contents.marks(images)
    modes = contents.modes(images, marks, cache) if modes is None else modes
    pixels, notes_on_modes = _pixels(modes, images)
    dataset = replace(dataset, notes=(*dataset.notes, *notes_on_modes)) if notes_on_modes else dataset
    data = whole_data if dataset.examples is whole.examples else fingerprint(dataset)
    extra: dict[str, JsonValue] = {EXTRA_DATA: cast(JsonValue, further_data)} if further else {}
    metrics = kind.metrics(dataset)
    work = kind.work(dataset)
    protocol, varying = _protocol(kind, dataset, machine)
    outline = Outline(
        {**_measured_on(task, dataset, data, not notes, pixels), **protocol, **extra},
        tuple(notes),
        tuple(dict.fromkeys((*notes, *dataset.notes, *kind.data_notes(dataset)))),
        tuple(Named(metric.name, metric.plain, metric.model, metric.version) for metric in metrics),
        work | ({"images": work["images"] + sum(map(len, further.values()))} if further else {}),
        sum(len(example.images) for example in dataset.examples),
        contents.hash_of_marks(ids, marks),
        tuple(sorted({os.path.dirname(str(image)) for image in images})),
        varying,
    )
    return outline, images, Loaded(dataset, further, metrics, loaded, modes, images, ids, marks)


def _protocol(kind: Kind, dataset: Dataset, machine: Machine) -> tuple[dict[str, JsonValue], tuple[str, ...]]:
    """Return a kind's part of the protocol, and its keys that depend on the machine, whose threads are then counted.

    A kind gets numbers of threads in any case, made up where its answer does not depend on them.
    """
    own = machine if machine.threads is not None else machine._replace(threads=MAX_THREADS)
    other = kind.protocol(dataset, Machine("another", MAX_THREADS if own.threads == 1 else 1, machine.device))
    found = kind.protocol(dataset, own)
    varying = tuple(name for name in {**other, **found} if found.get(name) != other.get(name))
    if varying and machine.threads is None:
        found = kind.protocol(dataset, machine._replace(threads=threads()))
    return found, varying


def _named(split: str, data: Dataset) -> Iterator[tuple[str, ImageSource]]:
    """Yield each image with an id that no other has."""
    for example in data.examples:
        yield f"{split} {example.id}", example.image
        yield from ((f"{split} {example.id} {k}", image) for k, image in enumerate(example.others, 1))


def _measured_on(
    task: Task, dataset: Dataset, data: dict[str, JsonValue], standard: bool, pixels: list[JsonValue]
) -> dict[str, JsonValue]:
    """Return the part of a protocol that tasks of all kinds have. Keys that say nothing new are left out."""
    return {
        "task": task.name,
        "version": task.spec.version,
        "evaluator": task.spec.evaluator,
        **({"language": task.spec.language} if task.spec.language else {}),
        "metrics": task.kind.version,
        "data": data,
        "standard": standard,
        **({"limit": len(dataset)} if dataset.whole else {}),
        **({"revision": dataset.revision} if dataset.revision else {}),
        **({"pixels": pixels} if pixels else {}),
    }


def _pixels(modes: Mapping[str, int], images: Sequence[ImageSource]) -> tuple[list[JsonValue], list[Note]]:
    """Return what is done to images that are not RGB and moves numbers, and notes that say how many there are."""
    done: list[JsonValue] = []
    notes = []
    if images and isinstance(first := images[0], WatermarkedImage):
        done.append(f"watermark of {first.by}")
    if other := {name: n for name, n in modes.items() if name and name not in PLAIN and not is_16_bit(name)}:
        kept = isinstance(images[0], UnconvertedImage)
        done += [] if kept else ["RGB before resizing"]
        one, many = "it is made RGB before it is resized", "they are made RGB before they are resized"
        if kept:
            one, many = "it is resized before it becomes RGB", "they are resized before they become RGB"
        counts = ", ".join(f"{n} {name}" for name, n in sorted(other.items()))
        not_rgb = plural(sum(other.values()), "image is not RGB", "images are not RGB")
        said = f"{not_rgb} ({counts}); {one if sum(other.values()) == 1 else many}, as clip-benchmark does it"
        notes.append(Note("not_rgb", said))
    if deep := sum(n for name, n in modes.items() if is_16_bit(name)):
        done.append("16-bit grey scaled")
        of_16_bits = plural(deep, "image of 16-bit grey is", "images of 16-bit grey are")
        said = f"{of_16_bits} scaled to 8 bits; clip-benchmark makes all above 255 white"
        notes.append(Note("scaled_images", said))
    if clipped := sum(n for name, n in modes.items() if name in UNKNOWN_RANGE):
        said = f"{plural(clipped, 'image')} of 32-bit grey, whose range is unknown: values outside 0-255 are clipped, "
        said += "those of a 0-1 range become black, as in clip-benchmark; store them with 8 or 16 bits"
        notes.append(Note("clipped_images", said))
    return done, notes


def _built(task: Task, loader: Loader, settings: Settings) -> Dataset:
    root = fetch.root_of(settings.data_root)
    if settings.download or url_of(settings.data_root):
        fetch.ensure(loader, settings.data_root)
    commit = fetch.revision(loader, settings.data_root)
    found = replace(readable(loader.build(root, download=settings.download)), revision=commit)
    if not len(found):
        raise DataError(task.name, f"no images in {root}", wanted="at least one")
    return found


def _not_standard(found: Mapping[str, JsonValue], wanted: Mapping[str, object], split: str = "") -> Iterator[Note]:
    of = f" in {split}" if split else ""
    for name, count in wanted.items():
        if count is not None and not isinstance(count, dict) and found[name] != count:
            text = f"not the standard protocol: {found[name]} {name}{of}, standard: {count}"
            yield Note("not_standard", text)


SIGNATURE_PARTS = ("weights", "preprocess", "vocabulary")
"""What a model's signature must hold: hashes of the weights, of the image transform and of the tokenizer."""


def checked_signature(source: Source) -> dict[str, JsonValue]:
    """Return a Source's signature. ModelError if a part is missing, or if no packages are named: the cache, which knows
    no names, would take other models' features for this one's."""
    signature = source.signature()
    if missing := [part for part in SIGNATURE_PARTS if part not in signature]:
        fix = f"signature() must hold {', '.join(SIGNATURE_PARTS)} ('' for what the model does not have)"
        raise ModelError(source.id, f"its signature() has no {' and no '.join(missing)}", fix=fix)
    if not source.packages:
        raise ModelError(source.id, "it names no packages", wanted="those whose versions can change a feature")
    return signature


def identity_of(
    source: Source, precision: str, compiled: bool, cache: Cache | None = None, allowance: Allowance | None = None
) -> dict[str, JsonValue]:
    """Return the model part of a signature: everything about the model and how it runs that can change a number.

    The weights file is hashed unless the cache knows the file. compile and features_version are included only if set,
    so that older signatures stay valid. ModelError if a plugin's Source lacks something, or names an unknown package.
    """
    if lost := [name for name in ("signature", "load", "packages", "features_version") if not hasattr(source, name)]:
        fix = "define it, as CONTRIBUTING.md (Add a model library) does"
        raise ModelError(source.id, f"its Source has no {' and no '.join(lost)}", fix=fix)
    try:
        packages: dict[str, JsonValue] = {name: metadata.version(name) for name in source.packages}
    except metadata.PackageNotFoundError as error:
        problem, wanted = f"its packages name {error.name!r}, which is not installed", "names as `pip list` has them"
        raise ModelError(source.id, problem, wanted=wanted) from None
    version = source.features_version
    with remembering_files(cache, allowance):
        signature = checked_signature(source)
    return {
        **signature,
        "precision": precision,
        **({"compile": True} if compiled else {}),
        **({"features_version": version} if version > 1 else {}),
        "packages": packages,
    }


class ExtraModel(NamedTuple):
    """An extra model of a kind. plan: None if it is unavailable; problem then says why.

    identity: everything about it that can change a number, for the signature; not its name (a path).
    """

    plan: Source | None
    problem: str
    identity: dict[str, JsonValue]

    @classmethod
    def of(cls, name: str, precision: str) -> ExtraModel:
        """Return the ExtraModel of a model string. Loads nothing."""
        absent: dict[str, JsonValue] = {"weights": "not at hand"}
        try:
            found = one_model(name)
        except CocabenchError as error:
            return cls(None, str(error), absent)
        if isinstance(found, FailedSource):
            return cls(None, str(found.error), absent)
        if not found.available:
            problem = f"the weights of {name} are not cached; run `cocabench setup clipscore {name}`"
            return cls(None, problem, absent)
        try:
            signature = checked_signature(found)
        except CocabenchError as error:
            return cls(None, str(error), absent)
        identity = {key: value for key, value in signature.items() if key != "id"}
        return cls(found, "", identity | ({} if precision == "fp32" else {"precision": precision}))
