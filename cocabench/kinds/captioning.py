"""Captioning: generate a caption for each image and compare it with human references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, StrictBool, field_validator, model_validator

from cocabench import captioneval as captions
from cocabench.captioneval import chair, clipscore, health, meteor, overlap, spice
from cocabench.captioneval.words import LANGUAGE, is_english
from cocabench.core.errors import UnknownNameError, UsageError
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
from cocabench.data.captions import OBJECTS
from cocabench.kinds.base import Kind, cut_by
from cocabench.kinds.shown import Choices, ClipBenchmark, Column, Groups, Part, Presentation, Repeats, TableSpec, View
from cocabench.metrics.base import Metric, Samples
from cocabench.specs.decoding import MEANINGS, OPTIONS, UNREAD, DecodingOptions

if TYPE_CHECKING:
    import pandas as pd

Columns = dict[str, NDArray[np.generic]]

SCORES = ("CIDEr", "SPICE", "METEOR", "ROUGE-L", "BLEU@4")
"""Galleries grade captions by the first of these that was measured, and print all of them."""

OTHER_DECODING = "other options of the decoder"


def _own(names: Iterable[str]) -> tuple[Column, ...]:
    return tuple(Column(name, "float", "The metric for this caption alone") for name in names)


def _lengths(rows: Samples) -> pd.Series[str]:
    """Return the number of words of each row's caption, many of them in ranges."""
    import pandas as pd

    if "caption_words" not in rows:
        return pd.Series("", index=rows.index)
    ends, names = zip(*LENGTHS, strict=True)
    return pd.cut(rows["caption_words"], [-1, *ends], labels=names)


LENGTHS = (*((n, str(n)) for n in range(7)), (9, "7 to 9"), (12, "10 to 12"), (16, "13 to 16"), (np.inf, "17 or more"))


QUARTERS = ("lowest quarter", "second quarter", "third quarter", "highest quarter")


def _quarters(rows: Samples) -> pd.Series[str]:
    """Return the quarter of each row's caption by the decoder's own score of it."""
    import pandas as pd

    if "decoder_score" not in rows:
        return pd.Series("", index=rows.index)
    return pd.cut(rows["decoder_score"].rank(pct=True, method="first"), [0, 0.25, 0.5, 0.75, 1], labels=QUARTERS)


