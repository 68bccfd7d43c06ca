"""Any data set's fingerprint, its random subsets, and short ids of its images."""

from dataclasses import replace
from pathlib import Path

import pytest

from cocabench.core.errors import DataError, UsageError
from cocabench.core.types import Dataset, Example
from cocabench.data.base import fingerprint, limited, readable, short_ids
from cocabench.data.images import BytesImage, FileImage
from tests.data.drawing import encoded

IMAGE = BytesImage(encoded(), "memory")


def dataset(*examples: Example) -> Dataset:
    return Dataset("x", "test", examples, ("a", "b"))


A = Example("1", IMAGE, ("x", "y"), 1, "in-domain")
B = Example("2", IMAGE, ("z",), 0)
CHANGES = {
    "order": (B, A),
    "id": (replace(A, id="9"), B),
    "text": (replace(A, texts=("x", "Y")), B),
    "a text moved to the next image": (replace(A, texts=("x",)), replace(B, texts=("y", "z"))),
    "texts joined": (replace(A, texts=("xy",)), B),
    "label": (replace(A, label=0), B),
    "multi-label": (replace(A, label=(1,)), B),
    "domain": (replace(A, domain=""), B),
}


def test_fingerprint_counts() -> None:
    found = fingerprint(dataset(A, B))
    assert {k: v for k, v in found.items() if k != "hash"} == {"images": 2, "texts": 3, "classes": 2}


@pytest.mark.parametrize("examples", CHANGES.values(), ids=CHANGES)
def test_fingerprint_changes_with_anything_that_can_move_a_number(examples: tuple[Example, ...]) -> None:
    assert fingerprint(dataset(*examples))["hash"] != fingerprint(dataset(A, B))["hash"]


def test_names_and_places_do_not_move_the_hash() -> None:
    elsewhere = replace(A, image=BytesImage(b"", "elsewhere"))
    other = replace(dataset(elsewhere, B), name="y", split="val", notes=("n",))
    assert fingerprint(other) == fingerprint(dataset(A, B))


MANY = dataset(*(Example(f"{k:03}", IMAGE, label=k // 10) for k in range(100)))


def ids(data: Dataset) -> list[str]:
    return [example.id for example in data.examples]


def test_a_subset_is_spread_over_classes_and_keeps_order_and_classes() -> None:
    few = limited(MANY, 30, seed=0)
    assert len(few) == 30
    assert ids(few) == sorted(ids(few))
    assert few.classes == MANY.classes
    assert len({example.label for example in few.examples}) >= 8
    assert few.notes == (("limited", "limited to 30 of 100 images, chosen at random with seed 0"),)


def test_subsets_nest_and_depend_on_the_seed() -> None:
    assert set(ids(limited(MANY, 10, 0))) < set(ids(limited(MANY, 20, 0)))
    assert ids(limited(MANY, 20, 0)) == ids(limited(MANY, 20, 0)) != ids(limited(MANY, 20, 1))


def test_no_limit_or_a_large_one_changes_nothing() -> None:
    assert all(limited(MANY, limit, 0) is MANY for limit in (None, 100, 1000))
    with pytest.raises(UsageError, match="--limit: got 0; wanted 1 or more"):
        limited(MANY, 0, 0)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/1.jpg", "b/2.jpg"], ["1", "2"]),
        (["a/1.jpg", "a/1.png"], ["1.jpg", "1.png"]),
        (["a/1.jpg", "b/1.jpg"], ["a/1.jpg", "b/1.jpg"]),
    ],
)
def test_short_ids(paths: list[str], expected: list[str]) -> None:
    assert short_ids(paths) == expected


def test_what_is_no_character_is_replaced_and_noted() -> None:
    odd = Example("a\udce9", FileImage(Path("a")), ("a \ud800 dog",), metadata={"where": "x\ud800"})
    found = readable(Dataset("d", "test", [odd, Example("b", FileImage(Path("b")), ("b",))], ("cat\ud800",)))
    assert [(e.id, e.texts) for e in found.examples] == [("a�", ("a � dog",)), ("b", ("b",))]
    assert (found.classes, found.examples[0].metadata) == (("cat�",), {"where": "x�"})
    assert found.notes == (("data", "� stands for what is no Unicode character in 1 example or class name"),)
    fingerprint(found)


def test_ids_that_become_the_same_are_one_line() -> None:
    twins = [Example(f"a{mark}", FileImage(Path("a"))) for mark in ("\ud800", "\ud801")]
    with pytest.raises(DataError, match="1 ids occur more than once"):
        readable(Dataset("d", "test", twins))


def test_whole_text_is_left_as_it_is() -> None:
    plain = Dataset("d", "test", [Example("é", FileImage(Path("a")), ("犬 😀 \x1b",))])
    assert readable(plain) is plain
