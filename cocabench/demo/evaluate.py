"""A small check of the demo checkpoints while they are made; the benchmark itself is the rest of cocabench."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def encode_images(model: nn.Module, images: Tensor, batch: int = 256) -> Tensor:
    """Return unit features (n, d) of preprocessed images (n, 3, s, s)."""
    encode: Any = model.encode_image
    return torch.cat([encode(part, normalize=True) for part in images.split(batch)])


@torch.no_grad()
def encode_texts(model: nn.Module, tokens: Tensor, batch: int = 512) -> Tensor:
    """Return unit features (n, d) of token ids (n, context)."""
    encode: Any = model.encode_text
    return torch.cat([encode(part, normalize=True) for part in tokens.split(batch)])


def recall_at_5(images: Tensor, texts: Tensor, owner: Tensor) -> dict[str, float]:
    """Return hit rates in 0-1: any own caption among the five best (i2t), the own image among the five best (t2i).

    images: (n, d); texts: (m, d); owner: (m,) row of the image that each text belongs to.
    """
    scores = texts @ images.T
    t2i = (scores.topk(5, dim=1).indices == owner[:, None]).any(dim=1).float().mean()
    best = scores.T.topk(5, dim=1).indices
    i2t = (owner[best] == torch.arange(len(images))[:, None]).any(dim=1).float().mean()
    return {"i2t_recall@5": round(i2t.item(), 4), "t2i_recall@5": round(t2i.item(), 4)}


def accuracy_by_group(images: Tensor, names: Tensor, groups: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return accuracy in 0-1 of naming each image among the names of its own group, with chance and n.

    images, names: (n, d), row i of one belongs to row i of the other; groups: n.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows[group].append(row)
    found = {}
    for group, members in rows.items():
        guess = (images[members] @ names[members].T).argmax(dim=1)
        right = (guess == torch.arange(len(members))).float().mean().item()
        found[group] = {"acc1": round(right, 4), "chance": round(1 / len(members), 4), "n": len(members)}
    return found


@torch.no_grad()
def greedy_captions(model: nn.Module, images: Tensor, tokenizer: Any) -> list[str]:
    """Return CoCa's most likely caption, word by word; id 0 is never taken, since it pads."""
    tokens = torch.full((len(images), 1), tokenizer.sot_token_id)
    for _ in range(tokenizer.context_length - 1):
        padded = torch.nn.functional.pad(tokens, (0, tokenizer.context_length - tokens.shape[1]))
        logits = model(images, padded, output_labels=False)["logits"][:, tokens.shape[1] - 1]
        tokens = torch.cat([tokens, logits[:, 1:].argmax(dim=1, keepdim=True) + 1], dim=1)
    return [_until_end(row, tokenizer) for row in tokens[:, 1:].tolist()]


def _until_end(ids: list[int], tokenizer: Any) -> str:
    end = ids.index(tokenizer.eot_token_id) if tokenizer.eot_token_id in ids else len(ids)
    decoded: str = tokenizer.decode(ids[:end])
    return decoded.strip()
