"""What the launcher mends in open_clip's trainer."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from open_clip import CoCaLoss
from open_clip_train import main as trainer

from cocabench.models.training import batch_for
from cocabench.train import launch
from tests.models.tiny import COCA, random_network

ARGUMENTS = {
    "distill": False,
    "model": "coca_ViT-own",
    "coca_caption_loss_weight": 1.0,
    "coca_contrastive_loss_weight": 0.0,
    "local_loss": False,
    "gather_with_grad": False,
    "rank": 0,
    "world_size": 1,
    "horovod": False,
}


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo after the test what the launcher puts in place."""
    monkeypatch.setattr(trainer, "create_loss", trainer.create_loss)
    parallel = torch.nn.parallel.DistributedDataParallel
    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", parallel)


@pytest.mark.usefixtures("mended")
def test_the_caption_loss_ignores_the_architectures_pad_id() -> None:
    arguments = SimpleNamespace(**ARGUMENTS)
    assert trainer.create_loss(arguments).caption_loss.ignore_index == 0, "open_clip_train: 0 whatever the tokenizer"
    launch.adapt_trainer({"pad_id": 1}, captions_only=False, marker=[])
    loss = trainer.create_loss(arguments)
    logits = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[3, 4, 1, 1], [5, 1, 1, 1]])
    loss_value = loss(None, None, logits, labels, torch.tensor(1.0), output_dict=True)["caption_loss"]
    by_hand = torch.nn.functional.cross_entropy(logits[[0, 0, 1], [0, 1, 0]], torch.tensor([3, 4, 5]))
    assert loss_value.item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_idle_parameters_are_those_without_a_gradient_in_one_process(tmp_path: Path) -> None:
    one, other = random_network(tmp_path, COCA), random_network(tmp_path, COCA)
    images, texts = batch_for(one, 3, "cpu", tokens=16)
    loss = CoCaLoss(caption_loss_weight=1.0, clip_loss_weight=0.0)
    sum(loss(**one(images, texts), output_dict=True).values()).backward()
    launch.freeze_idle(other)
    wanted = {name for name, p in one.named_parameters() if p.grad is None}
    assert {name for name, p in other.named_parameters() if not p.requires_grad} == wanted
    assert "logit_scale" in wanted
    assert "text_decoder.text_projection" not in wanted


def test_the_name_tells_open_clip_the_kind_of_model() -> None:
    assert launch.trainer_name(COCA) == "coca_ViT-own"
    assert launch.trainer_name({"vision_cfg": {"layers": [3, 4, 6, 3]}}) == "clip_RN-own"
