"""lucidrains' CoCa (``CoCa-pytorch`` on PyPI): ``coca_pytorch::build.py``, or the name of an entry point.

That package stores no config: a small Python file builds the network. It has a function ``build()`` that returns Parts.
The file runs, so it must stand on the command line or in a call of ``cocabench.evaluate``; a task file, a recipe, a
plan or a folder cannot name one. An installed package may offer ``build`` in the entry point group
``cocabench.coca_pytorch`` instead: ``coca_pytorch::NAME``.
"""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Protocol

import torch
from PIL import Image
from pydantic import JsonValue
from torch import Tensor

from cocabench.core.errors import ModelError, first_line
from cocabench.core.files import expanded
from cocabench.core.signature import digest, digest_file
from cocabench.core.types import Ability, Note
from cocabench.models.base import (
    CaptionBatch,
    Continuation,
    LogprobBatch,
    Model,
    ScoreCaptions,
    WriteCaptions,
    check_finite_weights,
    unit,
)
from cocabench.models.contexts import evaluating
from cocabench.models.hardware import Hardware
from cocabench.models.identity import architecture_digest, preprocess_digest, state_digest
from cocabench.models.interactive import ScoreWords, Word
from cocabench.models.open_clip.captions import (
    SpecialIds,
    asked,
    caption_texts,
    caption_words,
    continuation_tokens,
    decode_options,
    prompt_tokens,
    shower,
    truncated,
)
from cocabench.models.open_clip.decoding.generate import decoded
from cocabench.models.open_clip.decoding.options import SpecialTokens
from cocabench.models.open_clip.decoding.steps import PrefixSteps
from cocabench.models.pixels import Transform
from cocabench.specs.registry import entry_points
from cocabench.specs.spec import ModelSpec

LIBRARY = "coca_pytorch"

CAPTIONS_PER_PASS = 256
"""Captions scored per forward pass."""

PROBES = ("a photo of a cat", "Two dogs, in the snow.", "", "1234567890 " * 30)
"""Texts whose tokens identify a tokenizer, which may be any Python object."""


class TextToIds(Protocol):
    """A tokenizer: texts to ids with the start and end token of the training, unpadded; ``decode`` for captions."""

    def __call__(self, texts: list[str]) -> Sequence[Sequence[int]]: ...


@dataclass(frozen=True)
class Parts:
    """What ``build()`` returns.

    net: a ``coca_pytorch.CoCa`` with its weights and its ``img_encoder``. transform: a PIL image to a tensor (3, h, w).
    tokenizer: texts to lists of ids, with the start and end token of the training, unpadded; with ``decode(ids)`` for
    captions. text_length: tokens of a text, padding included, as training gave them to ``forward(return_loss=True)``,
    which drops the last one. start, end: ids of these tokens, without which the model cannot caption.
    """

    net: Any
    transform: Transform
    tokenizer: TextToIds
    text_length: int
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class CoCaPytorchSource:
    """A network that was built. weights: the hash of its state. code: that of the file, or the entry point's value."""

    id: str
    parts: Parts = field(repr=False, compare=False)
    weights: str
    code: str
    notes: tuple[Note, ...] = ()
    available: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("CoCa-pytorch", "einops", "pillow", "torch")
    features_version: ClassVar[int] = 1
    """Raise it if a change in this module, the base class or image decoding changes a feature."""

    @property
    def abilities(self) -> frozenset[Ability]:
        captions = None not in (self.parts.start, self.parts.end)
        return frozenset({"encode", "caption", "score_captions"} if captions else {"encode"})

    def signature(self) -> dict[str, JsonValue]:
        """Return weights, code, and what tokenizer and transform do: they may be any Python objects."""
        parts = self.parts
        return {
            "id": self.id,
            "weights": self.weights,
            "architecture": architecture_digest(parts.net),
            "code": self.code,
            "preprocess": preprocess_digest(parts.transform),
            "vocabulary": digest([list(map(int, row)) for row in parts.tokenizer(list(PROBES))]),
            "texts": {
                "length": parts.text_length,
                "start": parts.start,
                "end": parts.end,
                "pad": int(parts.net.pad_id),
            },
        }

    def load(self, hardware: Hardware) -> CoCaPytorch:
        """Return the model on its device."""
        return CoCaPytorch(self.id, self.parts, hardware, self.abilities)


