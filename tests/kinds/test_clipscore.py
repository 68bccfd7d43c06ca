"""CLIPScore of the demo's drawings by its models, against the original's formula on open_clip's own features."""

import collections
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from cocabench import demo
from cocabench.core.errors import SpecError
from cocabench.core.types import Dataset
from cocabench.data.builtin import Emoji
from cocabench.kinds import clipscore
from cocabench.kinds.captioning import Captioning
from cocabench.metrics.base import estimate, stack
from cocabench.models.hardware import hardware
from cocabench.specs.registry import read_tasks
from tests.kinds.test_captioning import Parrot

N = 40


@pytest.fixture(scope="module")
def drawings() -> Dataset:
    whole = Emoji(target="captions", caption_subset=True).build(Path())
    return Dataset(whole.name, whole.split, whole.examples[:N])


def evaluator(**fields: Any) -> Captioning:
    return Captioning(metrics=("CLIPScore", "RefCLIPScore"), **{"clipscore_model": "demo/clip"} | fields)


def score(dataset: Dataset, captions: list[str], **fields: Any) -> dict[str, Any]:
    samples = stack(evaluator(**fields).score(Parrot(captions), dataset))  # type: ignore[arg-type]
    values = {m.name: estimate(m, samples).value for m in evaluator(**fields).metrics(dataset)}
    return values | {"rows": samples[["clip_score", "ref_clip_score"]].to_numpy()}


def original(name: str, dataset: Dataset, captions: list[str]) -> np.ndarray:
    """As clipscore.py of Hessel et al. has it, in fp32, on open_clip's own model, tokenizer and transform."""
    location = f"local-dir:{demo.model_folder(name)}"
    net, transform = open_clip.create_model_from_pretrained(location)
    net.eval()
    tokenizer = open_clip.get_tokenizer(location)

    def encoded(texts: list[str]) -> np.ndarray:
        with torch.no_grad():
            found = net.encode_text(tokenizer(["A photo depicts " + text for text in texts])).numpy()
        return found / np.sqrt(np.sum(found**2, axis=1, keepdims=True))

    with torch.no_grad():
        images = net.encode_image(torch.stack([transform(e.image.open()) for e in dataset.examples])).numpy()
    images = images / np.sqrt(np.sum(images**2, axis=1, keepdims=True))
    candidates = encoded(captions)
    per = 2.5 * np.clip(np.sum(images * candidates, axis=1), 0, None)
    flattened = [(i, text) for i, e in enumerate(dataset.examples) for text in e.texts]
    by_candidate = collections.defaultdict(list)
    for (i, _), row in zip(flattened, encoded([text for _, text in flattened]), strict=True):
        by_candidate[i].append(row)
    closest = np.array([np.max(c.dot(np.vstack(by_candidate[i]).T)) for i, c in enumerate(candidates)])
    closest = np.clip(closest, 0, None)  # in the paper; the program leaves it out
    with np.errstate(invalid="ignore"):
        return np.column_stack([per, np.nan_to_num(2 * per * closest / (per + closest))])


@pytest.mark.parametrize("name", demo.MODELS)
def test_equals_the_original_formula(name: str, drawings: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = [example.texts[0] for example in drawings.examples[::-1]]
    found = score(drawings, captions, clipscore_model=f"demo/{name}")
    monkeypatch.chdir(demo.model_folder(name))  # where open_clip looks for the merges that the config names
    expected = original(name, drawings, captions)
    assert found["rows"] == pytest.approx(expected, abs=2e-5)
    assert [found["CLIPScore"], found["RefCLIPScore"]] == pytest.approx(expected.mean(axis=0), abs=2e-5)


def test_shuffled_captions_score_much_lower(drawings: Dataset) -> None:
    right = [example.texts[0] for example in drawings.examples]
    good, bad = score(drawings, right), score(drawings, right[1:] + right[:1])
    assert good["CLIPScore"] > bad["CLIPScore"] + 0.2
    assert good["RefCLIPScore"] > bad["RefCLIPScore"] + 0.2


def test_the_scorer_is_in_the_protocol_by_its_weights_and_kept(drawings: Dataset) -> None:
    parts = [evaluator(clipscore_model=name).protocol(drawings)["scorer"] for name in ("demo/clip", "demo/coca")]
    assert parts[0] != parts[1]
    assert all(len(part["weights"]) == 16 for part in parts)  # type: ignore[index, call-overload, arg-type]
    folder = str(demo.model_folder("clip"))
    assert evaluator(clipscore_model=folder).protocol(drawings)["scorer"] == parts[0]
    assert "scorer" not in Captioning().protocol(drawings)
    cpu = hardware(device="cpu")
    assert clipscore.scorer("demo/clip", cpu) is clipscore.scorer("demo/clip", cpu)


def test_what_cannot_score_is_said_beforehand(drawings: Dataset) -> None:
    assert evaluator().unavailable() == {}
    for name, why in (
        ("ViT-B-32:openai", "run `cocabench setup clipscore ViT-B-32:openai`"),
        ("ViT-B-33", "did you mean ViT-B-32"),
        ("demo", "2 models; wanted one"),
        ("ViT-B-32:/nowhere.pt", "no file /nowhere.pt"),
    ):
        missing = evaluator(clipscore_model=name).unavailable()
        assert set(missing) == {"CLIPScore", "RefCLIPScore"}
        assert why in missing["CLIPScore"]


def test_a_task_that_names_no_scorer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        'name = "t"\nversion = 1\nevaluator = "captioning"\nsummary = "s"\nprimary = "CLIPScore"\n'
        '[data]\nloader = "emoji"\n[params]\nmetrics = ["CLIPScore"]\n'
    )
    with pytest.raises(SpecError, match="clipscore_model: missing; CLIPScore needs one"):
        read_tasks(tmp_path / "t.toml")
