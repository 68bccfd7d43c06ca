"""The parts of a report: its headline, leaderboard, cards, costs, curves, LaTeX, colours."""

from __future__ import annotations

import re

import pytest

from cocabench.core.types import Note, Record
from cocabench.report import cards, costs, grid, leaderboard, pivots
from cocabench.report.content import gather
from cocabench.report.grid import Entry, Line, Table
from cocabench.report.headline import headline
from cocabench.report.page import breakable, embedded, parts
from cocabench.report.pair import pairs
from cocabench.report.plots import epoch_curves
from cocabench.report.series import DARK, LIGHT, styles
from tests.report.records import estimate, record


def sentence(*records: Record) -> str:
    return headline(gather(records).comparison).sentence


def test_the_headline_counts_significant_differences() -> None:
    close = [record("a", f"t{i}", {"acc1": estimate(0.51, 0.05)}) for i in range(3)]
    close += [record("b", f"t{i}", {"acc1": estimate(0.50, 0.05)}) for i in range(3)]
    assert sentence(*close) == "a scores better than b on 3 of 3 tasks; none of the differences are significant."
    far = [record("a", "t3", {"acc1": estimate(0.9, 0.02)}), record("b", "t3", {"acc1": estimate(0.3, 0.02)})]
    assert "1 of the 4 differences is significant" in sentence(*close, *far)


def test_the_headline_treats_lower_ranks_as_better_and_may_name_the_second_model() -> None:
    ranks = [record(m, "r", {"t2i_median_rank": estimate(v)}) for m, v in (("a", 9.0), ("b", 3.0))]
    assert sentence(*ranks).startswith("b scores better than a on 1 of 1 task; without samples or intervals")


def test_the_headline_of_equal_bests_names_both() -> None:
    records = [
        record(m, t, v)
        for t, values in (("t1", (0.5, 0.4, 0.3)), ("t2", (0.4, 0.5, 0.3)))
        for m, v in zip("abc", values, strict=True)
    ]
    assert sentence(*records) == "a and b are each best on 1 of 2 tasks."


def test_the_leaderboard_averages_shared_tasks_only_and_marks_ties() -> None:
    records = [record("a", "t1", {"acc1": estimate(0.6, 0.03)}), record("b", "t1", {"acc1": estimate(0.6, 0.03)})]
    records += [record("a", "t2", {"acc1": estimate(0.4, 0.04)}), record("b", "t2", {"acc1": estimate(0.4, 0.04)})]
    records += [record("a", "t3", 0.9)]
    lines = [line for line in leaderboard.standings(gather(records)).lines if leaderboard.ALL in line.tags]
    assert [[e.full for e in line.entries] for line in lines] == [
        ["a", "50.0 ± 2.5", "2", "3"],
        ["b", "50.0 ± 2.5", "2", "2"],
    ]
    assert all(line.entries[1].best for line in lines)


def test_groups_of_some_but_not_all_tasks_are_offered() -> None:
    records = [record("a", f"t{i}", 0.5, groups=("all", "odd") if i % 2 else ("all",)) for i in range(4)]
    rows = gather(records).comparison.rows
    assert leaderboard.groups(rows) == [leaderboard.ALL, "odd"]


def finetuned(value: float) -> list[Record]:
    tag = "coca_ViT-B-32:mscoco_finetuned_laion2b_s13b_b90k"
    return [record(tag, "imagenet1k", value), record(tag, "coco", {"CIDEr": estimate(1.1)}, evaluator="captioning")]


def test_a_card_reports_a_skill_lost_in_fine_tuning() -> None:
    (card,) = cards.cards(gather(finetuned(0.0079)))
    assert [shown.task for shown in card.contrastive] == ["imagenet1k"]
    assert [shown.task for shown in card.generative] == ["coco"]
    assert card.verdicts == (
        "Contrastive skill is lost: mean 0.8 on 1 shared task, 63.3 for coca_ViT-B-32:laion2b_s13b_b90k (published).",
    )


def test_caption_likelihoods_are_on_the_generative_side_of_a_card() -> None:
    kind = {"evaluator": "image_caption_selection"}
    found = [
        record("coca_x:y", way, 0.6, protocol={"task": way, "scoring": way}, **kind) for way in ("cosine", "likelihood")
    ]
    (card,) = cards.cards(gather(found))
    assert [shown.task for shown in card.contrastive] == ["cosine"]
    assert [shown.task for shown in card.generative] == ["likelihood"]


