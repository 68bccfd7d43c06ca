"""What the training log says about a checkpoint: retrieval on every style, naming and captions on Twemoji."""

import io
from collections.abc import Iterable
from typing import Any

import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn

from cocabench.demo import data_files
from cocabench.demo.batches import PROMPTS
from cocabench.demo.configs import PREPROCESS
from cocabench.demo.evaluate import accuracy_by_group, encode_images, encode_texts, greedy_captions, recall_at_5
from cocabench.demo.pictures import STYLES, TrainingSet
from cocabench.demo.shards import read_shards

NAMING_PROMPTS = ("{}", *PROMPTS)
"""Templates for naming: the bare name, and what training used."""


def preprocess(pictures: Iterable[Image.Image]) -> Tensor:
    """Lay RGBA pictures on white and apply open_clip's own transform: (n, 3, s, s)."""
    transform = image_transform_v2(PreprocessCfg(**PREPROCESS), is_train=False)
    return torch.stack([transform(_on_white(picture)) for picture in pictures])


def seen_concepts(model: nn.Module, tokenizer: Any, data: TrainingSet) -> dict[str, dict[str, float]]:
    """Return R@5 for each style of the training set, unaugmented; a style left out of training is held out."""
    found = {}
    for index, style in enumerate(STYLES):
        images = encode_images(model, preprocess(_pictures(data.pictures[:, index])))
        found[style] = recall_at_5(images, *_captions(model, tokenizer, data.captions))
    return found


def twemoji(model: nn.Module, tokenizer: Any) -> dict[str, Any]:
    """Return R@5, accuracy by group and by subgroup, and, for CoCa, a few captions, on the shipped shards."""
    records, pngs = zip(*read_shards(data_files()), strict=True)
    pixels = preprocess(Image.open(io.BytesIO(png)) for png in pngs)
    images = encode_images(model, pixels)
    names = _prompted(model, tokenizer, [record["name"] for record in records])
    subgroups = sorted({record["subgroup"] for record in records})
    classes = _prompted(model, tokenizer, [subgroup.replace("-", " ") for subgroup in subgroups])
    guess = (images @ classes.T).argmax(dim=1).tolist()
    right = [subgroups[row] == record["subgroup"] for row, record in zip(guess, records, strict=True)]
    found: dict[str, Any] = {
        "n": len(records),
        **recall_at_5(images, *_captions(model, tokenizer, [record["captions"] for record in records])),
        "groups": accuracy_by_group(images, names, [record["group"] for record in records]),
        "subgroup": {"acc1": round(sum(right) / len(right), 4), "chance": round(1 / len(subgroups), 4)},
    }
    if hasattr(model, "text_decoder"):
        found["captions"] = _caption_samples(model, tokenizer, pixels, records)
    return found


def _caption_samples(model: nn.Module, tokenizer: Any, pixels: Tensor, records: Any) -> dict[str, Any]:
    """Return the share of the caption subset described exactly, and twenty samples {name: caption}."""
    rows = [row for row, record in enumerate(records) if record["caption_subset"]]
    said = greedy_captions(model, pixels[rows], tokenizer)
    exact = sum(caption in records[row]["captions"] for row, caption in zip(rows, said, strict=True)) / len(rows)
    samples = {records[row]["name"]: caption for row, caption in zip(rows[:20], said, strict=False)}
    return {"exact": round(exact, 4), "n": len(rows), "samples": samples}


def _captions(model: nn.Module, tokenizer: Any, captions: list[list[str]]) -> tuple[Tensor, Tensor]:
    """Return unit features (m, d) of all captions, and the row of the image that each belongs to."""
    owner = [row for row, own in enumerate(captions) for _ in own]
    return encode_texts(model, tokenizer([text for own in captions for text in own])), torch.tensor(owner)


def _prompted(model: nn.Module, tokenizer: Any, names: list[str]) -> Tensor:
    """Return unit features (n, d): the mean over the templates, as in Radford et al. 2021."""
    per_prompt = [encode_texts(model, tokenizer([prompt.format(name) for name in names])) for prompt in NAMING_PROMPTS]
    return torch.nn.functional.normalize(torch.stack(per_prompt).mean(dim=0), dim=-1)


def _pictures(pixels: NDArray[Any]) -> Iterable[Image.Image]:
    return (Image.fromarray(picture) for picture in pixels)


def _on_white(picture: Image.Image) -> Image.Image:
    rgba = picture.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
