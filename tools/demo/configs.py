"""The two architectures: one image tower, and a text side each."""

from typing import Any

from open_clip.coca_model import CoCa
from open_clip.model import CLIP
from torch import nn

from tools.demo.bpe import MERGES

IMAGE_SIZE = 40
PATCH_SIZE = 10
CONTEXT_LENGTH = 12
VOCABULARY = 512 + MERGES + 2
WIDTH = 96
"""Width of the towers, the decoder and the embedding; CoCa ties the last three together."""

MERGES_FILE = "bpe_merges.txt.gz"
PREPROCESS = {"size": IMAGE_SIZE, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
"""What open_clip's image transform is told; pixels are then in -1 to 1."""

PATCH_DROPOUT = 0.0
"""Fraction of patches left out of each training image (Li et al. 2023, FLIP): half the work, harder to overfit."""


def model_config(name: str) -> dict[str, Any]:
    """Return `model_cfg` of open_clip_config.json for one of the demo's MODELS; both CoCa are built alike."""
    vision = {
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        "width": WIDTH,
        "layers": 4,
        "head_width": WIDTH // 2,
        "attentional_pool": True,
        "attn_pooler_queries": 16,
        "attn_pooler_heads": 2,
    }
    transformer = {"context_length": CONTEXT_LENGTH, "vocab_size": VOCABULARY, "width": WIDTH, "heads": 2, "layers": 1}
    text = {**transformer, "tokenizer_kwargs": {"bpe_path": MERGES_FILE}}
    if name == "clip":
        return {"embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text}
    return {
        "embed_dim": WIDTH,
        "vision_cfg": {**vision, "output_tokens": True},
        "text_cfg": {**text, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**transformer, "attn_pooler_heads": 2},
        "custom_text": True,
    }


def new_model(name: str) -> nn.Module:
    """Return an untrained model with every parameter initialised from torch's global seed.

    open_clip leaves CoCa's text_decoder.text_projection as it found the memory; it gets the scale that open_clip's own
    (unused) `init_parameters` names, width ** -0.5.
    """
    config = {key: value for key, value in model_config(name).items() if key != "custom_text"}
    config["vision_cfg"] = {**config["vision_cfg"], "patch_dropout": PATCH_DROPOUT}
    if name == "clip":
        model: nn.Module = CLIP(**config, output_dict=True)
    else:
        model = CoCa(**config)
        nn.init.normal_(model.get_parameter("text_decoder.text_projection"), std=WIDTH**-0.5)
    return model