class CoCaPytorch(Model):
    """lucidrains' CoCa on its device.

    Features are what its contrastive loss compares: latents, not the unprojected rows of ``return_embeddings``. The
    text's CLS stands behind the padding and has a rotary position, so every text is padded to the training's length.
    Captions are written by cocabench's decoder, which computes whole captions anew at each step.
    """

    def __init__(self, name: str, parts: Parts, hardware: Hardware, abilities: frozenset[Ability]) -> None:
        super().__init__(name, parts.transform, hardware, parameters=tower_parameters(parts.net))
        self.net = parts.net.to(hardware.device)
        self.abilities, self.tokenizer = abilities, Padded(name, parts)
        self.scores_words = "caption" in abilities
        self.vocabulary = int(self.net.token_emb.weight.shape[0])
        self.ids = SpecialIds(int(parts.start or 0), int(parts.end or 0), int(self.net.pad_id))

    def logit_scale(self) -> float:
        """Return the factor of cosines that the network has learned."""
        return float(self.net.temperature.detach().exp())

    def computing(self) -> Any:
        """Compute in evaluation mode."""
        return evaluating(self.net)

    def encode_image_batch(self, pixels: Tensor) -> Tensor:
        """Return the image latents, which are normalized."""
        return torch.as_tensor(self.net.img_to_latents(self.pooled_image_batch(pixels)))

    def unnormalized_image_batch(self, pixels: Tensor) -> Tensor:
        """Return the image latents before their normalization."""
        return torch.as_tensor(self.net.img_to_latents.to_latents(self.pooled_image_batch(pixels)))

    def pooled_image_batch(self, pixels: Tensor) -> Tensor:
        """Return the features of the attention pooling, before the projection."""
        return torch.as_tensor(self.net.embed_image(images=pixels)[0])

    def encode_text_batch(self, texts: list[str]) -> Tensor:
        """Return the text latents of the tokens that the loss keeps."""
        tokens = self._tokens(texts)[:, :-1].to(self.hardware.device)
        return torch.as_tensor(self.net.text_to_latents(self.net.embed_text(tokens)[0]))

    def captioner(self, options: Mapping[str, Any], prompts: Sequence[str]) -> WriteCaptions:
        """Check options and prompts; images with prompts of equal length are captioned together."""
        if "caption" not in self.abilities:
            return super().captioner(options, prompts)
        chosen = decode_options(options, self.tokenizer.length)
        starts = [prompt_tokens(self.tokenizer, prompt, self.ids, chosen) for prompt in prompts]
        for start in starts:
            self.check_ids(start, self.vocabulary)
        lengths = torch.tensor([start.shape[1] for start in starts])
        special = SpecialTokens(*self.ids)

        def write(pixels: Tensor, numbers: Tensor) -> CaptionBatch:
            pooled, image_tokens = self.net.embed_image(images=pixels)
            found: dict[int, tuple[str, float, bool]] = {}
            for length in lengths[numbers].unique().tolist():
                rows = (lengths[numbers] == length).nonzero()[:, 0]
                start = torch.cat([starts[number] for number in numbers[rows].tolist()]).to(pixels.device)
                steps = PrefixSteps(Prefixes(self.net, image_tokens[rows.to(pixels.device)]), self.tokenizer.length)
                own, first = asked(options, chosen, length)
                watch = shower(self, self.tokenizer, self.ids, first) if self.watch else None
                tokens, scores = decoded(steps, start, own, special, watch=watch)
                said, cut = caption_texts(self.tokenizer, tokens[:, first:], self.ids), truncated(tokens, self.ids, own)
                found |= zip(rows.tolist(), zip(said, scores.tolist(), cut, strict=True), strict=True)
            texts, all_scores, all_cut = zip(*(found[i] for i in range(len(pixels))), strict=True)
            return CaptionBatch(texts, all_scores, all_cut, unit(self.net.img_to_latents(pooled)))

        return write

    def caption_scorer(self, continuations: Sequence[Continuation]) -> ScoreCaptions:
        """Tokenize the texts, cut to the training's length."""
        if "score_captions" not in self.abilities:
            return super().caption_scorer(continuations)
        tokens, counted = continuation_tokens(self.tokenizer, continuations, self.ids)
        self.check_ids(tokens, self.vocabulary)

        def score(pixels: Tensor, numbers: Tensor) -> LogprobBatch:
            pooled, image_tokens = self.net.embed_image(images=pixels)
            together, totals = max(1, CAPTIONS_PER_PASS // numbers.shape[1]), []
            for some, own in zip(image_tokens.split(together), numbers.split(together), strict=True):
                each = self._each(some.repeat_interleave(own.shape[1], dim=0), tokens[own.flatten()])
                left_out = ~counted[own.flatten(), 1:].to(pixels.device)
                totals.append(each.masked_fill(left_out, 0).sum(-1).view(own.shape).cpu())
            return LogprobBatch(torch.cat(totals), counted[numbers].sum(-1), unit(self.net.img_to_latents(pooled)))

        return score

    def word_scorer(self, texts: Sequence[str]) -> ScoreWords:
        """Tokenize the texts, cut to the training's length."""
        if not self.scores_words:
            return super().word_scorer(texts)
        tokens, counted = continuation_tokens(self.tokenizer, [Continuation("", text) for text in texts], self.ids)
        self.check_ids(tokens, self.vocabulary)

        def score(pixels: Tensor, numbers: Tensor) -> list[list[Word]]:
            each = self._each(self.net.embed_image(images=pixels)[1], tokens[numbers]).cpu()
            return caption_words(self.tokenizer, tokens[numbers], counted[numbers], each, self.ids)

        return score

    def _each(self, image_tokens: Tensor, tokens: Tensor) -> Tensor:
        """Return log p(token | image, tokens before it), (k, p - 1), of tokens (k, p)."""
        ids = tokens.to(image_tokens.device)
        made = logits(self.net, ids[:, :-1], image_tokens)
        return made.float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]

    def _tokens(self, texts: list[str]) -> Tensor:
        tokens = self.tokenizer(texts)
        self.check_ids(tokens, self.vocabulary)
        return tokens


