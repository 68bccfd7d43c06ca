"""Association: which of several images go with a word, as many as there are (WinoGAViL)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
from pydantic import JsonValue

from cocabench.core.errors import DataError
from cocabench.core.types import Chance, Context, Dataset, Example, Machine, Model, SampleScore
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Choices, ClipBenchmark, Column, Part, Presentation, Row, View
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.selection import cosines, jaccard, jaccard_chance
from cocabench.metrics.statistics import Mean

MAX_SMALL, MIN_LARGE = 6, 10
"""WinoGAViL's instances have 5 or 6 candidates, or 10 or 12."""


def _of(
    name: str, images: str, columns: tuple[str, ...] = ("jaccard",), where: tuple[str, int] | None = None
) -> Metric:
    summary = f"Jaccard index of the chosen and the right images; mean over {images}."
    return Metric(name, summary, Mean(columns[0]), columns, label=name.replace("_", " "), where=where)


def _with(candidates: int) -> Metric:
    return _of(
        f"jaccard_{candidates}",
        f"instances of {candidates} candidates",
        ("jaccard", "candidates"),
        ("candidates", candidates),
    )


JACCARD_10_12 = _of("jaccard_10-12", "instances of 10 candidates or more, as DataComp has it", ("jaccard_many",))
METRICS = (
    JACCARD_10_12,
    _of("jaccard_mean", "all instances"),
    _of("jaccard_5-6", "instances of 6 candidates or fewer", ("jaccard_few",)),
    *map(_with, (5, 6, 10, 12)),
)


def right_images(row: Row) -> list[bool]:
    return [k in set(row["right"]) for k in row["ranking"]]


class Association(Kind):
    """Choose as many of an instance's images as are right, those nearest to the prompt of its cue.

    An example's images are the candidates, its label the places of the right ones, its text the cue. The prompt is "A"
    or, before a vowel, "An", and the cue in lower case, as in WinoGAViL's and DataComp's code. Ties count against the
    model.
    """

    name = "association"
    declared = METRICS
    primaries = ("jaccard_10-12",)
    samples = (
        Column("jaccard", "float", "Jaccard index of the chosen and the right images"),
        Column("jaccard_few", "float", f"The same, of up to {MAX_SMALL} candidates, else null"),
        Column("jaccard_many", "float", f"The same, of {MIN_LARGE} candidates or more, else null"),
        Column("candidates", "int", "Number of candidates"),
        Column("right", "ints", "Places of the right images"),
        Column("cue", "text", "The cue"),
        Column("ranking", "ints", "Places of all images, best first"),
        Column("scores", "floats", "Their cosines"),
        Column("names", "texts", "What the candidates show, best first"),
    )
    counted = ("items",)
    shown = Presentation(
        does="associates",
        order=35,
        legend=("Association: an instance with its images is one unit.",),
        views=(
            View(
                "association",
                "Cues and their candidates",
                ("jaccard_mean",),
                Choices("names", "scores", right=right_images),
                says=("jaccard_mean",),
                heading="cue",
                query=True,
                answer="names",
                about="The images that each model prefers, best first.",
            ),
        ),
    )
    parts: ClassVar = {"prompt": Part("the words around a cue")}
    clip_benchmark = ClipBenchmark("association")

    def protocol(self, data: Dataset, machine: Machine) -> dict[str, JsonValue]:
        return {"prompt": "A/An {cue}"}

    def counts(self, data: Dataset) -> Mapping[str, int]:
        return {"items": len(data.examples)}

    def check(self, data: Dataset, further: Mapping[str, Dataset]) -> None:
        for example in data.examples:
            n, right = len(example.images), _right(example)
            if len(example.texts) != 1 or not example.texts[0].strip():
                raise DataError(data.name, f"{len(example.texts)} texts in {example.id}", wanted="one cue")
            if not 0 < len(right) < n or not all(0 <= k < n for k in right):
                got = f"{len(right)} right images of {n} in {example.id}"
                raise DataError(data.name, got, wanted="some of the candidates, and not all")

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        sizes = {len(example.images) for example in data.examples} if data else {5, 6, 10, 12}
        there = {"jaccard_10-12": max(sizes) >= MIN_LARGE, "jaccard_5-6": min(sizes) <= MAX_SMALL, "jaccard_mean": True}
        return [m for m in METRICS if there.get(m.name, m.where is not None and m.where[1] in sizes)]

    def chance(self, data: Dataset) -> Mapping[str, Chance]:
        chances = {
            "jaccard_mean": data.examples,
            "jaccard_10-12": [e for e in data.examples if len(e.images) >= MIN_LARGE],
        }
        return {
            name: Chance(float(np.mean([jaccard_chance(len(e.images), len(_right(e))) for e in examples])))
            for name, examples in chances.items()
            if examples
        }

    @classmethod
    def chance_level(cls, metric: str, protocol: Mapping[str, JsonValue], samples: Samples) -> float | None:
        declared = cls.metric(metric)
        if declared is None or not {"right", "candidates"} <= set(samples) or not len(rows := declared.rows(samples)):
            return None
        pairs = zip(rows["candidates"], rows["right"], strict=True)
        return float(np.mean([jaccard_chance(int(n), len(right)) for n, right in pairs]))

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        images = [image for example in data.examples for image in example.images]
        owners = np.repeat(np.arange(len(data)), [len(example.images) for example in data.examples])
        found = model.encode_images(images, progress=context.progress)
        prompts = [prompt(example.texts[0]) for example in data.examples]
        place = {text: i for i, text in enumerate(dict.fromkeys(prompts))}
        features = model.encode_texts(list(place), progress=context.progress)
        rows = np.split(np.arange(len(found.kept)), np.searchsorted(owners[found.kept], np.arange(1, len(data))))
        for k, example in enumerate(data.examples):
            if len(rows[k]) == len(example.images):
                own = np.full((len(rows[k]), 1), place[prompts[k]], np.int64)
                yield _scored(example, cosines(found.rows[rows[k]], features, own)[:, 0])


def prompt(cue: str) -> str:
    """Return a cue's prompt.

    >>> prompt("Iron"), prompt("werewolf")
    ('An iron', 'A werewolf')
    """
    low = cue.lower()
    return f"{'An' if low[0] in 'aeiou' else 'A'} {low}"


def _right(example: Example) -> tuple[int, ...]:
    return example.label if isinstance(example.label, tuple) else ()


def _scored(example: Example, scores: np.ndarray[tuple[int], np.dtype[np.float64]]) -> SampleScore:
    right = _right(example)
    truth = np.isin(np.arange(len(scores)), right)
    ranking = np.lexsort((truth, -scores))
    value, n = jaccard(scores, truth), len(scores)
    names = example.metadata.get("candidates", [str(k) for k in range(n)])
    part = {"jaccard_few": value} if n <= MAX_SMALL else {"jaccard_many": value} if n >= MIN_LARGE else {}
    stats = {
        "jaccard": value,
        **part,
        "candidates": n,
        "right": sorted(right),
        "cue": example.texts[0],
        "ranking": ranking.tolist(),
        "scores": scores[ranking].tolist(),
        "names": [str(names[k]) for k in ranking],
    }
    return SampleScore(example.id, example.id, stats)
