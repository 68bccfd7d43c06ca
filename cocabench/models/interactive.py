"""What a person at a page asks of a model: the caption while it is written, and the likelihood of each word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor

from cocabench.core.errors import NotACaptionerError

Watch = Callable[[str], None]
"""Called with the words of a caption so far. In beam search they are the best beam's, which may change."""


class Word(NamedTuple):
    """A word of a caption, and log p(word | image, words before it); the last one, '', is the end of the caption."""

    text: str
    logprob: float


ScoreWords = Callable[[Any, Tensor], Sequence[Sequence[Word]]]
"""(pixels (k, 3, h, w), text indices (k,)) -> the words of each image's text."""


class Interactive:
    """Methods of a Model that is asked for one image at a time."""

    id: str
    watch: Watch | None = None
    scores_words = False
    """Whether the model library implements word_scorer, and this model has a decoder."""

    @contextmanager
    def watched(self, watch: Watch) -> Iterator[None]:
        """Call watch after each step of the decoder while a caption is written. Not all model libraries can."""
        self.watch = watch
        try:
            yield
        finally:
            self.watch = None

    def logit_scale(self) -> float:
        """Return the factor of cosines in the model's loss, which it learned; by default CLIP's upper limit."""
        return 100.0

    def word_scorer(self, texts: Sequence[str]) -> ScoreWords:
        """Tokenize texts once; return a function that scores the words of a text per image."""
        raise NotACaptionerError(self.id, "a model that cannot score words", wanted="a CoCa or other captioner")


def words_of(decode: Callable[[list[int]], str], ids: Sequence[int], logprobs: Sequence[float]) -> list[Word]:
    """Join tokens to the words that the tokenizer makes of them.

    ids: (n,) of the text, then its end token, if it has one; logprobs: (n,) or (n + 1,), of each. A token belongs to
    the last word of the text that ends with it, so that pieces of words, and bytes of a character, count together.
    """
    texts = decode(list(ids)).split()
    sums = [0.0] * (len(texts) + 1)
    for n, logprob in enumerate(logprobs, 1):
        last = min(len(texts), len(decode(list(ids[:n])).split())) - 1
        sums[len(texts) if n > len(ids) else max(0, last)] += logprob
    return [Word(text, value) for text, value in zip([*texts, ""], sums, strict=True)]
