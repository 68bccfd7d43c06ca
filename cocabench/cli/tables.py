"""Tables on the terminal: scores, costs, and measured beside published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from cocabench.cli.console import WIDTH_OF_A_FILE, dim, labelled, out, print_table, say, sentence

if TYPE_CHECKING:
    from cocabench.core.formatting import Footnotes
    from cocabench.core.types import Record
    from cocabench.results.compare import Cell, Comparison, Row
    from cocabench.results.difference import Difference
    from cocabench.results.published_check import Match
    from cocabench.results.store import RecordSet

COLOURS = {"▲": "green", "▼": "red"}


def print_results(results: RecordSet, comparison: Comparison) -> None:
    """Print the scores of a Comparison, and the costs of its models if they were measured."""
    from cocabench.kinds import find
    from cocabench.results.compare import compare_models

    scores = tuple(row for row in comparison.rows if not find(row.evaluator).shown.costs)
    if scores:
        _print_scores(replace(comparison, rows=scores), tuple(comparison.records.values()))
    if len(scores) < len(comparison.rows):
        if scores:
            out.print()
        everything = compare_models(results, models=comparison.models, all_metrics=True)
        _print_costs(everything, tuple(comparison.records.values()))


def _print_scores(comparison: Comparison, records: Sequence[Record]) -> None:
    """Print a Comparison: best values bold, findings marked, totals and notes below."""
    from cocabench.core.formatting import Footnotes
    from cocabench.results.compare import legend
    from cocabench.results.tables import header

    footnotes, two = Footnotes(), len(comparison.models) == 2
    rows = [_line(row, footnotes, two=two) for row in comparison.rows]
    if out.width >= WIDTH_OF_A_FILE or _fit(rows) or not _print_narrow(comparison, footnotes):
        print_table(header(comparison), rows, numbers_from=2)
    if len(comparison.models) > 1:
        _print_totals(comparison)
    _print_group_means(records)
    _print_footnotes(footnotes)
    for line in legend(comparison):
        dim(line)
    if len(comparison.models) > 2:
        dim(f"▲ better, ▼ worse than {comparison.models[0]}")
    for phrase in comparison.left_out:
        dim(f"left out: {phrase}")


def _line(row: Row, footnotes: Footnotes, *, two: bool) -> list[str | Text]:
    line: list[str | Text] = [row.task, row.metric]
    line += (_cell(cell, gap, footnotes, two=two) for cell, gap in zip(row.cells, row.differences, strict=True))
    if two:
        line += [row.difference_text, Text(row.verdict, COLOURS.get(row.verdict[:1], ""))]
    return line


def _fit(rows: Sequence[Sequence[str | Text]]) -> bool:
    """Return whether rows fit the terminal without a wrapped cell."""
    widths = [max(cell_len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1) <= out.width


MIN_TASK_WIDTH = 12
"""Of a task's name, whose middle is left out, in columns of a narrow terminal."""

MIN_TASK_WIDTH_OF_TWO = 8
"""Of two models, which stand side by side or not at all."""


def _print_narrow(comparison: Comparison, footnotes: Footnotes) -> bool:
    """Print a Comparison in less width: models as letters, a heading per metric, n in its own column, short findings.

    Several models below each other where they do not fit side by side. Return False, and print nothing, where the
    terminal is too narrow for one.
    """
    n_models = len(comparison.models)
    letters = [_letter(i) for i in range(n_models)]
    groups = list(dict.fromkeys((row.evaluator, row.metric) for row in comparison.rows))
    rows = sorted(comparison.rows, key=lambda row: groups.index((row.evaluator, row.metric)))
    size, least = n_models, MIN_TASK_WIDTH_OF_TWO if n_models == 2 else MIN_TASK_WIDTH
    while size and _room([_narrow(row, footnotes, range(size)) for row in rows]) < least:
        size = 0 if n_models == 2 else size - 1
    if not size:
        return False
    for letter, model in zip(letters, comparison.models, strict=True):
        say(Text.assemble((letter, "bold"), f"  {model}"))
    tail = ["A − B", "finding"] if n_models == 2 else []
    for start in range(0, n_models, size):
        shown = range(start, min(start + size, n_models))
        lines = [_narrow(row, footnotes, shown) for row in rows]
        room = min(_room(lines), max(len(row.task) for row in rows))
        _print_in_line(["task", *(letters[i] for i in shown), "n", *tail], rows, lines, room)
    return True


