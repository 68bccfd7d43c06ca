"""Captions for the tests, written by a small grammar: 120 pictures, a candidate and five references each.

References of a picture share its facts and differ in words, so that METEOR finds stems, synonyms and paraphrases, and
SPICE finds objects, colours, counts and sizes. Some hold what tokenisers stumble over.
"""

from __future__ import annotations

import random
from typing import NamedTuple

PICTURES = 120
REFERENCES = 5

WHO = (("boy", "child", "young boy"), ("woman", "lady", "old woman"), ("dog", "puppy", "small dog"))
WHO += (("man", "guy", "tall man"), ("cat", "kitten", "striped cat"), ("girl", "child", "little girl"))
NUMBERS = (("a", "one", "a"), ("two", "2", "a couple of"), ("three", "three", "several"))
COLOURS = ("red", "blue", "green", "yellow", "black-and-white", "brown")
THINGS = (("bicycle", "bike"), ("ball", "football"), ("umbrella", "parasol"), ("sofa", "couch"), ("car", "automobile"))
DOES = (("holds", "is holding", "grips"), ("watches", "is looking at", "stares at"), ("pushes", "is pushing", "shoves"))
PLACES = (("in the street", "on the road"), ("near the river", "by the water"), ("at the beach", "on the sand"))
PLACES += (("in a kitchen", "inside a kitchen"), ("on a large field of grass", "on the lawn"))
ENDS = (".", " .", "", "!", " while it rains.", ", and nobody else is there.", " (it's sunny)", " - isn't it nice?")


class Picture(NamedTuple):
    candidate: str
    references: list[str]


def pictures() -> list[Picture]:
    """Return the same pictures every time."""
    rng = random.Random(20)
    return [_picture(rng) for _ in range(PICTURES)]


def _picture(rng: random.Random) -> Picture:
    facts = [rng.choice(kind) for kind in (WHO, NUMBERS, DOES, THINGS, PLACES)]
    colour = rng.choice(COLOURS)
    return Picture(
        _caption(rng, facts, rng.choice(COLOURS)),
        [_caption(rng, facts, colour) for _ in range(rng.randint(1, REFERENCES))],
    )


def _caption(rng: random.Random, facts: list[tuple[str, ...]], colour: str) -> str:
    who, number, does, thing, place = (rng.choice(kind) for kind in facts)
    start = f"{number} {who}{'' if number in ('a', 'one') else 's'}"
    if rng.random() < 0.3:
        start = f"{place}, {start}"
        place = ""
    caption = " ".join(f"{start} {does} the {colour} {thing} {place}".split()) + rng.choice(ENDS)
    return caption.capitalize() if rng.random() < 0.5 else caption
