"""The same random weights in open_clip's and in transformers' layout give the same features, from files to rows."""

import gzip
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import transformers
from open_clip import tokenizer as open_clips
from timm.models import VisionTransformer, register_model
from torch import Tensor, nn

from cocabench.models.open_clip.model import OpenClip
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models
from tests.models import tiny as open_clip_tiny
from tests.models.hf import tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
State = dict[str, Tensor]
TEXTS = [
    "a photo of a cat",
    "A drawing of Two dogs, in the snow!",
    "naïve café; 12 & 13",
    "cat " * 40,
    "it's a T-shirt_",
]


def attention(name: str, weight: Tensor, bias: Tensor) -> State:
    """Return torch's packed projection as transformers' three."""
    parts = zip("qkv", weight.chunk(3), bias.chunk(3), strict=True)
    return {f"{name}.{p}_proj.{kind}": value for p, w, b in parts for kind, value in (("weight", w), ("bias", b))}


def both(new: str, old: str, state: State) -> State:
    return {f"{new}.{kind}": state[f"{old}.{kind}"] for kind in ("weight", "bias")}


def block(new: str, old: str, state: State) -> State:
    """Return one of open_clip's residual blocks."""
    made = attention(f"{new}.self_attn", state[f"{old}.attn.in_proj_weight"], state[f"{old}.attn.in_proj_bias"])
    names = {
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    return made | {k: v for n, o in names.items() for k, v in both(f"{new}.{n}", f"{old}.{o}", state).items()}


def clip_state(state: State, layers: int) -> State:
    """Return an open_clip CLIP's weights under transformers' names."""
    made = {
        "logit_scale": state["logit_scale"],
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_projection.weight": state["text_projection"].T,
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "visual_projection.weight": state["visual.proj"].T,
        **both("text_model.final_layer_norm", "ln_final", state),
        **both("vision_model.pre_layrnorm", "visual.ln_pre", state),
        **both("vision_model.post_layernorm", "visual.ln_post", state),
    }
    for i in range(layers):
        made |= block(f"text_model.encoder.layers.{i}", f"transformer.resblocks.{i}", state)
        made |= block(f"vision_model.encoder.layers.{i}", f"visual.transformer.resblocks.{i}", state)
    return made


def published_clip_tokenizer(folder: Path) -> dict[str, Any]:
    """Write open_clip's BPE as the hub has it."""
    with gzip.open(open_clips.default_bpe()) as file:
        merges = file.read().decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), encoding="utf-8")
    letters = list(open_clips.bytes_to_unicode().values())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    end = "<|endoftext|>"
    tiny.write_json(folder / "vocab.json", {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", end])})
    ids = {"bos_token": "<|startoftext|>", "eos_token": end, "pad_token": end, "unk_token": end}
    return {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **ids}


def rows(model: Any, images: Any, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return model.encode_images(images).rows, model.encode_texts(texts)


@pytest.mark.parametrize("quick", [False, True])
def test_clip_equals_open_clip_from_files_to_features(
    quick: bool, tmp_path: Path, images: Any, load: Any, cpu: Any
) -> None:
    config = {**open_clip_tiny.CLIP, "quick_gelu": quick}
    net = open_clip_tiny.random_network(tmp_path, config)
    with torch.no_grad():
        net.visual.positional_embedding.normal_(), net.positional_embedding.normal_(), net.text_projection.normal_()
    folder = tmp_path / "open_clip"
    open_clip_tiny.write_folder(folder, config)
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "open_clip_model.safetensors")
    (source,) = model_sources(parse_models(str(folder)))
    own = source.load(cpu)
    assert isinstance(own, OpenClip)

    act = {"hidden_act": "quick_gelu" if quick else "gelu"}
    small = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, **act}
    text = {**small, "vocab_size": 49408, "max_position_embeddings": 16, "eos_token_id": 49407, "bos_token_id": 49406}
    vision = {**small, "image_size": 32, "patch_size": 16}
    made = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    missing, unexpected = made.load_state_dict(clip_state(net.state_dict(), 1), strict=False)
    assert all(name.endswith("position_ids") for name in [*missing, *unexpected])
    processor = tiny.image_processor("CLIPImageProcessor", **tiny.CROPPED)
    theirs = load(tiny.save(tmp_path / "transformers", made, processor, published_clip_tokenizer))
    for found, expected in zip(rows(theirs, images, TEXTS), rows(own, images, TEXTS), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


# SigLIP

TIMM = "vit_cocabench_tests_siglip"


@register_model
def vit_cocabench_tests_siglip(pretrained: bool = False, **options: Any) -> nn.Module:
    """timm's layout of SigLIP's image tower, tiny."""
    options = {
        key: value
        for key, value in options.items()
        if key not in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
    }
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, class_token=False, mlp_ratio=2,
        act_layer=partial(nn.GELU, approximate="tanh"), **{**options, "global_pool": "map"},
    )  # fmt: skip


SIGLIP = {
    "embed_dim": 32,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32,
        "timm_model_name": TIMM,
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 20,
        "vocab_size": 128,
        "width": 32,
        "heads": 2,
        "layers": 2,
        "mlp_ratio": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    },
}


