"""The gallery: images with what each model answered, chosen so that agreement and disagreement can be seen."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cocabench.metrics.classification import ranks_of
from cocabench.metrics.ranking import expected_rank, hits_at
from cocabench.report.closer import Samples
from cocabench.report.pivots import DIRECTIONS

POOL = 512
"""Queries that items are chosen from: those whose ids hash lowest."""

SHOWN = 5
"""Answers shown of one model."""

CAPTION_SCORES = {"cider": "CIDEr", "spice": "SPICE", "meteor": "METEOR", "rouge_l": "ROUGE-L", "bleu_4": "BLEU@4"}


class Choice(NamedTuple):
    """One answer: a class, a text, or an image by its id. picture: the example whose image it is, '' for words."""

    text: str
    score: str = ""
    right: bool = False
    picture: str = ""


class Answer(NamedTuple):
    """What one model said. value: 1 right, 0 wrong, or a caption's score; what the page's filter compares."""

    model: str
    value: float
    words: str
    choices: tuple[Choice, ...]


class Item(NamedTuple):
    """An image (picture: its example) with its truth, and an answer per model. query: a text that looks for it."""

    picture: str
    title: str
    truth: tuple[str, ...]
    answers: tuple[Answer, ...]
    query: bool = False


class Gallery(NamedTuple):
    """kind: classification, t2i, i2t or captioning."""

    kind: str
    examples: tuple[Item, ...]


def galleries(evaluator: str, samples: Samples, wanted: frozenset[str], most: int) -> list[Gallery]:
    """Return the galleries of a task, of at most so many items each; of the images wanted, if there are any."""
    makers: Mapping[str, Sequence[tuple[str, str, Callable[..., Item]]]] = {
        "classification": [("classification", "top5_names", _classified)],
        "retrieval": [("t2i", "t2i_wrong", _found), ("i2t", "i2t_wrong", _described)],
        "captioning": [("captioning", "caption", _captioned)],
    }
    kinds = makers.get(evaluator, ())
    made = [_gallery(kind, column, make, samples, wanted, most) for kind, column, make in kinds]
    return [gallery for gallery in made if gallery.examples]


def _gallery(
    kind: str, column: str, make: Callable[..., Item], samples: Samples, wanted: frozenset[str], most: int
) -> Gallery:
    if any(column not in frame for frame in samples.values()):
        return Gallery(kind, ())
    frames = {model: _asked(frame, kind).set_index("id", drop=False) for model, frame in samples.items()}
    first, *others = frames.values()
    shared = functools.reduce(lambda index, frame: index.intersection(frame.index), others, first.index)
    pictured = shared[first.loc[shared, "image_id"].isin(wanted)]
    seen = sorted(pictured if len(pictured) else shared, key=lambda key: (_unseen(key, frames, wanted), _hash(key)))[
        :POOL
    ]
    values = pd.DataFrame({model: _values(frame.loc[seen], kind) for model, frame in frames.items()})
    keys = _chosen(values, first["image_id"], most)
    return Gallery(kind, tuple(make(key, {m: f.loc[key] for m, f in frames.items()}, values.loc[key]) for key in keys))


def _unseen(key: str, frames: Samples, wanted: frozenset[str]) -> int:
    """Return how many of a query's neighbours have no thumbnail: with few, there is more to look at."""
    near = [frame.at[key, "t2i_wrong"] for frame in frames.values() if "t2i_wrong" in frame]
    return sum(str(name) not in wanted for names in near if np.iterable(names) for name in names)


