"""Log-probabilities of given captions, for ranking them and for perplexity.

Shapes: b images, m captions per image, p tokens per caption, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .steps import prefix_logits
from .towers import ImageDecoder, TextTower, additive, causal, context_limit, is_causal

LOGITS_PER_CHUNK = 1 << 25  # 128 MiB in fp32


class CaptionLogprob(NamedTuple):
    """Natural-log probabilities. total and n_tokens: (b,) or (b, m); per_token: one column less than the texts.

    per_token[..., i] is log p(texts[..., i + 1] | image, texts[..., : i + 1]), NaN where the token is not counted:
    after the first end token, and in a text without one, in its trailing pads. total sums the n_tokens counted ones,
    so exp(-total.sum() / n_tokens.sum()) is the perplexity.
    """

    total: Tensor
    per_token: Tensor
    n_tokens: Tensor


def logprobs(model: Any, image_embs: Tensor, texts: Tensor, *, end: int, pad: int) -> CaptionLogprob:
    """image_embs: (b, tokens, width) of the image tower. texts: (b, m, p) token ids, from the start token on."""
    counted = counted_tokens(texts, end, pad)[..., 1:]
    values = texts.new_full(counted.shape, 0, dtype=torch.float32)
    longest = int(counted.any(0).any(0).nonzero().max()) + 1 if counted.any() else 0
    if longest > context_limit(model):
        raise ValueError(f"texts: got {longest + 1} tokens, wanted at most {context_limit(model) + 1} with this model")
    if longest:
        scored = _causal if is_causal(model.text) else _recomputed
        parts = list(scored(model, image_embs, texts, longest))
        values[..., :longest] = torch.cat(parts, dim=-1)
    total = values.masked_fill(~counted, 0).sum(-1)
    return CaptionLogprob(total, values.masked_fill(~counted, torch.nan), counted.sum(-1))


def shared_logprobs(model: Any, image_embs: Tensor, texts: Tensor, *, end: int, pad: int) -> CaptionLogprob:
    """Return what ``logprobs`` does of texts (m, p) that are the same for all b images: (b, m) and (b, m, p - 1).

    The text tower sees no image and reads the texts once, and of the tokens that all texts begin with, each image reads
    one copy. A text tower that is not causal shares nothing.
    """
    everyone = texts.expand(len(image_embs), -1, -1)
    counted = counted_tokens(texts, end, pad)[..., 1:]
    if not is_causal(model.text) or not counted.any():
        return logprobs(model, image_embs, everyone, end=end, pad=pad)
    longest = int(counted.any(0).nonzero().max()) + 1
    if longest > context_limit(model):
        raise ValueError(f"texts: got {longest + 1} tokens, wanted at most {context_limit(model) + 1} with this model")
    found = torch.cat(list(_shared(model, image_embs, texts, longest)), dim=-1)
    values = found.new_zeros(len(image_embs), *counted.shape)
    values[..., :longest] = found
    total = values.masked_fill(~counted, 0).sum(-1)
    n_tokens = counted.sum(-1).expand(len(image_embs), -1)
    return CaptionLogprob(total, values.masked_fill(~counted, torch.nan), n_tokens)


def _shared(model: Any, image_embs: Tensor, texts: Tensor, longest: int) -> Iterator[Tensor]:
    """Yield log-probabilities (b, m, some positions) in order; longest: positions to read."""
    tokens, b, m = texts[:, :longest], len(image_embs), len(texts)
    alike = (tokens == tokens[:1]).all(0).long().cumprod(0)
    first = min(max(1, int(alike.sum())), longest)  # tokens that all texts begin with
    tower, decoder = TextTower(model.text), ImageDecoder(model.text_decoder, image_embs)
    positions = torch.arange(longest, device=tokens.device)
    x = tower(tokens, positions, additive(tower.visible(tokens), tower.dtype), None)
    mask = additive(causal(longest, x.device), x.dtype)
    cache = _Prefix(m)
    head = decoder(x[:1, :first].expand(b, -1, -1), mask[..., :first, :first], cache)
    common = decoder.logits(head).float().log_softmax(-1)  # (b, first, V)
    targets = texts[:, 1 : first + 1].t().expand(b, -1, -1)  # (b, first, m)
    yield common.gather(-1, targets).transpose(1, 2)
    if first == longest:
        return
    cache.reads = True
    rest = x[:, first:].expand(b, -1, -1, -1).flatten(0, 1)
    hidden = decoder(rest, mask[..., first:, :], cache).unflatten(0, (b, m))
    width = max(1, LOGITS_PER_CHUNK // (b * m * model.text_decoder.text_projection.shape[1]))
    for begin in range(first, longest, width):
        end = min(begin + width, longest)
        ids = texts[:, begin + 1 : end + 1].expand(b, -1, -1)
        yield _of_next(decoder.logits(hidden[:, :, begin - first : end - first]), ids)


class _Prefix:
    """The keys and values of a common prefix in every layer: written first, then put before those of each text."""

    def __init__(self, texts: int) -> None:
        self.reads, self._texts, self._kept = False, texts, dict[int, tuple[Tensor, Tensor]]()

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep k, v (b, n, width) of the prefix, or return them before those of the texts (b * m, …)."""
        if not self.reads:
            self._kept[layer] = (k, v)
            return k, v
        before = (part.repeat_interleave(self._texts, dim=0) for part in self._kept[layer])
        keys, values = (torch.cat(pair, dim=1) for pair in zip(before, (k, v), strict=True))
        return keys, values


def counted_tokens(texts: Tensor, end: int, pad: int) -> Tensor:
    """Return which tokens (..., p) belong to the caption: up to the first end token, else all but trailing pads."""
    is_end = texts == end  # also where a tokenizer pads with its end token
    up_to_end = is_end.cumsum(-1) - is_end.long() == 0
    trailing = (texts != pad).flip(-1).cumsum(-1).flip(-1) == 0
    return up_to_end & (is_end | ~trailing)


def _causal(model: Any, image_embs: Tensor, texts: Tensor, longest: int) -> Iterator[Tensor]:
    """Yield log-probabilities (b, m, some positions) in order, from one pass over whole captions."""
    tokens = texts[..., :longest].flatten(0, 1)
    tower, decoder = TextTower(model.text), ImageDecoder(model.text_decoder, image_embs)
    positions = torch.arange(longest, device=tokens.device)
    x = tower(tokens, positions, additive(tower.visible(tokens), tower.dtype), None)
    hidden = decoder(x, additive(causal(longest, x.device), x.dtype), None).unflatten(0, texts.shape[:2])
    width = max(
        1, LOGITS_PER_CHUNK // (hidden.shape[0] * hidden.shape[1] * model.text_decoder.text_projection.shape[1])
    )
    for begin in range(0, longest, width):
        end = min(begin + width, longest)
        yield _of_next(decoder.logits(hidden[:, :, begin:end]), texts[..., begin + 1 : end + 1])


def _recomputed(model: Any, image_embs: Tensor, texts: Tensor, longest: int) -> Iterator[Tensor]:
    """Yield log-probabilities from one pass per prefix: in a bidirectional tower a prefix must not see later tokens."""
    decoder = ImageDecoder(model.text_decoder, image_embs)
    for length in range(1, longest + 1):
        logits = prefix_logits(model, decoder, texts[..., :length])
        yield _of_next(logits[:, :, None], texts[..., length : length + 1])


def _of_next(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of each target: (..., V), (...) -> (...)."""
    return logits.float().log_softmax(-1).gather(-1, targets[..., None])[..., 0]
