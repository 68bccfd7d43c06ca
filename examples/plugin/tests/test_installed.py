"""The installed package: loader, kind and model library run together, and features are the network's."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from x_clip import CLIP

import cocabench
from cocabench.core.errors import DataError, ModelError
from cocabench.data.images import FileImage
from cocabench.models.hardware import hardware
from cocabench.specs.registry import one_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
CONFIG = {
    "dim_text": 32,
    "dim_image": 32,
    "dim_latent": 16,
    "num_text_tokens": 49408,
    "text_enc_depth": 1,
    "text_seq_len": 12,
    "text_heads": 2,
    "visual_enc_depth": 1,
    "visual_heads": 2,
    "visual_image_size": 32,
    "visual_patch_size": 16,
}
TASK = """
name = "mine"
version = 1
evaluator = "pair_choice"
summary = "Two captions of each drawing."
primary = "pair_accuracy"
[data]
loader = "pairs"
path = "drawings"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a checkpoint, two images with captions, and a task."""
    torch.manual_seed(0)
    net = CLIP(**CONFIG)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG))
    save_file(
        {key: value.contiguous() for key, value in net.state_dict().items()}, tmp_path / "model/weights.safetensors"
    )
    (tmp_path / "drawings").mkdir()
    for name, colour in (("sun", "yellow"), ("sky", "blue")):
        Image.new("RGB", (40, 30), colour).save(tmp_path / "drawings" / f"{name}.png")
    (tmp_path / "drawings" / "pairs.txt").write_text("sun.png\ta sun\ta moon\nsky.png\tthe sky\tthe sea\n")
    (tmp_path / "mine.toml").write_text(TASK)
    return tmp_path


def test_features_equal_the_networks(folder: Path) -> None:
    model = one_model(f"x_clip::{folder / 'model'}").load(hardware(device="cpu", workers=0))
    images, texts = [FileImage(folder / "drawings" / f"{name}.png") for name in ("sun", "sky")], ["a sun", "the sky"]
    pixels = torch.stack([model.transform(image.open()) for image in images])
    with torch.no_grad():
        wanted = model.net(model.tokens(texts, pad_to_context_length=True), pixels, return_latents=True)
    np.testing.assert_allclose(model.encode_texts(texts), wanted[0], atol=1e-6)
    np.testing.assert_allclose(model.encode_images(images).rows, wanted[1], atol=1e-6)


def test_a_run_has_two_images_and_names_the_packages(folder: Path) -> None:
    (record,) = cocabench.evaluate(f"x_clip::{folder / 'model'}", str(folder / "mine.toml"), data_root=folder)
    assert record.metrics["pair_accuracy"].n == 2
    assert {"cocabench-pair-choice", "x-clip"} <= set(record.signature.model["packages"])


def test_bad_input_is_one_line(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"no config.json there; wanted a folder"):
        cocabench.evaluate("x_clip::nowhere", str(folder / "mine.toml"), data_root=folder)
    (folder / "drawings" / "pairs.txt").write_text("sun.png\ta sun\n")
    with pytest.raises(DataError, match=r"pairs.txt:1: 2 columns; wanted image, caption and wrong caption"):
        cocabench.evaluate(f"x_clip::{folder / 'model'}", str(folder / "mine.toml"), data_root=folder)
