"""Image-caption selection: which caption belongs to which image, by cosine or by the likelihood of the captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field, JsonValue

from cocabench.core.errors import DataError
from cocabench.core.formatting import plural
from cocabench.core.signature import digest
from cocabench.core.types import (
    Ability,
    Chance,
    Context,
    Dataset,
    Example,
    ImageSource,
    Machine,
    Model,
    Note,
    Progress,
    SampleScore,
)
from cocabench.data.foils import GROUPS
from cocabench.kinds.base import Kind
from cocabench.kinds.likelihoods import NEUTRAL, Scoring, Texts, grouped_by_length, likelihoods
from cocabench.kinds.shown import Choices, ClipBenchmark, Column, Groups, Part, Presentation, Row, View
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.ranking import Floats
from cocabench.metrics.selection import chances, cosines, hits, select
from cocabench.metrics.statistics import Hits

if TYPE_CHECKING:
    import pandas as pd

ACC = Metric(
    "acc",
    "Share of items correct by both text_acc and image_acc (Winoground's group score); with one image, text_acc.",
    Hits(lambda samples: hits(samples, "acc")),
    ("text_right",),
    also=("image_right",),
    label="accuracy",
)
TEXT_ACC = Metric(
    "text_acc",
    "Share of items in which each image scores its own caption highest.",
    Hits(lambda samples: hits(samples, "text_acc")),
    ("text_right",),
    label="text accuracy",
)
IMAGE_ACC = Metric(
    "image_acc",
    "Share of items in which each caption scores its own image highest.",
    Hits(lambda samples: hits(samples, "image_acc")),
    ("image_right", "text_right"),
    label="image accuracy",
)

MACRO_ACC = Metric(
    "macro_acc",
    "Mean over groups (relations, pairs of attributes, types) of the share of their items that acc counts.",
    Hits(lambda samples: hits(samples, "acc"), lambda samples: samples["group"].to_numpy(np.int64)),
    ("group", "text_right"),
    also=("image_right",),
    label="mean over groups",
)

CHANCE_ADVICE = "published CLIP models score near chance too, so this need not be a broken run"


class Item(NamedTuple):
    """Images and captions to match.

    images: positions among all images. captions: positions among the captions that these images are scored with.
    """

    id: str
    image_id: str
    images: range
    captions: slice
    texts: tuple[str, ...]
    group: str = ""


def right_captions(row: Row) -> list[bool]:
    """Return which captions are correct: the first ones belong to the images, in order."""
    images = len(row["scores"]) // len(row["texts"])
    return [k < images for k in range(len(row["texts"]))]


def swaps(rows: Samples) -> pd.Series[str]:
    """Return the words in which two captions of an item differ, ``woman → man``; '' unless one phrase replaces another.

    >>> import pandas as pd
    >>> swaps(pd.DataFrame({"texts": [["a red cat", "a black cat"], ["a dog", "a big dog"]]})).tolist()
    ['red → black', '']
    """
    import pandas as pd

    return rows["texts"].map(_swap) if "texts" in rows else pd.Series("", index=rows.index)


def _swap(texts: Sequence[str]) -> str:
    if len(texts) != 2:
        return ""
    right, wrong = (text.lower().split() for text in texts)
    while right and wrong and right[0] == wrong[0]:
        right, wrong = right[1:], wrong[1:]
    while right and wrong and right[-1] == wrong[-1]:
        right, wrong = right[:-1], wrong[:-1]
    return f"{' '.join(right)} → {' '.join(wrong)}" if right and wrong else ""


class ImageCaptionSelection(Kind):
    """Select an image's caption among wrong ones (SugarCrepe), or match several images and captions (Winoground).

    scoring: how to score an image with a caption: by cosine, or one of the likelihoods (``kinds.likelihoods``).
    fewest: macro_acc leaves out groups of fewer items in the whole data set. left_out: and groups of these names.
    An example with several images is one item; with one image, each caption with its negatives is an item.
    """

    name = "image_caption_selection"
    declared = (ACC, TEXT_ACC, IMAGE_ACC, MACRO_ACC)
    primaries = ("acc",)
    samples = (
        Column("text_right", "int", "1 if each image scores its own caption highest"),
        Column("image_right", "int", "1 if each caption scores its own image highest; items with several images only"),
        Column("group", "int", "A number of the item's group; null in groups that macro_acc leaves out"),
        Column("group_name", "text", "Its name"),
        Column("text", "text", "The caption of the first image"),
        Column("texts", "texts", "All captions of the item; the first ones belong to its images, in order"),
        Column("selected", "text", "The caption that the first image scores highest"),
        Column("scores", "floats", "Score of each image with each caption, image by image"),
    )
    shown = Presentation(
        title="Caption selection",
        does="selects captions",
        order=30,
        legend=(
            "Caption selection: items of one image are resampled together; an item with several images is one unit.",
        ),
        views=(
            View(
                "image_caption_selection",
                "Images with their candidate captions",
                ("acc",),
                Choices("texts", "scores", right=right_captions),
                answer="selected",
                about="The caption that each model prefers.",
            ),
        ),
        breakdowns=(
            Groups("groups", "By group", "acc", "group_name", "group", fewest=2, worst=True),
            Groups("swaps", "By what the wrong caption changes", "acc", swaps, "change", fewest=20, rest="all others"),
        ),
    )
    parts: ClassVar = {
        "scoring": Part("how images and captions are scored: cosine of features, or likelihood of the caption"),
        "prior": Part("the image without content that a likelihood's gain is measured from"),
        "fewest": Part("groups of fewer items do not count in macro_acc", absent=1),
        "left_out": Part("groups that do not count in macro_acc", absent=""),
    }
    clip_benchmark = ClipBenchmark("image_caption_selection")

    scoring: Scoring = "cosine"
    fewest: Annotated[int, Field(ge=1)] = 1
    left_out: tuple[str, ...] = ()

    @classmethod
    def decodes(cls, protocol: Mapping[str, JsonValue]) -> bool:
        return "likelihood" in str(protocol.get("scoring"))

    def needs(self) -> frozenset[Ability]:
        return frozenset({"encode" if self.scoring == "cosine" else "score_captions"})

    def protocol(self, data: Dataset, machine: Machine) -> dict[str, JsonValue]:
        prior: dict[str, JsonValue] = {"prior": NEUTRAL} if self.scoring == "likelihood_gain" else {}
        groups: dict[str, JsonValue] = {"fewest": self.fewest} if self.fewest > 1 else {}
        groups |= {"left_out": digest(*sorted(self.left_out))} if self.left_out else {}
        return {"scoring": self.scoring, **prior, **groups}

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        """Return the metrics for these items; image_acc needs several images an item, macro_acc groups."""
        several = (IMAGE_ACC,) if data is None or _several_images(data) else ()
        groups = (MACRO_ACC,) if data is None or self._groups(data) else ()
        return (ACC, TEXT_ACC, *several, *groups)

    def check(self, data: Dataset, further: Mapping[str, Dataset]) -> None:
        if (self.fewest > 1 or self.left_out) and not any(example.metadata.get(GROUPS) for example in data.examples):
            got = "no groups of items, and fewest and left_out say which of them count in macro_acc"
            raise DataError(data.name, got, fix="leave these params out")

    def _groups(self, data: Dataset) -> dict[str, int]:
        """Return a number for each group that macro_acc counts."""
        sizes = Counter(group for example in data.whole or data.examples for group in example.metadata.get(GROUPS, ()))
        counted = sorted(name for name, n in sizes.items() if name and n >= self.fewest and name not in self.left_out)
        return {name: k for k, name in enumerate(counted)}

    def chance(self, data: Dataset) -> Mapping[str, Chance]:
        shapes = [(len(item.images), len(item.texts)) for item in _items(data)]
        guesses = [_guess(*shape) for shape in shapes]
        known = [m.name for m in self.metrics(data) if guesses and all(m.name in guess for guess in guesses)]
        advice = (CHANCE_ADVICE,) if shapes and max(shapes)[0] > 1 else ()
        return {name: Chance(float(np.mean([guess[name] for guess in guesses])), *advice) for name in known}

    @classmethod
    def chance_level(cls, metric: str, protocol: Mapping[str, JsonValue], samples: Samples) -> float | None:
        if not {"scores", "texts"} <= set(samples):
            return None
        shapes = Counter((len(s) // len(t), len(t)) for s, t in zip(samples["scores"], samples["texts"], strict=True))
        guesses = {shape: _guess(*shape) for shape in shapes}
        if not shapes or not all(metric in guess for guess in guesses.values()):
            return None
        return sum(n * guesses[shape][metric] for shape, n in shapes.items()) / shapes.total()

    def data_notes(self, data: Dataset) -> Iterator[Note]:
        if same := sum(len(set(item.texts)) < len(item.texts) for item in _items(data)):
            text = f"{plural(same, 'item')} with equal captions, which tie and count as wrong"
            yield Note("equal_captions", text)

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        items, several = _items(data), _several_images(data)
        images = [image for example in data.examples for image in example.images]
        texts = [tuple(_candidates(example)) for example in data.examples for _ in example.images]
        rate = _cosines if self.scoring == "cosine" else partial(likelihoods, scoring=self.scoring)
        scores, groups = dict(rate(model, images, texts, context.progress)), self._groups(data)
        for item in items:
            if all(image in scores for image in item.images):
                own = np.stack([scores[image][item.captions] for image in item.images])
                found = _statistics(item, own, several_images=several)
                if groups:
                    found |= {"group": groups.get(item.group), "group_name": item.group}
                yield SampleScore(item.id, item.image_id, found)


def _guess(images: int, texts: int) -> dict[str, float]:
    found = chances(images, texts)
    return found | ({"macro_acc": found["acc"]} if "acc" in found else {})


def _several_images(data: Dataset) -> bool:
    return any(example.others for example in data.examples)


def _items(data: Dataset) -> list[Item]:
    """Return the items in order; DataError if an example has only one candidate."""
    items, before = [], 0
    for example in data.examples:
        images, start = range(before, before + len(example.images)), 0
        groups = example.metadata.get(GROUPS, ())
        for k, (name, texts) in enumerate(_choices(example)):
            if len(images) == 1 == len(texts) or not texts:
                wanted = "captions with negatives, or several images with a caption each"
                raise DataError(data.name, f"{name} has only one candidate", wanted=wanted)
            items.append(Item(name, example.id, images, slice(start, start + len(texts)), texts, *groups[k : k + 1]))
            start += len(texts)
        before = images.stop
    return items


def _choices(example: Example) -> list[tuple[str, tuple[str, ...]]]:
    """Return (id, candidate captions) per item of an example; the correct captions come first."""
    if example.others or not example.texts:
        return [(example.id, (*example.texts, *chain(*example.negatives)))]
    wrong = example.negatives or ((),) * len(example.texts)
    pairs = enumerate(zip(example.texts, wrong, strict=True))
    return [(f"{example.id}#{k}", (text, *others)) for k, (text, others) in pairs]


def _candidates(example: Example) -> Iterator[str]:
    return chain.from_iterable(texts for _, texts in _choices(example))


def _statistics(item: Item, scores: Floats, *, several_images: bool) -> dict[str, Any]:
    """Return the statistics of an item. scores: (images, captions); selected: the first image's highest caption."""
    right = select(scores[None])
    best = len(item.texts) - 1 - int(scores[0, ::-1].argmax())  # among ties the last, since a tie counts as wrong
    return {
        "text_right": int(right.text[0]),
        **({"image_right": int(right.image[0])} if several_images else {}),
        "text": item.texts[0],
        "texts": list(item.texts),
        "selected": item.texts[best],
        "scores": scores.ravel().tolist(),
    }


def _cosines(
    model: Model, images: Sequence[ImageSource], texts: Texts, progress: Progress
) -> Iterator[tuple[int, Floats]]:
    """Yield the position of each image that could be read, and its scores with its texts."""
    found = model.encode_images(images, progress=progress)
    place = {text: i for i, text in enumerate(dict.fromkeys(chain.from_iterable(texts)))}
    features = model.encode_texts(list(place), progress=progress)
    for rows in grouped_by_length([texts[i] for i in found.kept]):
        own = np.array([[place[text] for text in texts[found.kept[row]]] for row in rows], np.int64)
        yield from zip(found.kept[rows].tolist(), cosines(found.rows[rows], features, own), strict=True)
