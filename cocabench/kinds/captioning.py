"""Captioning: generate, then score against the references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, PrivateAttr, field_validator, model_validator

from cocabench import captioneval as captions
from cocabench.captioneval import health
from cocabench.core.cache import DiskCache, size_limit, spaces_folder
from cocabench.core.errors import UnknownNameError
from cocabench.core.signature import digest_lines
from cocabench.core.types import Dataset, Example, Model, Progress, SampleScore, silent
from cocabench.data.base import check_captioned
from cocabench.kinds import clipscore
from cocabench.metrics.base import Metric, Samples
from cocabench.specs.spec import Spec

OPTIONS = (
    "decoding",
    "generation_type",
    "num_beams",
    "num_beam_groups",
    "seq_len",
    "min_seq_len",
    "top_k",
    "top_p",
    "temperature",
    "repetition_penalty",
    "diversity_penalty",
    "length_penalty",
    "seed",
)
"""The fields that say how captions are decoded, under upstream's names."""

_BEAMS = ("decoding", "num_beams", "num_beam_groups", "diversity_penalty", "length_penalty")
UNREAD = {
    "beam_search": ("top_k", "top_p", "temperature", "seed"),
    "greedy": (*_BEAMS, "top_k", "top_p", "temperature", "seed"),
    "top_k": (*_BEAMS, "top_p"),
    "top_p": (*_BEAMS, "top_k"),
}
"""Options that a way of generating does not read: they move no number and are no part of a signature."""

Positive = Annotated[int, Field(ge=1, strict=True)]


