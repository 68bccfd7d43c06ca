"""What the page's script reads: models, how each number was made, the rows of Figure 1, and images, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cocabench.report.colours import Style
from cocabench.report.content import Report
from cocabench.report.methods import Made
from cocabench.report.pair import Pair


def told(
    report: Report, made: Sequence[Made], palette: Mapping[str, Style], pairs: Sequence[Pair], images: Mapping[str, str]
) -> dict[str, Any]:
    """Return the data of the page. made: a line per Record. images: data URLs."""
    return {
        "models": _models(report, palette),
        "records": _records(made),
        "pairs": _pairs(report, pairs),
        "images": images,
    }


def embedded(value: object) -> str:
    """Return JSON that is safe inside <script>: no ``<``, ``>`` or ``&`` is left in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _models(report: Report, palette: Mapping[str, Style]) -> list[dict[str, Any]]:
    return [{"name": model, "colour": palette[model].colour, "mark": palette[model].mark} for model in report.models]


def _records(made: Sequence[Made]) -> dict[str, Any]:
    """Return what the page says of a number when it is pointed at."""
    return {
        one.key: {
            "task": one.record.task,
            "model": one.record.model,
            "kind": one.record.evaluator,
            "primary": one.record.primary,
            "protocol": one.protocol,
            "signature": one.signature,
            "created": one.record.created[:10],
            "warnings": one.record.warnings,
            "metrics": {
                name: [*(_short(v) for v in (e.value, e.low, e.high)), e.n, one.record.definitions[name].unit]
                for name, e in one.record.metrics.items()
                if name in one.record.definitions
            },
        }
        for one in made
    }


def _short(value: float | None) -> float | None:
    """Return a number with more digits than the page shows, and fewer than it would take."""
    return None if value is None else float(f"{value:.7g}")


def _pairs(report: Report, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the rows of Figure 1 for every pair, by the models' positions."""
    position = {model: i for i, model in enumerate(report.models)}
    return {
        f"{position[pair.first]}-{position[pair.second]}": {
            "kind": pair.kind,
            "about": pair.about,
            "rows": [[row.label, *map(_rounded, (row.first, row.second, row.gap)), row.finding] for row in pair.rows],
        }
        for pair in pairs
    }


def _rounded(numbers: Sequence[float | None]) -> list[float | None]:
    return [None if number is None else round(number, 3) for number in numbers]
