"""Groups of checkpoints: which they are, their table, and the gate's rules that name one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cocabench.core.errors import SpecError, UnknownNameError, UsageError
from cocabench.core.types import Record, Status
from cocabench.results.difference import Finding
from cocabench.results.gate import gate, read_rules
from cocabench.results.recipes import compare_recipes, legend, lines, read_recipes, sides, to_csv
from cocabench.results.records import read
from cocabench.results.store import Store
from tests.conftest import Command
from tests.samples import classified

LEADS = {"a": 0.6, "b": 0.0}


def written(root: Path, counts: dict[str, int], tasks: tuple[str, ...] = ("pets",)) -> list[Record]:
    """Write checkpoints a/seed0 … of two recipes, of which a is better by some 18 points, with seeds some 2 apart."""
    rng, found = np.random.default_rng(0), []
    for task in tasks:
        images = rng.standard_normal(300)
        for name, count in counts.items():
            for seed in range(count):
                shift = LEADS[name] + 0.05 * rng.standard_normal()
                hits = 0.3 + shift + images + 0.4 * rng.standard_normal(300) > 0
                found.append(classified(root, f"{name}/seed{seed}", hits, task, protocol={"data": {"images": 300}}))
    return found


def test_rows_of_two_groups(tmp_path: Path) -> None:
    records = written(tmp_path, {"a": 5, "b": 5}, ("pets", "cars"))
    pair = sides([str(tmp_path)], ["b/seed*"])
    assert [side.models[0] for side in pair[:2]] == ["a/seed0", "b/seed0"]
    pets, cars, mean = compare_recipes(*pair)
    accuracies = [r.metrics["acc1"].value or 0 for r in records if r.task == "pets"]
    assert pets.first == pytest.approx([100 * v for v in accuracies[:5]])
    assert pets.difference
    assert pets.difference.value == pytest.approx(100 * (np.mean(accuracies[:5]) - np.mean(accuracies[5:])))
    assert pets.difference.finding is Finding.FIRST
    assert pets.permutation == pytest.approx(2 / 252)
    assert 0 < pets.share < 1
    assert mean.tasks == ("pets", "cars")
    assert mean.difference
    assert cars.difference
    assert mean.difference.value == pytest.approx((pets.difference.value + cars.difference.value) / 2)
    assert "seeds are dealt" in legend([pets])[-1]


def test_values_do_not_depend_on_which_is_first(tmp_path: Path) -> None:
    written(tmp_path, {"a": 3, "b": 3})
    (one,), (other,) = (
        compare_recipes(*sides([str(tmp_path)], [f"{against}/*"], models=[f"{model}/*"]))
        for model, against in (("a", "b"), ("b", "a"))
    )
    assert one.difference
    assert other.difference
    assert one.difference.value == -other.difference.value
    assert one.difference.p_value == pytest.approx(other.difference.p_value)
    assert one.share == pytest.approx(other.share)
    assert one.permutation is None


def test_two_seeds_are_too_few_to_say(tmp_path: Path) -> None:
    written(tmp_path, {"a": 2, "b": 3})
    (row,) = compare_recipes(*sides([str(tmp_path)], ["b/*"]))
    assert row.verdict == "too few seeds to say (2 and 3; 3 of each are the fewest)"
    assert row.difference
    assert row.difference.low is None
    (line,) = lines([row])
    assert (line["p_value"], line["finding"]) == (None, "not tested")


def test_folders_by_pattern(tmp_path: Path) -> None:
    """One folder for each seed, in which the model has always the same name."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for seed in range(3):
            classified(tmp_path / f"{name}/seed{seed}", "final.pt", rng.random(100) < 0.5)
    first, second, _ = sides([f"{tmp_path}/a/seed*"], [f"{tmp_path}/b/seed*"])
    assert [len(side.models) for side in (first, second)] == [3, 3]
    (row,) = compare_recipes(first, second, sides([f"{tmp_path}/a/*"], [f"{tmp_path}/b/*"])[2])
    assert row.difference
    assert row.difference.p_value is not None


def test_names_of_a_file(tmp_path: Path) -> None:
    written(tmp_path, {"a": 3, "b": 3})
    file = tmp_path / "recipes.toml"
    file.write_text('[recipes]\nold = ["b/*"]\nnew = ["a/seed0", "a/seed1", "a/seed2"]\n')
    first, second, _ = sides([str(tmp_path)], ["old"], models=["new"], recipes=read_recipes(file))
    assert (first.name, len(first.models), len(second.models)) == ("new", 3, 3)
    file.write_text("[recipe]\n")
    with pytest.raises(SpecError, match=r"recipes.toml: recipe: unknown key; did you mean 'recipes'"):
        read_recipes(file)


def test_bad_groups_are_named(tmp_path: Path) -> None:
    written(tmp_path, {"a": 3})
    with pytest.raises(UnknownNameError, match="unknown 'b/seed\\*'"):
        sides([str(tmp_path)], ["b/seed*"])
    with pytest.raises(UsageError, match="a/seed1 is in both groups"):
        sides([str(tmp_path)], ["a/seed1"], models=["a/*"])
    with pytest.raises(UsageError, match="no checkpoints are left"):
        sides([str(tmp_path)], ["a/*"])
    with pytest.raises(UsageError, match="no file or folder matches"):
        sides([f"{tmp_path}/nothing*"], ["a/*"])
    with pytest.raises(UsageError, match="has no samples; wanted measured checkpoints"):
        sides([str(tmp_path), "published:ViT-B-32:openai"], ["a/*"])


