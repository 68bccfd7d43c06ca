"""Ablations of prompts: which Records belong together, their names, differences and table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cocabench.core.errors import UnknownNameError, UsageError
from cocabench.core.types import Record
from cocabench.report import compared
from cocabench.results.difference import Finding
from cocabench.results.prompts import OWN, PromptRow, cells, legend, lines, prompt_rows, several, to_csv
from cocabench.results.records import choose, given_params, params_given, prompts_label, read
from tests.conftest import Command
from tests.samples import classified, right


def measured(root: Path, model: str, n_right: int, prompts: str = "", task: str = "pets", **more: object) -> Record:
    """Write the Record of 100 images, the first n_right of them hits. prompts: templates, '' for the task's own."""
    protocol = {"task": task, "data": {"images": 100}, "classes": 2, "prompts": f"hash of {prompts}", **more}
    given = given_params({"templates": prompts} if prompts else {})
    return classified(root, model, right(n_right, 100), task, protocol=protocol, environment=given)


def test_differences_from_the_task_s_own_prompts(tmp_path: Path) -> None:
    """Worked by hand: b gets 20 more images right than the task's own prompts, and none wrong that they had right."""
    measured(tmp_path, "m", 70, "b")
    measured(tmp_path, "m", 50)
    measured(tmp_path, "m", 49, "c")
    own, b, c = prompt_rows(read(str(tmp_path)))
    assert [row.prompts for row in (own, b, c)] == [OWN, "templates b", "templates c"]
    assert own.difference is None
    assert b.difference
    assert (b.difference.value, b.difference.changed, b.difference.finding) == (20, 20, Finding.FIRST)
    assert b.difference.p_value == pytest.approx(2 * 0.5**20, rel=0.01), "exact McNemar: 20 to 0"
    assert b.difference.adjusted == pytest.approx(2 * b.difference.p_value)
    assert b.finding.startswith("▲ better (p")
    assert c.difference
    assert (c.difference.value, c.difference.finding) == (-1, Finding.NOTHING)
    assert "Holm-corrected for 2 differences" in legend([own, b, c])[1]


def test_worse_prompts_are_worse(tmp_path: Path) -> None:
    measured(tmp_path, "m", 80)
    measured(tmp_path, "m", 40, "b")
    gap, finding = cells(prompt_rows(read(str(tmp_path)))[1])[5:]
    assert gap.startswith("−40.0 ± ")
    assert finding == "▼ worse (p<0.001)"


def test_only_records_that_differ_in_prompts_alone_are_one_ablation(tmp_path: Path) -> None:
    measured(tmp_path, "m", 50)
    measured(tmp_path, "m", 60, "b", limit=100)
    measured(tmp_path, "n", 60, "b")
    measured(tmp_path, "m", 60, "b", task="cars")
    assert not several(read(str(tmp_path)))
    with pytest.raises(UsageError, match="no task with several prompts"):
        prompt_rows(read(str(tmp_path)))
    measured(tmp_path, "m", 61, "c", limit=100)
    assert [row.prompts for row in prompt_rows(read(str(tmp_path)))] == ["templates b", "templates c"]
    with pytest.raises(UnknownNameError, match="unknown 'k'"):
        prompt_rows(read(str(tmp_path)), ["k"])


def test_skipped_images_are_a_reason_for_no_difference(tmp_path: Path) -> None:
    measured(tmp_path, "m", 50)
    record = measured(tmp_path, "m", 60, "b")
    rows = prompt_rows(read(str(tmp_path)))
    assert rows[1].difference
    other = record.model_copy(update={"skipped_images": ("00001",)})
    found = read(str(tmp_path))
    changed = tuple(other if r == record else r for r in found.records)
    (_, row) = prompt_rows(type(found)(changed, found.paths))
    assert (row.difference, row.why) == (None, "different skipped images: 0 against 1")


def test_other_prompts_do_not_replace_the_task_s_own(tmp_path: Path) -> None:
    own, other = measured(tmp_path, "m", 50), measured(tmp_path, "m", 60, "b")
    assert choose([other, own]).records == (own,)
    assert "other prompts than the task's" in choose([other, own]).left_out[0]