def siglip_state(state: State) -> State:
    """Return the weights of open_clip's SigLIP under transformers' names."""
    trunk, text, head = "visual.trunk", "text", "vision_model.head"
    pool = f"{trunk}.attn_pool"
    made = {
        "logit_scale": state["logit_scale"].view(1),
        "logit_bias": state["logit_bias"].view(1),
        "text_model.embeddings.token_embedding.weight": state["text.token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["text.positional_embedding"],
        "vision_model.embeddings.position_embedding.weight": state[f"{trunk}.pos_embed"][0],
        **both("text_model.final_layer_norm", f"{text}.ln_final", state),
        **both("text_model.head", f"{text}.text_projection", state),
        **both("vision_model.embeddings.patch_embedding", f"{trunk}.patch_embed.proj", state),
        **both("vision_model.post_layernorm", f"{trunk}.norm", state),
        f"{head}.probe": state[f"{pool}.latent"],
        f"{head}.attention.in_proj_weight": torch.cat([state[f"{pool}.q.weight"], state[f"{pool}.kv.weight"]]),
        f"{head}.attention.in_proj_bias": torch.cat([state[f"{pool}.q.bias"], state[f"{pool}.kv.bias"]]),
        **both(f"{head}.attention.out_proj", f"{pool}.proj", state),
        **both(f"{head}.layernorm", f"{pool}.norm", state),
        **both(f"{head}.mlp.fc1", f"{pool}.mlp.fc1", state),
        **both(f"{head}.mlp.fc2", f"{pool}.mlp.fc2", state),
    }
    for i in range(2):
        made |= block(f"text_model.encoder.layers.{i}", f"text.transformer.resblocks.{i}", state)
        new, old = f"vision_model.encoder.layers.{i}", f"{trunk}.blocks.{i}"
        made |= attention(f"{new}.self_attn", state[f"{old}.attn.qkv.weight"], state[f"{old}.attn.qkv.bias"])
        names = {
            "self_attn.out_proj": "attn.proj",
            "layer_norm1": "norm1",
            "layer_norm2": "norm2",
            "mlp.fc1": "mlp.fc1",
            "mlp.fc2": "mlp.fc2",
        }
        made |= {k: v for n, o in names.items() for k, v in both(f"{new}.{n}", f"{old}.{o}", state).items()}
    return made


def test_siglip_equals_open_clip(tmp_path: Path, images: Any, load: Any) -> None:
    """The referee's tokens are sentencepiece's own, of open_clip's canonical texts."""
    import sentencepiece

    net = open_clip_tiny.random_network(tmp_path, SIGLIP)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"pad_token_id": 1, "eos_token_id": 1, "bos_token_id": 1, "projection_size": 32}
    text = {**small, "vocab_size": 128, "max_position_embeddings": 20, **ids}
    made = transformers.SiglipModel(
        transformers.SiglipConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8})
    )
    missing, unexpected = made.load_state_dict(siglip_state(net.state_dict()), strict=False)
    assert all(name.endswith("position_ids") for name in [*missing, *unexpected])
    processor = tiny.image_processor("SiglipImageProcessor", **tiny.HALF)
    model = load(tiny.save(tmp_path / "transformers", made, processor, tiny.siglip_tokenizer))

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "transformers" / "spiece.model"))
    tokens = torch.ones(len(TEXTS), 20, dtype=torch.long)
    for row, given in zip(tokens, TEXTS, strict=True):
        own = pieces.encode(open_clips.canonicalize_text(given))[:19]
        row[: len(own)] = torch.tensor(own)
    preprocess = open_clip.transform.image_transform(
        32, is_train=False, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", resize_mode="squash"
    )
    with torch.no_grad():
        texts = net.encode_text(tokens, normalize=True)
        pixels = torch.stack([preprocess(image.open()) for image in images])
        expected = net.encode_image(pixels, normalize=True)
    np.testing.assert_allclose(model.encode_images(images).rows, expected, atol=1e-5)
    np.testing.assert_allclose(model.texts(TEXTS)["input_ids"], tokens)
    np.testing.assert_allclose(model.encode_texts(TEXTS), texts, atol=1e-5)
