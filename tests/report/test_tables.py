"""The tables of a report: leaderboard, metrics of each kind, costs, checkpoints, notes; Markdown and LaTeX."""

from __future__ import annotations

import re

import pytest

from cocabench.core.types import Note, Record
from cocabench.report import costs, grid, leaderboard, notes, pivots, sections
from cocabench.report.content import gather
from cocabench.report.differences import differences
from cocabench.report.grid import Entry, Line, Table
from cocabench.report.leaderboard import Leaderboard
from tests.report.records import estimate, record


def board(*records: Record) -> Leaderboard:
    report = gather(records)
    return leaderboard.leaderboard(report, differences(report), {})


def two_tasks() -> list[Record]:
    records = [record("a", "t1", {"acc1": estimate(0.6, 0.03)}), record("b", "t1", {"acc1": estimate(0.4, 0.03)})]
    return [
        *records,
        record("a", "t2", {"acc1": estimate(0.4, 0.04)}),
        record("b", "t2", {"acc1": estimate(0.39, 0.04)}),
    ]


def test_the_leaderboard_ranks_by_unbeaten_tasks_and_shows_means() -> None:
    found = board(*two_tasks())
    assert [(row.model, row.unbeaten) for row in found.rows] == [("a", (2, 2)), ("b", (1, 2))]
    assert [(column.title, column.about) for column in found.columns] == [
        ("Classification", "mean acc@1, 2 tasks"),
        ("t1", "acc@1"),
        ("t2", "acc@1"),
    ]
    point = found.rows[0].cells[0]
    assert point is not None
    assert (point.text, point.half) == ("50.0", "± 2.5")
    assert [cell.status for cell in found.rows[0].cells[1:] if cell] == ["best", "unbeaten"]


def test_a_kind_without_a_mean_has_a_column_for_each_task() -> None:
    mine = [record("a", t, 0.5, evaluator="retrieval", primary="acc1") for t in ("r1", "r2")]
    found = board(*mine, record("b", "r1", 0.4, evaluator="retrieval", primary="acc1"))
    assert [(c.title, c.about) for c in found.columns if not c.task] == [
        ("Retrieval", "r1, acc1"),
        ("Retrieval", "r2, acc1"),
    ]
    assert found.rows[1].cells[1] is None


def test_published_models_beside_measured_ones_are_set_apart() -> None:
    report = gather([record("mine", "imagenet1k", 0.7)], published=["ViT-L-14:openai"])
    assert report.models == ("mine",)
    assert report.apart == ("ViT-L-14:openai (published)",)
    found = leaderboard.leaderboard(report, differences(report), {})
    (row,) = found.apart
    cell = next(
        cell for cell, column in zip(row.cells, found.columns, strict=True) if column.subject.key == "imagenet1k"
    )
    assert cell is not None
    assert cell.text == "75.5"
    alone = gather([], published=["ViT-L-14:openai"])
    assert alone.models == ("ViT-L-14:openai (published)",)
    assert not alone.apart


def test_the_heat_map_shades_from_worst_to_best_for_either_direction() -> None:
    records = [record(f"m{k:02}", f"t{i}", (k + i) / 40) for k in range(13) for i in range(3)]
    records += [record(f"m{k:02}", "r", {"t2i_median_rank": estimate(10.0 + k)}) for k in range(12)]
    report = gather(records)
    shown = leaderboard.heat(report, differences(report))
    assert shown is not None
    rows = dict(shown.rows)
    assert [shade.text for shade in rows["m12"]] == ["30", "32", "35", "–"]
    assert [shade.step for shade in rows["m12"]] == [9, 9, 9, -1]
    assert [rows["m00"][i].step for i in (0, 3)] == [0, 9]
    few = gather([r for r in records if r.model < "m12"])
    assert leaderboard.heat(few, differences(few)) is None


def finetuned(value: float) -> list[Record]:
    tag = "coca_ViT-B-32:mscoco_finetuned_laion2b_s13b_b90k"
    return [record(tag, "imagenet1k", value), record(tag, "coco", {"CIDEr": estimate(1.1)}, evaluator="captioning")]


def test_a_skill_lost_in_fine_tuning_is_noted() -> None:
    report = gather(finetuned(0.0079))
    (lost,) = [note for note in notes.notes(report, differences(report)) if note.code == "lost_skill"]
    assert lost.where == (
        "coca_ViT-B-32:mscoco_finetuned_laion2b_s13b_b90k: contrastive skill: "
        "mean 0.8 on 1 shared task, 63.3 for coca_ViT-B-32:laion2b_s13b_b90k (published)",
    )
    fine = gather(finetuned(0.6))
    assert not [note for note in notes.notes(fine, differences(fine)) if note.code == "lost_skill"]


def test_one_cause_is_one_line() -> None:
    skipped = {"SPICE": "no jars", "SPICE-color": "no jars", "SPICE-size": "no jars", "CLIPScore": "no model"}
    records = [
        record(m, "c", {"CIDEr": estimate(0.5)}, evaluator="captioning", skipped_metrics=skipped) for m in ("a", "b")
    ]
    found = notes.skips(gather(records))
    assert [tuple(skip) for skip in found] == [
        ("no jars", "SPICE and 2 parts of it", "c, 2 models"),
        ("no model", "CLIPScore", "c, 2 models"),
    ]


