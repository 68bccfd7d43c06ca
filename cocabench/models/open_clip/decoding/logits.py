"""Pure functions on next-token logits (r, V); each follows transformers 4.49's processor of the same name."""

import torch
from torch import Tensor


def forbid(logits: Tensor, token: int) -> Tensor:
    """Return logits with one token at -inf (MinLengthLogitsProcessor, where the text is still too short)."""
    forbidden = logits.clone()
    forbidden[:, token] = float("-inf")
    return forbidden


def penalise_repetition(logits: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of tokens (r, length) by the penalty (Keskar et al. 2019)."""
    score = logits.gather(1, tokens)
    return logits.scatter(1, tokens, torch.where(score < 0, score * penalty, score / penalty))


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Set all but the k largest logits to -inf; ties with the k-th stay."""
    threshold = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < threshold, float("-inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose probability reaches p, at least one (Holtzman et al. 2020)."""
    ascending, order = logits.sort(descending=False)
    drop = ascending.softmax(-1).cumsum(-1) <= 1 - p
    drop[:, -1:] = False
    return logits.masked_fill(drop.scatter(1, order, drop), float("-inf"))