def test_copies_of_a_checkpoint_are_no_seeds(tmp_path: Path) -> None:
    for record in written(tmp_path, {"a": 3, "b": 3}):
        model = {**record.signature.model, "weights": "0a1b"}
        path = Store(tmp_path).file(record)
        table = json.loads(path.read_text())
        table["signature"]["model"] = model
        path.write_text(json.dumps(table))
    with pytest.raises(UsageError, match="a/seed0 and a/seed1 have the same weights; wanted checkpoints of different"):
        sides([str(tmp_path)], ["b/*"])


def test_an_edited_record_is_not_tested(tmp_path: Path) -> None:
    record, *_ = written(tmp_path, {"a": 3, "b": 3})
    path = Store(tmp_path).file(record)
    table = json.loads(path.read_text())
    table["metrics"]["acc1"]["value"] = 0.99
    path.write_text(json.dumps(table))
    (row,) = compare_recipes(*sides([str(tmp_path)], ["b/*"]))
    assert row.verdict.startswith("a/seed0 on pets was edited (0.99 in the Record")


def test_other_protocols_are_not_compared(tmp_path: Path) -> None:
    written(tmp_path, {"a": 3, "b": 2})
    classified(tmp_path, "b/seed2", np.ones(300, bool), protocol={"data": {"images": 299}})
    (row,) = compare_recipes(*sides([str(tmp_path)], ["b/*"]))
    assert row.difference is None
    assert "incomparable" in row.verdict


def test_forms_of_the_table(command: Command, tmp_path: Path) -> None:
    written(tmp_path, {"a": 3, "b": 3})
    arguments = ["compare", str(tmp_path), "--models", "a/*", "--against", "b/*"]
    text = command(*arguments).out
    assert "first better" in text
    assert "second: b/* (3 checkpoints: b/seed0, b/seed1, b/seed2)" in text
    assert json.loads(command(*arguments, "--json").out)["rows"][0]["finding"] == "first better"
    assert command(*arguments, "--format", "csv").out == to_csv(
        compare_recipes(*sides([str(tmp_path)], ["b/*"], models=["a/*"]))
    )
    assert "| pets | acc1 |" in command(*arguments, "--format", "markdown").out


RULES = '[recipes]\nold = ["a/*"]\n[[rule]]\nmodel = "b/*"\nagainst = "old"\ntolerance = 1.0\n'


def verdicts(tmp_path: Path, rules: str = RULES) -> list[tuple[Status, int, str]]:
    (tmp_path / "gates.toml").write_text(rules)
    found = gate(read(tmp_path / "old"), read(tmp_path / "new"), read_rules(tmp_path / "gates.toml"))
    return [(v.status, v.exit_code, v.judged) for v in found]


def test_gate_holds_a_group_to_a_group(tmp_path: Path) -> None:
    """The baseline's checkpoints have no others of the same names in the run; the group has its counterpart."""
    written(tmp_path / "old", {"a": 3})
    written(tmp_path / "new", {"b": 3})
    assert verdicts(tmp_path) == [(Status.REGRESSED, 1, "b/* against old")]
    assert verdicts(tmp_path, RULES.replace("tolerance = 1.0", "tolerance = 40")) == [
        (Status.PASS, 0, "b/* against old")
    ]


def test_gate_cannot_tell_with_two_seeds(tmp_path: Path) -> None:
    written(tmp_path / "old", {"a": 3})
    written(tmp_path / "new", {"b": 2})
    (tmp_path / "gates.toml").write_text(RULES)
    (verdict,) = gate(read(tmp_path / "old"), read(tmp_path / "new"), read_rules(tmp_path / "gates.toml"))
    assert (verdict.status, verdict.p_value) == (Status.CANNOT_TELL, None)
    assert verdict.unpaired.startswith("too few seeds to say (3 and 2")


@pytest.mark.parametrize("what", ["old", "new"])
def test_gate_fails_where_a_group_is_empty(tmp_path: Path, what: str) -> None:
    written(tmp_path / "old", {"a": 3})
    written(tmp_path / "new", {"b": 3})
    wrong = RULES.replace('"a/*"', '"c/*"') if what == "old" else RULES.replace('"b/*"', '"c/*"')
    found = verdicts(tmp_path, wrong)
    assert found[-1][:2] == (Status.MISSING, 1)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--recipes", "x.toml"), "--recipes: given without --against"),
        (("--figure", "x"), "--figure: given without --against"),
        (("--against", "b/*", "--published"), "compare: --against and --published together; wanted one of them"),
        (("--published", "--format", "csv"), "--format: csv with --published; wanted table, or --json"),
    ],
)
def test_flags_without_effect_are_refused(command: Command, tmp_path: Path, flags: tuple[str, ...], said: str) -> None:
    result = command("compare", tmp_path, *flags)
    assert result.code == 2
    assert said in result.err


def test_figure_of_two_groups(command: Command, tmp_path: Path) -> None:
    written(tmp_path / "in", {"a": 3, "b": 3})
    result = command("compare", tmp_path / "in", "--models", "a/*", "--against", "b/*", "--figure", tmp_path / "out")
    assert result.code == 0, result.err
    text = (tmp_path / "out" / "recipes.svg").read_text()
    assert "pets acc1" in text
    assert "Right of zero: better than b/*" in text
