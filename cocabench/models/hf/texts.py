"""Texts to token ids as a checkpoint of transformers was trained: cleaning, padding, truncation, checks."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cocabench.core.errors import ModelError
from cocabench.models.hf.families import Cleaning, Usage
from cocabench.models.tokens import TokenCounts, unknown_token

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def cleaned(text: str, cleaning: Cleaning) -> str:
    """Return a text in lower case; for ``canonical`` also without punctuation, as big_vision's canonicalize_text.

    >>> cleaned("A photo of a T-shirt, in_blue.", "canonical")
    'a photo of a tshirt in blue'
    """
    if not cleaning:
        return text
    if cleaning == "canonical":
        text = " ".join(text.replace("_", " ").translate(_PUNCTUATION).split())
    return text.lower()


@dataclass(frozen=True)
class Texts:
    """The text side of a contrastive checkpoint.

    wanted: the inputs of the text tower. vocabulary: its embeddings. read_at: the id at whose first position a CLIP
    reads the feature; None: it reads elsewhere.
    """

    id: str
    tokenizer: Any
    use: Usage
    wanted: frozenset[str]
    vocabulary: int
    read_at: int | None = None

    def __call__(self, texts: list[str]) -> dict[str, Tensor]:
        """Return the inputs of the text tower, (n, length) each; ModelError for ids that it cannot take."""
        made = self.tokenizer(
            [cleaned(text, self.use.cleaning) for text in texts],
            padding="longest" if self.use.family.pad_to_longest else "max_length",
            padding_side="right",  # some tokenizers' default is the left, which no such tower was trained with
            truncation=True,
            max_length=self.use.length,
            return_tensors="pt",
        )
        ids: Tensor = made["input_ids"]
        if self.read_at is not None and not bool((ids == self.read_at).any(dim=1).all()):
            got = f"no token {self.read_at} at the end of a text, where the network reads its feature"
            raise ModelError(self.id, got, wanted="the tokenizer that the network was trained with")
        if not self.use.family.pad_to_longest:  # trained on the padding too: a mask would change the features
            return {"input_ids": ids}
        return {name: made[name] for name in made if name in self.wanted}

    def counts(self, texts: Sequence[str]) -> TokenCounts:
        """Return how many tokens texts have before they are cut."""
        cleared = [cleaned(text, self.use.cleaning) for text in texts]
        ids = self.tokenizer(cleared, truncation=False)["input_ids"] if cleared else []
        unknown = unknown_token(self.tokenizer)
        found = None if unknown is None else [own.count(unknown) for own in ids]
        return TokenCounts(self.use.length, list(map(len, ids)), found)


def end_read_by(config: Any, tokenizer: Any) -> int | None:
    """Return the id at whose first position a CLIPModel reads the feature of a text; None for other models.

    Configs of before 2023 say 2 whatever the vocabulary is; transformers then reads at the largest id.
    """
    if config.model_type != "clip":
        return None
    named = int(config.text_config.eos_token_id)
    return int(tokenizer.eos_token_id) if named == 2 else named