class Captioning(DecodingOptions, Kind):
    """Generate a caption per image and compare it with human references.

    metrics: names of caption metrics; SPICE includes its sub-scores. clipscore_model: model string of the contrastive
    model for CLIPScore and RefCLIPScore. prompt: the first words of every caption, scored as part of it. lengths: a
    note says how many references are longer than the model's context. language: of the references, by default the task
    file's, else English; other languages have BLEU, ROUGE-L and CIDEr of `captioneval.words`. The other fields are
    decoding options (`specs.decoding`).
    """

    name = "captioning"
    declared = (*captions.declared((*captions.ALL, *captions.HEALTH)), *chair.METRICS)
    primaries = ("CIDEr",)
    samples = (
        Column("caption", "caption", "As generated"),
        Column("references", "texts", "Reference captions"),
        Column("domain", "text", "The domain of the image"),
        Column("decoder_score", "float", "The decoder's own score of the caption"),
        Column("caption_words", "int", "Words in the caption"),
        Column("caption_repeats", "bool", "Whether a phrase is repeated immediately"),
        Column("caption_same_as", "int", "A number that equal captions share"),
        Column("caption_truncated", "bool", "Whether it was cut at the length limit"),
        *(Column(name, "int", "A count that BLEU sums") for name in overlap.BLEU_COLUMNS),
        *_own(f"bleu_{n}" for n in range(1, 5)),
        *(Column(name, "int", "A count that METEOR sums") for name in meteor.COLUMNS),
        *_own(("meteor", "rouge_l", "cider", "cider_in_domain")),
        *(Column(name, "int", "Scene-graph tuples of SPICE") for name in spice.COLUMNS),
        *_own((*spice.SCORES, "clip_score", "ref_clip_score")),
        Column("objects_named", "int", "Objects that the caption names, with repeats"),
        Column("hallucinations", "int", "Of these, objects that are not in the image"),
        Column("hallucinated", "texts", "Their words"),
    )
    shown = Presentation(
        does="captions",
        order=40,
        tables=(
            TableSpec(
                "{kind}",
                "Captions compared with references",
                (*captions.NAMES, "*"),
                but=("SPICE-*",),
                published=True,
            ),
            TableSpec("{kind}_spice", "SPICE by tuple category", ("SPICE-*",)),
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
                about="The generated caption, with its score; words of objects that are not in the image are marked.",
                marks="hallucinated",
            ),
        ),
        breakdowns=(
            Repeats("repeats", "Captions that several images have", "caption"),
            Groups("length", "CIDEr by the length of the caption", "CIDEr", _lengths, "words", fewest=5),
            Groups("score", "CIDEr by the decoder's score", "CIDEr", _quarters, "score", fewest=5),
        ),
    )
    parts: ClassVar = {
        "decoding": Part("option of the decoder", differs=OTHER_DECODING),
        **{f"decoding.{key}": Part(words, differs=OTHER_DECODING) for key, words in MEANINGS.items()},
        "decoding.prompt": Part("prompt: the first words of every caption", differs=OTHER_DECODING, absent=""),
        "caption_metrics": Part("definition of the caption metric"),
        "document_frequencies": Part("references that CIDEr's document frequencies are from"),
        captions.SCORER: Part("model of CLIPScore"),
        f"{captions.SCORER}.precision": Part("precision of CLIPScore's model", absent="fp32"),
    }
    hub_task = "image-to-text"
    clip_benchmark = ClipBenchmark("captioning", {"ROUGE_L": "ROUGE-L", "Bleu_{}": "BLEU@{}"}, "_captions")

    metric_names: tuple[str, ...] = Field(default=captions.NAMES, alias="metrics")
    clipscore_model: str = ""
    prompt: str = ""
    lengths: StrictBool = False
    language: str = "en"

    @model_validator(mode="before")
    @classmethod
    def _default_names(cls, table: Any) -> Any:
        """Choose the metrics that a language other than English has, if none are named."""
        language = table.get("language") if isinstance(table, dict) else None
        if not isinstance(language, str) or not LANGUAGE.fullmatch(language) or "metrics" in table:
            return table
        return table if is_english(language) else {**table, "metrics": captions.names_in(language)}

    @field_validator("metric_names")
    @classmethod
    def _check_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in captions.ALL:
                raise ValueError(str(UnknownNameError("metric", name, captions.ALL)))
        return names

    @model_validator(mode="after")
    def _check_clipscore_model(self) -> Captioning:
        try:
            captions.check_language(self.metric_names, self.language)
        except UsageError as error:
            raise ValueError(f"metrics: {error}") from None
        if (names := self._model_based()) and not self.clipscore_model:
            raise ValueError(f"clipscore_model: missing; {names[0]} needs a model, such as ViT-B-32:openai")
        return self

    @classmethod
    def decodes(cls, protocol: Mapping[str, JsonValue]) -> bool:
        return True

    @classmethod
    def concerns(cls, part: str, metric: str) -> bool:
        """Return whether a part can change a metric; a metric's definition concerns that metric only."""
        group, _, key = part.partition(".")
        name = metric.partition("[")[0]
        if group == captions.SCORER:
            return name in captions.MODEL_BASED
        if group == "caption_metrics" and key == "CHAIR":
            return name in {metric.name for metric in chair.METRICS}
        if group == "caption_metrics":
            return name in captions.ALL and key in captions.protocol([name])
        return True

    def needs(self) -> frozenset[Ability]:
        return frozenset({"caption"})

    def extra_models(self) -> Mapping[str, str]:
        return {captions.SCORER: self.clipscore_model} if self._model_based() else {}

    def protocol(self, data: Dataset, machine: Machine) -> dict[str, JsonValue]:
        texts = (text for example in data.whole or data.examples for text in example.texts)
        objects = {"CHAIR": chair.protocol(data.objects)} if self._named(data) else {}
        return {
            "decoding": self._options(unread=UNREAD[self.generation_type]),
            "caption_metrics": cast(JsonValue, captions.protocol(self.metric_names, self.language) | objects),
            "document_frequencies": digest_lines(texts),
        }

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        overall = captions.declared(self.metric_names)
        domains = sorted({example.domain for example in data.examples} - {""}) if data else ()
        inside = (metric.on(domain) for domain in domains for metric in overall)
        objects = chair.METRICS if data is None or self._named(data) else ()
        return (*overall, *inside, *objects, *captions.declared(captions.HEALTH))

    def unavailable(self, machine: Machine) -> dict[str, str]:
        names = [metric.name for metric in captions.declared(self.metric_names)]
        return captions.unavailable(names, java=machine.java, language=self.language)

    def sample_notes(self, data: Dataset, samples: Samples) -> Iterable[Note]:
        said = captions.said_of_tokens((example.texts for example in data.examples), self.language)
        return [*captions.undefined(samples), *said, *health.notes(samples)]

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        check_captioned(data, "reference caption")
        written, examples = self._captions(model, data, context)
        context.progress("caption metrics", 0, len(examples))
        if self.lengths:
            distinct = list(dict.fromkeys(text for example in examples for text in example.texts))
            cut_by(model, distinct, "references", "and cannot be written whole", context)
        columns = health.statistics(written.texts, written.truncated)
        columns |= self._text_based(written.texts, examples, data.whole or data.examples, context)
        context.progress("caption metrics", len(examples), len(examples))
        if (scorer := context.models.get(captions.SCORER)) is not None:
            images, references = [e.image for e in examples], [e.texts for e in examples]
            columns |= clip_scores(scorer, images, written.texts, references, progress=context.progress)
        named: Sequence[Mapping[str, object]] = [{}] * len(examples)
        if self._named(data):
            there = [example.metadata.get(OBJECTS, ()) for example in examples]
            named = chair.statistics(written.texts, [example.texts for example in examples], there, data.objects)
        for row, (example, caption, score) in enumerate(zip(examples, written.texts, written.scores, strict=True)):
            stats = {name: values[row] for name, values in columns.items()}
            said: dict[str, Any] = {"caption": caption, "references": list(example.texts), "domain": example.domain}
            said |= {"decoder_score": score}
            yield SampleScore(example.id, example.id, {**said, **stats, **named[row]})

    def _captions(self, model: Model, data: Dataset, context: Context) -> tuple[Captions, list[Example]]:
        """Return the captions and their examples; references are prepared for scoring in the meantime."""
        names, references = self._available(context), [example.texts for example in data.examples]
        java, cache = context.machine.java, context.cache
        how: dict[str, Any] = {"java": java, "cache": cache, "language": self.language}
        meanwhile = captions.preparing(references, names, **how) if names else nullcontext()
        with meanwhile:
            images = [example.image for example in data.examples]
            options = {name: getattr(self, name) for name in OPTIONS}
            written = model.caption(images, options, prompts=self.prompt or None, progress=context.progress)
        return written, [data.examples[i] for i in written.kept]

    def _named(self, data: Dataset) -> bool:
        """Return whether captions are searched for objects, whose names are English."""
        return bool(data.objects) and is_english(self.language)

    def _model_based(self) -> list[str]:
        return [name for name in self.metric_names if name in captions.MODEL_BASED]

    def _available(self, context: Context) -> list[str]:
        """Return the text-based metrics that are available on this machine."""
        missing = self.unavailable(context.machine).keys() | captions.MODEL_BASED
        return [name for name in self.metric_names if name not in missing]

    def _text_based(
        self, texts: Sequence[str], examples: Sequence[Example], corpus: Sequence[Example], context: Context
    ) -> Columns:
        """Return the columns of text-based metrics; ``cider_in_domain`` uses the document frequencies of the domain."""
        if not (names := self._available(context)):
            return {}
        columns = _scored(texts, examples, names, corpus, context, self.language)
        domains = {e.domain for e in examples} - {""}
        if "CIDEr" in names and domains:
            inside = np.full(len(texts), np.nan)
            for domain in domains:
                rows = [i for i, e in enumerate(examples) if e.domain == domain]
                mine = [e for e in corpus if e.domain == domain]
                own, theirs = [texts[i] for i in rows], [examples[i] for i in rows]
                found = _scored(own, theirs, ["CIDEr"], mine, context, self.language)
                inside[rows] = found["cider"]
            columns["cider_in_domain"] = inside
        return columns

    def _options(self, *, unread: Sequence[str] = ()) -> dict[str, JsonValue]:
        """Return the options that captions depend on, for the signature; the prompt only if there is one."""
        options: dict[str, JsonValue] = {name: getattr(self, name) for name in OPTIONS if name not in unread}
        return options | ({"prompt": self.prompt} if self.prompt else {})