class Captioning(Spec):
    """Write a caption per image and compare it with people's.

    metrics: names of caption metrics; SPICE brings its sub-scores. clipscore_model: the model string of the contrastive
    model that CLIPScore and RefCLIPScore score with. The other fields are the decoder's, with the names and defaults of
    open_clip's CoCa.generate; decoding = "legacy" gives its captions, "logprob" a beam search over log-probabilities.
    prompt: the first words of every caption, which are scored with it.
    """

    needs: ClassVar[Literal["contrastive", "captioner"]] = "captioner"

    metric_names: tuple[str, ...] = Field(default=captions.NAMES, alias="metrics")
    clipscore_model: str = ""
    decoding: Literal["legacy", "logprob"] = "legacy"
    generation_type: Literal["beam_search", "greedy", "top_k", "top_p"] = "beam_search"
    num_beams: Positive = 6
    num_beam_groups: Positive = 3
    seq_len: Positive = 30
    min_seq_len: Annotated[int, Field(ge=0)] = 5
    top_k: Positive = 1
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.1
    temperature: Annotated[float, Field(gt=0)] = 1.0
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    diversity_penalty: Annotated[float, Field(ge=0)] = 0.0
    length_penalty: float = 1.0
    seed: int = 0
    prompt: str = ""

    _troubles: list[str] = PrivateAttr(default_factory=list)
    """What the last score() has to tell of the cache of caption scores."""

    @field_validator("metric_names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in captions.ALL:
                raise ValueError(str(UnknownNameError("metric", name, captions.ALL)))
        return names

    @model_validator(mode="after")
    def _scored_by_a_model(self) -> Captioning:
        if self._model_based and not self.clipscore_model:
            raise ValueError(f"clipscore_model: missing; {self._model_based[0]} needs one, such as ViT-B-32:openai")
        return self

    @property
    def _model_based(self) -> list[str]:
        return [name for name in self.metric_names if name in captions.MODEL_BASED]

    def _options(self, *, unread: Sequence[str] = ()) -> dict[str, JsonValue]:
        """Return what captions hang on, for the signature; the prompt only where there is one."""
        options: dict[str, JsonValue] = {name: getattr(self, name) for name in OPTIONS if name not in unread}
        return options | ({"prompt": self.prompt} if self.prompt else {})

    def protocol(self, dataset: Dataset) -> dict[str, JsonValue]:
        options = self._options(unread=UNREAD[self.generation_type])
        frequencies = digest_lines(text for example in dataset.whole or dataset.examples for text in example.texts)
        metrics = cast(JsonValue, captions.protocol(self.metric_names))
        scorer: dict[str, JsonValue] = {"scorer": clipscore.identity(self.clipscore_model)} if self._model_based else {}
        return {"decoding": options, "caption_metrics": metrics, "document_frequencies": frequencies, **scorer}

    def metrics(self, dataset: Dataset) -> Sequence[Metric]:
        overall = captions.declared(self.metric_names)
        domains = sorted({example.domain for example in dataset.examples} - {""})
        inside = (captions.within(metric, domain) for domain in domains for metric in overall)
        return (*overall, *inside, *captions.declared(captions.HEALTH))

    def classes(self, dataset: Dataset) -> Sequence[str]:
        return ()

    def notes(self, dataset: Dataset) -> Sequence[str]:
        return ()

    def remarks(self, dataset: Dataset, samples: Samples) -> Sequence[str]:
        return [*health.remarks(samples), *dict.fromkeys(self._troubles)]

    def unavailable(self) -> dict[str, str]:
        missing = captions.unavailable([metric.name for metric in captions.declared(self.metric_names)])
        if self._model_based and (why := clipscore.problem(self.clipscore_model)):
            missing |= dict.fromkeys(self._model_based, why)
        return missing

    def score(self, model: Model, dataset: Dataset, *, progress: Progress = silent) -> Iterator[SampleScore]:
        check_captioned(dataset, "reference caption")
        self._troubles.clear()
        options = {name: getattr(self, name) for name in OPTIONS}
        sources = [example.image for example in dataset.examples]
        with self._preparing(dataset):
            written = model.caption(sources, options, prompts=self.prompt or None, progress=progress)
        examples = [dataset.examples[i] for i in written.kept]
        progress("caption metrics", 0, len(examples))
        columns = health.statistics(written.texts, written.truncated)
        columns |= self._statistics(written.texts, examples, dataset)
        progress("caption metrics", len(examples), len(examples))
        columns |= self._by_model(model, written.texts, examples, progress)
        for row, (example, caption, score) in enumerate(zip(examples, written.texts, written.scores, strict=True)):
            stats = {name: values[row] for name, values in columns.items()}
            told = {"caption": caption, "references": list(example.texts), "domain": example.domain}
            told |= {"decoder_score": score}
            yield SampleScore(example.id, example.id, {**told, **stats})

    def _cache(self) -> DiskCache:
        """Return the user's cache, whose notes stand beside the numbers."""
        return DiskCache(spaces_folder(), size_limit(), lambda note: self._troubles.append(note.text))

    def _able(self) -> list[str]:
        """Return the metrics of words that can run on this machine."""
        missing = self.unavailable().keys() | captions.MODEL_BASED
        return [name for name in self.metric_names if name not in missing]

    def _by_model(
        self, model: Model, texts: Sequence[str], examples: Sequence[Example], progress: Progress
    ) -> dict[str, NDArray[np.generic]]:
        """Return the columns of CLIPScore, scored on the captioner's hardware."""
        if not self._model_based or clipscore.problem(self.clipscore_model):
            return {}
        scorer = clipscore.scorer(self.clipscore_model, clipscore.beside(model))
        images, references = [e.image for e in examples], [e.texts for e in examples]
        return clipscore.statistics(scorer, images, texts, references, progress=progress)

    def _preparing(self, dataset: Dataset) -> AbstractContextManager[None]:
        """Work on the references while captions are generated."""
        names, references = self._able(), [e.texts for e in dataset.examples]
        return captions.preparing(references, names, cache=self._cache()) if names else nullcontext()

    def _statistics(
        self, texts: Sequence[str], examples: Sequence[Example], dataset: Dataset
    ) -> dict[str, NDArray[np.generic]]:
        """Return the metrics' columns; the CIDEr of a domain (``cider_in_domain``) is with its own frequencies."""
        if not (names := self._able()):
            return {}
        corpus = dataset.whole or dataset.examples
        columns = self._scored(texts, examples, names, corpus)
        domains = {e.domain for e in examples} - {""}
        if "CIDEr" in names and domains:
            inside = np.full(len(texts), np.nan)
            for domain in domains:
                rows = [i for i, e in enumerate(examples) if e.domain == domain]
                mine = [e for e in corpus if e.domain == domain]
                inside[rows] = self._scored([texts[i] for i in rows], [examples[i] for i in rows], ["CIDEr"], mine)[
                    "cider"
                ]
            columns["cider_in_domain"] = inside
        return columns

    def _scored(
        self, texts: Sequence[str], examples: Sequence[Example], names: Sequence[str], corpus: Sequence[Example]
    ) -> dict[str, NDArray[np.generic]]:
        """Score captions against their references; CIDEr's document frequencies are those of the whole corpus."""
        more = [e.texts for e in corpus] if len(corpus) > len(examples) else None
        references = [e.texts for e in examples]
        return captions.statistics(texts, references, names, corpus=more, cache=self._cache())
