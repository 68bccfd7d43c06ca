"""What models answered, per kind of task: classes, neighbours, captions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd

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


def _classified(model: str, row: Any, value: float) -> Answer:
    found = zip(row["top5_names"], row["top5_scores"], row["top5"], strict=True)
    choices = [Choice(str(name), f"{score:.2f}", right=index == row["label"]) for name, score, index in found]
    return Answer(model, value, _right(value), tuple(choices[:SHOWN]))


def _right(value: float) -> str:
    return "right" if value >= 1 else "wrong" if value <= 0 else "tied"


def _found(model: str, row: Any, value: float) -> Answer:
    """A caption that looks for its image: the wrong images that come nearest."""
    near = zip(row["t2i_wrong"], row["t2i_wrong_scores"], strict=True)
    choices = tuple(Choice(str(name), f"{score:.2f}", picture=str(name)) for name, score in near)
    return Answer(model, value, f"rank {row['_rank']:.0f}", choices[:SHOWN])


def _described(model: str, row: Any, value: float) -> Answer:
    """An image that looks for its captions: the wrong captions that come nearest."""
    near = zip(row["i2t_wrong_texts"], row["i2t_wrong_scores"], strict=True)
    choices = tuple(Choice(str(text), f"{score:.2f}") for text, score in near)
    return Answer(model, value, f"rank {row['_rank']:.0f}", choices[:SHOWN])


def _selected(model: str, row: Any, value: float) -> Answer:
    """An item's captions with their scores by each of its images; the first ones belong to these, in order."""
    texts, images = list(row["texts"]), len(row["scores"]) // len(row["texts"])
    scores = [list(row["scores"])[k :: len(texts)] for k in range(len(texts))]
    choices = [
        Choice(str(text), ", ".join(f"{score:.3f}" for score in mine), right=k < images)
        for k, (text, mine) in enumerate(zip(texts, scores, strict=True))
    ]
    return Answer(model, value, _right(value), tuple(choices[:SHOWN]))


def _captioned(model: str, row: Any, value: float) -> Answer:
    known = [(name, row[column]) for column, name in CAPTION_SCORES.items() if column in row and pd.notna(row[column])]
    scores = ", ".join(f"{name} {100 * float(score):.1f}" for name, score in known)
    return Answer(model, value, scores, (Choice(str(row["caption"])),))


class Kind(NamedTuple):
    """A kind of gallery: the columns that it needs, what a model answered, and those of an Item's title and truth.

    query: as an Item's.
    """

    columns: tuple[str, ...]
    answer: Callable[[str, Any, float], Answer]
    title: str = ""
    truth: str = ""
    query: bool = False


KINDS: Mapping[str, Kind] = {
    "classification": Kind(
        ("top5_names", "top5_scores", "top5", "label", "label_name"), _classified, title="label_name"
    ),
    "t2i": Kind(("t2i_wrong", "t2i_wrong_scores", "text"), _found, title="text", query=True),
    "i2t": Kind(("i2t_wrong_texts", "i2t_wrong_scores"), _described, truth="_captions"),
    "image_caption_selection": Kind(("texts", "scores", "text_right"), _selected),
    "captioning": Kind(("caption", "references"), _captioned, truth="references"),
}
