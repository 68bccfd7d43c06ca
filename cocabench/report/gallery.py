"""The gallery: images with what each model answered, chosen so that agreement and disagreement can be seen."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from cocabench.metrics.classification import ranks_of
from cocabench.metrics.ranking import expected_rank, hits_at
from cocabench.metrics.selection import hits
from cocabench.report.answers import CAPTION_SCORES, KINDS, Answer, Kind
from cocabench.report.closer import Samples
from cocabench.report.pivots import DIRECTIONS

POOL = 512
"""Images that items are chosen from: those whose ids hash lowest."""

TOLD_APART = 4
"""Models of whose outcomes every pattern is to be seen."""


class Item(NamedTuple):
    """An image (picture: its example) with its truth, and an answer per model. query: a text that looks for it."""

    picture: str
    title: str
    truth: tuple[str, ...]
    answers: tuple[Answer, ...]
    query: bool = False


class Gallery(NamedTuple):
    """kind: classification, t2i, i2t, image_caption_selection or captioning."""

    kind: str
    examples: tuple[Item, ...]


def pool(samples: pd.DataFrame, wanted: frozenset[str]) -> list[str]:
    """Return the ids of the images that items are chosen from; of the images wanted, if any of them are there."""
    images = samples["image_id"].astype(str).unique()
    return sorted([name for name in images if name in wanted] or images, key=_hash)[:POOL]


def outcomes(samples: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return how well a model did on each sample: 1 or 0 for right or wrong, or a caption's score; empty if unknown."""
    for kind in DIRECTIONS:
        if f"{kind}_n_above" in samples:
            return _values(samples[samples[f"{kind}_n_above"].notna()], kind).to_numpy().astype(np.float64)
    if "text_right" in samples:
        return hits(samples, "acc")
    kind = "classification" if "n_above" in samples else "captioning"
    if kind == "captioning" and not set(CAPTION_SCORES) & set(samples):
        return np.empty(0)
    return _values(samples, kind).to_numpy().astype(np.float64)


def galleries(samples: Samples, wanted: frozenset[str], most: int) -> list[Gallery]:
    """Return the galleries that the samples of a task have the columns for, of at most so many items each.

    samples: of the images of ``pool``. wanted: the images that there are pictures of.
    """
    made = [_gallery(name, kind, samples, wanted, most) for name, kind in KINDS.items()]
    return [gallery for gallery in made if gallery.examples]


def _gallery(name: str, kind: Kind, samples: Samples, wanted: frozenset[str], most: int) -> Gallery:
    if any(not set(kind.columns) <= set(frame) for frame in samples.values()):
        return Gallery(name, ())
    frames = {model: _asked(frame, name).set_index("id", drop=False) for model, frame in samples.items()}
    first, *others = frames.values()
    shared = functools.reduce(lambda index, frame: index.intersection(frame.index), others, first.index)
    seen = sorted(shared, key=lambda key: (_unseen(key, frames, wanted), _hash(key)))[:POOL]
    values = pd.DataFrame({model: _values(frame.loc[seen], name) for model, frame in frames.items()})
    keys = _chosen(values, first["image_id"], most)
    chosen = (({model: frame.loc[key] for model, frame in frames.items()}, values.loc[key]) for key in keys)
    return Gallery(name, tuple(_item(kind, rows, of_models) for rows, of_models in chosen))


def _item(kind: Kind, rows: Mapping[str, Any], values: Any) -> Item:
    """rows, values: {model: its row}, {model: its value}; the models share the item's title and truth."""
    first = next(iter(rows.values()))
    title = str(first[kind.title]) if kind.title else ""
    truth = tuple(map(str, first[kind.truth])) if kind.truth else ()
    answers = tuple(kind.answer(model, row, float(values[model])) for model, row in rows.items())
    return Item(str(first["image_id"]), title, truth, answers, kind.query)


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
    if kind == "image_caption_selection":
        return pd.Series(hits(frame, "acc"), index=frame.index)
    prefix = f"{kind}_" if kind in DIRECTIONS else ""
    return pd.Series(hits_at(ranks_of(frame, prefix), 1), index=frame.index)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _chosen(values: pd.DataFrame, images: pd.Series[str], most: int) -> list[str]:
    """Return keys, one per image, in turn from each pattern of outcomes, those where models disagree first.

    Of many models the patterns are those of the first ones.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    values = values.iloc[:, :TOLD_APART]
    level = values.mean(axis=1).rank(pct=True, method="average")
    for key, row, place in zip(values.index, values.to_numpy(), level, strict=True):
        pattern = (bool((row == row[0]).all()), *np.sign(row - row[0]), int(np.ceil(3 * place)))
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
