"""Captions to measure with: Flickr8k's test split where it is at hand, else those of a grammar."""

from __future__ import annotations

import random
from pathlib import Path

REFERENCES = 5
NOUNS = ["dog", "man", "woman", "boy", "girl", "ball", "beach", "street", "river", "car", "bicycle", "field", "tree"]
VERBS = ["runs", "walks", "jumps", "stands", "sits", "plays", "looks", "rides", "holds", "throws", "climbs"]
KINDS = ["red", "blue", "small", "large", "young", "old", "black", "white", "brown", "green", "happy", "tall"]
LINKS = ["in", "on", "near", "behind", "with", "beside", "under", "across"]


def groups(flickr8k: str, images: int) -> list[list[str]]:
    """Return five captions for each image; flickr8k: a folder with Flickr8k.token.txt and Flickr_8k.testImages.txt."""
    return (from_flickr8k(Path(flickr8k)) if flickr8k else from_grammar(images))[:images]


def candidates(references: list[list[str]], model: int) -> list[str]:
    """Return what model number 0 to 4 wrote: one of an image's references with a word left out."""
    rng = random.Random(model)
    written = []
    for group in references:
        words = group[model].split()
        words.pop(rng.randrange(len(words)))
        written.append(" ".join(words))
    return written


def from_flickr8k(folder: Path) -> list[list[str]]:
    captions: dict[str, list[str]] = {}
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        key, caption = line.split("\t")
        captions.setdefault(key.split("#")[0], []).append(caption)
    return [captions[name] for name in (folder / "Flickr_8k.testImages.txt").read_text().split()]


def from_grammar(images: int) -> list[list[str]]:
    rng = random.Random(8)

    def phrase(noun: str) -> str:
        return f"{rng.choice(('a', 'the', 'one', 'two'))} {rng.choice(KINDS)} {noun}"

    found = []
    for _ in range(images):
        who, what, where = rng.sample(NOUNS, 3)
        verb = rng.choice(VERBS)
        found.append(
            [
                f"{phrase(who)} {rng.choice((verb, rng.choice(VERBS)))} {rng.choice(LINKS)} {phrase(what)} "
                f"{rng.choice(LINKS)} {phrase(where)} ."
                for _ in range(REFERENCES)
            ]
        )
    return found
