"""Features, captions and likelihoods are what they were before the rebuild, by bits where the machine is the same."""

from pathlib import Path

import numpy as np
import pytest

from tests.goldens import bits
from tests.goldens.bits_inputs import Inputs

GOLDENS = bits.read(bits.GOLDENS)
BY_BITS = GOLDENS.environment == bits.environment()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs(tmp_path_factory.mktemp("bits"))


def _marked(case: bits.Case) -> object:
    return pytest.param(case, id=case.name, marks=() if case.quick else pytest.mark.slow)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("case", [_marked(case) for case in bits.CASES.values()])
def test_model_outputs_equal_their_goldens(case: bits.Case, inputs: Inputs) -> None:
    if case.name.startswith("roberta"):
        pytest.importorskip("transformers")
    old, new = GOLDENS.cases[case.name], bits.compute(case, inputs)
    assert not bits.differences(case.name, old, new, by_bits=BY_BITS, tolerance=case.tolerance)


def test_every_golden_has_its_case() -> None:
    assert GOLDENS.cases.keys() == bits.CASES.keys()


def test_nothing_is_computed_twice() -> None:
    for model in ("coca", "clip", "coca-captioner"):
        golden = GOLDENS.cases[f"demo/{model}/cached"]
        assert (golden["again_computed_images"], golden["again_computed_texts"]) == (0, 0)
        assert golden["all_computed_images"] > 0
        assert (golden["all_rows"].digests == golden["again_rows"].digests).all()


@pytest.mark.parametrize("n", [5, 300])
def test_one_flipped_bit_is_reported_with_its_row(n: int) -> None:
    rows = np.random.RandomState(0).standard_normal((n, 96)).astype(np.float32)
    flipped = rows.copy()
    flipped.view(np.uint32)[3, 41] ^= 1
    (line,) = bits.differences("a model/case", {"rows": rows}, {"rows": flipped}, by_bits=True)
    assert line.startswith(f"a model/case/rows: 1 of {n} rows differ by bits, the first is row 3;")
    assert not bits.differences("a model/case", {"rows": rows}, {"rows": rows.copy()}, by_bits=True)
    assert not bits.differences("a model/case", {"rows": rows}, {"rows": flipped}, by_bits=False)


def test_a_moved_row_is_reported_on_another_machine() -> None:
    rows = np.random.RandomState(0).standard_normal((300, 96)).astype(np.float32)
    moved = rows.copy()
    moved[17] += 1e-4
    (line,) = bits.differences("case", {"rows": rows}, {"rows": moved}, by_bits=False)
    assert "1 of 300 rows differ by more than 3e-06, the first is row 17" in line
    (line,) = bits.differences("case", {"rows": rows}, {"rows": rows[:-1]}, by_bits=False)
    assert "299 rows" in line


def test_one_changed_word_or_token_is_reported() -> None:
    old = {"texts": ["a dog", "a cat"], "beams": [[1, 2], [3, 4]], "kept": [0, 1]}
    for path, value, place in (("texts", ["a dog", "a cot"], "[1]: got 'a cot'"), ("beams", [[1, 5], [3, 4]], "[0]")):
        for by_bits in (True, False):
            (line,) = bits.differences("case", old, {**old, path: value}, by_bits=by_bits)
            assert line.startswith(f"case/{path}: {place}")


def test_missing_paths_and_cases_are_reported(tmp_path: Path) -> None:
    found = {"one": {"rows": np.ones((2, 3), np.float32), "kept": [0, 1]}, "two": {"kept": [1]}}
    bits.write(tmp_path / "old", found)
    bits.write(tmp_path / "new", {"one": {"kept": [0, 1]}})
    old, new = bits.read(tmp_path / "old"), bits.read(tmp_path / "new")
    assert not bits.compare(old, old)
    assert bits.compare(old, new) == ["two: only in one of the two", "one/rows: only in the goldens"]
