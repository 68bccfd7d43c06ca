"""From tokenizer to decoder and back: special ids, options limited by the model, and tokens as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from open_clip.tokenizer import HFTokenizer

from cocabench.core.errors import UsageError
from cocabench.models.base import Continuation
from cocabench.models.interactive import Interactive, Word, words_of
from cocabench.models.open_clip.decoding.generate import DecodeOptions
from cocabench.models.open_clip.decoding.likelihood import counted_tokens
from cocabench.specs.decoding import ANSWER_TOKENS, DEFAULTS


class SpecialIds(NamedTuple):
    """The special ids, named like generate's arguments."""

    sot_token_id: int
    eos_token_id: int
    pad_token_id: int


def special_ids(tokenizer: Any, net: Any) -> SpecialIds:
    """Return the tokenizer's start, end and pad ids; only the standard one has 49406 and 49407."""
    if isinstance(tokenizer, HFTokenizer):
        inner = tokenizer.tokenizer
        start = inner.bos_token_id if inner.bos_token_id is not None else inner.cls_token_id
        end = inner.eos_token_id if inner.eos_token_id is not None else inner.sep_token_id
        return SpecialIds(start, end, inner.pad_token_id)
    return SpecialIds(tokenizer.sot_token_id, tokenizer.eot_token_id, net.pad_id)


def decode_options(options: Mapping[str, Any], limit: int) -> DecodeOptions:
    """Return the options, with seq_len limited by the model's positions (open_clip raises an error).

    One beam means greedy search. ``asked`` limits the length of answers.
    """
    options = {name: value for name, value in options.items() if name != ANSWER_TOKENS}
    if (least := options.get("min_seq_len", DEFAULTS.min_seq_len)) >= limit:
        raise UsageError("min_seq_len", str(least), wanted=f"less than the model's context ({limit})")
    greedy = {"generation_type": "greedy"} if options.get("num_beams") == 1 else {}
    length = {"seq_len": min(options.get("seq_len", DEFAULTS.seq_len), limit), "max_seq_len": limit}
    try:
        return DecodeOptions(**{**options, **length, **greedy})
    except ValueError as error:
        raise UsageError("decoding", str(error)) from None


class Asked(NamedTuple):
    """How prompts of one length are continued: by which options, and at which token the returned text begins."""

    options: DecodeOptions
    first: int


def asked(options: Mapping[str, Any], chosen: DecodeOptions, length: int) -> Asked:
    """Return how to continue prompts of length tokens: captions begin with their prompt, answers after it."""
    if (most := options.get(ANSWER_TOKENS)) is None:
        return Asked(chosen, 0)
    return Asked(replace(chosen, seq_len=min(length + most, chosen.seq_len)), length)


def prompt_tokens(tokenizer: Any, prompt: str, ids: SpecialIds, options: DecodeOptions) -> torch.Tensor:
    """Return the first tokens of a caption, (1, p): the start token and the prompt's words, which may be none."""
    if not prompt:
        return torch.tensor([[ids.sot_token_id]])
    (row,) = tokenizer([prompt]).tolist()
    end = row.index(ids.eos_token_id, 1) if ids.eos_token_id in row[1:] else len(row)
    words = [token for token in row[:end] if token not in (ids.sot_token_id, ids.pad_token_id)]
    longest = min(options.seq_len, len(row) - 1) - 2  # a prompt that fills the row may have been truncated
    if len(words) > longest:
        got = f"{len(words)} tokens" + (" or more" if end >= len(row) - 1 else "")
        raise UsageError("prompt", got, wanted=f"at most {longest}, to leave room for a caption")
    return torch.tensor([[ids.sot_token_id, *words]])


class ContinuationTokens(NamedTuple):
    """ids (n, context_length) of prefix and text with start and end token, and which of them count (n, …)."""

    ids: torch.Tensor
    counted: torch.Tensor


