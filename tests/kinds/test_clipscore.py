"""CLIPScore of the demo's drawings by its models, against the original's formula on open_clip's own features."""

import collections
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

import cocabench
from cocabench import demo
from cocabench.core.errors import SpecError
from cocabench.core.types import Context, Dataset
from cocabench.data.builtin import Emoji
from cocabench.kinds.captioning import Captioning
from cocabench.metrics.base import estimate, stack
from cocabench.models.hardware import hardware
from cocabench.run.prepare import ExtraModel
from cocabench.specs.registry import one_model, read_tasks
from tests.conftest import Command, task
from tests.kinds.test_captioning import Parrot

N = 40


@pytest.fixture(scope="module")
def drawings() -> Dataset:
    whole = Emoji(target="captions", caption_subset=True).build(Path())
    return Dataset(whole.name, whole.split, whole.examples[:N])


def evaluator(**fields: Any) -> Captioning:
    return Captioning(metrics=("CLIPScore", "RefCLIPScore"), **{"clipscore_model": "demo/clip"} | fields)


def score(dataset: Dataset, captions: list[str], **fields: Any) -> dict[str, Any]:
    kind = evaluator(**fields)
    models = {key: one_model(name).load(hardware(device="cpu")) for key, name in kind.extra_models().items()}
    samples = stack(kind.score(Parrot(captions), dataset, Context(models=models)))  # type: ignore[arg-type]
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
def test_clipscore_equals_the_reference_implementation(
    name: str, drawings: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def scorer(name: str, precision: str = "fp32") -> ExtraModel:
    (model,) = evaluator(clipscore_model=name).extra_models().values()
    return ExtraModel.of(model, precision)


def test_the_scorer_is_in_the_protocol_by_its_weights_and_a_precision_that_is_not_fp32() -> None:
    parts = [scorer(name).identity for name in ("demo/clip", "demo/coca")]
    assert parts[0] != parts[1]
    assert all(len(str(part["weights"])) == 16 for part in parts)
    assert scorer(str(demo.model_folder("clip"))).identity == parts[0]
    assert Captioning().extra_models() == {}
    assert scorer("demo/clip", "bf16").identity == {**parts[0], "precision": "bf16"}


def test_an_unavailable_scorer_is_reported_before_the_run() -> None:
    assert scorer("demo/clip").problem == ""
    for name, why in (
        ("ViT-B-32:openai", "run `cocabench setup clipscore ViT-B-32:openai`"),
        ("ViT-B-33", "did you mean ViT-B-32"),
        ("demo", "2 models; wanted one"),
        ("ViT-B-32:/nowhere.pt", "no such file: /nowhere.pt"),
    ):
        found = scorer(name)
        assert found.plan is None
        assert why in found.problem


def test_clipscore_uses_the_runs_hardware_and_is_skipped_without_a_scorer(
    command: Command, tmp_path: Path, data: Path, models: Path
) -> None:
    """The scorer's features go through the run's cache, and its batches are the run's."""
    params = 'metrics = ["CLIPScore", "BLEU@1"]\nclipscore_model = "{}"'
    for task_name, model in (("with", models / "clip"), ("without", "ViT-B-32:openai")):
        text = task(task_name, "captioning", "BLEU@1", 'path = "captions.tsv"', params.format(model))
        (tmp_path / f"{task_name}.toml").write_text(text)
    out = tmp_path / "results"
    tasks = f"{tmp_path / 'with.toml'},{tmp_path / 'without.toml'}"
    given = [
        "run",
        "--model",
        models / "coca",
        "--tasks",
        tasks,
        "--data-root",
        data,
        "--output",
        out,
        "--device",
        "cpu",
    ]
    result = command(*given, "--batch-size", "5", "--quiet")
    assert result.code == 0, result.err
    by_task = {record.task: record for record in cocabench.load(out)}
    assert by_task["with"].metrics["CLIPScore"].n == 12
    assert "precision" not in by_task["with"].signature.protocol["scorer"]  # type: ignore[operator]
    assert "cocabench setup clipscore" in by_task["without"].skipped_metrics["CLIPScore"]
    assert "CLIPScore" not in by_task["without"].metrics


def test_clipscore_without_clipscore_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        'name = "t"\nversion = 1\nevaluator = "captioning"\nsummary = "s"\nprimary = "CLIPScore"\n'
        '[data]\nloader = "emoji"\n[params]\nmetrics = ["CLIPScore"]\n'
    )
    with pytest.raises(SpecError, match=r"params\.clipscore_model: missing; CLIPScore needs a model"):
        read_tasks(tmp_path / "t.toml")
