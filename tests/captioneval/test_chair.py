"""CHAIR: the authors' rules and examples by hand, numbers with no object and with none that is there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cocabench.captioneval.chair import METRICS, Vocabulary, statistics
from cocabench.metrics.base import estimate

WORDS = {
    **dict.fromkeys(("person", "man", "woman", "people", "child", "baby"), "person"),
    **dict.fromkeys(("dog", "puppy"), "dog"), "cat": "cat", "bird": "bird", "hot dog": "hot dog", "sheep": "sheep",
    **dict.fromkeys(("chair", "seat"), "chair"), "toilet": "toilet", "bus": "bus", "knife": "knife", "glass": "cup",
    "wine glass": "wine glass", "tie": "tie", "skis": "skis", "ski": "skis", "train": "train", "bench": "bench",
    "orange": "orange", "scissors": "scissors", "traffic light": "traffic light",
}  # fmt: skip


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("A man with two dogs.", ["person", "dog"]),
        ("Puppies, KNIVES and buses on benches", ["dog", "knife", "bus", "bench"]),
        ("hot dogs beside a dog", ["hot dog", "dog"]),  # a hot dog is no dog
        ("a baby bird and a baby", ["bird", "person"]),  # the first baby is no person
        ("a passenger train", ["train"]),
        ("a man in a bow tie", ["person", "tie"]),
        ("a toilet seat", ["toilet"]),
        ("a toilet with its seat up", ["toilet"]),  # the seat is no chair
        ("a seat", ["chair"]),
        ("wine glasses and a glass", ["wine glass", "cup"]),
        ("blue skies over a man on skis", ["person", "skis"]),  # skies are no skis
        ("the dog's dog, a sheep and oranges", ["dog", "dog", "sheep", "orange"]),  # each mention counts
        ("scissors, women, children", ["scissors", "person", "person"]),
        ("traffic lights", ["traffic light"]),
        ("a doggy catalogue", []),
        ("", []),
    ],
)
def test_the_objects_that_a_caption_names(caption: str, objects: list[str]) -> None:
    assert Vocabulary(WORDS).named(caption).objects == objects


def measured(*rows: tuple[str, list[str], list[str]]) -> tuple[dict[str, float | None], pd.DataFrame]:
    captions, references, objects = zip(*rows, strict=True)
    found = statistics(captions, references, objects, WORDS)
    samples = pd.DataFrame([{"id": str(k), "image_id": str(k), **row} for k, row in enumerate(found)])
    return {metric.name: estimate(metric, samples).value for metric in METRICS}, samples


def test_chair_by_hand() -> None:
    """Four mentions, one of what is neither annotated nor in a reference; a caption of no object counts in CHAIRs."""
    found, samples = measured(
        ("a man with a dog", ["someone walks a puppy"], ["person"]),  # the dog is in the reference only
        ("two cats, a dog and a wall", [], ["cat"]),
        ("a blue wall", [], ["cat"]),
    )
    assert samples["hallucinated"].tolist() == [[], ["dog"], []]
    assert found == {"CHAIRi": pytest.approx(1 / 4), "CHAIRs": pytest.approx(1 / 3)}
    found, samples = measured(("a cat, a cat and a hot dog", [], []), ("a man", [], ["person"]), ("a bus", [], ["bus"]))
    assert samples["hallucinated"].tolist() == [["cat", "cat", "hot dog"], [], []]
    assert found == {"CHAIRi": pytest.approx(3 / 5), "CHAIRs": pytest.approx(1 / 3)}


def test_captions_that_name_nothing_have_no_chairi_and_those_that_only_invent_have_one() -> None:
    assert measured(("a wall", [], ["cat"]), ("", [], []))[0] == {"CHAIRi": None, "CHAIRs": 0}
    assert measured(("a cat", [], []), ("dogs", [], ["bus"]))[0] == {"CHAIRi": 1, "CHAIRs": 1}


def test_a_constant_captioner_hallucinates_wherever_its_object_is_not() -> None:
    objects = [["cat"] if k % 4 == 0 else ["dog"] for k in range(40)]
    found, samples = measured(*(("a cat", [], own) for own in objects))
    assert found == {"CHAIRi": 0.75, "CHAIRs": 0.75}
    low, high = estimate(METRICS[0], samples).low, estimate(METRICS[0], samples).high
    assert low is not None
    assert high is not None
    assert 0.5 < low < 0.75 < high < 0.9


def test_the_influence_of_a_caption_is_what_leaving_it_out_changes() -> None:
    _, samples = measured(*((text, [], ["dog"]) for text in ("a dog", "a cat and a dog", "a cat", "a wall") * 10))
    influence = METRICS[0].statistic.influence(samples)
    assert influence is not None
    assert influence.sum() == pytest.approx(0)
    without = estimate(METRICS[0], samples.iloc[1:]).value
    value = estimate(METRICS[0], samples).value
    assert value is not None
    assert without is not None
    assert np.isclose(value - without, influence[0], rtol=0.05)
