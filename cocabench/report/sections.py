"""The parts of report.md: the headline, the tables of the CoCa blog, and how the numbers were made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from pydantic import JsonValue

from cocabench.compare import Comparison, Row, published_by
from cocabench.report.tables import markdown_cell
from cocabench.report.text import Footnotes, escape, plural, signed, table
from cocabench.signature import short
from cocabench.types import Record

CAPTION_METRICS = ("BLEU@1", "BLEU@2", "BLEU@3", "BLEU@4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
TOWERS = ("image_encoder", "text_encoder", "text_decoder", "text_encoder_and_decoder")


def headline(comparison: Comparison, evaluators: dict[str, str]) -> str:
    """Return what the data say first: wins per kind of task for two models, else how often each one is best.

    ``A against B: ahead on 3 and behind on 1 of 5 classification tasks (mean +1.2 points).``
    """
    models = comparison.models
    if len(models) == 1:
        return f"{models[0]} on {plural(len(comparison.rows), 'task')}."
    rows_of: dict[str, list[Row]] = {}
    for row in comparison.rows:
        rows_of.setdefault(evaluators[row.task], []).append(row)
    say, start = (_versus, f"{models[0]} against {models[1]}") if len(models) == 2 else (_leaders, "Best most often")
    said = [sentence for kind, rows in rows_of.items() if (sentence := say(models, kind, rows))]
    return f"{start}: {'; '.join(said) or 'nothing can be compared'}."


def _versus(models: Sequence[str], kind: str, rows: Sequence[Row]) -> str:
    gaps = [(row.difference.value, row.info.higher_is_better) for row in rows if row.difference]
    gains = [gap if higher else -gap for gap, higher in gaps]
    if not gains:
        return ""
    ahead, behind = (sum(1 for gain in gains if sign * gain >= 0.05) for sign in (1, -1))
    tasks = plural(len(gains), f"{kind} task")
    told = [row.difference for row in rows if row.difference and row.difference.low is not None]
    clear = sum(gap.low > 0 or gap.high < 0 for gap in told if gap.low is not None and gap.high is not None)
    noise = f"; {clear} of these differences beyond their intervals" if told else ""
    return f"ahead on {ahead} and behind on {behind} of {tasks} (mean {signed(sum(gains) / len(gains))} points{noise})"


def _leaders(models: Sequence[str], kind: str, rows: Sequence[Row]) -> str:
    wins = [sum(row.cells[i].best for row in rows) for i in range(len(models))]
    most = max(wins)
    first = " and ".join(m for m, n in zip(models, wins, strict=True) if n == most)
    return f"{first} ({most} of {plural(len(rows), f'{kind} task')}, ties included)" if most else ""


def retrieval(comparison: Comparison, footnotes: Footnotes) -> str:
    """Return recall@K, a table per direction, as Table 2 of the blog."""
    parts = []
    for direction, words in (("t2i", "Text to image: captions that find their image"), ("i2t", "Image to text")):
        rows = [row for row in comparison.rows if row.metric.startswith(f"{direction}_recall@")]
        names = sorted({row.metric for row in rows}, key=lambda name: int(name.rpartition("@")[2]))
        if rows:
            parts.append(f"**{words}**\n\n{pivot(comparison, rows, names, footnotes)}")
    return "\n".join(parts)


def captioning(comparison: Comparison, tasks: set[str], footnotes: Footnotes) -> str:
    """Return the caption metrics, as Table 4 of the blog; those that are not its own follow."""
    rows = [row for row in comparison.rows if row.task in tasks]
    found = list(dict.fromkeys(row.metric for row in rows))
    names = [m for m in CAPTION_METRICS if m in found] + [m for m in found if m not in CAPTION_METRICS]
    return pivot(comparison, rows, names, footnotes) if rows else ""


def pivot(comparison: Comparison, rows: Sequence[Row], metrics: Sequence[str], footnotes: Footnotes) -> str:
    """Return a line per task and model, a column per metric; best of each task in bold."""
    by_key = {(row.task, row.metric): row for row in rows}
    lines = []
    for task in dict.fromkeys(row.task for row in rows):
        for i, model in enumerate(comparison.models):
            cells = [by_key[task, m].cells[i] if (task, m) in by_key else None for m in metrics]
            if any(cell and (cell.estimate or cell.notes) for cell in cells):
                lines.append(
                    [escape(task), escape(model), *(markdown_cell(cell, footnotes) if cell else "" for cell in cells)]
                )
    return table(["task", "model", *(escape(m) for m in metrics)], lines, left=2)


def parameters(records: Iterable[Record]) -> str:
    """Return millions of parameters per tower, as Table 3 of the blog."""
    models = {record.model: record.parameters for record in records if record.parameters}
    towers = [tower for tower in TOWERS if any(tower in found for found in models.values())]
    lines = [
        [escape(model), *(f"{found[t] / 1e6:.2f}" if t in found else "" for t in towers)]
        for model, found in models.items()
    ]
    return table(["model", *(tower.replace("_", " ") for tower in towers)], lines) if lines else ""


def methods(records: Sequence[Record]) -> str:
    """Return how the numbers were made: protocols in words, models, signatures, and what each metric is."""
    protocols: dict[str, list[Record]] = {}
    for record in records:
        protocols.setdefault("; ".join(_words(record.signature.protocol)), []).append(record)
    models: dict[str, list[str]] = {}
    for record in records:
        models.setdefault("; ".join(_words(record.signature.model)), []).append(record.model)
    info = {name: i.summary for r in records for name, i in r.definitions.items()}
    measured = [r for r in records if not published_by(r)]
    signatures = [[escape(r.task), escape(r.model), short(r.signature), escape(r.created)] for r in measured]
    return "\n".join(
        [
            "**Protocols** (numbers are compared only where all of this is equal)\n",
            *(f"- {_names(r.task for r in found)}: {escape(words)}" for words, found in protocols.items()),
            "\n**Models**\n",
            *(f"- {_names(found)}: {escape(words)}" for words, found in models.items()),
            "\n**Metrics**\n",
            *(f"- {escape(name)}: {escape(summary)}" for name, summary in sorted(info.items())),
            "\n**Signatures**\n" if measured else "",
            table(["task", "model", "signature", "created"], signatures, left=4) if measured else "",
        ]
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"**{escape(name)}**" for name in dict.fromkeys(names))


def _words(tree: dict[str, JsonValue], prefix: str = "") -> list[str]:
    """Return ``data images: 1000`` for each leaf; long values are cut, since the Record has them whole."""
    said = []
    for key, value in sorted(tree.items()):
        if isinstance(value, dict):
            said += _words(value, f"{prefix}{key} ")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            said.append(f"{prefix}{key}: {text if len(text) <= 80 else text[:79] + '…'}")
    return said
