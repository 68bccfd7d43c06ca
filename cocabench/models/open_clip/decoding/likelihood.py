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
