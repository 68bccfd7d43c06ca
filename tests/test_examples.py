"""The programs in examples/ run, and do what they say."""

import io
import runpy
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from clip_benchmark.models.japanese_clip import load_japanese_clip
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

from cocabench.core.errors import ModelError
from cocabench.core.signature import digest_file
from cocabench.data.images import BytesImage
from cocabench.models.hardware import hardware
from cocabench.specs.spec import parse_models
from tests.data.drawing import encoded

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_training_callback_evaluates_and_the_training_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = runpy.run_path(str(EXAMPLES / "training_callback.py"))["main"](steps=2, every=1, limit=20)
    assert [(step, len(results), results[0].model) for step, results in evaluation.results.items()] == [
        (1, 1, "step 1"),
        (2, 1, "step 2"),
    ]
    assert len({results[0].signature.model["weights"] for results in evaluation.results.values()}) == 2
    assert "training mode: True" in capsys.readouterr().out


@pytest.mark.slow
def test_the_notebook_runs_as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = runpy.run_path(str(EXAMPLES / "in_memory.py"))
    assert [record.model for record in names["coca"]] == ["my CoCa"] * 3
    assert set(names["differences"]["task"]) == {"emoji_retrieval", "emoji_flags", "emoji_objects"}
    assert [results[0].model[-2:] for results in names["line"]] == ["0)", "5)", "1)"]
    assert len(names["figure"].axes[0].lines) == 1
    assert "my CoCa" in names["coca"]._repr_html_()


@pytest.mark.slow
def test_a_coca_prefers_what_a_person_wrote() -> None:
    names = runpy.run_path(str(EXAMPLES / "interacting.py"))
    assert names["ranked"]["caption"][0] == names["examples"][0].texts[0]
    assert names["ranked"]["log-likelihood"].is_monotonic_decreasing
    assert names["captions"].shape == (4, 5)
    assert names["probabilities"].sum(axis=1).round(5).tolist() == [1] * 4


@pytest.mark.slow
def test_the_gallery_shows_the_worst_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = runpy.run_path(str(EXAMPLES / "captions.py"))
    assert len(names["figure"].axes) == 6
    assert names["worst"]["cider"].max() <= names["samples"]["cider"].median()
    assert {"CIDEr", "distinct_captions"} <= set(names["numbers"].index)


@pytest.mark.slow
def test_records_are_counted_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    names = runpy.run_path(str(EXAMPLES / "records.py"))
    flags = names["wide"].loc["emoji_flags"].iloc[0]
    both, coca, clip, neither = names["agreement"].values()
    total = both + coca + clip + neither
    assert (round((both + coca) / total, 3), round((both + clip) / total, 3)) == (
        flags["demo/coca"],
        flags["demo/clip"],
    )
    assert "p_adjusted" in names["differences"]


class StandIn(ModuleType):
    """A stand-in of the package japanese_clip, which no index has: its functions as its source has them, a tiny net."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.text = torch.nn.Linear(12, 4), torch.nn.Embedding(50, 4)

        def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.image(pixels.flatten(1))  # type: ignore[no-any-return]

        def get_text_features(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor
        ) -> torch.Tensor:
            rows = self.text(input_ids) * attention_mask[..., None] * (1 + position_ids[..., None])
            return rows.sum(1)  # type: ignore[no-any-return]

    def load(self, name: str, device: object = "cpu", **kwargs: object) -> tuple[Net, object]:
        net = self.Net()
        net.load_state_dict(torch.load(Path(name) / "pytorch_model.bin", weights_only=True))
        return net.eval().requires_grad_(False), Compose([Resize(2), CenterCrop(2), ToTensor()])

    def load_tokenizer(self) -> str:
        return "the tokenizer"

    def tokenize(
        self, texts: list[str], tokenizer: str | None = None, max_seq_len: int = 77, device: object = "cpu"
    ) -> dict[str, torch.Tensor]:
        assert tokenizer == "the tokenizer"
        ids = [[1, *(ord(c) % 50 for c in text[:max_seq_len])] for text in texts]
        ends = [len(row) for row in ids]
        rows = torch.tensor([row + [0] * (max_seq_len + 1 - len(row)) for row in ids])
        places = torch.arange(max_seq_len + 1).expand(len(rows), -1)
        mask = (places < torch.tensor(ends)[:, None]).long()
        return {"input_ids": rows, "attention_mask": mask, "position_ids": places}


def test_rinnas_models_give_what_clip_benchmarks_own_code_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = runpy.run_path(str(EXAMPLES / "japanese_clip" / "cocabench_japanese_clip.py"))
    (spec,) = parse_models(f"japanese_clip::{tmp_path}")
    with pytest.raises(ModelError, match="japanese_clip is not installed; pip install git"):
        names["sources"](spec)
    stand_in = StandIn("japanese_clip")
    stand_in.__spec__ = ModuleSpec("japanese_clip", None)
    monkeypatch.setitem(sys.modules, "japanese_clip", stand_in)
    with pytest.raises(ModelError, match=r"no config\.json and no pytorch_model\.bin there"):
        names["sources"](spec)
    (tmp_path / "config.json").write_text("{}")
    torch.save(StandIn.Net().state_dict(), tmp_path / "pytorch_model.bin")
    (source,) = names["sources"](spec)
    assert source.signature()["weights"] == digest_file(tmp_path / "pytorch_model.bin")
    ours = source.load(hardware(device="cpu", precision="fp32"))
    pictures, texts = [encoded(colour) for colour in ("red", "blue")], ["赤", "青い空"]
    theirs, transform, tokenizer = load_japanese_clip(str(tmp_path), device="cpu")
    pixels = torch.stack([transform(Image.open(io.BytesIO(picture))) for picture in pictures])
    wanted = theirs.encode_image(pixels), theirs.encode_text(tokenizer(texts).to("cpu"))
    found = ours.encode_images([BytesImage(one, "") for one in pictures]).rows, ours.encode_texts(texts)
    for mine, other in zip(found, wanted, strict=True):
        assert np.allclose(mine, torch.nn.functional.normalize(other, dim=-1).numpy(), atol=1e-6)