def _asked(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the rows of a gallery's queries."""
    if kind not in DIRECTIONS:
        return frame.drop_duplicates("id")
    found = frame[frame[f"{kind}_n_above"].notna()].drop_duplicates("id")
    return found.assign(
        _captions=pd.Series(_captions(frame, found), index=found.index, dtype=object),
        _rank=expected_rank(ranks_of(found, f"{kind}_")),
    )


def _captions(frame: pd.DataFrame, found: pd.DataFrame) -> list[list[str]]:
    """Return the captions of each row's image."""
    texts = frame[frame["text"].notna()].groupby("image_id")["text"].agg(list).to_dict() if "text" in frame else {}
    return [texts.get(key, []) for key in found["image_id"]]


def _values(frame: pd.DataFrame, kind: str) -> pd.Series[float]:
    if kind == "captioning":
        scores = next((frame[name] for name in CAPTION_SCORES if name in frame), None)
        return pd.Series(0.0, index=frame.index) if scores is None else scores.fillna(0.0)
    prefix = "" if kind == "classification" else f"{kind}_"
    return pd.Series(hits_at(ranks_of(frame, prefix), 1), index=frame.index)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _chosen(values: pd.DataFrame, images: pd.Series[str], most: int) -> list[str]:
    """Return keys, one per image, in turn from each pattern of outcomes, those where models disagree first."""
    groups: dict[tuple[object, ...], list[str]] = {}
    level = values.mean(axis=1).rank(pct=True, method="average")
    for key in values.index:
        row = values.loc[key].to_numpy()
        pattern = (bool((row == row[0]).all()), *np.sign(row - row[0]), int(np.ceil(3 * level[key])))
        groups.setdefault(pattern, []).append(key)
    ordered = [groups[pattern] for pattern in sorted(groups, key=str)]
    return list(_in_turn(ordered, images, most))


def _in_turn(groups: Sequence[list[str]], images: pd.Series[str], most: int) -> Iterator[str]:
    seen: set[str] = set()
    for turn in range(max((len(group) for group in groups), default=0)):
        for group in groups:
            if turn < len(group) and len(seen) < most and (image := str(images[group[turn]])) not in seen:
                seen.add(image)
                yield group[turn]


Rows = Mapping[str, Any]


def _classified(key: str, rows: Rows, values: pd.Series[float]) -> Item:
    def answer(model: str, row: Any) -> Answer:
        found = zip(row["top5_names"], row["top5_scores"], row["top5"], strict=True)
        choices = [Choice(str(name), f"{score:.2f}", right=index == row["label"]) for name, score, index in found]
        return Answer(model, float(values[model]), _right(values[model]), tuple(choices[:SHOWN]))

    first = next(iter(rows.values()))
    answers = tuple(answer(model, row) for model, row in rows.items())
    return Item(str(first["image_id"]), str(first["label_name"]), (), answers)


def _right(value: float) -> str:
    return "right" if value >= 1 else "wrong" if value <= 0 else "tied"


def _found(key: str, rows: Rows, values: pd.Series[float]) -> Item:
    """A caption that looks for its image: the wrong images that come nearest."""

    def answer(model: str, row: Any) -> Answer:
        near = zip(row["t2i_wrong"], row["t2i_wrong_scores"], strict=True)
        choices = tuple(Choice(str(name), f"{score:.2f}", picture=str(name)) for name, score in near)
        return Answer(model, float(values[model]), f"rank {row['_rank']:.0f}", choices[:SHOWN])

    first = next(iter(rows.values()))
    answers = tuple(answer(model, row) for model, row in rows.items())
    return Item(str(first["image_id"]), str(first["text"]), (), answers, query=True)


def _described(key: str, rows: Rows, values: pd.Series[float]) -> Item:
    """An image that looks for its captions: the wrong captions that come nearest."""

    def answer(model: str, row: Any) -> Answer:
        near = zip(row["i2t_wrong_texts"], row["i2t_wrong_scores"], strict=True)
        choices = tuple(Choice(str(text), f"{score:.2f}") for text, score in near)
        return Answer(model, float(values[model]), f"rank {row['_rank']:.0f}", choices[:SHOWN])

    first = next(iter(rows.values()))
    answers = tuple(answer(model, row) for model, row in rows.items())
    return Item(str(first["image_id"]), "", tuple(map(str, first["_captions"])), answers)


def _captioned(key: str, rows: Rows, values: pd.Series[float]) -> Item:
    def answer(model: str, row: Any) -> Answer:
        known = [
            (name, row[column]) for column, name in CAPTION_SCORES.items() if column in row and pd.notna(row[column])
        ]
        scores = ", ".join(f"{name} {100 * float(value):.1f}" for name, value in known)
        return Answer(model, float(values[model]), scores, (Choice(str(row["caption"])),))

    first = next(iter(rows.values()))
    answers = tuple(answer(model, row) for model, row in rows.items())
    return Item(str(first["image_id"]), "", tuple(map(str, first["references"])), answers)
