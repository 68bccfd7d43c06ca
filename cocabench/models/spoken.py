"""A model that is asked in one language, and what is to be noted of how it reads that language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cocabench.core.types import Features, ImageSource, Likelihoods, Note, Progress, silent
from cocabench.models.open_clip.languages import in_language
from cocabench.models.tokens import TokenCounts

MAX_TOKENS_PER_CHARACTER = 2.0
MAX_CUT = MAX_UNKNOWN = 0.01
"""Shares of texts and of tokens. Beyond these, and the number of tokens, a note says so."""

MAX_TEXTS_COUNTED = 10_000
"""Of more distinct texts (80 templates of 1,000 classes) evenly spread ones are counted."""


class Spoken:
    """A model whose texts are in one language; it keeps them. tells: the tokenizer needs the language of each text."""

    def __init__(self, model: Any, language: str, *, tells: bool) -> None:
        self.model, self.language, self.tells = model, language, tells
        self.heard: dict[str, None] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # not set yet, while it is unpickled
            raise AttributeError(name)
        return getattr(self.model, name)

    def encode_texts(self, texts: Sequence[str], *, progress: Progress = silent) -> Features:
        """Return a unit row per text."""
        self.heard |= dict.fromkeys(texts)
        found: Features = self.model.encode_texts(self._marked(texts), progress=progress)
        return found

    def score_captions(
        self, images: Sequence[ImageSource], texts: Sequence[Sequence[str]], **options: Any
    ) -> Likelihoods:
        """Return the likelihood of each image's texts as captions."""
        self.heard |= dict.fromkeys(text for own in texts for text in own)
        found: Likelihoods = self.model.score_captions(images, texts, **options)
        return found

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts | None:
        """Return how many tokens texts have, None if unknown."""
        counter = getattr(self.model, "count_tokens", None)  # of plain objects
        found: TokenCounts | None = counter(self._marked(texts)) if counter else None
        return found

    def _marked(self, texts: Sequence[str]) -> list[str]:
        return [in_language(text, self.language) for text in texts] if self.tells else list(texts)

    def notes(self) -> Iterator[Note]:
        """Yield what is to be noted of how the model reads the texts that it was given; nothing if it does not say."""
        every = list(self.heard)
        texts = every[:: -(-len(every) // MAX_TEXTS_COUNTED)] if every else []
        counts = self.count_tokens(["", *texts]) if texts else None
        if counts is None:
            return
        specials = counts.tokens[0]
        tokens, characters = sum(counts.tokens) - specials * len(counts.tokens), sum(map(len, texts))
        of = f"of {len(texts):,} distinct texts" if len(texts) == len(every) else f"of {len(texts):,} texts counted"
        if characters and tokens > MAX_TOKENS_PER_CHARACTER * characters:
            said = f"{tokens / characters:.1f} tokens per character {of}"
            yield Note("many_tokens", f"{said}: the vocabulary was made for other languages")
        if (cut := sum(counts.cut)) > MAX_CUT * len(texts):
            said = f"{cut:,} {of} ({100 * cut / len(texts):.1f} %)"
            yield Note("cut_texts", f"{said} are longer than the context of {counts.context} tokens and are cut")
        if counts.unknown is not None and (unknown := sum(counts.unknown)) > MAX_UNKNOWN * tokens:
            said = f"{unknown:,} of {tokens:,} tokens ({100 * unknown / tokens:.1f} %)"
            yield Note("unknown_tokens", f"{said} are unknown to the vocabulary, which reads all of them as one")
