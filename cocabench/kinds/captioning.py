"""Captioning: write a caption for each image and compare it with people's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, field_validator, model_validator

from cocabench import captioneval as captions
from cocabench.captioneval import clipscore, health, meteor, overlap, spice
from cocabench.core.errors import UnknownNameError
from cocabench.core.signature import digest_lines
from cocabench.core.types import (
    Ability,
    Captions,
    Context,
    Dataset,
    Example,
    ImageSource,
    Machine,
    Model,
    Note,
    Progress,
    SampleScore,
    silent,
)
from cocabench.data.base import check_captioned
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Choices, ClipBenchmark, Column, Part, Presentation, TableSpec, View
from cocabench.metrics.base import Metric, Samples
from cocabench.specs.decoding import OPTIONS, UNREAD, DecodingOptions

Columns = dict[str, NDArray[np.generic]]

SCORES = ("CIDEr", "SPICE", "METEOR", "ROUGE-L", "BLEU@4")
"""By the first of these that was measured, captions are told apart in a gallery; all of them are printed there."""

DECODING = {
    "decoding": "beam scores: legacy are open_clip's raw logits, logprob log-probabilities",
    "generation_type": "how captions are generated",
    "num_beams": "beams",
    "num_beam_groups": "groups of beams",
    "seq_len": "longest caption, in tokens",
    "min_seq_len": "shortest caption, in tokens",
}
OTHER_DECODING = "other options of the decoder"


def _own(names: Iterable[str]) -> tuple[Column, ...]:
    return tuple(Column(name, "float", "The metric of this caption alone") for name in names)


class Captioning(DecodingOptions, Kind):
    """Write a caption per image and compare it with people's.

    metrics: names of caption metrics; SPICE brings its sub-scores. clipscore_model: the model string of the contrastive
    model that CLIPScore and RefCLIPScore score with. The other fields are the decoder's (`specs.decoding`).
    prompt: the first words of every caption, which are scored with it.
    """

    name = "captioning"
    declared = captions.declared((*captions.ALL, *captions.HEALTH))
    primaries = ("CIDEr",)
    samples = (
        Column("caption", "caption", "As generated"),
        Column("references", "texts", "People's captions"),
        Column("domain", "text", "The part of the data set"),
        Column("decoder_score", "float", "The decoder's own score of the caption"),
        Column("caption_words", "int", "Words of the caption"),
        Column("caption_repeats", "bool", "Whether a phrase is said twice in a row"),
        Column("caption_same_as", "int", "Equal for equal captions"),
        Column("caption_truncated", "bool", "Whether it ran into the length limit"),
        *(Column(name, "int", "A count that BLEU sums") for name in overlap.BLEU_COLUMNS),
        *_own(f"bleu_{n}" for n in range(1, 5)),
        *(Column(name, "int", "A count that METEOR sums") for name in meteor.COLUMNS),
        *_own(("meteor", "rouge_l", "cider", "cider_in_domain")),
        *(Column(name, "int", "Scene-graph tuples of SPICE") for name in spice.COLUMNS),
        *_own((*spice.SCORES, "clip_score", "ref_clip_score")),
    )
    shown = Presentation(
        order=40,
        tables=(
            TableSpec(
                "{kind}",
                "Captions against people's references",
                (*captions.NAMES, "*"),
                but=("SPICE-*",),
                published=True,
            ),
            TableSpec("{kind}_spice", "SPICE by kind of tuple", ("SPICE-*",)),
            TableSpec("{kind}_health", "Caption health", role="health"),
        ),
        views=(
            View(
                "captioning",
                "Captions",
                SCORES,
                Choices("caption"),
                says=SCORES,
                truth="references",
                answer="caption",
            ),
        ),
    )
    parts: ClassVar = {
        "decoding": Part("option of the decoder", differs=OTHER_DECODING),
        **{f"decoding.{key}": Part(words, differs=OTHER_DECODING) for key, words in DECODING.items()},
        "decoding.prompt": Part("the first words of every caption", differs=OTHER_DECODING, absent=""),
        "caption_metrics": Part("definition of this caption metric"),
        "document_frequencies": Part("the references that CIDEr's document frequencies come from"),
        captions.SCORER: Part("of the model that CLIPScore scores with"),
        f"{captions.SCORER}.precision": Part("of that model's computation", absent="fp32"),
    }
    clip_benchmark = ClipBenchmark("captioning", {"ROUGE_L": "ROUGE-L", "Bleu_{}": "BLEU@{}"}, "_captions")

    metric_names: tuple[str, ...] = Field(default=captions.NAMES, alias="metrics")
    clipscore_model: str = ""
    prompt: str = ""

    @field_validator("metric_names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in captions.ALL:
                raise ValueError(str(UnknownNameError("metric", name, captions.ALL)))
        return names

    @model_validator(mode="after")
    def _scored_by_a_model(self) -> Captioning:
        if self._by_model() and not self.clipscore_model:
            raise ValueError(f"clipscore_model: missing; {self._by_model()[0]} needs one, such as ViT-B-32:openai")
        return self

    @classmethod
    def decodes(cls, protocol: Mapping[str, JsonValue]) -> bool:
        return True

    @classmethod
    def concerns(cls, part: str, metric: str) -> bool:
        """Return whether a part can move a metric: the definition of a metric moves that one alone."""
        group, _, key = part.partition(".")
        name = metric.partition("[")[0]
        if group == captions.SCORER:
            return name in captions.MODEL_BASED
        if group == "caption_metrics":
            return name in captions.ALL and key in captions.protocol([name])
        return True

    def needs(self) -> frozenset[Ability]:
        return frozenset({"caption"})

    def extra_models(self) -> Mapping[str, str]:
        return {captions.SCORER: self.clipscore_model} if self._by_model() else {}

    def protocol(self, data: Dataset, machine: Machine) -> dict[str, JsonValue]:
        texts = (text for example in data.whole or data.examples for text in example.texts)
        return {
            "decoding": self._options(unread=UNREAD[self.generation_type]),
            "caption_metrics": cast(JsonValue, captions.protocol(self.metric_names)),
            "document_frequencies": digest_lines(texts),
        }

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        overall = captions.declared(self.metric_names)
        domains = sorted({example.domain for example in data.examples} - {""}) if data else ()
        inside = (metric.on(domain) for domain in domains for metric in overall)
        return (*overall, *inside, *captions.declared(captions.HEALTH))

    def unavailable(self, machine: Machine) -> dict[str, str]:
        return captions.unavailable([metric.name for metric in captions.declared(self.metric_names)], java=machine.java)

    def sample_notes(self, data: Dataset, samples: Samples) -> Iterable[Note]:
        return health.notes(samples)

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        check_captioned(data, "reference caption")
        written, examples = self._captions(model, data, context)
        context.progress("caption metrics", 0, len(examples))
        columns = health.statistics(written.texts, written.truncated)
        columns |= self._by_words(written.texts, examples, data.whole or data.examples, context)
        context.progress("caption metrics", len(examples), len(examples))
        if (scorer := context.models.get(captions.SCORER)) is not None:
            images, references = [e.image for e in examples], [e.texts for e in examples]
            columns |= clip_scores(scorer, images, written.texts, references, progress=context.progress)
        for row, (example, caption, score) in enumerate(zip(examples, written.texts, written.scores, strict=True)):
            stats = {name: values[row] for name, values in columns.items()}
            said: dict[str, Any] = {"caption": caption, "references": list(example.texts), "domain": example.domain}
            said |= {"decoder_score": score}
            yield SampleScore(example.id, example.id, {**said, **stats})

    def _captions(self, model: Model, data: Dataset, context: Context) -> tuple[Captions, list[Example]]:
        """Return the captions and the examples that they are of; the references are worked on meanwhile."""
        names, references = self._able(context), [example.texts for example in data.examples]
        java, cache = context.machine.java, context.cache
        meanwhile = captions.preparing(references, names, java=java, cache=cache) if names else nullcontext()
        with meanwhile:
            images = [example.image for example in data.examples]
            options = {name: getattr(self, name) for name in OPTIONS}
            written = model.caption(images, options, prompts=self.prompt or None, progress=context.progress)
        return written, [data.examples[i] for i in written.kept]

    def _by_model(self) -> list[str]:
        return [name for name in self.metric_names if name in captions.MODEL_BASED]

    def _able(self, context: Context) -> list[str]:
        """Return the metrics of words that can run on this machine."""
        missing = self.unavailable(context.machine).keys() | captions.MODEL_BASED
        return [name for name in self.metric_names if name not in missing]

    def _by_words(
        self, texts: Sequence[str], examples: Sequence[Example], corpus: Sequence[Example], context: Context
    ) -> Columns:
        """Return the metrics' columns; the CIDEr of a domain (``cider_in_domain``) is with its own frequencies."""
        if not (names := self._able(context)):
            return {}
        columns = _scored(texts, examples, names, corpus, context)
        domains = {e.domain for e in examples} - {""}
        if "CIDEr" in names and domains:
            inside = np.full(len(texts), np.nan)
            for domain in domains:
                rows = [i for i, e in enumerate(examples) if e.domain == domain]
                mine = [e for e in corpus if e.domain == domain]
                found = _scored([texts[i] for i in rows], [examples[i] for i in rows], ["CIDEr"], mine, context)
                inside[rows] = found["cider"]
            columns["cider_in_domain"] = inside
        return columns

    def _options(self, *, unread: Sequence[str] = ()) -> dict[str, JsonValue]:
        """Return what captions hang on, for the signature; the prompt only where there is one."""
        options: dict[str, JsonValue] = {name: getattr(self, name) for name in OPTIONS if name not in unread}
        return options | ({"prompt": self.prompt} if self.prompt else {})


