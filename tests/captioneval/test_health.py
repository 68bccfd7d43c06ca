import pandas as pd
import pytest

from cocabench import captioneval as captions
from cocabench.captioneval import health
from cocabench.metrics.base import estimate

SAID = ["A dog runs.", "a dog a dog in snow", "", "A dog runs.", "the very very old man's hat"]
REFERENCES = [["a dog runs fast"], ["dogs play in snow"], ["a hat"], ["a dog"], ["an old man", "hat"]]


def samples(texts: list[str] = SAID, truncated: tuple[bool, ...] = ()) -> pd.DataFrame:
    ids = [str(i) for i in range(len(texts))]
    columns = health.statistics(texts, truncated)
    references = (REFERENCES * len(texts))[: len(texts)]
    return pd.DataFrame({"id": ids, "image_id": ids, "caption": texts, "references": references, **columns})


def notes_of(frame: pd.DataFrame) -> list[str]:
    return [note.text for note in health.notes(frame)]


def values(frame: pd.DataFrame) -> dict[str, float | None]:
    return {metric.name: estimate(metric, frame).value for metric in captions.declared(captions.HEALTH)}


def test_worked_by_hand() -> None:
    """The references have 12 words; a, dog, runs, in, snow, old and hat are used."""
    assert values(samples(truncated=(False, True, False, False, False))) == {
        "distinct_captions": pytest.approx(4 / 5),
        "repetitive_captions": pytest.approx(2 / 5),
        "empty_captions": pytest.approx(1 / 5),
        "truncated_captions": pytest.approx(1 / 5),
        "caption_words": pytest.approx((3 + 6 + 0 + 3 + 6) / 5),
        "reference_vocabulary": pytest.approx(7 / 12),
    }


def test_truncation_is_undefined_if_the_captioner_does_not_report_it() -> None:
    found = {m.name: estimate(m, samples()) for m in captions.declared(captions.HEALTH)}
    assert (found["truncated_captions"].value, found["truncated_captions"].n) == (None, 0)
    assert found["distinct_captions"].low is None


@pytest.mark.parametrize(
    ("caption", "repeated"),
    [
        ("a man and a man", False),
        ("a man a man", True),
        ("a red dog, a red dog", True),
        ("one two three four one two three four", True),
        ("one two three four five one two three four five", False),
        ("Dog dog", True),
        ("", False),
    ],
)
def test_a_phrase_said_twice_in_a_row(caption: str, repeated: bool) -> None:
    assert health.repeats(caption) is repeated


def test_health_notes() -> None:
    healthy = [f"picture number {i}" for i in range(40)]
    assert notes_of(samples(healthy, (True, True) + (False,) * 38)) == []
    assert notes_of(samples(["a dog"] * 40)) == ["1 distinct caption for 40 images, most often 'a dog'"]
    assert notes_of(samples([*healthy[:39], ""])) == ["1 of 40 captions is empty"]
    looped = notes_of(samples([*healthy[:37], *["so so"] * 3]))
    assert looped == ["3 of 40 captions are repeating a phrase, for example 'so so'"]
    cut = notes_of(samples(healthy, (True,) * 3 + (False,) * 37))
    assert cut == ["3 of 40 captions are cut at the length limit, for example 'picture number 0'"]


def test_health_metrics_have_the_role_health() -> None:
    assert {metric.info.kind for metric in captions.declared(captions.HEALTH)} == {"health"}
    assert {metric.info.kind for metric in captions.declared(captions.ALL)} == {"quality"}
