"""The near-chance alarm."""

import numpy as np
import pytest

from cocabench.core.types import Chance
from cocabench.kinds.base import near_chance
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.statistics import Hits

ACC1 = Metric("acc1", "Share of hits.", Hits("right"), ("right",))


def alarm(hits: np.ndarray, chance: float) -> list[str]:
    ids = [str(i) for i in range(len(hits))]
    samples = Samples({"id": ids, "image_id": ids, "right": hits})
    return [note.text for note in near_chance(ACC1, samples, Chance(chance))]


@pytest.mark.parametrize(
    ("share", "n", "chance", "rings"),
    [
        (0.0079, 50_000, 0.001, True),  # coca_ViT-B-32's captioning fine-tune on ImageNet, as published
        (0.0214, 5_000, 0.005, True),  # and its t2i_recall@5 on Flickr30k
        (0.6331, 50_000, 0.001, False),  # the same model before
        (0.057, 1_906, 1 / 98, False),
        (0.20, 10, 0.1, True),  # 2 of 10 cannot be told from 1 of 10
        (0.0, 100, 0.1, True),
    ],
)
def test_near_chance_note_only_for_scores_near_chance(share: float, n: int, chance: float, rings: bool) -> None:
    hits = np.zeros(n)
    hits[: round(share * n)] = 1
    assert bool(alarm(hits, chance)) is rings


def test_near_chance_note_states_metric_value_and_chance() -> None:
    (said,) = alarm(np.zeros(10), 0.1)
    assert said.startswith("acc1 of 0 % is near chance (10 %)")
