"""Retrieval in a style that training did not see, while it goes on. The benchmark itself is the rest of cocabench."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cocabench.demo import data_files
from tools.demo.configs import PREPROCESS
from tools.demo.pictures import STYLES, TrainingSet
from tools.demo.shards import read_shards

Check = Callable[[nn.Module], dict[str, float]]
"""From a model to its hit rates in 0-1."""


@dataclass(frozen=True)
class Retrieval:
    """pixels: (n, 3, s, s); tokens: (m, context); owner: (m,) row of the image that each text belongs to."""

    pixels: Tensor
    tokens: Tensor
    owner: Tensor

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return the model's `recall_at_5`; its training mode is as before."""
        towers: Any = model
        training = model.training
        model.eval()
        with in_bf16():
            images = torch.cat([towers.encode_image(part, normalize=True) for part in self.pixels.split(256)])
            texts = torch.cat([towers.encode_text(part, normalize=True) for part in self.tokens.split(512)])
        model.train(training)
        return recall_at_5(images.float(), texts.float(), self.owner)


@contextmanager
def in_bf16() -> Iterator[None]:
    """Take matrix products in bf16, and write attention out: torch fuses bf16 attention slowly on CPU."""
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


def held_out(tokenizer: Any, data: TrainingSet, styles: Sequence[str]) -> Check:
    """Return the check on the training set's first style that is not among `styles`; on Twemoji if all are."""
    for column, style in enumerate(STYLES):
        if style not in styles:
            rows = data.drawn[:, column].nonzero()[0]
            pictures = [Image.fromarray(data.pictures[row, column]) for row in rows]
            return retrieval(tokenizer, pictures, [data.captions[row] for row in rows])
    return twemoji(tokenizer)


def twemoji(tokenizer: Any) -> Retrieval:
    """Return the check on the shipped drawings. No setting may be chosen by it."""
    records, pngs = zip(*read_shards(data_files()), strict=True)
    return retrieval(tokenizer, (Image.open(io.BytesIO(png)) for png in pngs), [one["captions"] for one in records])


def retrieval(tokenizer: Any, pictures: Iterable[Image.Image], captions: Sequence[Sequence[str]]) -> Retrieval:
    """Lay RGBA pictures on white, apply open_clip's own transform, and tokenise each picture's captions."""
    transform = image_transform_v2(PreprocessCfg(**PREPROCESS), is_train=False)
    pixels = torch.stack([transform(_on_white(picture)) for picture in pictures])
    owner = torch.tensor([row for row, own in enumerate(captions) for _ in own])
    return Retrieval(pixels, tokenizer([text for own in captions for text in own]), owner)


def recall_at_5(images: Tensor, texts: Tensor, owner: Tensor) -> dict[str, float]:
    """Return hit rates in 0-1: any own caption among the five best (i2t), the own image among the five best (t2i).

    images: (n, d); texts: (m, d), both unit; owner: (m,) row of the image that each text belongs to.
    """
    scores = texts @ images.T
    t2i = (scores.topk(5, dim=1).indices == owner[:, None]).any(dim=1).float().mean()
    best = scores.T.topk(5, dim=1).indices
    i2t = (owner[best] == torch.arange(len(images))[:, None]).any(dim=1).float().mean()
    return {"i2t_recall@5": round(i2t.item(), 4), "t2i_recall@5": round(t2i.item(), 4)}


def _on_white(picture: Image.Image) -> Image.Image:
    rgba = picture.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
