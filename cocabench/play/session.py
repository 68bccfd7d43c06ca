"""What the playground computes: captions as they are written, likelihoods, classes and a search. No page, no gradio."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cocabench.core.errors import MissingDataError, ModelError, UsageError
from cocabench.core.types import Cache, Features, ImageFeatures, ImageSource, Note
from cocabench.data.files import files_below, only_images
from cocabench.data.images import FileImage
from cocabench.models.base import Model
from cocabench.models.cached import Cached
from cocabench.models.hardware import hardware
from cocabench.models.interactive import Word
from cocabench.play import MODELS
from cocabench.run.prepare import identity_of
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import check_preprocess, parse_models

T = TypeVar("T")

MAX_MODELS = 2
MAX_TEXTS = 1000
"""Texts in a field of the page, one a line."""

MAX_TEXT_CHARACTERS = 2000


class Written(NamedTuple):
    """A finished caption, its score (``Captions.scores``), and its words, if the model library scores words."""

    text: str
    score: float
    words: Sequence[Word]


class Scored(NamedTuple):
    """An own caption: log p(text | image) with its end (<= 0), None without a decoder, and its cosine (-1 to 1)."""

    text: str
    logprob: float | None
    cosine: float


class Named(NamedTuple):
    """A class typed by hand: its cosine (-1 to 1), and its probability (0-1) among the classes."""

    name: str
    probability: float
    cosine: float


class Match(NamedTuple):
    """An image of the folder that a text was looked for in."""

    image: ImageSource
    name: str
    cosine: float


class Playground:
    """Loaded models, and a folder of images to search (None: no search). notes: choices made for the user.

    cached: what encodes the folder instead of the model, by its id.
    Its methods may be called from many threads; models are asked one thing at a time, in a thread of their own.
    """

    def __init__(
        self,
        models: Sequence[Model],
        images: Path | None = None,
        notes: Sequence[Note] = (),
        cached: Mapping[str, Cached] | None = None,
    ) -> None:
        self.models, self._folder, self.notes = tuple(models), images, tuple(notes)
        self._encoders: Mapping[str, Model | Cached] = {**{model.id: model for model in models}, **(cached or {})}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="playground")
        self._found: dict[str, ImageFeatures] = {}

    @cached_property
    def files(self) -> list[Path]:
        """The images of the folder, as they were when the playground started."""
        return [self._folder / path for path in only_images(files_below(self._folder))] if self._folder else []

    def caption(
        self, model: Model, image: ImageSource, options: Mapping[str, Any], prompt: str = ""
    ) -> Iterator[str | Written]:
        """Yield the caption while it is written, then the finished one. options: ``specs.decoding``'s."""
        said: SimpleQueue[str | Future[Written]] = SimpleQueue()
        self._worker.submit(_write, model, image, options, prompt, said.put).add_done_callback(said.put)
        while isinstance(item := said.get(), str):
            yield item
        yield item.result()

    def rank(self, model: Model, image: ImageSource, texts: Sequence[str]) -> list[Scored]:
        """Return own captions, the most likely first; by cosine if the model has no decoder."""
        return self._asked(_rank, model, image, checked_texts("captions", texts))

    def classify(self, model: Model, image: ImageSource, classes: Sequence[str], template: str) -> list[Named]:
        """Return classes, the most probable first. template: a text with {c} for the class.

        The probability is the softmax of cosines times the checkpoint's own scale, as it was trained.
        """
        if "{c}" not in template:
            raise UsageError("template", repr(template), wanted="{c} in it, where the class goes")
        names = checked_texts("classes", classes)
        return self._asked(_classify, model, image, names, [template.replace("{c}", name) for name in names])

    def search(self, model: Model, text: str, most: int = 12) -> list[Match]:
        """Return the images of the folder that match a text best. The first search with a model encodes the folder."""
        (wanted,) = checked_texts("search", [text])
        return self._asked(self._search, model, wanted, most)

    def close(self) -> None:
        """Wait for what is being computed."""
        self._worker.shutdown(cancel_futures=True)

    def _asked(self, work: Callable[..., T], *given: Any) -> T:
        return self._worker.submit(work, *given).result()

    def _search(self, model: Model, text: str, most: int) -> list[Match]:
        images = [FileImage(path) for path in self.files]
        if model.id not in self._found:
            self._found[model.id] = self._encoded(model, images)
        rows, kept = self._found[model.id]
        cosines = rows @ model.encode_texts([text])[0]
        best = np.argsort(-cosines, kind="stable")[:most]
        return [Match(images[kept[i]], self._name(images[kept[i]].path), float(cosines[i])) for i in best]

    def _encoded(self, model: Model, images: Sequence[FileImage]) -> ImageFeatures:
        with suppress(MissingDataError):  # which names the model, not the folder
            found = self._encoders[model.id].encode_images(images)
            if len(found.kept):
                return ImageFeatures(found.rows, found.kept)
        wanted = "images that Pillow opens"
        raise MissingDataError(f"--images {self._folder}", "no image that can be read", wanted=wanted)

    def _name(self, path: Path) -> str:
        assert self._folder is not None  # else there are no files
        return path.relative_to(self._folder).as_posix()


