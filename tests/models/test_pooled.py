"""Features before the projection: what a tower's own parts give, and one line where the two are one piece."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cocabench.core.errors import ModelError
from cocabench.core.types import ImageSource
from cocabench.data.images import FileImage
from cocabench.models.hardware import hardware
from cocabench.models.open_clip.adapter import sources
from cocabench.models.open_clip.model import OpenClip
from cocabench.specs.spec import parse_model
from tests.models.tiny import CLIP, COCA, VISION, write_architecture

CPU = hardware(device="cpu", batch_size=5, workers=0)


def load(folder: Path, config: dict[str, Any]) -> OpenClip:
    (source,) = sources(parse_model(f"{write_architecture(folder / 'arch.json', config)}:random@0"))
    return source.load(CPU)


@pytest.fixture(scope="module")
def images(data: Path) -> list[ImageSource]:
    return [FileImage(path) for path in sorted((data / "images").iterdir())]


@pytest.mark.parametrize("config", [CLIP, COCA], ids=["clip", "coca"])
def test_projecting_pooled_features_gives_projected_features(
    config: dict[str, Any], images: list[ImageSource], tmp_path: Path
) -> None:
    model = load(tmp_path, config)
    captured: list[torch.Tensor] = []
    last = model.net.visual.ln_post  # of a CoCa: behind its pooler; its first token is the image's
    last.register_forward_hook(
        lambda module, inputs, output: captured.append(output[:, 0] if config is COCA else output)
    )
    pooled = model.encode_images(images, output="pooled", normalize=False)
    assert pooled.rows.shape == (12, 32)
    if config is COCA:
        np.testing.assert_array_equal(pooled.rows, torch.cat(captured).numpy())
    raw = model.encode_images(images, normalize=False).rows
    np.testing.assert_allclose(pooled.rows @ model.net.visual.proj.detach().numpy(), raw, atol=1e-5)
    unit = model.encode_images(images).rows
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 1e-3, "the model's own scale"
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), unit, atol=1e-6)
    own = model.encode_images(images, output="pooled").rows
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, atol=1e-6)


def test_pooled_features_of_timm_towers_and_the_error_of_resnets(images: list[ImageSource], tmp_path: Path) -> None:
    timm = {"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    model = load(tmp_path, {**CLIP, "vision_cfg": timm})
    pooled = model.encode_images(images[:2], output="pooled", normalize=False).rows
    with torch.no_grad():
        projected = model.net.visual.head(torch.from_numpy(pooled)).numpy()
    np.testing.assert_allclose(projected, model.encode_images(images[:2], normalize=False).rows, atol=1e-5)
    resnet = load(tmp_path, {**CLIP, "vision_cfg": {**VISION, "layers": [1, 1, 1, 1]}})
    with pytest.raises(ModelError, match="a model without features before the projection; wanted projected ones"):
        resnet.encode_images(images[:2], output="pooled")