def test_params_are_named_in_a_record(tmp_path: Path) -> None:
    record = measured(tmp_path, "m", 50, "b,c.txt")
    assert params_given(record) == {"templates": "b,c.txt"}
    assert prompts_label({"templates": "b", "classnames": "n.txt"}) == "templates b, class names n.txt"
    assert prompts_label({"ks": [1]}) == ""
    edited = record.model_copy(update={"environment": {"params": "{"}})
    assert params_given(edited) == {}


def test_json_csv_and_figure(tmp_path: Path) -> None:
    for model, gain in (("m", 12), ("n", -9)):
        measured(tmp_path / "r", model, 50)
        measured(tmp_path / "r", model, 50 + gain, "b")
    rows: tuple[PromptRow, ...] = prompt_rows(read(str(tmp_path / "r")), ["n", "m"])
    assert [line["difference"] for line in lines(rows)] == [None, -9, None, 12]
    json.dumps(lines(rows), allow_nan=False)
    assert to_csv(rows).splitlines()[2].startswith("n,pets,acc1,templates b,0.41,")
    plot = compared.of_prompts(rows)
    ((row,),) = (part.rows for part in plot.data.parts)  # type: ignore[union-attr]
    assert [(effect.model, effect.gap.value) for effect in row.effects] == [("n", -9), ("m", 12)]
    assert [path.name for path in compared.draw(plot, tmp_path / "f")] == ["prompts.svg", "prompts.png", "prompts.pdf"]


def test_one_command_measures_every_combination(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"thing {i}" for i in range(6)))
    words = ["run", "--model", models / "clip", "--tasks", f"{data / 'name.toml'},{data / 'find.toml'}"]
    words += ["--data-root", data, "--output", tmp_path / "r", "--templates", "own,food101"]
    result = command(*words, "--classnames", f"own,{names}")
    assert result.code == 0, result.err
    assert f"name [templates food101, class names {names}]" in result.err
    assert "Difference from the first prompts" in result.out
    found = read(str(tmp_path / "r"))
    assert sorted(r.task for r in found) == ["find", "name", "name"], "the same names are the same prompts"
    rows = prompt_rows(found)
    assert [row.prompts for row in rows] == [OWN, "templates food101"]
    again = command(*words)
    assert again.err.count("already done") == 3
    assert command("compare", tmp_path / "r", "--prompts", "--format", "csv").out == to_csv(rows)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--templates", "a,a"], "--templates: 'a' twice; wanted each once"),
        (["--templates", ","], "--templates: got ','; wanted names, comma-separated"),
        (["--templates", "own", "--param", "templates=a"], "--templates: given with --param templates=…; wanted one"),
        (["--templates", "cifar1"], "name [templates cifar1]: templates: unknown 'cifar1'; did you mean cifar10"),
        (["--classnames", "imagenet1k"], "6 classes in the data, 1000 class names"),
    ],
)
def test_bad_prompts_are_one_line(
    command: Command, models: Path, data: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    words = ["run", "--model", models / "clip", "--tasks", data / "name.toml", "--data-root", data]
    result = command(*words, "--output", tmp_path / "r", "--dry-run", *more)
    assert result.code == 2
    assert said in result.out + result.err
    assert "Traceback" not in result.err


def test_tasks_without_prompts_are_refused(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    words = ["run", "--model", models / "clip", "--tasks", data / "find.toml", "--data-root", data]
    result = command(*words, "--output", tmp_path / "r", "--templates", "cifar10")
    assert "--templates: no task of --tasks has prompts; wanted tasks of classification" in result.err


def test_flags_of_compare_go_together(command: Command, tmp_path: Path) -> None:
    measured(tmp_path, "m", 50)
    assert "--prompts: no task with several prompts" in command("compare", tmp_path, "--prompts").err
    assert "--published and --prompts together" in command("compare", tmp_path, "--prompts", "--published").err
    both = command("compare", tmp_path, "--figure", tmp_path / "f").err
    assert "--figure: given without --against, --prompts or --overlap" in both