def test_a_card_of_a_good_checkpoint_has_no_verdict_and_clip_has_no_card() -> None:
    (card,) = cards.cards(gather([*finetuned(0.6), record("ViT-B-32:x", "imagenet1k", 0.6)]))
    assert card.verdicts == ()


def test_a_card_repeats_the_near_chance_note() -> None:
    chance = record("coca_x:y", "t", 0.01, notes=(Note("near_chance", "acc1 of 1 % is near chance (1 %): check"),))
    (card,) = cards.cards(gather([chance]))
    assert card.verdicts == ("Contrastive skill is near chance on 1 of 1 task (t).",)


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


def test_epochs_become_curves_and_the_best_one_is_named() -> None:
    records = [
        record(f"m:run/checkpoints/epoch_{i}.pt", "t", {"acc1": estimate(v, 0.01)})
        for i, v in ((1, 0.3), (2, 0.5), (3, 0.4))
    ]
    report = gather(records)
    ((row, (line,)),) = epoch_curves(report, styles(report.models))
    assert (row.task, line.xs, line.best) == ("t", (1.0, 2.0, 3.0), 1)
    table = leaderboard.best_checkpoints(report)
    assert table is not None
    assert [e.full for e in table.lines[0].entries] == ["m:run", "t", "acc1", "epoch 2", "50.0 ± 1.0", "3 epochs"]


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


def test_the_headline_names_a_kind_by_its_title() -> None:
    made = [
        record(m, "t", {"acc": estimate(v)}, evaluator="image_caption_selection") for m, v in (("a", 0.5), ("b", 0.4))
    ]
    assert headline(gather(made).comparison).details[0].startswith("Caption selection: a scores better on 1")


def test_all_pairs_of_few_models_are_tested_but_only_those_with_the_first_of_many() -> None:
    few = gather([record(m, "t", {"acc1": estimate(0.5, 0.1)}) for m in "abc"])
    assert [(p.first, p.second) for p in pairs(few)] == [("a", "b"), ("a", "c"), ("b", "c")]
    many = gather([record(m, "t", {"acc1": estimate(0.5, 0.1)}) for m in "abcdefg"], baseline=["d"])
    assert [(p.first, p.second) for p in pairs(many)][:2] == [("a", "d"), ("a", "b")]
    assert len(pairs(many)) == 6


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
    grouped = grid.by_task(table)
    assert grouped.columns == ("model", "text_score", "group_score")
    assert [(part, len(lines)) for part, lines in grouped.parts()] == [("winoground", 2), ("sugar", 2)]


def test_the_heat_map_colours_from_worst_to_best_for_either_direction() -> None:
    records = [record(m, f"t{i}", (k + i) / 20) for k, m in enumerate("abcde") for i in range(3)]
    records += [record(m, "r", {"t2i_median_rank": estimate(10.0 + k)}) for k, m in enumerate("abcd")]
    shown = leaderboard.heat(gather(records), list("edcba"))
    assert shown is not None
    assert [column.task for column in shown.columns] == ["t0", "t1", "t2", "r"]
    model, fields = shown.lines[0]
    assert (model, [field.text for field in fields]) == ("e", ["20", "25", "30", "–"])
    assert [field.share for field in fields] == [1, 1, 1, None]
    assert [shown.lines[-1][1][i].share for i in (0, 3)] == [0, 1]
    assert leaderboard.heat(gather(records[:6]), ["a", "b"]) is None


def test_names_wrap_after_separators_only() -> None:
    assert breakable("coca_ViT-L:a/b<c") == "coca_<wbr>ViT-<wbr>L:<wbr>a/<wbr>b&lt;c"
    assert breakable("a--b - c_") == "a--<wbr>b - c_"
    assert parts("coca_x:laion2b_s13b") == ["coca_<wbr>x:", "laion2b_<wbr>s13b"]


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


def test_embedded_json_cannot_close_the_script_element() -> None:
    assert not set("<>&\u2028") & set(embedded({"a": "</script><!-- & \u2028"}))


def contrast(one: str, other: str) -> float:
    """WCAG 2: (lighter + 0.05) / (darker + 0.05) of relative luminances."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colours", "page"), [(LIGHT, "#fdfdfc"), (DARK, "#16181b")])
def test_model_colours_have_contrast_for_text(colours: tuple[str, ...], page: str) -> None:
    assert all(contrast(colour, page) >= 4.5 for colour in colours)


def test_measured_and_published_models_share_a_colour_with_different_marks() -> None:
    found = styles(["a", "b", "a (published)", *(f"m{i}" for i in range(10))])
    assert found["a"].colour == found["a (published)"].colour != found["b"].colour
    assert len(set(found.values())) == len(found)
