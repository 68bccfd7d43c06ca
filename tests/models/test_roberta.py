"""A CoCa with a RoBERTa text tower, its config and tokenizer in the folder (as coca_roberta-ViT-B-32, but small)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip("transformers")

from cocabench.models.hardware import hardware
from cocabench.models.open_clip.adapter import sources
from cocabench.models.open_clip.blueprint import blueprint
from cocabench.models.open_clip.build import build_network
from cocabench.models.open_clip.captions import special_ids
from cocabench.specs.spec import parse_model

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "dog", "cat", "red", "bus", "on", "the", "street"]
ROBERTA = {
    "model_type": "roberta",
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 32,
        "layers": 1,
        "width": 32,
        "head_width": 16,
        "patch_size": 16,
        "output_tokens": True,
    },
    "text_cfg": {
        "hf_model_name": ".",
        "hf_tokenizer_name": ".",
        "hf_proj_type": "linear",
        "width": 32,
        "context_length": 20,
        "vocab_size": len(WORDS),
        "output_tokens": True,
    },
    "multimodal_cfg": {"context_length": 20, "vocab_size": len(WORDS), "width": 32, "heads": 2, "layers": 1},
    "custom_text": True,
}


class Noise:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def open(self) -> Image.Image:
        return Image.fromarray(np.random.default_rng(self.seed).integers(0, 255, (32, 32, 3), dtype=np.uint8))


def write_roberta(folder: Path) -> Path:
    """Write a model folder that needs no hub."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder.mkdir(exist_ok=True)
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))
    (folder / "config.json").write_text(json.dumps(ROBERTA))
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {}}))
    (folder / "arch.json").write_text(json.dumps(CONFIG))
    net = build_network(blueprint(parse_model(f"{folder / 'arch.json'}:random@0")))
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_roberta(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_roberta_coca_loads_encodes_and_captions_offline(folder: Path) -> None:
    (source,) = sources(parse_model(str(folder)))
    model = source.load(hardware(device="cpu"))
    assert special_ids(model.tokenizer, model.net) == (0, 2, 1)
    texts = model.encode_texts(["a red bus", "the dog on the street", "a red bus"])
    assert (texts[0] == texts[2]).all()
    assert not np.allclose(texts[0], texts[1])
    written = model.caption([Noise(0), Noise(1)], {"seq_len": 8, "min_seq_len": 3})
    assert len(written.texts) == 2
    assert all(set(text.split()) <= set(WORDS) for text in written.texts)
    assert torch.isfinite(torch.tensor(written.scores)).all()


def test_gflops_of_a_roberta_tower(folder: Path) -> None:
    from cocabench.models.profiling import gflops

    found = gflops(build_network(blueprint(parse_model(str(folder)))))
    assert all(value > 0 for value in found.values())
    assert set(found) == {"image_gflops", "text_gflops", "decoder_gflops", "gflops"}


def test_a_bidirectional_text_tower_gives_a_note(folder: Path) -> None:
    (source,) = sources(parse_model(str(folder)))
    assert [note.code for note in source.load(hardware(device="cpu")).notes] == ["not_causal"]