def _scored(
    texts: Sequence[str],
    examples: Sequence[Example],
    names: Sequence[str],
    corpus: Sequence[Example],
    context: Context,
    language: str,
) -> Columns:
    """Score captions against their references, with CIDEr's document frequencies from the whole corpus."""
    more = [e.texts for e in corpus] if len(corpus) > len(examples) else None
    references = [e.texts for e in examples]
    how: dict[str, Any] = {"java": context.machine.java, "cache": context.cache, "language": language}
    return captions.statistics(texts, references, names, corpus=more, **how)


def clip_scores(
    scorer: Model,
    images: Sequence[ImageSource],
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    progress: Progress = silent,
) -> Columns:
    """Return ``clip_score`` and ``ref_clip_score`` (n,) of n captions; NaN for images that could not be read."""
    pictures = scorer.encode_images(images, progress=progress)
    owner = [i for i, group in enumerate(references) for _ in group]
    every = [*texts, *(reference for group in references for reference in group)]
    features = scorer.encode_texts([clipscore.PROMPT + text for text in every], progress=progress)
    mine, theirs = features[: len(texts)], features[len(texts) :]
    found = np.full(len(texts), np.nan)
    found[pictures.kept] = clipscore.image_scores(pictures.rows, mine[pictures.kept])
    return {"clip_score": found, "ref_clip_score": clipscore.reference_scores(found, mine, theirs, owner)}
