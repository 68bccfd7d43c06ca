"""Every number equals clip-benchmark's and open_clip's on the same weights and data, in fp32, to 1e-6.

The goldens come from the pinned environment (``python -m tests.reference.environment`` writes them anew); the slow test
makes them again and compares. Where ties decide, clip-benchmark's value lies between our bounds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cocabench.core.types import Context, Dataset, Model
from cocabench.kinds.captioning import Captioning
from cocabench.kinds.classification import Classification
from cocabench.kinds.retrieval import Retrieval
from cocabench.metrics.base import Samples, estimate, stack
from cocabench.metrics.classification import ranks_of
from cocabench.models.hardware import hardware
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models
from tests.reference import environment, exam

MODELS = ("coca", "clip")


@pytest.fixture(scope="module")
def data() -> dict[str, Dataset]:
    return exam.datasets()


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> Model:
    return model_sources(parse_models(f"demo/{name}"))[0].load(hardware(device="cpu", precision="fp32"))


@pytest.fixture(scope="module")
def golden(name: str) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(environment.GOLDENS.read_text())["results"][name])


def test_features_equal_open_clips(model: Model, data: dict[str, Dataset], golden: dict[str, Any]) -> None:
    examples = data["retrieval"].examples[:8]
    images = model.encode_images([e.image for e in examples]).rows
    texts = model.encode_texts([e.texts[0] for e in examples])
    assert images == pytest.approx(np.array(golden["features"]["images"]), abs=2e-6)
    assert texts == pytest.approx(np.array(golden["features"]["texts"]), abs=2e-6)


@pytest.mark.parametrize("part", ["classification", pytest.param("subgroups", marks=pytest.mark.slow)])
def test_classification_equals_clip_benchmark(
    model: Model, data: dict[str, Dataset], golden: dict[str, Any], part: str
) -> None:
    evaluator = Classification()
    samples = stack(evaluator.score(model, data[part], Context()))
    for metric in evaluator.metrics(data[part]):
        assert estimate(metric, samples).value == pytest.approx(golden[part][metric.name], abs=1e-6)


@pytest.mark.slow
def test_multilabel_equals_clip_benchmark(model: Model, data: dict[str, Dataset], golden: dict[str, Any]) -> None:
    evaluator = Classification(multilabel=True)
    samples = stack(evaluator.score(model, data["multilabel"], Context()))
    (metric,) = evaluator.metrics(data["multilabel"])
    assert metric.statistic.value(samples) == pytest.approx(golden["multilabel"]["mean_average_precision"], abs=1e-6)


@pytest.mark.slow
def test_retrieval_equals_clip_benchmark_or_holds_it_between_its_bounds(
    model: Model, data: dict[str, Dataset], golden: dict[str, Any]
) -> None:
    evaluator = Retrieval(ks=(1, 5, 10))
    samples = stack(evaluator.score(model, data["retrieval"], Context()))
    metrics = evaluator.metrics(data["retrieval"])
    found = {metric.name: metric.statistic.value(metric.rows(samples)) for metric in metrics}
    for direction, theirs in (("t2i", "image"), ("i2t", "text")):
        for k in (1, 5, 10):
            worst, best = bounds(samples, direction, k)
            assert worst - 1e-6 <= golden["retrieval"][f"{theirs}_retrieval_recall@{k}"] <= best + 1e-6
            if worst == best:
                assert found[f"{direction}_recall@{k}"] == pytest.approx(worst, abs=1e-12)
    assert samples["t2i_tied_negatives"].sum() > 0, "Twemoji draws some flags twice"
    assert samples["i2t_identical"].sum() > 0, "the exam lets images share captions"


def bounds(samples: Samples, direction: str, k: int) -> tuple[float, float]:
    """Return recall@K with every tie lost, and with every tie won."""
    ranks = ranks_of(samples[samples[f"{direction}_n_above"].notna()], f"{direction}_")
    return float(np.mean(ranks.n_above + ranks.tied_negatives < k)), float(np.mean(ranks.n_above < k))


@pytest.mark.slow
def test_captions_and_their_scores_equal_upstreams(data: dict[str, Dataset]) -> None:
    golden = json.loads(environment.GOLDENS.read_text())["results"]["coca"]
    coca = model_sources(parse_models("demo/coca"))[0].load(hardware(device="cpu", precision="fp32"))
    evaluator = Captioning(metrics=tuple(golden["captioning"]))  # type: ignore[call-arg]
    samples = stack(evaluator.score(coca, data["captioning"], Context()))
    assert samples["caption"].tolist() == golden["captions"]
    found = {metric.name: metric.statistic.value(samples) for metric in evaluator.metrics(data["captioning"])}
    assert {name: found[name] for name in golden["captioning"]} == pytest.approx(golden["captioning"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.reference
def test_the_referee_says_today_what_the_goldens_say(tmp_path: Path) -> None:
    golden, live = json.loads(environment.GOLDENS.read_text()), environment.referee(exam.write(tmp_path / "exam"))
    assert live["versions"] == golden["versions"]
    for name in MODELS:
        assert live["results"][name].pop("captions", None) == golden["results"][name].pop("captions", None)
        for kind, rows in golden["results"][name].pop("features").items():
            assert np.array(live["results"][name]["features"][kind]) == pytest.approx(np.array(rows), abs=2e-6)
        for part, values in golden["results"][name].items():
            assert live["results"][name][part] == pytest.approx(values, abs=1e-6)
