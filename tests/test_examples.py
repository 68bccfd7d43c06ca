"""The programs in examples/ run, and do what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_training_callback_evaluates_and_the_training_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = runpy.run_path(str(EXAMPLES / "training_callback.py"))["main"](steps=2, every=1, limit=20)
    assert [(step, len(results), results[0].model) for step, results in evaluation.results.items()] == [
        (1, 1, "step 1"),
        (2, 1, "step 2"),
    ]
    assert len({results[0].signature.model["weights"] for results in evaluation.results.values()}) == 2
    assert "training mode: True" in capsys.readouterr().out


@pytest.mark.slow
def test_the_notebook_runs_as_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = runpy.run_path(str(EXAMPLES / "in_memory.py"))
    assert [record.model for record in names["coca"]] == ["my CoCa"] * 3
    assert set(names["differences"]["task"]) == {"emoji_retrieval", "emoji_flags", "emoji_objects"}
    assert [results[0].model[-2:] for results in names["line"]] == ["0)", "5)", "1)"]
    assert len(names["figure"].axes[0].lines) == 1
    assert "my CoCa" in names["coca"]._repr_html_()


@pytest.mark.slow
def test_a_coca_prefers_what_a_person_wrote() -> None:
    names = runpy.run_path(str(EXAMPLES / "interacting.py"))
    assert names["ranked"]["caption"][0] == names["examples"][0].texts[0]
    assert names["ranked"]["log-likelihood"].is_monotonic_decreasing
    assert names["captions"].shape == (4, 5)
    assert names["probabilities"].sum(axis=1).round(5).tolist() == [1] * 4


@pytest.mark.slow
def test_the_gallery_shows_the_worst_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = runpy.run_path(str(EXAMPLES / "captions.py"))
    assert len(names["figure"].axes) == 6
    assert names["worst"]["cider"].max() <= names["samples"]["cider"].median()
    assert {"CIDEr", "distinct_captions"} <= set(names["numbers"].index)


@pytest.mark.slow
def test_records_are_counted_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    names = runpy.run_path(str(EXAMPLES / "records.py"))
    flags = names["wide"].loc["emoji_flags"].iloc[0]
    both, coca, clip, neither = names["agreement"].values()
    total = both + coca + clip + neither
    assert (round((both + coca) / total, 3), round((both + clip) / total, 3)) == (
        flags["demo/coca"],
        flags["demo/clip"],
    )
    assert "p_adjusted" in names["differences"]