def _scored(
    texts: Sequence[str], examples: Sequence[Example], names: Sequence[str], corpus: Sequence[Example], context: Context
) -> Columns:
    """Score captions against their references; CIDEr's document frequencies are those of the whole corpus."""
    more = [e.texts for e in corpus] if len(corpus) > len(examples) else None
    references = [e.texts for e in examples]
    java, cache = context.machine.java, context.cache
    return captions.statistics(texts, references, names, corpus=more, java=java, cache=cache)


def clip_scores(
    scorer: Model,
    images: Sequence[ImageSource],
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    progress: Progress = silent,
) -> Columns:
    """Return ``clip_score`` and ``ref_clip_score`` of n captions; NaN for an image that the scorer could not read."""
    pictures = scorer.encode_images(images, progress=progress)
    owner = [i for i, group in enumerate(references) for _ in group]
    every = [*texts, *(reference for group in references for reference in group)]
    features = scorer.encode_texts([clipscore.PROMPT + text for text in every], progress=progress)
    mine, theirs = features[: len(texts)], features[len(texts) :]
    found = np.full(len(texts), np.nan)
    found[pictures.kept] = clipscore.image_scores(pictures.rows, mine[pictures.kept])
    return {"clip_score": found, "ref_clip_score": clipscore.reference_scores(found, mine, theirs, owner)}
