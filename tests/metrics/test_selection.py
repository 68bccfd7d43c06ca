"""Image-caption selection: by hand, against clip-benchmark, and for models that know nothing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from clip_benchmark.metrics import image_caption_selection

from cocabench.core.errors import NumericsError
from cocabench.kinds.selection import ACC, MACRO_ACC, ImageCaptionSelection
from cocabench.metrics.base import estimate
from cocabench.metrics.selection import chances, cosines, select


@pytest.mark.parametrize(
    ("scores", "text", "image"),
    [
        ([[0.3, 0.2]], True, True),  # one image, its caption and a negative
        ([[0.2, 0.3]], False, True),
        ([[0.3, 0.2, 0.31]], False, True),
        ([[0.9, 0.1], [0.2, 0.8]], True, True),
        ([[0.9, 0.1], [0.95, 0.96]], True, False),  # the first caption likes the second image better
        ([[0.5, 0.6], [0.4, 0.8]], False, True),  # the first image likes the second caption better
        ([[0.1, 0.9], [0.8, 0.2]], False, False),
        ([[0.5], [0.4], [0.1]], True, True),  # a caption and two images that are none of its
        ([[-9.0, -9.5], [-9.2, -8.0]], True, True),
        ([[0.3, 0.3]], False, True),  # a tie tells nothing apart
        ([[0.3, 0.2], [0.3, 0.4]], True, False),
    ],
)
def test_select_by_hand(scores: list[list[float]], text: bool, image: bool) -> None:
    found = select(np.array([scores]))
    assert (found.text.tolist(), found.image.tolist()) == ([text], [image])


def clip_benchmark(images: np.ndarray, texts: np.ndarray) -> dict[str, float]:
    """Return what clip-benchmark says of features (n, i, d) and (n, c, d), its images being the features themselves."""
    flat = torch.tensor(texts.reshape(-1, texts.shape[2]))
    model = SimpleNamespace(encode_image=lambda pixels: pixels[:, :, 0, 0], encode_text=lambda tokens: flat[tokens])
    pixels = torch.tensor(images)[..., None, None]
    names = [[str(k) for k in row] for row in np.arange(len(flat)).reshape(texts.shape[:2])]
    batch = pixels[:, 0] if images.shape[1] == 1 else pixels
    return dict(
        image_caption_selection.evaluate(
            model, [(batch, names)], lambda texts: torch.tensor([int(text) for text in texts]), "cpu", amp=False
        )
    )


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


@pytest.mark.parametrize(("images", "texts"), [(1, 2), (1, 4), (2, 2), (3, 3), (2, 3), (3, 2)])
def test_it_is_clip_benchmarks(images: int, texts: int) -> None:
    rng, n = np.random.default_rng(images + texts), 200
    seen, read = unit(rng.normal(size=(n, images, 8))), unit(rng.normal(size=(n, texts, 8)))
    pairs = min(images, texts)
    read[:, :pairs] = unit(read[:, :pairs] + 0.7 * seen[:, :pairs])
    flat = read.reshape(-1, 8)
    candidates = np.repeat(np.arange(len(flat)).reshape(n, texts), images, axis=0)
    found = select(cosines(seen.reshape(-1, 8), flat, candidates).reshape(n, images, texts))
    samples = pd.DataFrame(
        {"id": range(n), "image_id": range(n), "text_right": found.text.astype(int), "image_right": found.image}
    )
    ours = {m.name: m.statistic.value(samples) for m in ImageCaptionSelection.declared if m is not MACRO_ACC}
    assert ours == pytest.approx(clip_benchmark(seen, read), abs=1e-7)
    assert 0.1 < ours["text_acc"] < 0.99


def test_a_collapsed_model_scores_zero_but_one_by_argmax() -> None:
    """All texts have one feature. The float32 product need not tie; the exact one does."""
    rng, n = np.random.default_rng(0), 50
    seen = unit(rng.normal(size=(n, 24)))
    read = np.repeat(unit(rng.normal(size=(1, 24))), 2 * n, axis=0)
    found = select(cosines(seen, read, np.arange(2 * n).reshape(n, 2))[:, None])
    assert not found.text.any()
    assert clip_benchmark(seen[:, None], read.reshape(n, 2, 24))["text_acc"] > 0.7


def test_cosines_equal_float64_for_any_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    seen, read = unit(rng.normal(size=(7, 16))), unit(rng.normal(size=(9, 16)))
    candidates = rng.integers(9, size=(7, 3))
    wanted = np.einsum("kd,kmd->km", seen.astype(float), read[candidates].astype(float))
    assert cosines(seen, read, candidates) == pytest.approx(wanted, abs=1e-7)
    monkeypatch.setattr("cocabench.metrics.selection.CAPTIONS_PER_CHUNK", 6)
    assert cosines(seen, read, candidates) == pytest.approx(wanted, abs=1e-7)


def test_nan_is_an_error() -> None:
    with pytest.raises(NumericsError, match="NaN"):
        select(np.array([[[0.1, np.nan]]]))


@pytest.mark.parametrize(("images", "texts"), [(1, 2), (1, 5), (2, 2), (3, 2), (2, 4)])
def test_chances_equal_the_mean_of_random_scores(images: int, texts: int) -> None:
    found = select(np.random.default_rng(0).random((40_000, images, texts)))
    means = {"text_acc": found.text.mean(), "image_acc": found.image.mean(), "acc": (found.text & found.image).mean()}
    known = chances(images, texts)
    assert known
    assert {name: means[name] for name in known} == pytest.approx(known, abs=0.01)


def test_items_of_one_image_depend_on_each_other() -> None:
    """Two items per image that agree tell no more than one: the interval is that of half as many."""
    hits = np.random.default_rng(0).random(100) < 0.6
    rows = {"text_right": np.repeat(hits, 2).astype(int), "image_id": np.repeat(np.arange(100), 2)}
    acc = ACC
    twice = estimate(acc, pd.DataFrame({"id": range(200), **rows}))
    once = estimate(acc, pd.DataFrame({"id": range(100), "image_id": range(100), "text_right": hits.astype(int)}))
    assert (twice.value, twice.n) == (once.value, 100)
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high), abs=0.002)


GROUPED = pd.DataFrame(
    {
        "image_id": ["a", "a", "b", "c", "d"],
        "group": [0, 1, 0, 0, None],
        "text_right": [1, 1, 0, 1, 1],
    }
)
"""A relation of three cases, two of them right; one of a single right case; and a case that counts in none."""


def test_macro_acc_is_the_mean_over_groups_by_hand() -> None:
    found = estimate(MACRO_ACC, GROUPED)
    assert found.value == pytest.approx((2 / 3 + 1) / 2)
    assert found.n == 3, "d is in no group that counts"
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert estimate(ACC, GROUPED).value == pytest.approx(4 / 5)


def test_macro_acc_without_a_group_is_undefined() -> None:
    assert estimate(MACRO_ACC, GROUPED.assign(group=None)).value is None


@pytest.mark.parametrize("scores", [np.full((60, 1, 2), 0.3), np.zeros((60, 1, 5)), np.full((60, 1, 4), -2.0)])
def test_a_constant_model_is_never_right_wherever_the_right_caption_stands(scores: np.ndarray) -> None:
    """ARO's argmax takes the first of equal scores: 0 % right where the right caption is second, 100 % where first."""
    assert not select(scores).text.any()
    assert scores[:, 0].argmax(axis=-1).mean() == 0


def test_pairs_are_colas_and_mmvps_own_rules() -> None:
    """COLA: both captions score their own image higher. MMVP: softmax over images above 1/2 for its own, in both."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(500, 2, 2))
    cola = [s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1] for s in scores]
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    mmvp = (shares[:, 0, 0] > 0.5) & ~(shares[:, 0, 1] > 0.5)
    found = select(scores).image
    assert found.tolist() == cola == mmvp.tolist()
    assert 0.2 < found.mean() < 0.3, "chance is a quarter"
