"""Image-text retrieval in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, JsonValue

from cocabench.core.types import Dataset, Example, Model, Progress, SampleScore, silent
from cocabench.data.base import check_captioned
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.chance import alarm
from cocabench.metrics.classification import ranks_of
from cocabench.metrics.matching import rank_both_ways
from cocabench.metrics.ranking import Neighbours, Ranks, hits_at
from cocabench.metrics.retrieval import declared
from cocabench.specs.spec import Spec

K = Annotated[int, Field(ge=1, strict=True)]


class Retrieval(Spec):
    """Find the image for each caption (t2i), and a caption for each image (i2t), among all of the data set.

    ks: the K of recall@K. Images may have any number of captions, one at least.
    """

    needs: ClassVar[Literal["contrastive", "captioner"]] = "contrastive"

    ks: tuple[K, ...] = (1, 5, 10)

    def protocol(self, dataset: Dataset) -> dict[str, JsonValue]:
        """Empty: what can move a rank is the data alone, and another K reads the same ranks."""
        return {}

    def metrics(self, dataset: Dataset) -> Sequence[Metric]:
        return declared(self.ks)

    def classes(self, dataset: Dataset) -> Sequence[str]:
        return ()

    def notes(self, dataset: Dataset) -> Sequence[str]:
        return ()

    def remarks(self, dataset: Dataset, samples: Samples) -> Sequence[str]:
        images = samples[samples["i2t_n_above"].notna()]
        if not (ks := [k for k in self.ks if k < len(images)]):
            return ()
        queries = samples[samples["t2i_n_above"].notna()].drop_duplicates("image_id")
        hits = hits_at(ranks_of(queries, "t2i_"), max(ks))
        return alarm(f"t2i_recall@{max(ks)}", hits, max(ks) / len(images))

    def unavailable(self) -> dict[str, str]:
        return {}

    def score(self, model: Model, dataset: Dataset, *, progress: Progress = silent) -> Iterator[SampleScore]:
        check_captioned(dataset, "caption")
        images = model.encode_images([example.image for example in dataset.examples], progress=progress)
        examples = [dataset.examples[i] for i in images.kept]
        texts = [text for example in examples for text in example.texts]
        owner = np.repeat(np.arange(len(examples)), [len(example.texts) for example in examples])
        position = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        items = np.array([position[text] for text in texts], np.int64)
        found = rank_both_ways(images.rows, model.encode_texts(list(position), progress=progress), owner, items)
        ids = [f"{example.id}#{k}" for example in examples for k in range(len(example.texts))]
        yield from _text_queries(examples, owner, ids, texts, found.t2i, found.t2i_wrong)
        yield from _image_queries(examples, ids, texts, found.i2t, found.i2t_wrong)


def _text_queries(
    examples: Sequence[Example], owner: np.ndarray, ids: list[str], texts: list[str], ranks: Ranks, wrong: Neighbours
) -> Iterator[SampleScore]:
    for row, (text_id, text) in enumerate(zip(ids, texts, strict=True)):
        near = [i for i in wrong.indices[row].tolist() if i >= 0]
        stats = {
            **_ranks("t2i", ranks, row),
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
            **_ranks("i2t", ranks, row),
            "i2t_wrong": [ids[i] for i in near],
            "i2t_wrong_texts": [texts[i] for i in near],
            "i2t_wrong_scores": wrong.scores[row, : len(near)].tolist(),
        }
        yield SampleScore(example.id, example.id, stats)


def _ranks(direction: str, ranks: Ranks, row: int) -> dict[str, int]:
    return {f"{direction}_{name}": int(values[row]) for name, values in ranks._asdict().items()}
