"""A plugin for transformers' CLIPModel, in 60 lines, gives what the network itself gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cocabench.core.types import ImageSource
from cocabench.data.images import FileImage
from cocabench.models.hardware import hardware
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models
from tests.conftest import EXAMPLE, Command

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.usefixtures("example_plugin"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a tiny CLIPModel with random weights, a tokenizer of letters and an image processor."""
    folder = tmp_path_factory.mktemp("clip")
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789 ,"]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(words), "max_position_embeddings": 24, "eos_token_id": 1, "bos_token_id": 0}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=16
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    (source,) = model_sources(parse_models(f"transformers::{folder}"))
    return source.load(hardware(device="cpu", workers=0, batch_size=5))


def test_transformers_adapter_features_equal_the_networks(folder: Path, data: Path) -> None:
    model = load(folder)
    images: list[ImageSource] = [FileImage(path) for path in sorted((data / "images").iterdir())]
    texts = ["a picture of thing 3", "thing", "a picture of thing 3"]
    pixels = torch.stack([model.transform(image.open()) for image in images])
    tokens = model.tokenizer(texts, padding="max_length", max_length=24, return_tensors="pt")
    with torch.no_grad():
        own = model.net(pixel_values=pixels, **tokens)
        pooled = model.net.vision_model(pixel_values=pixels).pooler_output
    np.testing.assert_allclose(model.encode_images(images).rows, own.image_embeds, atol=1e-6)
    np.testing.assert_allclose(model.encode_texts(texts), own.text_embeds, atol=1e-6)
    found = model.encode_images(images, output="pooled", normalize=False).rows
    np.testing.assert_allclose(found, pooled, atol=1e-5)


def test_a_run_names_the_plugins_own_packages(command: Command, folder: Path, data: Path, tmp_path: Path) -> None:
    given = ("--tasks", data / "find.toml", "--data-root", data, "--output", tmp_path, "--json")
    result = command("run", "--model", f"transformers::{folder}", *given)
    assert result.code == 0, result.err
    (record,) = json.loads(result.out)
    assert list(record["signature"]["model"]["packages"]) == ["pillow", "tokenizers", "torch", "transformers"]
    assert record["parameters"]["image_encoder"] > 0
    assert "already done" in command("run", "--model", f"transformers::{folder}", *given[:-1]).err


def test_the_transformers_adapter_is_sixty_lines() -> None:
    assert len((EXAMPLE / "cocabench_pair_choice" / "transformers_clip.py").read_text().splitlines()) <= 60
