"""The types that the packages share: frozen, without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from cocabench.core.scores import Device
from cocabench.core.text import all_printable

if TYPE_CHECKING:
    from PIL import Image

    from cocabench.models.hardware import Hardware

SCHEMA_VERSION = 2
"""Version of stored Records; raise it when a field changes its meaning. All older versions stay readable."""

Features = NDArray[np.float32]
"""(n, d) float32, rows of unit L2 norm."""


class ImageSource(Protocol):
    """An image that is not read yet. ``str(source)`` is its location, for messages."""

    def open(self) -> Image.Image:
        """Decode and return the image in its file's mode."""


@runtime_checkable
class IdentifiedSource(ImageSource, Protocol):
    """An ImageSource that identifies its content without decoding it, so that cached features can be found."""

    def identity(self) -> bytes:
        """Return bytes that determine the image: the file's bytes and any operations on them. Raises as open() does."""

    def stamp(self) -> str:
        """Return a text that changes whenever the identity may have changed, without reading it; '' if unknown."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of data: an image with its captions, or with its label.

    label: a class index, a tuple of class indices (multi-label), or None.
    domain: a part of the data set that is also scored separately (NoCaps: in, near, out).
    negatives: wrong captions for each text (SugarCrepe), or empty.
    others: further images of the item (Winoground); the k-th image belongs to the k-th text.
    metadata: further plain values of the row (region, type of question, objects), or empty.
    """

    id: str
    image: ImageSource
    texts: tuple[str, ...] = ()
    label: int | tuple[int, ...] | None = None
    domain: str = ""
    negatives: tuple[tuple[str, ...], ...] = ()
    others: tuple[ImageSource, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def images(self) -> tuple[ImageSource, ...]:
        """All images of the example."""
        return (self.image, *self.others)


@dataclass(frozen=True)
class Dataset:
    """A data set. classes and templates are empty if the data set has none.

    templates contain ``{c}`` for the class name. notes: stored in the Record. whole: all examples, if this is a random
    subset of them; used for statistics of the whole set (document frequencies). objects: {word: object} of the words
    that name objects, if the examples' metadata say which are in the image. revision: the
    commit of the hub that it was fetched from, '' of other copies.
    """

    name: str
    split: str
    examples: Sequence[Example]
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    whole: Sequence[Example] = ()
    objects: Mapping[str, str] = field(default_factory=dict, hash=False)
    revision: str = ""

    def __len__(self) -> int:
        return len(self.examples)


class ImageFeatures(NamedTuple):
    """Features of the images that could be read: rows (k, d), and their positions kept (k,) in the input."""

    rows: Features
    kept: NDArray[np.int64]


class Captions(NamedTuple):
    """Captions of the images that could be read, with decoder scores; kept (k,) are the positions in the input.

    truncated: whether each caption was cut at the length limit; empty if unknown. features: (k, d) the result of
    encode_images for these images, if captioning computes it, or None. hashes: of the images' pixels; empty if unknown.
    """

    texts: list[str]
    scores: list[float]
    kept: NDArray[np.int64]
    truncated: Sequence[bool] = ()
    features: Features | None = None
    hashes: Sequence[bytes] = ()


class Likelihoods(NamedTuple):
    """Likelihoods of m texts each as captions of the k images that could be read.

    logprobs: (k, m) natural logarithms of p(text | image), including the end token. n_tokens: (k, m) tokens counted.
    kept: (k,) positions in the input. exp(-logprobs / n_tokens) is the perplexity. features, hashes: as in Captions.
    """

    logprobs: NDArray[np.float32]
    n_tokens: NDArray[np.int64]
    kept: NDArray[np.int64]
    features: Features | None = None
    hashes: Sequence[bytes] = ()


class Progress(Protocol):
    """Called with the progress of a stage: ``progress("images", 64, 1000)``."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """A Progress that does nothing."""


ImageOutput = Literal["projected", "pooled"]
"""Image features in the space of the texts, or before that projection (for probes)."""


class Model(Protocol):
    """A loaded checkpoint. Ask ``abilities`` before calling a method: the others raise a ModelError."""

    @property
    def id(self) -> str: ...

    @property
    def abilities(self) -> frozenset[Ability]: ...

    @property
    def parameters(self) -> Mapping[str, int]:
        """The number of parameters per tower: image_encoder, text_encoder, text_decoder."""

    @property
    def notes(self) -> Sequence[Note]:
        """Notes on how this model ran so far (a halved batch, random weights)."""

    def encode_images(
        self,
        images: Sequence[ImageSource],
        *,
        output: ImageOutput = "projected",
        normalize: bool = True,
        progress: Progress = silent,
    ) -> ImageFeatures:
        """Return features of the images that could be read: unit rows, or unnormalized with normalize=False."""

    def encode_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Features:
        """Return a unit row per text. Equal texts get bit-identical rows, so that they tie exactly."""

    def caption(
        self,
        images: Sequence[ImageSource],
        options: Mapping[str, Any],
        *,
        prompts: str | Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Captions:
        """Return a caption for each image that could be read.

        options: those of ``specs.decoding.DecodingOptions``. prompts: the first words, one for all or one per image.
        """

    def score_captions(
        self,
        images: Sequence[ImageSource],
        texts: Sequence[Sequence[str]],
        *,
        prefixes: Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Likelihoods:
        """Return the likelihood of each image's texts as captions; all images have the same number of texts.

        prefixes: for each image the words before its texts; their tokens do not count.
        """

    def costs(self, work: Workload, *, progress: Progress = silent) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (repeat, {metric: value}): operations, speed and memory, measured per repeat or once."""


class Source(Protocol):
    """A checkpoint that is not loaded yet: frozen and picklable. notes: choices made for the user."""

    @property
    def id(self) -> str: ...
    @property
    def abilities(self) -> frozenset[Ability]: ...
    @property
    def notes(self) -> tuple[Note, ...]: ...
    @property
    def available(self) -> bool:
        """Whether the weights are on this machine; only then is the signature known."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions can change a number, in the order of the signature."""

    @property
    def features_version(self) -> int:
        """Raise it when a change of the library's module changes a feature; the signature includes it if above 1."""

    def signature(self) -> dict[str, JsonValue]:
        """Return all of the model that can change a number: id, weights, architecture, preprocessing, tokenizer.

        Package versions and precision are added by the run. Called before loading, by plans and dry runs.
        """

    def load(self, hardware: Hardware) -> Model:
        """Return the model on its device, ready to encode."""


class Workload(NamedTuple):
    """What costs are measured on: an image and a text per repeat, batch sizes, and decoding options."""

    repeats: Sequence[Example]
    batch: int
    train_batch: int
    decoding: Mapping[str, Any]


Ability = Literal["encode", "caption", "score_captions", "profile"]
"""What a model can do: encode images and texts, generate captions, score captions, be profiled."""


class Note(NamedTuple):
    """A note on a number. code: one of ``core.notes.CODES``; text: one sentence for people."""

    code: str
    text: str


class Chance(NamedTuple):
    """The chance level of a metric (0-1), and the advice for scores near it."""

    rate: float
    advice: str = "check data, prompts, tokenizer and weights"


class Machine(NamedTuple):
    """The machine of a run.

    name: the GPU, or the CPU model and its cores. threads: torch's; None: not counted yet, which kinds never get.
    device: torch's device type. java: the Java for caption metrics, if one was chosen.
    """

    name: str = ""
    threads: int | None = 1
    device: str = "cpu"
    java: Path | None = None


def unnoted(note: Note) -> None:
    """Discard a note."""


class Cache(Protocol):
    """Values by space and key (core.cache). No method raises for errors of the storage; ``notes`` reports them."""

    @property
    def notes(self) -> Sequence[Note]: ...

    def get(self, space: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return {key: value} for the keys that exist."""

    def has(self, space: str, keys: Sequence[bytes]) -> set[bytes]:
        """Return the keys that exist, without reading their values."""

    def put(self, space: str, values: Mapping[bytes, bytes], *, label: str = "") -> None:
        """Store values. label: the name of the space in ``cocabench cache info``."""


class Schedule(NamedTuple):
    """How a linear classifier is trained: the first learning rate, epochs, rows per batch, seed."""

    lr: float
    epochs: int
    batch: int
    seed: int


class Linear(NamedTuple):
    """A linear classifier: weights (c, d) and bias (c,)."""

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]


class LinearSolver(Protocol):
    """Trains linear classifiers on features, on the run's device (models.probes)."""

    def __call__(
        self, rows: Features, labels: NDArray[np.int64], weight_decay: float, schedule: Schedule
    ) -> Linear: ...

    def permutation(self, n: int, seed: int) -> NDArray[np.int64]:
        """Return a permutation (n,) of 0..n-1 by torch's generator."""


@dataclass(frozen=True)
class Context:
    """The context of scoring.

    note: adds a Note to the Record. models: the kind's ``extra_models`` that are available, loaded. data: its
    ``extra_data``. cache: the run's; None: the user's. solve: trains linear classifiers; a run's Context has it.
    score_device: the run's GPU, for the ranks of large sets; None without one.
    """

    progress: Progress = silent
    note: Callable[[Note], None] = unnoted
    models: Mapping[str, Model] = field(default_factory=dict)
    data: Mapping[str, Dataset] = field(default_factory=dict)
    machine: Machine = field(default_factory=Machine)
    cache: Cache | None = None
    solve: LinearSolver | None = None
    score_device: Device | None = None


@dataclass(frozen=True, slots=True)
class SampleScore:
    """Sufficient statistics of one sample (an image, or one of its captions), such as ranks and counts."""

    id: str
    image_id: str
    stats: Mapping[str, Any] = field(default_factory=dict)


class _Value(BaseModel):
    """A frozen table of a Record. What it says comes from names, files and packages: it is made printable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _printable(cls, content: Any) -> Any:
        return all_printable(content)


MAX_NUMBER = 1e100
"""No metric is larger; the square of a number up to it is finite."""


def _finite_or_none(value: Any) -> Any:
    if not isinstance(value, int | float):
        return value
    if abs(value) > MAX_NUMBER and not (isinstance(value, float) and math.isinf(value)):
        raise ValueError(f"wanted a number up to {MAX_NUMBER:g}")
    return float(value) if math.isfinite(value) else None


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A finite float, or None if undefined. Never NaN, which JSON lacks."""


Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number of things."""


class Estimate(_Value):
    """A metric's value with its 95 % interval over n images.

    If undefined, value is None and n is 0. n is 0 with a value if a source did not publish n.
    """

    value: Number
    low: Number
    high: Number
    n: Count


Unit = Literal["fraction", "rank", "score", "words", "number", "loss", "gflops", "per_s", "s", "mib"]
"""The unit of a metric. Fractions are 0-1; score is CIDEr's; number is printed unchanged; loss (the Brier
score) too, with three decimals; gflops, per_s, s (seconds) and mib are costs."""


class MetricInfo(_Value):
    """The definition of a metric, stored in Records. Fractions are 0-1; reports print them times 100.

    kind: health metrics say whether outcomes are plausible (captions that repeat themselves), not how good they are.
    version: numbers of different versions are not compared.
    """

    unit: Unit
    higher_is_better: bool
    summary: str
    kind: Literal["quality", "health"] = "quality"
    version: int = 1


class Signature(_Value):
    """Everything that can change a number. Numbers are compared only if the protocol parts are equal."""

    protocol: dict[str, JsonValue]
    model: dict[str, JsonValue]

    @model_validator(mode="after")
    def _is_json(self) -> Signature:
        json.dumps((self.protocol, self.model), allow_nan=False)  # ValueError for NaN, which JSON lacks
        return self


def _as_tables(notes: tuple[Note, ...]) -> list[dict[str, str]]:
    return [note._asdict() for note in notes]


Notes = Annotated[tuple[Note, ...], PlainSerializer(_as_tables)]
"""Stored as [{"code": …, "text": …}, …]."""


class Record(_Value):
    """The stored result of one model on one task; its samples are in a separate file.

    samples_file: the name of that file; samples_digest: the hash of its content. pictures: the hash of the contents of
    the images that were read; pictures_by_id: that of ids with their contents; image_files: that of paths, sizes and
    times of the image files on the machine that read them, to notice a change. rows: the hash of the data, in any order
    of the examples. '' if not recorded.
    """

    schema_version: int = SCHEMA_VERSION
    task: str
    model: str
    evaluator: str
    primary: str
    groups: tuple[str, ...] = ()
    signature: Signature
    metrics: dict[str, Estimate]
    definitions: dict[str, MetricInfo]
    skipped_metrics: dict[str, str] = {}
    skipped_images: tuple[str, ...] = ()
    notes: Notes = ()
    timing: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    parameters: dict[str, Count] = {}
    environment: dict[str, str] = {}
    samples_file: Annotated[str, StringConstraints(pattern=r"^([^/\\.][^/\\]*\.samples\.parquet)?$")] = ""
    samples_digest: str = ""
    pictures: str = ""
    pictures_by_id: str = ""
    image_files: str = ""
    rows: str = ""
    created: str

    @model_validator(mode="after")
    def _are_defined(self) -> Record:
        if undefined := sorted(self.metrics.keys() - self.definitions.keys()):
            raise ValueError(f"definitions: missing for {undefined[0]}")
        return self


class Status(StrEnum):
    PASS = "pass"
    IMPROVED = "improved"
    WITHIN_NOISE = "within noise"
    CANNOT_TELL = "cannot tell"
    REGRESSED = "regressed"
    MISSING = "missing"
    INCOMPARABLE = "incomparable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one metric. difference: current minus baseline with its 95 % interval, in points for fractions.

    model: the judged one, or the baseline's where there is no current result. against: the baseline's, '' if the same.
    p_value: of "no drop", one-sided, Holm-corrected over ``family`` tests; None if not tested. detectable: the smallest
    true drop, in points, that the gate detects with 80 % power. changed: number of images whose outcome differs, None
    if unknown. unpaired: why the test is not paired, '' if it is. exit_code: this verdict's exit code. places: decimals
    to print.
    """

    task: str
    model: str
    metric: str
    status: Status
    baseline: Estimate | None = None
    current: Estimate | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    family: int = 0
    detectable: float | None = None
    changed: int | None = None
    unpaired: str = ""
    tolerance: float | None = None
    places: int = 1
    exit_code: int = 0
    detail: str = ""
    evaluator: str = ""
    notes: tuple[Note, ...] = ()
    against: str = ""

    @property
    def judged(self) -> str:
        """``NEW against OLD``, or the model where both have one name."""
        return f"{self.model} against {self.against}" if self.against else self.model
