"""Image-text retrieval in both directions: find the image of each caption (t2i), a caption of each image (i2t)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field, JsonValue, StrictBool

from cocabench.core.errors import DataError
from cocabench.core.scores import Device
from cocabench.core.types import Chance, Context, Dataset, Example, Features, Machine, Model, Note, SampleScore
from cocabench.data.base import check_captioned
from cocabench.data.captions import FOLD
from cocabench.kinds.base import Kind, cut_by, one_answer
from cocabench.kinds.shown import (
    Choices,
    ClipBenchmark,
    Column,
    Curve,
    Groups,
    Part,
    Presentation,
    TableSpec,
    Trend,
    View,
)
from cocabench.metrics.base import Family, Metric, Samples
from cocabench.metrics.classification import ranks_of
from cocabench.metrics.dual import dual_ranks
from cocabench.metrics.matching import rank_both_ways
from cocabench.metrics.ranking import Floats, Ints, Mask, Neighbours, Ranks, expected_rank, hits_at
from cocabench.metrics.statistics import Hits, Median

if TYPE_CHECKING:
    import pandas as pd

K = Annotated[int, Field(ge=1, strict=True)]
WAYS = {"t2i": "texts whose image", "i2t": "images of which a caption"}
LABELS = {"t2i": "text → image", "i2t": "image → text"}


def rank_columns(way: str) -> tuple[str, ...]:
    return tuple(f"{way}_{field}" for field in Ranks._fields)


def hits(samples: Samples, way: str, k: int) -> Floats:
    """Return 1.0 for each query that has a positive in the top k ("recall@K" of CLIP papers, a hit rate), else 0.0."""
    return hits_at(ranks_of(samples, f"{way}_"), k)


def recall(way: str, k: int) -> Metric:
    summary = f"Share of {WAYS[way]} is among the {k} highest (CLIP convention: any positive counts)."
    statistic = Hits(lambda samples: hits(samples, way, k))
    return Metric(f"{way}_recall@{k}", summary, statistic, rank_columns(way), label=f"{LABELS[way]} R@{k}")


def dual_recall(way: str, k: int) -> Metric:
    found = f"Share of {WAYS[way]} is among the {k} highest by dual softmax"
    statistic = Hits(lambda samples: hits(samples, f"{way}_dual", k))
    summary = f"{found}, which uses all queries of the set: not comparable with {way}_recall@{k}."
    label = f"{LABELS[way]} R@{k}, dual softmax"
    return Metric(f"{way}_dual_recall@{k}", summary, statistic, rank_columns(f"{way}_dual"), label=label)


def mean_recall(k: int) -> Metric:
    statistic = Hits(lambda samples: _hits_of_both(samples, k), _ways)
    columns = ("id", *rank_columns("t2i"), *rank_columns("i2t"))
    return Metric(
        f"mean_recall@{k}", f"Mean of t2i_recall@{k} and i2t_recall@{k}.", statistic, columns, label=f"mean R@{k}"
    )


def _hits_of_both(samples: Samples, k: int) -> Floats:
    found = np.zeros(len(samples))
    for way in WAYS:
        if (queries := _queries(samples, way)).any():
            found[queries] = hits(samples[queries], way, k)
    return found


def _queries(samples: Samples, way: str) -> Mask:
    column = f"{way}_n_above"
    return np.asarray(samples[column].notna(), bool) if column in samples else np.zeros(len(samples), bool)


def _ways(samples: Samples) -> Ints:
    """Return the direction of each row's query; the two directions have equal weight."""
    return np.asarray(_queries(samples, "i2t"), np.int64)


def median_rank(way: str) -> Metric:
    ranks = Median(lambda samples: expected_rank(ranks_of(samples, f"{way}_")))
    summary = "Median over queries of the best positive's rank."
    label = f"{LABELS[way]} median rank"
    return Metric(f"{way}_median_rank", summary, ranks, rank_columns(way), "rank", higher_is_better=False, label=label)


RECALLS = (*(Family(f"{way}_recall@{{}}", partial(recall, way)) for way in WAYS), Family("mean_recall@{}", mean_recall))
DUAL_RECALLS = tuple(Family(f"{way}_dual_recall@{{}}", partial(dual_recall, way)) for way in WAYS)
MEDIAN_RANKS = tuple(median_rank(way) for way in WAYS)

