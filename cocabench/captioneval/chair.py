"""CHAIR: objects that a caption names and the image does not have (Rohrbach et al. 2018, "Object hallucination").

The words of objects come with the data, from the authors' list of synonyms. Their code needs Python 2 and pattern,
whose singulars depend on its version and lose words of their own list (bus becomes "bu"); here the singular of a word
is the one that the list has, so that the same caption names the same objects everywhere. On Flickr8k's 40,460 captions,
which name 54,647 objects, the two differ in 99, of which 81 name a bus.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cocabench.core.signature import digest
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.statistics import Hits, Smooth

Floats = NDArray[np.float64]

DOUBLE_WORDS = (
    "motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal", "stop light",
    "fire hydrant", "stop sign", "parking meter", "suit case", "sports ball", "baseball bat", "baseball glove",
    "tennis racket", "wine glass", "hot dog", "cell phone", "mobile phone", "teddy bear", "hair drier", "potted plant",
    "laptop computer", "stove top oven", "home plate",
)  # fmt: skip
"""Two words that are one, so that a hot dog is no dog."""

QUALIFIED = {
    **{f"{word} {animal}": animal for word in ("baby", "adult") for animal in (
        "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub",
    )},
    **{f"passenger {vehicle}": vehicle for vehicle in ("jet", "train")},
    "bow tie": "tie",
    "toilet seat": "toilet",
}  # fmt: skip
"""Two words of which only one names the object: a baby bird is no person."""

IRREGULAR = {
    "men": "man", "women": "woman", "people": "person", "mice": "mouse", "geese": "goose", "oxen": "ox",
    "teeth": "tooth", "feet": "foot", "children": "child", "policemen": "policeman", "firemen": "fireman",
    "gentlemen": "gentleman", "snowmen": "snowman", "knives": "knife", "calves": "calf", "wolves": "wolf",
    "loaves": "loaf",
}  # fmt: skip

VERSION = "CHAIR: authors' rules of double words, singulars within the list of synonyms"


class Named(NamedTuple):
    """The objects that a caption names, in order and with repeats: the words as written there, and the objects."""

    words: list[str]
    objects: list[str]


class Vocabulary:
    """The words that name objects. objects: {word, or two: object}, singular."""

    def __init__(self, objects: Mapping[str, str]) -> None:
        self.objects = dict(objects)
        self._pairs = {pair: pair for pair in DOUBLE_WORDS} | QUALIFIED
        self._known = set(self.objects) | {part for pair in self._pairs for part in pair.split()}

    def named(self, caption: str) -> Named:
        """Return the objects that a caption names.

        >>> Vocabulary({"dog": "dog", "hot dog": "hot dog", "puppy": "dog"}).named("Two puppies eat hot dogs.")
        Named(words=['puppies', 'hot dogs'], objects=['dog', 'hot dog'])
        """
        written = re.findall(r"o'clock|[a-z0-9]+(?:-[a-z0-9]+)*", caption.lower())
        single = [self.singular(word) for word in written]
        found: list[tuple[str, str]] = []
        at = 0
        while at < len(single):
            pair = " ".join(single[at : at + 2])
            if pair in self._pairs:
                found.append((" ".join(written[at : at + 2]), self._pairs[pair]))
                at += 2
            else:
                found.append((written[at], single[at]))
                at += 1
        if any(word == "toilet" for _, word in found):
            found = [(own, word) for own, word in found if word != "seat"]
        named = [(own, self.objects[word]) for own, word in found if word in self.objects]
        return Named([own for own, _ in named], [word for _, word in named])

    def singular(self, word: str) -> str:
        """Return a word as the vocabulary has it; the word itself if it has none of its singulars."""
        if word in self._known:
            return word
        if word in IRREGULAR:
            return IRREGULAR[word]
        if word.endswith("ies"):
            forms = [f"{word[:-3]}y", word[:-1]]
        elif word.endswith("s") and not word.endswith("ss"):
            forms = [word[:-1], *([word[:-2]] if word.endswith("es") else [])]
        else:
            forms = []
        return next((form for form in forms if form in self._known), word)


def statistics(
    captions: Sequence[str],
    references: Sequence[Iterable[str]],
    objects: Sequence[Iterable[str]],
    words: Mapping[str, str],
) -> list[dict[str, object]]:
    """Return per image how many objects its caption names, how many of them it hallucinates, and these words.

    references: (n,) an image's own captions, whose objects it has too. objects: (n,) names of the objects annotated in
    it. words: {word: object}. A mention counts each time it stands there, as in the authors' code.
    """
    vocabulary, found = Vocabulary(words), []
    for caption, own, there in zip(captions, references, objects, strict=True):
        has = set(there) | {name for text in own for name in vocabulary.named(text).objects}
        named = vocabulary.named(caption)
        wrong = [word for word, name in zip(*named, strict=True) if name not in has]
        found.append({"objects_named": len(named.objects), "hallucinations": len(wrong), "hallucinated": wrong})
    return found


def protocol(words: Mapping[str, str]) -> str:
    """Return what defines the numbers, for a signature."""
    return f"{VERSION}; synonyms {digest(dict(words))}"


def _rate(samples: Samples) -> tuple[float, Floats]:
    """Return hallucinated mentions per mention, and (rows,) how each caption moves it; NaN without a mention."""
    wrong, named = (samples[name].to_numpy(np.float64) for name in ("hallucinations", "objects_named"))
    if not (total := named.sum()):
        return float("nan"), np.zeros(len(samples))
    rate = float(wrong.sum() / total)
    return rate, np.asarray((wrong - rate * named) / total, np.float64)


METRICS = (
    Metric(
        "CHAIRi",
        "Share of the objects that captions name which are not in the image; undefined if none are named "
        "(Rohrbach et al. 2018)",
        Smooth(_rate),
        ("hallucinations", "objects_named"),
        higher_is_better=False,
    ),
    Metric(
        "CHAIRs",
        "Share of captions that name an object which is not in the image (Rohrbach et al. 2018)",
        Hits(lambda samples: (samples["hallucinations"].to_numpy(np.float64) > 0).astype(np.float64)),
        ("hallucinations",),
        higher_is_better=False,
    ),
)