class Padded:
    """The tokenizer of Parts, with texts cut and padded to the training's length; an end token stays the last."""

    def __init__(self, name: str, parts: Parts) -> None:
        self._name, self._inner, self._end = name, parts.tokenizer, parts.end
        self.length, self._pad = parts.text_length, int(parts.net.pad_id)

    def __call__(self, texts: list[str]) -> Tensor:
        """Return ids (n, length)."""
        rows = [[int(token) for token in row] for row in self._inner(texts)]
        if len(rows) != len(texts):
            raise ModelError(self._name, f"its tokenizer returned {len(rows)} rows for {len(texts)} texts")
        cut = [row[: self.length] for row in rows]
        for row, own in zip(rows, cut, strict=True):
            if len(row) > self.length and self._end is not None:
                own[-1] = self._end
        return torch.tensor([row + [self._pad] * (self.length - len(row)) for row in cut])

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids without start and end token."""
        return str(self._inner.decode(ids))  # type: ignore[attr-defined]  # checked where captions are possible


class Prefixes:
    """Next-token logits of whole captions. image_tokens: (b, tokens, width) of ``embed_image``."""

    def __init__(self, net: Any, image_tokens: Tensor) -> None:
        self._net, self._images = net, image_tokens

    def __call__(self, captions: Tensor) -> Tensor:
        images = self._images.repeat_interleave(captions.shape[1], dim=0)
        last = logits(self._net, captions.flatten(0, 1), images)[:, -1]
        return last.view(*captions.shape[:2], -1)

    def keep(self, images: Tensor) -> None:
        self._images = self._images[images]


def logits(net: Any, tokens: Tensor, image_tokens: Tensor) -> Tensor:
    """Return what ``net(tokens, images)`` returns, (k, p, V), for images that are encoded."""
    _, x = net.embed_text(tokens)
    for attend, look in net.multimodal_layers:
        x = look(attend(x), image_tokens)
    return torch.as_tensor(net.to_logits(x))


def tower_parameters(net: torch.nn.Module) -> dict[str, int]:
    """Return the number of parameters of the image encoder with its pooling, the text encoder, and the decoder."""
    counts = dict.fromkeys(("image_encoder", "text_encoder", "text_decoder"), 0)
    for name, parameter in net.named_parameters():
        tower = "image_encoder" if name.startswith("img_") else "text_encoder"
        tower = "text_decoder" if name.startswith(("multimodal_layers", "to_logits")) else tower
        counts[tower] += 0 if name == "temperature" else parameter.numel()
    return counts


# From a model string to a Source


def sources(spec: ModelSpec, *, download: bool = True) -> list[CoCaPytorchSource]:
    """Return the Source of ``coca_pytorch::FILE.py`` or ``coca_pytorch::NAME``; builds the network.

    ModelError for a file that was not typed by the user, or that cannot be run, and for wrong Parts.
    """
    name, where = f"{LIBRARY}::{spec.weights}", f"--model {LIBRARY}::{spec.weights}"
    if not spec.weights.endswith(".py"):
        points = entry_points(LIBRARY, tuple(sys.path))
        if spec.weights not in points.names:
            got = f"no such entry point (installed: {', '.join(sorted(points.names)) or 'none'})"
            raise ModelError(where, got, wanted=f"a Python file, or an entry point of cocabench.{LIBRARY}")
        point = points[spec.weights]
        return [_source(name, where, point.load(), point.value)]
    if not spec.typed:
        got = "a Python file, named by a task file, a recipe or a plan"
        raise ModelError(where, got, wanted="one that stands on the command line, since it runs")
    path = expanded(spec.weights)
    if not path.is_file():
        raise ModelError(where, "no such file", fix="check the path")
    module = _run(where, path)
    if not callable(build := getattr(module, "build", None)):
        raise ModelError(
            where, "no function build() in it", wanted="one that returns cocabench.models.coca_pytorch.Parts"
        )
    return [_source(name, where, build, digest_file(path), module.__name__)]


def _source(name: str, where: str, build: Callable[[], Any], code: str, module: str = "") -> CoCaPytorchSource:
    try:
        parts = build()
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(where, f"build() failed: {type(error).__name__}: {first_line(error)}") from error
    _check(where, parts)
    check_finite_weights(where, parts.net)
    if module and module in _pickled(parts.transform):  # workers could not import it
        parts = Parts(
            parts.net, InThisProcess(parts.transform), parts.tokenizer, parts.text_length, parts.start, parts.end
        )
    return CoCaPytorchSource(name, parts, state_digest(parts.net), code)


def _run(where: str, path: Path) -> ModuleType:
    """Run the file as a module of its own; ModelError with the line that failed."""
    found = importlib.util.spec_from_file_location(f"cocabench_build_{path.stem}", path)
    assert found is not None, "for a file whose name ends with .py"
    assert found.loader is not None, "for a file whose name ends with .py"
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses look their module up
    try:
        found.loader.exec_module(module)
    except Exception as error:
        line, trace = 0, error.__traceback__
        while trace is not None:
            line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == str(path) else line
            trace = trace.tb_next
        raise ModelError(where, f"line {line}: {type(error).__name__}: {first_line(error)}") from error
    return module


def _check(where: str, parts: object) -> None:
    if not isinstance(parts, Parts):
        got = f"build() returned a {type(parts).__name__}"
        raise ModelError(where, got, wanted="cocabench.models.coca_pytorch.Parts")
    needed = ("embed_image", "embed_text", "img_to_latents", "text_to_latents", "multimodal_layers", "to_logits")
    if not all(hasattr(parts.net, name) for name in needed):
        raise ModelError(where, f"net: a {type(parts.net).__name__}", wanted="a coca_pytorch.CoCa")
    if parts.net.img_encoder is None:
        raise ModelError(where, "net: no img_encoder", wanted="CoCa(img_encoder=…), which encodes pixels")
    if not isinstance(parts.text_length, int) or parts.text_length < MIN_LENGTH:
        raise ModelError(where, f"text_length: {parts.text_length!r}", wanted=f"a whole number, {MIN_LENGTH} or more")
    if (parts.start is None) != (parts.end is None):
        raise ModelError(where, "one of start and end", wanted="both, for captions, or none")
    if parts.start is not None and not hasattr(parts.tokenizer, "decode"):
        raise ModelError(where, "a tokenizer without decode", wanted="decode(ids), for captions")


MIN_LENGTH = 4
"""A start token, a word, an end token, and the one that the loss drops."""


@dataclass(frozen=True)
class InThisProcess:
    """A transform of the user's file, which workers that read images could not import: they are not used then."""

    transform: Transform

    def __call__(self, image: Image.Image) -> Any:
        return self.transform(image)

    def __reduce__(self) -> Any:
        raise pickle.PicklingError("a transform of a file on the command line")


def _pickled(transform: Transform) -> str:
    try:
        return pickle.dumps(transform).decode("latin-1")
    except (pickle.PicklingError, AttributeError, TypeError):
        return ""