def _letter(i: int) -> str:
    """Return A to Z, then A2 to Z2 …"""
    return chr(ord("A") + i % 26) + (str(i // 26 + 1) if i >= 26 else "")


def _narrow(row: Row, footnotes: Footnotes, shown: range) -> list[Text]:
    """Return the cells of a row after its task: the models shown, n, and of two models the difference and finding."""
    from cocabench.core.formatting import number

    two = len(row.cells) == 2
    cells = []
    for i in shown:
        estimate = row.cells[i].estimate
        plain = "–" if estimate is None else number(estimate.model_copy(update={"n": 0}), row.info)
        cells.append(_cell(replace(row.cells[i], text=plain), row.differences[i], footnotes, two=two, between=","))
    counts = dict.fromkeys(str(e.n) for i in shown if (e := row.cells[i].estimate) and e.n)
    cells.append(Text("/".join(counts)))
    if two:
        gap = row.difference
        cells.append(Text(str(gap) if gap else ""))
        short = f"{gap.mark} {gap.p}".strip() if gap and gap.significant else _detectable(gap)
        cells.append(Text(short, COLOURS.get(short[:1], "")))
    return cells


def _detectable(gap: Difference | None) -> str:
    from cocabench.results.difference import up

    return f"detects {up(gap.detectable, gap.places)}" if gap and gap.detectable is not None else ""


def _room(lines: Sequence[Sequence[Text]]) -> int:
    """Return the columns that remain for names of tasks."""
    columns = zip(*lines, strict=True)
    return int(out.width - sum(1 + max(6, *(cell.cell_len for cell in column)) for column in columns))


def _print_in_line(header: Sequence[str], rows: Sequence[Row], lines: Sequence[Sequence[Text]], room: int) -> None:
    """Print right-aligned cells below a heading per metric, names of tasks in ``room`` columns."""
    from cocabench.core.formatting import shortened
    from cocabench.kinds import in_words

    widths = [max(6, *(cell.cell_len for cell in column)) for column in zip(*lines, strict=True)]
    before: tuple[str, str] | None = None
    heads = [Text(head.rjust(width), "bold") for head, width in zip(header[1:], widths, strict=True)]
    say(Text(" ").join([Text(header[0].ljust(room), "bold"), *heads]))
    for row, cells in zip(rows, lines, strict=True):
        if before != (before := (row.evaluator, row.metric)):
            say(f"{in_words(row.evaluator)}, {row.metric}", style="dim")
        padded = [Text(" " * (width - cell.cell_len)) + cell for cell, width in zip(cells, widths, strict=True)]
        say(Text(" ").join([Text(shortened(row.task, room).ljust(room)), *padded]))


def _cell(cell: Cell, gap: Difference | None, footnotes: Footnotes, *, two: bool, between: str = "] [") -> Text:
    """Return a cell with the marks of its notes and, for more than two models, of its finding.

    between: what stands between the numbers of two notes.
    """
    marks = {"▲": (" ▼", "red"), "▼": (" ▲", "green")}
    mark = marks.get(gap.mark, "") if gap and not two else ""
    notes = _marks(footnotes, cell.notes if two else cell.all_notes).replace("] [", between)
    return Text.assemble((cell.text, "bold" if cell.best else ""), mark, notes)


def _marks(footnotes: Footnotes, notes: Sequence[str]) -> str:
    return footnotes.mark(notes).replace("\\", "")


def _print_footnotes(footnotes: Footnotes) -> None:
    for i, note in enumerate(footnotes.notes, 1):
        dim(f"[{i}] {note}")


def _print_totals(comparison: Comparison) -> None:
    """Print wins, ties and losses per kind of task, and means over groups."""
    from cocabench.kinds import in_words
    from cocabench.results.compare import MEANS, averages, tallies

    for t in (tally for tally in tallies(comparison) if tally.tested):
        untested = f", {t.untested} not tested" if t.untested else ""
        counts = f"{t.wins} better, {t.ties} not significant, {t.losses} worse{untested}"
        sentence(f"{in_words(t.group)}: {t.first} against {t.second}: {counts}")
    means = averages(comparison)
    for mean in means:
        values = ", ".join(f"{value:.1f}" for value in mean.values)
        gaps = [f"{gap}{', unpaired' if gap.unpaired else ''}; {gap.verdict}" for gap in mean.differences if gap]
        sentence(" | ".join([f"mean over {len(mean.tasks)} tasks of {in_words(mean.group)}: {values}", *gaps]))
    if any(gap and gap.p_value is not None for mean in means for gap in mean.differences):
        dim(MEANS)


def _print_group_means(records: Sequence[Record]) -> None:
    """Print the means that groups publish, and what the mean of a group that is nearly measured lacks."""
    from cocabench.data.files import some
    from cocabench.results.groups import group_means

    for name, own in group_means(records).items():
        for model, mean in own.items():
            if 2 * mean.n <= mean.of:
                continue
            lacking = f"; missing: {some(mean.missing)}" if mean.missing else f" (mean of {mean.of} tasks)"
            other = f"; not on the standard data: {some(mean.other)}" if mean.other else ""
            sentence(f"{name}: {model}: {mean.text}{lacking}{other}")


def _print_costs(comparison: Comparison, records: Sequence[Record]) -> None:
    """Print the costs of models with their units, and the machine and batches below."""
    from cocabench.core.formatting import Footnotes
    from cocabench.kinds import every

    kinds = {kind.name: kind for kind in every() if kind.shown.costs}
    rows = {(row.evaluator, row.metric): row for row in comparison.rows if row.evaluator in kinds}
    if not rows:
        return
    footnotes = Footnotes()
    lines = [
        [metric.label, *_costs(rows[name, metric.name], footnotes)]
        for name, kind in kinds.items()
        for metric in kind.listed()
        if metric.label and (name, metric.name) in rows
    ]
    print_table(["cost", *comparison.models], lines, numbers_from=1)
    _print_footnotes(footnotes)
    protocols = [r.signature.protocol for r in records if r.evaluator in kinds and r.model in comparison.models]
    machines = [
        f"{p.get('machine')}, threads: {p.get('threads')}, batches of {p.get('batch_size')}, "
        f"{p.get('train_batch_size')} in training"
        for p in protocols
    ]
    for machine in dict.fromkeys(machines):
        dim(f"{machine}; ± covers all repeats.")


def _costs(row: Row, footnotes: Footnotes) -> list[str]:
    from cocabench.core.formatting import number

    texts = []
    for cell in row.cells:
        e = cell.estimate
        value = "–" if e is None or e.value is None else number(e.model_copy(update={"n": 0}), row.info)
        texts.append(value + _marks(footnotes, cell.all_notes))
    return texts


def print_published(records: Sequence[Record]) -> None:
    """Print each metric beside its published values and, outside the tolerance, the likely causes."""
    from cocabench.core.formatting import number, signed
    from cocabench.results.published_check import TOLERANCE, check
    from cocabench.run.expected import expected

    matches = check(records, expected)
    if not matches:
        return
    title = Text("Comparison with published numbers", "bold")
    say(Text.assemble("\n", title, f" (inside: within {TOLERANCE} points of the measured interval)"))
    rows: list[list[str | Text]] = [
        [
            *(match.record.task, match.metric, match.record.model, number(match.measured, match.info)),
            *(f"{match.published:.1f}", signed(match.difference)),
            Text(match.verdict, {"inside": "green", "outside": "red"}.get(match.verdict, "")),
            match.source,
        ]
        for match in matches
    ]
    print_table(["task", "metric", "model", "measured", "published", "difference", "verdict", "source"], rows)
    explained = set()
    for match in matches:
        where = f"{match.record.model} on {match.record.task}"
        if match.verdict == "outside" and (where, match.causes) not in explained:
            explained.add((where, match.causes))
            _print_causes(where, match)
    for text in dict.fromkeys(f"{m.record.task}: {m.cannot_tell}" for m in matches if m.cannot_tell):
        dim(f"cannot tell: {text}")


def _print_causes(where: str, match: Match) -> None:
    labelled("outside", f"{where}; likely causes:", console=out)
    for cause in match.causes:
        colour = {"differs": "red", "unknown": "dim"}.get(cause.state, "green")
        detail = f": {cause.detail}" if cause.detail else ""
        say(Text.assemble("  ", (cause.state, colour), f"  {cause.what}{detail}"))
    if match.note:
        dim(f"  {match.note}")
