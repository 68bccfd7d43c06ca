import numpy as np
import pytest

from cocabench import captioneval as captions
from cocabench.captioneval import clipscore
from cocabench.metrics.base import estimate


def unit(*rows: tuple[float, float]) -> np.ndarray:
    array = np.array(rows, np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_worked_by_hand() -> None:
    """cos = 1, 0.6 and -1; the closest references have cos 0.6, 0 and 1."""
    images, mine = unit((1, 0), (1, 0), (1, 0)), unit((1, 0), (3, 4), (-1, 0))
    scores = clipscore.image_scores(images, mine)
    assert scores == pytest.approx([2.5, 1.5, 0.0])
    references = unit((3, 4), (0, 1), (4, -3), (-1, 0))
    both = clipscore.reference_scores(scores, mine, references, [0, 0, 1, 2])
    assert both == pytest.approx([2 * 2.5 * 0.6 / 3.1, 0.0, 0.0], abs=1e-7)


def test_a_negative_cosine_with_every_reference_counts_as_none() -> None:
    mine = unit((1, 0))
    assert clipscore.reference_scores(np.array([1.0]), mine, unit((-1, 0)), [0]) == pytest.approx([0.0])


def test_without_a_reference_or_an_image_it_is_undefined() -> None:
    mine = unit((1, 0), (1, 0))
    found = clipscore.reference_scores(np.array([1.0, np.nan]), mine, unit((1, 0)), [1])
    assert np.isnan(found).all()


def test_the_declared_metrics_are_means_that_leave_out_the_undefined() -> None:
    import pandas as pd

    samples = pd.DataFrame({"id": ["a", "b"], "image_id": ["a", "b"], "clip_score": [0.5, np.nan]})
    (metric, _) = captions.declared(captions.MODEL_BASED)
    assert (estimate(metric, samples).value, estimate(metric, samples).n) == (0.5, 1)
    assert captions.protocol(["CLIPScore"]) == {"CLIPScore": "CLIPScore w=2.5, prompt 'A photo depicts '"}
