"""The alarms: a score near chance or no better than the largest class, and one answer for nearly everything."""

import numpy as np
import pandas as pd
import pytest

from cocabench.core.formatting import number
from cocabench.core.types import Chance, Dataset, Example
from cocabench.data.images import BytesImage
from cocabench.kinds.base import near_chance, notes_of
from cocabench.kinds.classification import Classification
from cocabench.kinds.retrieval import Retrieval
from cocabench.metrics.base import Metric, estimate, stack
from cocabench.metrics.statistics import Hits

ACC1 = Metric("acc1", "Share of hits.", Hits("right"), ("right",))


def alarm(hits: np.ndarray, chance: float) -> list[str]:
    ids = [str(i) for i in range(len(hits))]
    samples = pd.DataFrame({"id": ids, "image_id": ids, "right": hits})
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
    assert said.startswith("acc1 of 0.0 % is near chance (10 %)")


@pytest.mark.parametrize(("n", "chance"), [(2, 0.5), (3, 0.5), (1, 0.3)])
def test_of_too_few_images_not_even_a_perfect_score_rings(n: int, chance: float) -> None:
    assert alarm(np.ones(n), chance) == []


def classified(truth: str, answers: str, **params: object) -> list[str]:
    """Return the notes of images of the classes a, b and c, as letters, on what a model took them for."""
    names = "abc"
    examples = [Example(f"{i}", BytesImage(b"", "x"), label=names.index(name)) for i, name in enumerate(truth)]
    rows = [
        {
            "id": e.id,
            "image_id": e.id,
            "label": e.label,
            "label_name": name,
            **dict.fromkeys(("tied_negatives", "identical", "tied_positives"), 0),
            "n_above": int(name != answer),
            "top5_names": [answer, *(other for other in names if other != answer)],
        }
        for e, name, answer in zip(examples, truth, answers, strict=True)
    ]
    kind, data = Classification(templates="cifar10", **params), Dataset("d", "test", examples, tuple(names))
    return [f"{n.code}: {n.text}" for n in notes_of(kind, data, pd.DataFrame(rows), kind.metrics(data), primary="acc1")]


def test_a_collapsed_model_on_unequal_classes_is_told_apart_from_a_good_one() -> None:
    """123 of 125 predictions are the largest class: acc1 is far above 1 of 3, and says nothing."""
    truth = "a" * 80 + "b" * 30 + "c" * 15
    assert classified(truth, "a" * 123 + "bc") == [
        "majority_class: acc1 of 64.8 % is no better than always answering 'a' (64.0 %)",
        "one_answer: 123 of 125 images are classified as 'a'",
    ]
    assert classified(truth, truth) == []
    assert classified(truth, "a" * 75 + "bbbcc" + "b" * 28 + "ac" + "c" * 15) == []
    assert classified(truth, "a" * 123 + "bc", near_chance_expected=True) == [
        "one_answer: 123 of 125 images are classified as 'a'"
    ]


@pytest.mark.parametrize(
    ("truth", "answers", "codes"),
    [
        ("a" * 100 + "b" * 4, "a" * 104, ["majority_class"]),  # nearly all are a: the answers may be
        ("ab" * 50, "a" * 95 + "b" * 5, ["majority_class", "one_answer"]),
        ("ab" * 50, "a" * 85 + "b" * 15, ["majority_class"]),
        ("abc" * 30, "a" * 85 + "b" * 5, ["near_chance", "one_answer"]),
        ("ab" * 4, "a" * 8, ["near_chance"]),  # eight images
        ("c" * 40, "c" * 40, []),
    ],
)
def test_one_answer_for_nearly_all_is_said(truth: str, answers: str, codes: list[str]) -> None:
    found = [note.partition(":")[0] for note in classified(truth, answers)]
    assert [code for code in found if code != "classes_without_images"] == codes


class Fixed:
    """A model of given features."""

    def __init__(self, images: np.ndarray, texts: np.ndarray) -> None:
        self.images, self.texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts))

    def encode_images(self, images: object, **_: object) -> object:
        from cocabench.core.types import ImageFeatures

        return ImageFeatures(self.images.astype(np.float32), np.arange(len(self.images)))

    def encode_texts(self, texts: object, **_: object) -> np.ndarray:
        return self.texts.astype(np.float32)


def retrieved(images: np.ndarray, texts: np.ndarray, primary: str = "t2i_recall@5", **params: object):
    """Return the notes and printed numbers of a retrieval among n images with as many captions each as fit."""
    per = len(texts) // len(images)
    rows = [Example(f"i{i}", BytesImage(b"", "x"), tuple(f"c{i} {k}" for k in range(per))) for i in range(len(images))]
    kind, data = Retrieval(**params), Dataset("d", "test", rows)
    from cocabench.core.types import Context

    samples = stack(kind.score(Fixed(images, texts), data, Context()))  # type: ignore[arg-type]
    numbers = {m.name: number(estimate(m, samples), m.info) for m in kind.metrics(data)}
    return notes_of(kind, data, samples, kind.metrics(data), primary=primary), numbers


def test_retrieval_near_chance_quotes_the_primary_metric_as_the_table_prints_it() -> None:
    rng = np.random.default_rng(3)
    notes, numbers = retrieved(rng.normal(size=(60, 8)), rng.normal(size=(300, 8)))
    (near,) = (note.text for note in notes if note.code == "near_chance")
    shown = numbers["t2i_recall@5"].partition(" ")[0]
    assert near.startswith(f"t2i_recall@5 of {shown} % is near chance (8.33 %)")
    notes, numbers = retrieved(rng.normal(size=(60, 8)), rng.normal(size=(300, 8)), primary="i2t_recall@10")
    (near,) = (note.text for note in notes if note.code == "near_chance")
    chance = 100 * (1 - np.prod([(295 - k) / (300 - k) for k in range(10)]))
    assert near.startswith(
        f"i2t_recall@10 of {numbers['i2t_recall@10'].partition(' ')[0]} % is near chance ({chance:.3g}"
    )
    notes, _ = retrieved(rng.normal(size=(60, 8)), rng.normal(size=(300, 8)), primary="t2i_median_rank")
    assert {note.text.split()[0] for note in notes if note.code == "near_chance"} == {
        "t2i_recall@10",
        "i2t_recall@10",
        "mean_recall@10",
    }


@pytest.mark.parametrize("n", [2, 3, 60])
def test_perfect_retrieval_rings_no_alarm(n: int) -> None:
    assert retrieved(np.eye(n), np.eye(n))[0] == []


def test_a_hub_that_nearly_all_queries_retrieve_is_said() -> None:
    """One image is nearest to all captions, or one caption to all images; the right ones come second."""
    n = 40
    spokes, hub = np.eye(n) * 1.0, np.eye(n) * 0.3
    spokes[1:, 0], hub[:, 0] = 0.1, 1.0
    (note,) = (note for note in retrieved(spokes, hub)[0] if note.code == "one_answer")
    assert note.text == "40 of 40 captions retrieve the image 'i0'"
    (note,) = (note for note in retrieved(hub, spokes)[0] if note.code == "one_answer")
    assert note.text == "40 of 40 images retrieve a caption of 'i0'"


def test_equal_features_ring_both_alarms() -> None:
    collapsed = retrieved(np.ones((40, 4)), np.ones((40, 4)))[0]
    assert {note.code for note in collapsed} == {"near_chance", "one_answer"}
