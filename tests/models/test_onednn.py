"""Networks by oneDNN: the features of torch's own layers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cocabench.models.open_clip import onednn
from tests.models.tiny import CLIP, COCA, VISION, random_network

NETWORKS: dict[str, dict[str, Any]] = {
    "clip": CLIP,
    "coca": COCA,
    "custom blocks": {**CLIP, "vision_cfg": {**VISION, "qk_norm": True}},
    "timm": {**CLIP, "vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "image_size": 224}},
    "resnet": {**CLIP, "vision_cfg": {**VISION, "layers": [1, 1, 1, 1]}},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_onednn_features_equal_torchs(tmp_path: Path, name: str) -> None:
    net = random_network(tmp_path, NETWORKS[name])
    size = net.visual.image_size if isinstance(net.visual.image_size, int) else net.visual.image_size[0]
    pixels = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(1, 49407, (3, net.context_length if name != "coca" else net.text.context_length))
    tokens[:, -1] = 49407
    with torch.inference_mode():
        images, texts = net.encode_image(pixels), net.encode_text(tokens)
        with onednn.Layers(net)():
            assert any("forward" in vars(module) for module in net.modules())
            assert (net.encode_image(pixels) - images).abs().max() < 1e-5 * images.abs().max()
            assert (net.encode_text(tokens) - texts).abs().max() < 1e-5 * texts.abs().max()
    assert not any("forward" in vars(module) for module in net.modules())
