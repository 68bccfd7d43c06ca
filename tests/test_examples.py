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