def continuation_tokens(tokenizer: Any, continuations: Sequence[Continuation], ids: SpecialIds) -> ContinuationTokens:
    """Return the tokens of each continuation, cut to the context length; the start token and the prefix do not count.

    Prefix and text are tokenized apart and joined, so that the prefix's tokens are the same before every text.
    """
    tokens = tokenizer([continuation.text for continuation in continuations])
    before = [continuation.prefix for continuation in continuations]
    words: dict[str, list[int]] = {"": []}
    if prefixes := [prefix for prefix in dict.fromkeys(before) if prefix]:
        words |= {p: inner_words(row, ids) for p, row in zip(prefixes, tokenizer(prefixes).tolist(), strict=True)}
        tokens = torch.tensor(
            [
                _joined(words[prefix], row, ids, tokens.shape[1]) if prefix else row
                for prefix, row in zip(before, tokens.tolist(), strict=True)
            ]
        )
    first = torch.tensor([1 + len(words[prefix]) for prefix in before])
    counted = counted_tokens(tokens, end=ids.eos_token_id, pad=ids.pad_token_id)
    return ContinuationTokens(tokens, counted & (torch.arange(tokens.shape[1]) >= first[:, None]))


def _joined(prefix: list[int], row: list[int], ids: SpecialIds, length: int) -> list[int]:
    longest = length - 3  # the start token, a word and the end token; a longer prefix may have been truncated
    if len(prefix) > longest:
        got = f"{len(prefix)} tokens or more"
        raise UsageError("prefixes", got, wanted=f"at most {longest}, to leave room for a text")
    words = [*prefix, *inner_words(row, ids)][: length - 2]
    return [ids.sot_token_id, *words, ids.eos_token_id] + [ids.pad_token_id] * (length - 2 - len(words))


def inner_words(row: list[int], ids: SpecialIds) -> list[int]:
    """Return a tokenizer's row without start token, end token and padding."""
    end = row.index(ids.eos_token_id, 1) if ids.eos_token_id in row[1:] else len(row)
    while end > 1 and row[end - 1] == ids.pad_token_id and end == len(row):
        row, end = row[:-1], end - 1
    return row[row[0] == ids.sot_token_id : end]


def caption_texts(tokenizer: Any, tokens: torch.Tensor, ids: SpecialIds) -> list[str]:
    """Return the words before the first end token of each row (b, length), start token removed.

    A pad token before the end counts as a word, as in clip-benchmark.
    """
    return [_text(tokenizer, row, ids) for row in tokens.tolist()]


def caption_words(
    tokenizer: Any, tokens: torch.Tensor, counted: torch.Tensor, logprobs: torch.Tensor, ids: SpecialIds
) -> list[list[Word]]:
    """Return the words of texts (k, p), of which those tokens count; logprobs: (k, p - 1), without the start token."""
    inner = tokenizer.tokenizer if isinstance(tokenizer, HFTokenizer) else tokenizer
    found = []
    for row, own, each in zip(tokens[:, 1:], counted[:, 1:], logprobs, strict=True):
        words = [token for token in row[own].tolist() if token != ids.eos_token_id]
        found.append(words_of(inner.decode, words, each[own].tolist()))
    return found


def shower(model: Interactive, tokenizer: Any, ids: SpecialIds, first: int) -> Callable[[torch.Tensor], None]:
    """Return a watch of the decoder: it shows the first of captions (a, p), from a token on, to the model's watch."""

    def show(captions: torch.Tensor) -> None:
        if model.watch:
            model.watch(caption_texts(tokenizer, captions[:1, first:], ids)[0])

    return show


def truncated(tokens: torch.Tensor, ids: SpecialIds, options: DecodeOptions) -> list[bool]:
    """Return for each row (b, length) whether its caption was cut at seq_len.

    Such captions have no end token after beam search; sampling forces one in the last position, or ends with a pad.
    """
    if tokens.shape[1] < options.seq_len:
        return [False] * len(tokens)
    if options.generation_type == "beam_search":
        ended = (tokens == ids.eos_token_id).any(dim=1)
    else:
        ended = ((tokens == ids.eos_token_id) | (tokens == ids.pad_token_id))[:, :-1].any(dim=1)
    return (~ended).tolist()


def _text(tokenizer: Any, row: list[int], ids: SpecialIds) -> str:
    end = row.index(ids.eos_token_id) if ids.eos_token_id in row else len(row)
    words = [token for token in row[:end] if token != ids.sot_token_id]
    inner = tokenizer.tokenizer if isinstance(tokenizer, HFTokenizer) else tokenizer
    return str(inner.decode(words)).strip()