T2I = "Text to image: share of captions with their image in the top K"
I2T = "Image to text: share of images with one of their captions in the top K"
FIXED_CANDIDATES = "conditional on this set of candidates"


def rank_schema(way: str, query: str) -> tuple[Column, ...]:
    said = (
        f"{query}: wrong candidates that score higher than the best correct one",
        "Wrong candidates with the same score",
        "Of these, candidates with the same text",
        "Correct candidates with that score",
    )
    return tuple(Column(name, "int", words) for name, words in zip(rank_columns(way), said, strict=True))


OPTIONAL = ("text_words", "text_cut", *(name for way in WAYS for name in rank_columns(f"{way}_dual")))
"""Columns of plain retrieval's options lengths and dual_softmax."""

LENGTHS = ((10, "up to 10"), (20, "11 to 20"), (40, "21 to 40"), (60, "41 to 60"), (80, "61 to 80"),
           (120, "81 to 120"), (160, "121 to 160"), (np.inf, "more than 160"))  # fmt: skip
"""Ranges of words, by their last number."""

ENDS = tuple(end for end, _ in LENGTHS)


def _lengths(rows: Samples) -> pd.Series[str]:
    """Return the range of each row's number of words; '' where it is not known."""
    import pandas as pd

    if "text_words" not in rows:
        return pd.Series("", index=rows.index)
    ends, names = zip(*LENGTHS, strict=True)
    return pd.cut(rows["text_words"], [-1, *ends], labels=names)


