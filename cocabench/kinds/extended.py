"""Image-text retrieval with more complete positives: captions fit images that they were not written for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cocabench.core.errors import DataError
from cocabench.core.types import Chance, Context, Dataset, Example, Features, Model, Note, SampleScore
from cocabench.data.captions import CAPTION_IDS, IMAGE_POSITIVES, POSITIVES
from cocabench.kinds.base import Kind
from cocabench.kinds.retrieval import (
    LABELS,
    MEDIAN_RANKS,
    OPTIONAL,
    RECALLS,
    WAYS,
    K,
    Retrieval,
    answered_alike,
    ranks_at,
)
from cocabench.kinds.shown import Column, Presentation, TableSpec
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.positives import Found, search
from cocabench.metrics.ranking import Ints
from cocabench.metrics.statistics import Mean

QUERIES = {"t2i": "texts", "i2t": "images"}


def _map(way: str) -> Metric:
    summary = f"mAP@R: mean over {QUERIES[way]} of the average precision among the first R, their number of positives."
    return Metric(f"{way}_map@r", summary, Mean(f"{way}_average"), (f"{way}_average",), label=f"{LABELS[way]} mAP@R")


def _r_precision(way: str) -> Metric:
    summary = f"R-precision: mean over {QUERIES[way]} of the share of positives among the first R, their number."
    column = f"{way}_r_precision"
    return Metric(column, summary, Mean(column), (column,), label=f"{LABELS[way]} R-precision")


PRECISIONS = tuple(make(way) for way in WAYS for make in (_map, _r_precision))


class Query(NamedTuple):
    """A query among the images or texts.

    id, image_id: of its sample. row: its feature. positives: candidates' rows. missing: positives that the data's
    protocol does not rank, so that no model finds them; they count in R.
    """

    id: str
    image_id: str
    row: int
    positives: Ints
    missing: int


class ExtendedRetrieval(Kind):
    """Rank all images for texts (t2i) and all texts for images (i2t) that have positives besides their own.

    Positives come with the data (the loader ``eccv_caption``); images and texts without any are candidates only. R
    counts positives that the protocol does not rank, too (of ECCV Caption two captions), as eccv-caption does. ks: the
    K of recall@K, a hit being any positive.
    """

    name = "extended_retrieval"
    declared = (*PRECISIONS, *RECALLS, *MEDIAN_RANKS)
    primaries = ("t2i_map@r", "t2i_recall@1")
    samples = (
        *(column for column in Retrieval.samples if column.name not in OPTIONAL),
        *(Column(f"{way}_average", "float", "Average precision among the first R") for way in WAYS),
        *(Column(f"{way}_r_precision", "float", "Share of positives among the first R") for way in WAYS),
    )
    counted = ("i2t_queries", "t2i_queries")
    shown = Presentation(
        does="retrieves all positives",
        order=21,
        legend=Retrieval.shown.legend,
        tables=tuple(
            TableSpec(f"{{kind}}_{way}", f"{LABELS[way]}, all positives", (f"{way}_map@r", f"{way}_r*")) for way in WAYS
        ),
        views=Retrieval.shown.views,
    )
    ks: tuple[K, ...] = (1, 5, 10)

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        return (*PRECISIONS, *(family.make(k) for k in self.ks for family in RECALLS), *MEDIAN_RANKS)

    def counts(self, data: Dataset) -> Mapping[str, int]:
        texts, images = _queries(data.examples)
        return {"t2i_queries": len(texts), "i2t_queries": len(images)}

    def check(self, data: Dataset, further: Mapping[str, Dataset]) -> None:
        if not any(_queries(data.examples)):
            raise DataError(data.name, "no positives", fix='loader = "eccv_caption" brings them')

    def chance(self, data: Dataset) -> Mapping[str, Chance]:
        """Return the chance level of each recall@K, the mean over queries (hypergeometric)."""
        sizes = dict(zip(WAYS, _queries(data.examples), strict=True))
        candidates = {"t2i": len(data.examples), "i2t": sum(len(example.texts) for example in data.examples)}
        found: dict[str, Chance] = {}
        for k in self.ks:
            rates = {
                way: _guess(candidates[way], [len(q.positives) for q in sizes[way]], k) for way in WAYS if sizes[way]
            }
            found |= {f"{way}_recall@{k}": Chance(rate) for way, rate in rates.items() if rate < 1}
        return found

    def sample_notes(self, data: Dataset, samples: Samples) -> Iterator[Note]:
        return answered_alike(samples)

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        images = model.encode_images([example.image for example in data.examples], progress=context.progress)
        examples = [data.examples[i] for i in images.kept]
        texts = [text for example in examples for text in example.texts]
        ids = [f"{example.id}#{k}" for example in examples for k in range(len(example.texts))]
        features = model.encode_texts(texts, progress=context.progress)
        place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        items = np.array([place[text] for text in texts], np.int64)
        of_texts, of_images = _queries(examples, data.whole or data.examples)
        if of_texts:
            rows, found = [q.row for q in of_texts], _search(of_texts, features, images.rows)
            for k, (stats, near) in enumerate(_stats("t2i", found)):
                stats |= {"text": texts[rows[k]], "t2i_wrong": [examples[i].id for i in near]}
                yield SampleScore(of_texts[k].id, of_texts[k].image_id, stats)
        if of_images:
            found = _search(of_images, images.rows, features, items)
            for k, (stats, near) in enumerate(_stats("i2t", found)):
                stats |= {"i2t_wrong": [ids[i] for i in near], "i2t_wrong_texts": [texts[i] for i in near]}
                yield SampleScore(of_images[k].id, of_images[k].image_id, stats)


def _search(queries: Sequence[Query], rows: Features, candidates: Features, items: Ints | None = None) -> Found:
    missing = np.array([query.missing for query in queries])
    own = rows[[query.row for query in queries]]
    return search(own, candidates, [query.positives for query in queries], missing=missing, items=items)


def _stats(way: str, found: Found) -> Iterator[tuple[dict[str, object], list[int]]]:
    """Yield the statistics of each query, and the rows of its highest wrong candidates."""
    for row, indices in enumerate(found.wrong.indices):
        near = [i for i in indices.tolist() if i >= 0]
        yield (
            {
                **ranks_at(way, found.ranks, row),
                f"{way}_average": float(found.precisions.average[row]),
                f"{way}_r_precision": float(found.precisions.r_precision[row]),
                f"{way}_wrong_scores": found.wrong.scores[row, : len(near)].tolist(),
            },
            near,
        )


def _queries(examples: Sequence[Example], whole: Sequence[Example] | None = None) -> tuple[list[Query], list[Query]]:
    """Return the texts and the images that have a positive among these examples, of all that are ranked."""
    every = examples if whole is None else whole
    ranked = {example.id for example in every}, {name for example in every for name in _captions(example)}
    image_at = {example.id: i for i, example in enumerate(examples)}
    captions = [name for example in examples for name in _captions(example)]
    caption_at = {name: i for i, name in enumerate(captions)}
    texts, images, row = [], [], 0
    for i, example in enumerate(examples):
        names = example.metadata.get(POSITIVES, ())
        if len(own := _present(names, caption_at)):
            images.append(Query(example.id, example.id, i, own, len(set(names) - ranked[1])))
        for k, positives in enumerate(example.metadata.get(IMAGE_POSITIVES, ())):
            if len(found := _present(positives, image_at)):
                lost = len(set(positives) - ranked[0])
                texts.append(Query(f"{example.id}#{k}", example.id, row + k, found, lost))
        row += len(example.texts)
    return texts, images


def _captions(example: Example) -> Sequence[str]:
    names: Sequence[str] = example.metadata.get(CAPTION_IDS, ())
    return names


def _present(names: Sequence[str], at: Mapping[str, int]) -> Ints:
    return np.array([at[name] for name in names if name in at], np.int64)


def _guess(candidates: int, positives: Sequence[int], k: int) -> float:
    """Return the share of queries that a random order gives a positive in the top k."""
    sizes = np.array(positives, np.float64)
    missed = np.prod(
        [np.clip((candidates - sizes - i) / (candidates - i), 0, 1) for i in range(min(k, candidates))], axis=0
    )
    return float(1 - missed.mean())