def load(
    models: str = MODELS,
    *,
    images: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    quick_gelu: bool | None = None,
    preprocess: str = "",
    cache: Cache | None = None,
) -> Playground:
    """Load one or two models, as ``cocabench run --model`` names them, and a folder of images to search.

    cache: keeps the folder's features, as those of a run; None: they are computed at each start.
    Raises UsageError for another number of models, MissingDataError for a folder without images, ModelError.
    """
    if images is not None and not images.is_dir():
        raise MissingDataError(f"--images {images}", "no such folder")
    specs = parse_models(models, typed=True)
    check_preprocess(specs, preprocess)
    sources = model_sources(specs, quick_gelu=quick_gelu, preprocess=preprocess)
    if not 1 <= len(sources) <= MAX_MODELS:
        raise UsageError(f"--model {models}", f"{len(sources)} models", wanted="one or two")
    machine = hardware(device=device, precision=precision, workers=0, skip_bad_images=True)
    notes = [note for source in sources for note in source.notes]
    loaded = [playable(source.load(machine)) for source in sources]
    cached = {}
    if images is not None and cache is not None:
        for source, model in zip(sources, loaded, strict=True):
            identity = identity_of(source, machine.precision, machine.compile, cache)
            cached[model.id] = Cached(model, cache, identity, machine.device_type, keep_texts=False)
    made = Playground(loaded, images, notes, cached)
    if images is not None and not made.files:
        raise MissingDataError(f"--images {images}", "no images")
    return made


def playable(model: object) -> Model:
    """Return a loaded model; ModelError if its library does not use the base class, which the page needs."""
    if not isinstance(model, Model):
        raise ModelError(str(getattr(model, "id", model)), "a model without cocabench's base class", wanted="one of it")
    return model


def checked_texts(name: str, texts: Sequence[str]) -> list[str]:
    """Return texts without those that are empty or there before; UsageError for none, too many, or too long ones."""
    found = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not found:
        raise UsageError(name, "nothing typed", wanted="a text on each line")
    if len(found) > MAX_TEXTS:
        raise UsageError(name, f"{len(found):,} lines", wanted=f"at most {MAX_TEXTS:,}")
    if (longest := max(map(len, found))) > MAX_TEXT_CHARACTERS:
        raise UsageError(name, f"a text of {longest:,} characters", wanted=f"at most {MAX_TEXT_CHARACTERS:,}")
    return found


def _write(
    model: Model, image: ImageSource, options: Mapping[str, Any], prompt: str, show: Callable[[str], None]
) -> Written:
    image.open()  # raises an error; unreadable images of the folder are skipped
    with model.watched(show):
        made = model.caption([image], options, prompts=prompt)
    text, score = made.texts[0], made.scores[0]
    return Written(text, score, model.score_words([image], [text])[0] if model.scores_words else ())


def _rank(model: Model, image: ImageSource, texts: list[str]) -> list[Scored]:
    cosines = _cosines(model, image, texts).tolist()
    logprobs: list[float | None] = [None] * len(texts)
    if "score_captions" in model.abilities:
        logprobs = model.score_captions([image], [texts]).logprobs[0].tolist()
    found = [Scored(*row) for row in zip(texts, logprobs, cosines, strict=True)]
    return sorted(found, key=lambda one: -(one.cosine if one.logprob is None else one.logprob))


def _classify(model: Model, image: ImageSource, names: list[str], prompts: list[str]) -> list[Named]:
    cosines = _cosines(model, image, [model.class_prompt(prompt) for prompt in prompts]).astype(np.float64)
    powers = np.exp(model.logit_scale() * (cosines - cosines.max()))
    found = [Named(*row) for row in zip(names, (powers / powers.sum()).tolist(), cosines.tolist(), strict=True)]
    return sorted(found, key=lambda one: -one.cosine)


def _cosines(model: Model, image: ImageSource, texts: list[str]) -> Features:
    image.open()  # as above
    cosines: Features = model.encode_texts(texts) @ model.encode_images([image]).rows[0]
    return cosines