class Retrieval(Kind):
    """Rank all images for each caption (t2i), and all captions for each image (i2t).

    ks: the K of recall@K. Every image has at least one caption. folds: rank within the folds that the data name, so
    that each query's candidates are those of its fold (COCO's five folds of 1,000 images). lengths: also keep how many
    words each caption has, and whether the model cuts it to its context; a note says how many are cut. dual_softmax:
    also rank by dual softmax (`metrics.dual`) with that factor of the cosines, such as 100; 0: do not.
    """

    name = "retrieval"
    declared = (*RECALLS, *DUAL_RECALLS, *MEDIAN_RANKS)
    primaries: ClassVar[tuple[str, ...]] = ("t2i_recall@5",)
    samples = (
        *rank_schema("t2i", "Query caption"),
        Column("text", "text", "The caption"),
        Column("text_words", "int", "With lengths = true: words of the caption"),
        Column("text_cut", "int", "With lengths = true: 1 if the model cuts it to its context length"),
        *rank_schema("t2i_dual", "With dual_softmax: query caption"),
        *rank_schema("i2t_dual", "With dual_softmax: query image"),
        Column("t2i_wrong", "image_ids", "The highest-scoring wrong images, best first"),
        Column("t2i_wrong_scores", "floats", "Their cosines"),
        *rank_schema("i2t", "Query image"),
        Column("i2t_wrong", "texts", "Ids of the highest-scoring wrong captions, best first"),
        Column("i2t_wrong_texts", "texts", "Their texts"),
        Column("i2t_wrong_scores", "floats", "Their cosines"),
    )
    shown = Presentation(
        does="retrieves",
        order=20,
        legend=(
            "Retrieval: intervals and tests are conditional on this set of candidates; "
            "they do not cover other candidates.",
        ),
        tables=(
            TableSpec("{kind}_t2i", T2I, ("t2i_recall@*", "t2i_*"), note=FIXED_CANDIDATES),
            TableSpec("{kind}_i2t", I2T, ("i2t_recall@*", "i2t_*"), note=FIXED_CANDIDATES),
        ),
        views=(
            View(
                "t2i",
                "Text to image: query captions",
                ("t2i_recall@1",),
                Choices("t2i_wrong", "t2i_wrong_scores", rank="t2i_median_rank"),
                says=("t2i_median_rank",),
                heading="text",
                query=True,
                about="The images nearest to a text; the right one is ringed.",
            ),
            View(
                "i2t",
                "Image to text: query images",
                ("i2t_recall@1",),
                Choices("i2t_wrong_texts", "i2t_wrong_scores", rank="i2t_median_rank"),
                says=("i2t_median_rank",),
                truth="text",
                about="The caption nearest to an image.",
            ),
        ),
        breakdowns=(
            Curve("t2i", "Text to image: recall@K", "t2i_recall@{}"),
            Curve("i2t", "Image to text: recall@K", "i2t_recall@{}"),
            Trend(
                "length", "Text to image: recall@1 by the caption's length", "t2i_recall@1", "text_words", ENDS, "words"
            ),
            Groups("lengths", "Text to image: recall@1 by the caption's length", "t2i_recall@1", _lengths, "words", 5),
        ),
    )
    clip_benchmark: ClassVar[ClipBenchmark | None] = ClipBenchmark(
        "zeroshot_retrieval",
        {"image_retrieval_recall@{}": "t2i_recall@{}", "text_retrieval_recall@{}": "i2t_recall@{}"},
    )

    parts: ClassVar = {
        "folds": Part("number of folds that are ranked apart", absent=1),
        "dual_softmax": Part("factor of the cosines in dual softmax", absent=0),
    }

    ks: tuple[K, ...] = (1, 5, 10)
    folds: StrictBool = False
    lengths: StrictBool = False
    dual_softmax: float = Field(default=0, ge=0, le=300)

    def protocol(self, data: Dataset, machine: Machine) -> dict[str, JsonValue]:
        folds: dict[str, JsonValue] = {"folds": len(self._folds(data.examples))} if self.folds else {}
        return folds | ({"dual_softmax": self.dual_softmax} if self.dual_softmax else {})

    @classmethod
    def concerns(cls, part: str, metric: str) -> bool:
        return part != "dual_softmax" or "_dual_" in metric

    def check(self, data: Dataset, further: Mapping[str, Dataset]) -> None:
        if self.folds and any(FOLD not in example.metadata for example in data.examples):
            raise DataError(data.name, "images without a fold", fix='loader = "eccv_caption" names them')

    def _folds(self, examples: Sequence[Example]) -> list[Ints]:
        """Return the positions of the examples that are ranked together."""
        if not self.folds:
            return [np.arange(len(examples))]
        folds = np.array([int(example.metadata[FOLD]) for example in examples])
        return [np.flatnonzero(folds == fold) for fold in np.unique(folds)]

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        families = (*RECALLS, *DUAL_RECALLS) if self.dual_softmax else RECALLS
        return (*(family.make(k) for k in self.ks for family in families), *MEDIAN_RANKS)

    def chance(self, data: Dataset) -> Mapping[str, Chance]:
        """Return the chance level of each recall@K that can miss; of i2t, the mean over images (hypergeometric).

        Of folds, which are alike, it is that of the first.
        """
        if not data.examples:
            return {}
        counts = np.array([len(example.texts) for example in data.examples])[self._folds(data.examples)[0]]
        found: dict[str, Chance] = {}
        for k in sorted(k for k in self.ks if k < len(counts)):
            missed = np.prod([(counts.sum() - counts - i) / (counts.sum() - i) for i in range(k)], axis=0)
            t2i, i2t = k / len(counts), float(1 - np.clip(missed, 0, 1).mean())
            rates = {"t2i_recall": t2i, "i2t_recall": i2t, "mean_recall": (t2i + i2t) / 2}
            found |= {f"{name}@{k}": Chance(rate) for name, rate in rates.items() if rate < 1}
        return found

    def sample_notes(self, data: Dataset, samples: Samples) -> Iterator[Note]:
        return answered_alike(samples)

    @classmethod
    def chance_level(cls, metric: str, protocol: Mapping[str, JsonValue], samples: Samples) -> float | None:
        """Return recall@K of a random order: of n candidates, an image's m captions are m positives."""
        way, _, k = metric.partition("_recall@")
        if way not in WAYS or not k.isdecimal() or "t2i_n_above" not in samples:
            return None
        folds = protocol.get("folds", 1)
        folds = folds if isinstance(folds, int) else 1
        texts, images = (int(_queries(samples, name).sum()) // max(1, folds) for name in WAYS)
        if not texts or not images:
            return None
        candidates, positives = (images, 1.0) if way == "t2i" else (texts, texts / images)
        return float(1 - (1 - min(1.0, int(k) / candidates)) ** positives)

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        check_captioned(data, "caption")
        images = model.encode_images([example.image for example in data.examples], progress=context.progress)
        kept = [data.examples[i] for i in images.kept]
        position = {text: i for i, text in enumerate(dict.fromkeys(text for example in kept for text in example.texts))}
        features = model.encode_texts(list(position), progress=context.progress)
        measured = _measured(model, list(position), context) if self.lengths else {}
        for rows in self._folds(kept):
            own = images.rows if len(rows) == len(kept) else images.rows[rows]
            some, gpu = [kept[i] for i in rows], context.score_device
            for score in _ranked(some, own, features, position, self.dual_softmax, gpu):
                known = measured.get(score.stats.get("text", ""))
                yield replace(score, stats={**score.stats, **known}) if known else score


def answered_alike(samples: Samples) -> Iterator[Note]:
    """Yield a note for each way in which many queries retrieve one answer."""
    for way, words in (("t2i", "captions retrieve the image"), ("i2t", "images retrieve a caption of")):
        if (queries := samples[_queries(samples, way)]).empty:
            continue
        alone = (queries[f"{way}_n_above"] == 0) & (queries[f"{way}_tied_negatives"] == 0)
        right = list(queries["image_id"])
        wrong = [names[0] if len(names) else own for names, own in zip(queries[f"{way}_wrong"], right, strict=True)]
        wrong = [name.rpartition("#")[0] for name in wrong] if way == "i2t" else wrong
        found = [own if hit else other for own, other, hit in zip(right, wrong, alone, strict=True)]
        yield from one_answer(found, right, f"{{n}} of {{total}} {words} {{answer}}")


def _measured(model: Model, texts: Sequence[str], context: Context) -> dict[str, dict[str, int]]:
    """Return the words of distinct texts, and whether the model cuts them; a note says how many it does."""
    found = {text: {"text_words": len(text.split())} for text in texts}
    cuts = cut_by(model, texts, "captions", "and are cut", context)
    for text, cut in zip(texts[: len(cuts)], cuts, strict=True):
        found[text]["text_cut"] = int(cut)
    return found


def _ranked(
    examples: Sequence[Example],
    images: Features,
    features: Features,
    position: Mapping[str, int],
    dual: float,
    device: Device | None,
) -> Iterator[SampleScore]:
    """Yield the queries of examples that are ranked together. features: of the texts, at their position."""
    texts = [text for example in examples for text in example.texts]
    owner = np.repeat(np.arange(len(examples)), [len(example.texts) for example in examples])
    items = np.array([position[text] for text in texts], np.int64)
    found = rank_both_ways(images, features, owner, items, device=device)
    ids = [f"{example.id}#{k}" for example in examples for k in range(len(example.texts))]
    t2i = _text_queries(examples, owner, ids, texts, found.t2i, found.t2i_wrong)
    i2t = _image_queries(examples, ids, texts, found.i2t, found.i2t_wrong)
    if not dual:
        yield from t2i
        yield from i2t
        return
    captions = features[items]
    by_text = dual_ranks(captions, images, list(owner[:, None]), dual)
    mine = np.split(np.arange(len(owner)), np.flatnonzero(np.diff(owner)) + 1)
    by_image = dual_ranks(images, captions, mine, dual, items)
    for way, scores, ranks in (("t2i_dual", t2i, by_text), ("i2t_dual", i2t, by_image)):
        for row, score in enumerate(scores):
            yield replace(score, stats={**score.stats, **ranks_at(way, ranks, row)})


def _text_queries(
    examples: Sequence[Example], owner: np.ndarray, ids: list[str], texts: list[str], ranks: Ranks, wrong: Neighbours
) -> Iterator[SampleScore]:
    for row, (text_id, text) in enumerate(zip(ids, texts, strict=True)):
        near = [i for i in wrong.indices[row].tolist() if i >= 0]
        stats = {
            **ranks_at("t2i", ranks, row),
            "text": text,
            "t2i_wrong": [examples[i].id for i in near],
            "t2i_wrong_scores": wrong.scores[row, : len(near)].tolist(),
        }
        yield SampleScore(text_id, examples[owner[row]].id, stats)


def _image_queries(
    examples: Sequence[Example], ids: list[str], texts: list[str], ranks: Ranks, wrong: Neighbours
) -> Iterator[SampleScore]:
    for row, example in enumerate(examples):
        near = [i for i in wrong.indices[row].tolist() if i >= 0]
        stats = {
            **ranks_at("i2t", ranks, row),
            "i2t_wrong": [ids[i] for i in near],
            "i2t_wrong_texts": [texts[i] for i in near],
            "i2t_wrong_scores": wrong.scores[row, : len(near)].tolist(),
        }
        yield SampleScore(example.id, example.id, stats)


def ranks_at(direction: str, ranks: Ranks, row: int) -> dict[str, int]:
    return {f"{direction}_{name}": int(values[row]) for name, values in ranks._asdict().items()}
