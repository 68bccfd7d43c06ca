"""What the goldens of features and captions are made from: small models, pictures, texts. Nothing is left to chance.

Weights and noise are drawn from numpy's RandomState, whose stream is frozen for good.
"""

from __future__ import annotations

import json
import logging
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.goldens import bits_adapter

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
SMALL = {"vocab_size": 2014, "tokenizer_kwargs": {"bpe_path": "bpe_merges.txt.gz"}}
TEXT: dict[str, Any] = {"context_length": 32, "width": 32, "heads": 2, "layers": 2, **SMALL}
POOLED = {"attentional_pool": True, "attn_pooler_queries": 8, "attn_pooler_heads": 2}
DECODER = {key: TEXT[key] for key in ("context_length", "vocab_size", "width", "heads", "layers")}

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "dog", "cat", "red", "bus", "on", "the", "street"]
ROBERTA = {
    "model_type": "roberta", "vocab_size": len(WORDS), "hidden_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 40, "pad_token_id": 1,
    "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip


def _clip(text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    return {"embed_dim": 16, "vision_cfg": {**VISION, **(vision or {})}, "text_cfg": {**TEXT, **(text or {})}, **other}


def _coca(text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None, **other: Any) -> dict[str, Any]:
    return {
        "embed_dim": 32,
        "vision_cfg": {**VISION, "output_tokens": True, **(POOLED if vision is None else vision)},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True, **(text or {})},
        "multimodal_cfg": {**DECODER, "attn_pooler_heads": 2},
        "custom_text": True,
        **other,
    }


# Each way to run a text tower (tree, cut, whole), and each layout that loading knows.
TINY: dict[str, dict[str, Any]] = {
    "native": _clip(),
    "standard-vocabulary": _clip({"vocab_size": 49408, "tokenizer_kwargs": {}, "context_length": 77}),
    "quick-gelu": _clip(quick_gelu=True),
    "resnet": _clip(vision={"layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "patch_size": None}),
    "custom-text": _clip({"proj_bias": True, "ls_init_value": 0.5}, custom_text=True),
    "eos": _clip({"pool_type": "eos", "eos_id": 2013}, custom_text=True),
    "own-blocks": _clip({"qk_norm": True, "scale_fc": True}, custom_text=True),
    "cls": _clip({"embed_cls": True, "context_length": 31}, custom_text=True),
    "siglip": _clip(
        {
            "no_causal_mask": True, "pool_type": "last", "proj_bias": True, "norm_kwargs": {"eps": 1e-6},
            "tokenizer_kwargs": {"bpe_path": "bpe_merges.txt.gz", "clean": "canonicalize"},
        },
        {"pool_type": "avg", "no_ln_pre": True, "final_ln_after_pool": True},
        custom_text=True,
        init_logit_bias=-10,
    ),
    "coca": _coca(),
    "coca-quick-gelu": _coca(quick_gelu=True),
    "coca-patches": _coca({"ls_init_value": 0.7}, {}),
    "roberta": _coca(vision={}),
}  # fmt: skip
TINY["roberta"]["text_cfg"] = {
    "hf_model_name": ".", "hf_tokenizer_name": ".", "hf_proj_type": "linear", "width": 32, "context_length": 20,
    "vocab_size": len(WORDS), "output_tokens": True,
}  # fmt: skip
TINY["roberta"]["multimodal_cfg"] |= {"context_length": 20, "vocab_size": len(WORDS)}

CAPTIONERS = ("coca", "coca-quick-gelu", "coca-patches", "roberta")


class Picture:
    """A source that says nothing of its content, as other people's data sets have them."""

    def __init__(self, pixels: np.ndarray[Any, Any]) -> None:
        self._pixels = pixels

    def open(self) -> Image.Image:
        return Image.fromarray(self._pixels)

    def __str__(self) -> str:
        return "a picture in memory"


class Inputs:
    """Models and pictures, written below a folder when they are first asked for.

    shaken: all weights are moved by a few units of float32's last place.
    """

    def __init__(self, folder: Path, *, shaken: bool = False) -> None:
        self.folder, self._shaken = folder, shaken
        folder.mkdir(parents=True, exist_ok=True)

    def model(self, name: str) -> str:
        """Return the model string of ``demo/…``, or of one of TINY, which is a folder as open_clip writes them."""
        if name.startswith("demo/") and not self._shaken:
            return name
        folder = self.folder / "models" / name
        if not folder.exists():
            if name.startswith("demo/"):
                shutil.copytree(bits_adapter.model_folder(name), folder)
            else:
                write_model(folder, TINY[name], seed=list(TINY).index(name))
            if self._shaken:
                _shake(folder / "open_clip_model.safetensors")
        return str(folder)

    def empty(self, name: str) -> Path:
        """Return a folder that is not there yet."""
        return self.folder / "empty" / f"{name}-{len(list((self.folder).glob('empty/*')))}"

    @cached_property
    def emoji(self) -> list[tuple[Any, tuple[str, ...]]]:
        return bits_adapter.emoji()

    @cached_property
    def pictures(self) -> list[Any]:
        """47 sources: emoji, odd files, equal contents, sources without identity; 7 in a row and 3 more unreadable."""
        own = [image for image, _ in self.emoji[:24]]
        odd, bad = self.odd, self.unreadable
        noise = _noise(99, (24, 30, 3))
        return [
            *own[:9], bad[0], *odd[:4], own[2], own[2], bad[1], *odd[4:], *[bad[0]] * 4, *bad[1:], bad[1],
            Picture(noise), Picture(noise), Picture(_noise(98, (40, 40))), odd[0], *own[9:], bad[2],
        ]  # fmt: skip

    @cached_property
    def captioned(self) -> list[Any]:
        """30 sources, two of them equal, two unreadable."""
        own, bad = [image for image, _ in self.emoji[100:126]], self.unreadable
        return [*own[:5], bad[0], *own[5:14], own[3], self.odd[1], *own[14:], bad[1]]

    def texts(self, count: int = 300) -> list[str]:
        """Return captions of the demo with equal ones, an empty text, and some far beyond any context."""
        captions = [text for _, texts in self.emoji for text in texts][:count]
        long = " ".join(captions[:60])
        odd = ["", " ", "Red CAR!", "naïve café – 日本語 🚗", long, long + " more", "a", "a"]
        return [*captions[:50], *odd, *captions[50:], *captions[10:20], "", *captions[:5]]

    def many_texts(self) -> list[str]:
        """Return 2,300 distinct short texts, more than a block of 2,048, with 40 of them repeated between."""
        words = [text.split()[0] for _, texts in self.emoji for text in texts[:1]]
        distinct = [f"{words[i % 37]} {words[(i * 7) % 101]} {i}" for i in range(2300)]
        return [*distinct[:1000], *distinct[100:140], *distinct[1000:]]

    @cached_property
    def odd(self) -> list[Any]:
        folder = self._pictures_folder()
        colours = Image.fromarray(_noise(1, (30, 44, 3)))
        palette = colours.quantize(16)
        palette.save(folder / "palette-transparent.png", transparency=bytes(range(0, 256, 16)))
        palette.save(folder / "palette.png")
        Image.fromarray(_noise(2, (44, 30, 4)), "RGBA").save(folder / "rgba.png")
        Image.fromarray(_noise(3, (50, 33))).save(folder / "grey.png")
        Image.fromarray(_noise(4, (20, 20, 2)), "LA").save(folder / "grey-alpha.png")
        Image.fromarray(_noise(5, (90, 12, 3))).save(folder / "tall.jpg", quality=80)
        Image.fromarray(_noise(6, (1, 1, 3))).save(folder / "one-pixel.png")
        Image.fromarray(_noise(7, (32, 32))).convert("1").save(folder / "black-white.png")
        shutil.copyfile(folder / "rgba.png", folder / "rgba-again.png")
        names = ("palette-transparent.png", "rgba.png", "grey.png", "grey-alpha.png", "tall.jpg", "palette.png")
        more = ("one-pixel.png", "black-white.png", "rgba-again.png")
        return [bits_adapter.file_image(folder / name) for name in names + more]

    @cached_property
    def unreadable(self) -> list[Any]:
        folder = self._pictures_folder()
        (folder / "text.png").write_text("no image")
        Image.fromarray(_noise(8, (40, 40, 3))).save(folder / "whole.png")
        (folder / "torn.png").write_bytes((folder / "whole.png").read_bytes()[:1500])
        (folder / "nothing.jpg").write_bytes(b"")
        return [bits_adapter.file_image(folder / name) for name in ("text.png", "torn.png", "nothing.jpg")]

    def _pictures_folder(self) -> Path:
        folder = self.folder / "pictures"
        folder.mkdir(exist_ok=True)
        return folder


def write_model(folder: Path, config: dict[str, Any], *, seed: int) -> None:
    """Write a model folder as open_clip's ``local-dir:`` reads it; it needs no hub."""
    folder.mkdir(parents=True)
    shutil.copyfile(bits_adapter.merges(), folder / "bpe_merges.txt.gz")
    if "hf_model_name" in config["text_cfg"]:
        _write_roberta(folder)
        config = {**config, "text_cfg": {**config["text_cfg"], "hf_model_name": str(folder)}}
    text = json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    (folder / "open_clip_config.json").write_text(text)
    logging.disable(logging.WARNING)  # open_clip tells of the weights that it was told to leave out
    try:
        net = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    finally:
        logging.disable(logging.NOTSET)
    (folder / "open_clip_config.json").write_text(text.replace(str(folder), "."))
    save_file(_drawn(net, seed), folder / "open_clip_model.safetensors")


def _drawn(net: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Return a state with matrices of standard deviation 2 / sqrt(width), gains and variances around 1."""
    random, state = np.random.RandomState(seed), {}
    for name, value in sorted(net.state_dict().items()):
        if not value.is_floating_point():
            state[name] = value.clone()
            continue
        drawn = random.standard_normal(tuple(value.shape)).astype(np.float32)
        if value.ndim >= 2:
            drawn *= 2 * min(value.shape[:2]) ** -0.5
        else:
            drawn = drawn * np.float32(0.1) + np.float32(name.endswith(("weight", "gamma", "running_var")))
        state[name] = torch.from_numpy(np.ascontiguousarray(drawn, np.float32))
    return state


def _shake(path: Path) -> None:
    random, state = np.random.RandomState(0), load_file(path)
    for name, value in state.items():
        if value.is_floating_point():  # the demo's are stored in fp16, too coarse for this
            noise = random.standard_normal(tuple(value.shape)).astype(np.float32)
            state[name] = value.float() * (1 + 1e-6 * torch.from_numpy(np.asarray(noise)))
    save_file(state, path)


def _write_roberta(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ("bos_token", "pad_token", "eos_token", "unk_token")
    special = dict(zip(names, WORDS, strict=False)) | {"cls_token": "<s>", "sep_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))
    (folder / "config.json").write_text(json.dumps(ROBERTA))


def _noise(seed: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)