def test_notes_are_counted_by_code() -> None:
    def noted(model: str, task: str, *found: Note) -> Record:
        return record(model, task, 0.5, notes=found)

    random, near = Note("random_weights", "random weights"), Note("near_chance", "acc1 of 1 % is near chance")
    report = gather([noted("a", "t", random, near), noted("a", "u", random), noted("b", "t"), noted("b", "u")])
    found = {note.code: note for note in notes.notes(report, differences(report))}
    assert (found["random_weights"].number, found["random_weights"].where) == (2, ("random weights (2 tasks, a)",))
    assert found["near_chance"].where == ("acc1 of 1 % is near chance (t, a)",)
    assert found["near_chance"].meaning == "A score is not significantly better than chance."


def test_absent_results_are_named_or_counted() -> None:
    records = [record("a", f"t{i}", 0.5) for i in range(5)]
    assert notes.absent(gather([*records, record("b", "t0", 0.4)])) == ["b on 4 tasks"]
    assert notes.absent(gather([*records[:2], record("b", "t0", 0.4)])) == ["b on t1"]


def test_the_pareto_front_excludes_dominated_points() -> None:
    assert costs.front([(1, 50), (2, 60), (3, 55), (2, 40), (4, 60), (1, 50)]) == [0, 1, 5]


def test_costs_are_read_from_records_the_profile_and_the_efficiency_task() -> None:
    measured = {"image_gflops": estimate(9.0), "text_gflops": estimate(6.0), "images_per_s": estimate(120.0)}
    records = [
        record("coca_ViT-L-14:a", "t", 0.5),
        record("mine", "t", 0.5, parameters={"image_encoder": 2_500_000}),
        record("mine", "efficiency", measured, evaluator="efficiency"),
    ]
    report = gather(records)
    first, second = costs.costs(report)
    assert first.params["text_decoder"] == 208.07
    assert first.total_gflops == pytest.approx(163.64 + 13.3)
    assert (second.total_params, second.total_gflops, second.rate("images_per_s")) == (2.5, 15.0, 120.0)
    assert [row.task for row in report.comparison.rows] == ["t"]
    (chart,) = sections.cost_charts(differences(report), [first, second], report.areas)
    assert chart.x.log
    assert chart.front == ("mine",), "as good for less"


def test_epochs_become_curves_and_the_best_one_is_named() -> None:
    records = [
        record(f"m:run/checkpoints/epoch_{i}.pt", "t", {"acc1": estimate(v, 0.01)})
        for i, v in ((0, 0.3), (1, 0.5), (2, 0.4))
    ]
    report = gather(records)
    (chart,) = sections.epoch_charts(report, differences(report))
    (line,) = chart.lines
    assert (line.label, [x for x, _ in line.points], line.best) == ("m:run", [0.0, 1.0, 2.0], 1)
    assert chart.x.ticks == (0, 1, 2)
    table = leaderboard.best_checkpoints(report)
    assert table is not None
    assert [e.full for e in table.lines[0].entries] == ["m:run", "t", "acc1", "epoch 1", "50.0 ± 1.0", "3 epochs"]


def test_published_captioning_is_a_part_of_its_own() -> None:
    mine = record("coca_mine", "nocaps_val", {"CIDEr": estimate(1.0)}, evaluator="captioning")
    (table,) = pivots.pivots(gather([mine]))
    parts = dict(table.parts())
    assert [line.entries[1].text for line in parts[pivots.PUBLISHED]] == [
        "coca_ViT-L-14:mscoco_finetuned_laion2b_s13b_b90k (published)",
        "CoCa:paper (published)",
    ]
    assert not any(entry.best for entry in table.entries())


def test_a_metric_of_a_domain_is_shown_with_its_metric_not_with_spice() -> None:
    metrics = {name: estimate(0.5) for name in ("CIDEr", "CIDEr[in-domain]", "SPICE", "SPICE-color", "BLEU@4")}
    made = [record(m, "t", metrics, evaluator="captioning") for m in "ab"]
    main, parts = pivots.pivots(gather(made))
    assert main.columns == ("task", "model", "BLEU@4", "CIDEr", "CIDEr[in-domain]", "SPICE")
    assert (parts.name, parts.columns) == ("captioning_spice", ("task", "model", "SPICE-color"))


def test_what_was_skipped_everywhere_has_no_column_and_no_table() -> None:
    skipped = {"SPICE": "no jars", "SPICE-color": "no jars"}
    made = [record(m, "t", {"CIDEr": estimate(0.5)}, evaluator="captioning", skipped_metrics=skipped) for m in "ab"]
    (table,) = pivots.pivots(gather(made))
    assert table.columns == ("task", "model", "CIDEr")


def test_an_unknown_kind_of_task_has_a_table() -> None:
    metrics = {"group_score": estimate(0.3), "text_score": estimate(0.5)}
    records = [
        record(m, t, metrics, evaluator="pairs", primary="text_score") for m in "ab" for t in ("winoground", "sugar")
    ]
    (table,) = pivots.pivots(gather(records))
    assert (table.name, table.section, table.columns) == (
        "pairs",
        "pairs",
        ("task", "model", "text_score", "group_score"),
    )
    assert [line.entries[1].text for line in table.lines] == ["a", "b", "a", "b"]


BAD = r"50% of $x_1$ & {a} \input{/etc/passwd} #1 ~^ <b> ± − é 犬"


def test_latex_escapes_everything() -> None:
    table = Table(
        "t", BAD, ("name", BAD), (Line((Entry(BAD), Entry("1", "± 2", 1.0, best=True, notes=(BAD,)))),), about=BAD
    )
    text = grid.to_latex(table)
    assert r"50\% of \$x\_1\$ \& \{a\} \textbackslash{}input\{/etc/passwd\} \#1" in text
    assert r"\textbf{1} $\pm$ 2$^{1}$ \\" in text
    bare = re.sub(r"\\[&%$#_{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert text.isascii()
    assert [line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")] == [1, 1]
