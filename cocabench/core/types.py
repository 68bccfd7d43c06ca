"""The values that travel between the layers. Frozen, and free of torch."""

from __future__ import annotations

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
    JsonValue,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from cocabench.core.text import all_printable

if TYPE_CHECKING:
    from PIL import Image

    from cocabench.models.hardware import Hardware

SCHEMA_VERSION = 2
"""Version of the stored Record; raised when a field changes its meaning. Older versions are read forever."""

Features = NDArray[np.float32]
"""(n, d) float32, every row of unit L2 norm."""


class ImageSource(Protocol):
    """An image that is not read yet. ``str(source)`` says where it lies, for messages."""

    def open(self) -> Image.Image:
        """Decode and return the image, in the mode that its file has."""


@runtime_checkable
class IdentifiedSource(ImageSource, Protocol):
    """An ImageSource that says what it holds without decoding it, so that its features can be found again."""

    def identity(self) -> bytes:
        """Return bytes that determine the picture: the file's, and what is done to it. Raises what open() raises."""

    def stamp(self) -> str:
        """Return a text that changes when the identity may have, without reading it; '' where there is none."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of data: an image with its captions, or with its label.

    label is a class index, a tuple of class indices (multi-label), or None.
    domain separates parts of a data set that are also scored alone (NoCaps: in, near, out).
    negatives: for each text the captions that are to be told from it (SugarCrepe), or nothing at all.
    others: further images to be told from image by their captions (Winoground): the k-th image has the k-th text.
    metadata: what a row has besides (region, type of question, objects), as plain values; empty where it has nothing.
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
        """All images: one, but for examples whose images are to be told apart."""
        return (self.image, *self.others)


@dataclass(frozen=True)
class Dataset:
    """A sized source of Examples. classes and templates are empty where the data set brings none.

    A template holds ``{c}`` where the class name goes. notes are kept in the Record.
    whole: the examples that a limited data set was drawn from, for statistics of the whole (document frequencies).
    """

    name: str
    split: str
    examples: Sequence[Example]
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    whole: Sequence[Example] = ()

    def __len__(self) -> int:
        return len(self.examples)


class ImageFeatures(NamedTuple):
    """rows (k, d) for the images that could be read, and kept (k,) their positions among those asked for."""

    rows: Features
    kept: NDArray[np.int64]


class Captions(NamedTuple):
    """A text and its decoder score per image that could be read, and kept (k,) their positions among all.

    truncated: whether each ran into the length limit; empty where a captioner does not tell.
    features: (k, d) what encode_images gives for these images; None where captioning does not make it.
    """

    texts: list[str]
    scores: list[float]
    kept: NDArray[np.int64]
    truncated: Sequence[bool] = ()
    features: Features | None = None


class Likelihoods(NamedTuple):
    """How likely m texts each are as captions of k images that could be read.

    logprobs: (k, m) natural logarithms of p(text | image), the end token's included. n_tokens: (k, m) tokens counted.
    kept: (k,) the positions of these images among all. exp(-logprobs / n_tokens) is the perplexity.
    features: as those of Captions.
    """

    logprobs: NDArray[np.float32]
    n_tokens: NDArray[np.int64]
    kept: NDArray[np.int64]
    features: Features | None = None


class Progress(Protocol):
    """Told how far a stage is: ``progress("images", 64, 1000)``."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """A Progress that tells nobody."""


ImageOutput = Literal["projected", "pooled"]
"""Image features in the space of the texts, or what stands before that projection (for probes)."""


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
        """What the user should know about how this model ran, so far (a halved batch, random weights)."""

    def encode_images(
        self,
        images: Sequence[ImageSource],
        *,
        output: ImageOutput = "projected",
        normalize: bool = True,
        progress: Progress = silent,
    ) -> ImageFeatures:
        """Return a row for each image that could be read: unit rows, or with normalize=False the model's own scale."""

    def encode_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Features:
        """Return a unit row per text. Equal texts share bits, so that their ties are exact."""

    def caption(
        self,
        images: Sequence[ImageSource],
        options: Mapping[str, Any],
        *,
        prompts: str | Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Captions:
        """Return a caption for each image that could be read.

        options: those of ``specs.decoding.DecodingOptions``. prompts: the first words of every caption, or of each.
        """

    def score_captions(
        self,
        images: Sequence[ImageSource],
        texts: Sequence[Sequence[str]],
        *,
        prefixes: Sequence[str] | None = None,
        progress: Progress = silent,
    ) -> Likelihoods:
        """Return how likely each image's texts are as captions of it; there are as many for each.

        prefixes: for each image what stands before its texts. It is given: its tokens do not count.
        """

    def costs(self, work: Workload, *, progress: Progress = silent) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (repeat, {metric: value}): operations, speed and memory, measured once per repeat or once in all."""


class Source(Protocol):
    """A checkpoint that is not loaded: frozen and picklable. notes are choices made for the user."""

    @property
    def id(self) -> str: ...
    @property
    def abilities(self) -> frozenset[Ability]: ...
    @property
    def notes(self) -> tuple[Note, ...]: ...
    @property
    def available(self) -> bool:
        """Whether the weights are on this machine, so that the signature is known."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Installed packages whose version can move a number; the signature has them in this order."""

    @property
    def features_version(self) -> int:
        """Raised when a change of the library's module would change a feature; above 1 the signature has it."""

    def signature(self) -> dict[str, JsonValue]:
        """Return everything of the model that can move a number: id, weights, architecture, preprocessing, tokenizer.

        Versions and precision come on top. Asked for before loading: a plan, a dry run and a results file need it.
        """

    def load(self, hardware: Hardware) -> Model:
        """Return the model on its device, ready to encode."""


class Workload(NamedTuple):
    """What costs are measured on: an image and a text per repeat, samples at once, and options of the decoder."""

    repeats: Sequence[Example]
    batch: int
    train_batch: int
    decoding: Mapping[str, Any]


Ability = Literal["encode", "caption", "score_captions", "profile"]
"""What a model can do: put images and texts into one space, write captions, say how likely captions are, be timed."""


class Note(NamedTuple):
    """What a reader must know beside a number. code: one of ``core.notes.CODES``; text: one sentence, for people."""

    code: str
    text: str


class Chance(NamedTuple):
    """What guessing gets of a metric, 0-1, and what to do about a score near it.

    once_per_image: of an image's rows the first alone counts, so that rows are independent.
    """

    rate: float
    advice: str = "check data, prompts, tokenizer and weights before believing it"
    once_per_image: bool = False


class Machine(NamedTuple):
    """What a run computes on.

    name: the GPU, or the kind of CPU and its cores; device: torch's name of the kind. java: the Java of the caption
    metrics, where one was chosen.
    """

    name: str = ""
    threads: int = 1
    device: str = "cpu"
    java: Path | None = None


def unnoted(note: Note) -> None:
    """Where notes go that nobody keeps."""


class Cache(Protocol):
    """Values by space and key (core.cache). No call raises for trouble with the store; ``notes`` says what it was."""

    @property
    def notes(self) -> Sequence[Note]: ...

    def get(self, space: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return {key: value} of the keys that are there."""

    def has(self, space: str, keys: Sequence[bytes]) -> set[bytes]:
        """Return the keys that are there, without reading their values."""

    def put(self, space: str, values: Mapping[bytes, bytes], *, label: str = "") -> None:
        """Keep values. label: what people call the space, in the table of ``cocabench cache info``."""


@dataclass(frozen=True)
class Context:
    """The run around a scoring.

    note: keeps a Note for the Record. models: those of the kind's ``extra_models`` that are there, loaded. data: its
    ``extra_data``, found and counted. cache: the run's; None: the user's.
    """

    progress: Progress = silent
    note: Callable[[Note], None] = unnoted
    models: Mapping[str, Model] = field(default_factory=dict)
    data: Mapping[str, Dataset] = field(default_factory=dict)
    machine: Machine = field(default_factory=Machine)
    cache: Cache | None = None


@dataclass(frozen=True, slots=True)
class SampleScore:
    """Sufficient statistics of one sample (an image, or one of its captions): ranks, counts; no metric yet."""

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


def _finite_or_none(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A finite float, or None where the value is undefined. Never NaN: JSON has none."""


class Estimate(_Value):
    """A metric's value with its 95 % interval over n images.

    value is None and n is 0 where it is undefined; n is 0 beside a value where a source did not publish n.
    """

    value: Number
    low: Number
    high: Number
    n: int


Unit = Literal["fraction", "rank", "score", "words", "number", "gflops", "per_s", "s", "mib"]
"""Of a metric. Fractions are 0-1; score is CIDEr's; number is printed as it is; gflops, per_s, s (seconds) and mib are
costs."""


class MetricInfo(_Value):
    """What a reader of a Record must know of a metric. Fractions are 0-1; reports print them times 100.

    kind: health tells whether outcomes can be believed (captions that repeat themselves …), not how good they are.
    version: the metric's; numbers of two versions are not compared.
    """

    unit: Unit
    higher_is_better: bool
    summary: str
    kind: Literal["quality", "health"] = "quality"
    version: int = 1


class Signature(_Value):
    """Everything that can move a number. Numbers are compared only where the protocol parts are equal."""

    protocol: dict[str, JsonValue]
    model: dict[str, JsonValue]


def _as_tables(notes: tuple[Note, ...]) -> list[dict[str, str]]:
    return [note._asdict() for note in notes]


Notes = Annotated[tuple[Note, ...], PlainSerializer(_as_tables)]
"""Stored as [{"code": …, "text": …}, …]."""


class Record(_Value):
    """The stored outcome of one model on one task. Its samples lie beside it.

    samples_file: the name of their file, and samples_digest that of its content; pictures: the hash of the images that
    were read. '' where they were not recorded.
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
    timing: dict[str, float] = {}
    parameters: dict[str, int] = {}
    environment: dict[str, str] = {}
    samples_file: Annotated[str, StringConstraints(pattern=r"^([^/\\.][^/\\]*\.samples\.parquet)?$")] = ""
    samples_digest: str = ""
    pictures: str = ""
    created: str


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
    """One line of a gate. difference is now minus baseline with its 95 % interval, in points (x100) for fractions.

    p_value: of "no drop", one-sided, after Holm over the family of that many tests; None where nothing was tested.
    detectable: the smallest true drop, in points, that such a gate finds in 80 of 100 cases. changed: images whose
    outcome differs, None where that is not known. unpaired: why the samples could not be held against each other, ''
    for a paired test. exit_code: what the line adds to the command's. places: decimals to print.
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
