"""The one place where the goldens of features and captions touch cocabench: loading a model, and asking it.

Whoever moves or renames a part of the models mends this module, and nothing else of the goldens. What it hands over
are plain values: arrays, lists, dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.make_decoding_goldens import MODELS, build, images, settings_of
from cocabench import demo
from cocabench.core.cache import open_cache
from cocabench.data.builtin import Emoji
from cocabench.data.images import FileImage
from cocabench.models.cached import Cached
from cocabench.models.hardware import hardware
from cocabench.models.open_clip import encode_tokens, generate
from cocabench.run.prepare import identity_of
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models

Floats = NDArray[Any]
DEMO_MODELS = ("demo/coca", "demo/clip", "demo/coca-captioner")
NETWORKS = tuple(MODELS)
"""Tiny CoCas in memory, by name."""


@dataclass
class Loaded:
    """A model as a run holds it: equal inputs once, a cache of features before it, texts in blocks.

    computed: how many rows each call of the model behind the cache gave: ``("images", 12)``.
    """

    model: Any
    computed: list[tuple[str, int]] = field(default_factory=list)

    def encode_images(self, sources: Sequence[Any]) -> tuple[Floats, list[int]]:
        """Return a row (k, d) for each image that could be read, and the positions of these."""
        found = self.model.encode_images(sources)
        return found.rows, found.kept.tolist()

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Return rows (n, d)."""
        return np.asarray(self.model.encode_texts(texts))

    def caption(self, sources: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """Return texts, scores (k,), truncated, kept, and the features (k, d) made on the way."""
        settings = {name: value for name, value in options.items() if name != "prompt"}
        made = self.model.caption(sources, settings, prompts=options.get("prompt"))
        return {
            "texts": list(made.texts),
            "scores": np.array(made.scores, np.float64),
            "truncated": [bool(cut) for cut in made.truncated],
            "kept": made.kept.tolist(),
            "features": made.features,
        }

    def score_captions(self, sources: Sequence[Any], texts: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Return logprobs (k, m), n_tokens (k, m), kept, and the features (k, d) made on the way."""
        found = self.model.score_captions(sources, texts)
        return {
            "logprobs": found.logprobs,
            "n_tokens": found.n_tokens.tolist(),
            "kept": found.kept.tolist(),
            "features": found.features,
        }

    def warnings(self) -> list[str]:
        """Return what the model has to say in a Record, as prose."""
        return [note.text for note in self.model.notes]


@contextmanager
def loaded(model: str, *, cache: Path | None = None, precision: str = "fp32", batch: int = 32) -> Iterator[Loaded]:
    """Load a model string as a run does, on the CPU, leaving unreadable images out.

    cache: the folder of cached features; None: one that lasts as long as the model.
    """
    (source,) = model_sources(parse_models(model))
    machine = hardware(device="cpu", precision=precision, batch_size=batch, workers=0, skip_bad_images=True)
    made = identity_of(source, precision, False)
    with open_cache(cache, _fail) as opened:
        inner = source.load(machine)
        own = Loaded(Cached(inner, opened, made, "cpu"))
        _count(inner, own.computed)
        yield own


def _fail(note: object) -> None:
    raise AssertionError(f"trouble with the cache: {note}")


def _count(model: Any, computed: list[tuple[str, int]]) -> None:
    """Let a loaded model write down how many rows it gave: for each pass over images, and each block of texts."""
    stream_images, encode_text_block = model.stream_images, model.encode_text_block

    def count_images(*args: Any, **options: Any) -> Any:
        n = 0
        for part in stream_images(*args, **options):
            n += len(part.kept)
            yield part
        computed.append(("images", n))

    def count_texts(*args: Any, **options: Any) -> Any:
        rows = encode_text_block(*args, **options)
        computed.append(("texts", len(rows)))
        return rows

    model.stream_images, model.encode_text_block = count_images, count_texts


def signature(model: str, precision: str = "fp32") -> dict[str, Any]:
    """Return the model part of a Record's signature; of the packages their names alone, in order."""
    (source,) = model_sources(parse_models(model))
    found = identity_of(source, precision, False)
    return {**found, "packages": list(found["packages"])}  # type: ignore[arg-type, call-overload]


def describe(model: str) -> dict[str, Any]:
    """Return what a model tells of itself before it is loaded, and how large it is."""
    (source,) = model_sources(parse_models(model))
    with loaded(model) as own:
        return {"id": source.id, "captions": "caption" in source.abilities, "parameters": dict(own.model.parameters)}


def emoji() -> list[tuple[Any, tuple[str, ...]]]:
    """Return the demo's images that the captioning task uses, and their captions, in order."""
    examples = Emoji(target="captions", caption_subset=True).build(Path()).examples
    return [(example.image, tuple(example.texts)) for example in examples]


def file_image(path: Path) -> Any:
    return FileImage(path)


def merges() -> Path:
    """Return the file of the demo's small vocabulary of 2,014 tokens."""
    return demo.model_folder("coca") / "bpe_merges.txt.gz"


def model_folder(model: str) -> Path:
    """Return the folder of one of DEMO_MODELS."""
    return demo.model_folder(model.removeprefix("demo/"))


@torch.no_grad()
def generate_tokens(network: str, case: Mapping[str, Any]) -> list[list[int]]:
    """Return what the public ``generate`` writes with one of NETWORKS, in memory, for its six images."""
    found = generate(build(network), images(network), **settings_of(network, dict(case)))
    return [[int(token) for token in row] for row in found]


@torch.no_grad()
def encode_token_rows(network: str, token_ids: NDArray[np.int64]) -> Floats:
    """Return what the public ``encode_tokens`` makes of token_ids (n, context_length) with one of NETWORKS."""
    return np.asarray(encode_tokens(build(network), torch.from_numpy(token_ids)).numpy())
