"""Image-caption selection: which caption belongs to which image, by cosine or by the likelihood of the captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import JsonValue

from cocabench.core.errors import DataError
from cocabench.core.formatting import plural
from cocabench.core.types import Dataset, Example, ImageSource, Model, Progress, SampleScore, silent
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.chance import alarm
from cocabench.metrics.ranking import Floats
from cocabench.metrics.selection import chances, cosines, declared, hits, select
from cocabench.specs.spec import Spec

OFTEN_THERE = "published CLIP models are there too: with several images this need not be a broken run"


class Item(NamedTuple):
    """Images and captions to be matched. images: positions among all images. captions: positions among those that
    these images are scored with. image_id: the example's."""

    id: str
    image_id: str
    images: range
    captions: slice
    texts: tuple[str, ...]


class ImageCaptionSelection(Spec):
    """Tell an image's caption from wrong ones (SugarCrepe), or the captions of several images apart (Winoground).

    scoring: what an image and a caption are scored by. cosine: of their features. likelihood: the decoder's
    log p(caption | image), summed over tokens, the end's included; longer captions are less likely.
    likelihood_per_token: its mean over tokens.
    An example with several images is one item; of one with one image, each caption with its negatives is.
    """

    scoring: Literal["cosine", "likelihood", "likelihood_per_token"] = "cosine"

    @property
    def needs(self) -> Literal["contrastive", "captioner"]:
        return "contrastive" if self.scoring == "cosine" else "captioner"

    def protocol(self, dataset: Dataset) -> dict[str, JsonValue]:
        return {"scoring": self.scoring}

    def metrics(self, dataset: Dataset) -> Sequence[Metric]:
        """Return those of the data's items; all of them for data that are not read yet."""
        return declared(several_images=not dataset.examples or _several_images(dataset))

    def classes(self, dataset: Dataset) -> Sequence[str]:
        return ()

    def notes(self, dataset: Dataset) -> Sequence[str]:
        same = sum(len(set(item.texts)) < len(item.texts) for item in _items(dataset))
        return [f"{plural(same, 'item')} with equal captions: they tie, and count as wrong"] if same else ()

    def remarks(self, dataset: Dataset, samples: Samples) -> Sequence[str]:
        shapes = [(len(s) // len(t), len(t)) for s, t in zip(samples["scores"], samples["texts"], strict=True)]
        guesses = [chances(*shape) for shape in shapes]
        known = [m.name for m in self.metrics(dataset) if all(m.name in guess for guess in guesses)]
        about = {"advice": OFTEN_THERE} if shapes and max(shapes)[0] > 1 else {}
        means = {name: float(np.mean([guess[name] for guess in guesses])) for name in known}
        return [said for name in known for said in alarm(name, hits(samples, name), means[name], **about)]

    def unavailable(self) -> dict[str, str]:
        return {}

    def score(self, model: Model, dataset: Dataset, *, progress: Progress = silent) -> Iterator[SampleScore]:
        items, several = _items(dataset), _several_images(dataset)
        images = [image for example in dataset.examples for image in example.images]
        texts = [tuple(_candidates(example)) for example in dataset.examples for _ in example.images]
        rate = _cosines if self.scoring == "cosine" else partial(_likelihoods, per_token=self.scoring != "likelihood")
        scores = dict(rate(model, images, texts, progress))
        for item in items:
            if all(image in scores for image in item.images):
                own = np.stack([scores[image][item.captions] for image in item.images])
                yield SampleScore(item.id, item.image_id, _statistics(item, own, several_images=several))


def _several_images(dataset: Dataset) -> bool:
    return any(example.others for example in dataset.examples)


def _items(dataset: Dataset) -> list[Item]:
    """Return the items in order; DataError for an example in which there is nothing to choose."""
    items, before = [], 0
    for example in dataset.examples:
        images, start = range(before, before + len(example.images)), 0
        for name, texts in _choices(example):
            if len(images) == 1 == len(texts) or not texts:
                wanted = "captions with negatives, or several images with a caption each"
                raise DataError(dataset.name, f"nothing to choose in {name}", wanted=wanted)
            items.append(Item(name, example.id, images, slice(start, start + len(texts)), texts))
            start += len(texts)
        before = images.stop
    return items


def _choices(example: Example) -> list[tuple[str, tuple[str, ...]]]:
    """Return the (id, captions) that an example's images choose among; those that belong to an image come first."""
    if example.others or not example.texts:
        return [(example.id, (*example.texts, *chain(*example.negatives)))]
    wrong = example.negatives or ((),) * len(example.texts)
    pairs = enumerate(zip(example.texts, wrong, strict=True))
    return [(f"{example.id}#{k}", (text, *others)) for k, (text, others) in pairs]


def _candidates(example: Example) -> Iterator[str]:
    return chain.from_iterable(texts for _, texts in _choices(example))


def _statistics(item: Item, scores: Floats, *, several_images: bool) -> dict[str, Any]:
    """Return what is kept of an item. scores: (images, captions); selected: the caption that the first image chose."""
    right = select(scores[None])
    best = len(item.texts) - 1 - int(scores[0, ::-1].argmax())  # of equal ones the last, for a tie is wrong
    return {
        "text_right": int(right.text[0]),
        **({"image_right": int(right.image[0])} if several_images else {}),
        "text": item.texts[0],
        "texts": list(item.texts),
        "selected": item.texts[best],
        "scores": scores.ravel().tolist(),
    }


Texts = Sequence[Sequence[str]]
"""The captions that each image is scored with."""


def _cosines(
    model: Model, images: Sequence[ImageSource], texts: Texts, progress: Progress
) -> Iterator[tuple[int, Floats]]:
    """Yield the position of each image that could be read, and its scores with its texts."""
    found = model.encode_images(images, progress=progress)
    place = {text: i for i, text in enumerate(dict.fromkeys(chain.from_iterable(texts)))}
    features = model.encode_texts(list(place), progress=progress)
    for rows in _of_one_length([texts[i] for i in found.kept]):
        own = np.array([[place[text] for text in texts[found.kept[row]]] for row in rows], np.int64)
        yield from zip(found.kept[rows].tolist(), cosines(found.rows[rows], features, own), strict=True)


def _likelihoods(
    model: Model, images: Sequence[ImageSource], texts: Texts, progress: Progress, *, per_token: bool
) -> Iterator[tuple[int, Floats]]:
    """Yield the position of each image that could be read, and how likely its texts are."""
    done = 0
    for rows in _of_one_length(texts):
        some = [images[i] for i in rows]
        told = partial(_behind, progress, done, len(images))
        found = model.score_captions(some, [texts[i] for i in rows], progress=told)
        scores = found.logprobs.astype(np.float64) / (found.n_tokens if per_token else 1)
        yield from zip(np.array(rows)[found.kept].tolist(), scores, strict=True)
        done += len(rows)


def _behind(progress: Progress, before: int, whole: int, stage: str, done: int, total: int) -> None:
    progress(stage, before + done, whole)


def _of_one_length(texts: Texts) -> list[list[int]]:
    """Return the positions of the images that have equally many texts."""
    groups: dict[int, list[int]] = {}
    for i, own in enumerate(texts):
        groups.setdefault(len(own), []).append(i)
    return list(groups.values())
