"""What a model costs: parameters and GFLOPs per tower, throughput and memory where they were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cocabench.core.types import Record
from cocabench.kinds import every, find
from cocabench.report.content import Report
from cocabench.report.grid import Entry, Line, Table, of_estimate, quantity
from cocabench.results import published as publications
from cocabench.results.published import plain

TOWERS = ("image_encoder", "text_encoder", "text_decoder", "text_encoder_and_decoder")
GFLOPS = {"image_encoder": "image_gflops", "text_encoder": "text_gflops", "text_decoder": "decoder_gflops"}
"""The metrics that hold a tower's GFLOPs; they are shown as columns per tower."""

QUANTITY_LABELS = {"params": "M parameters", "gflops": "GFLOPs"}


@dataclass(frozen=True, slots=True)
class Cost:
    """Costs of one model: millions of parameters and GFLOPs per tower; measured: its Record of costs, if any."""

    model: str
    params: Mapping[str, float]
    gflops: Mapping[str, float]
    measured: Record | None = None

    @property
    def total_params(self) -> float | None:
        return sum(self.params.values()) or None

    @property
    def total_gflops(self) -> float | None:
        """GFLOPs of one image and one text; None unless both towers are known."""
        known = [self.gflops[tower] for tower in ("image_encoder", "text_encoder") if tower in self.gflops]
        return sum(known) if len(known) == 2 else None

    def rate(self, metric: str) -> float | None:
        estimate = self.measured.metrics.get(metric) if self.measured else None
        return estimate.value if estimate else None


def costs(report: Report) -> list[Cost]:
    """Return each model's costs, from its Records or the published profile of its architecture."""
    return [_cost(report, model) for model in report.comparison.models]


def _cost(report: Report, model: str) -> Cost:
    mine = [r for r in (*report.costs, *report.records) if r.model == model]
    measured = next((r for r in mine if r in report.costs), None)
    counted: Mapping[str, int] = next((r.parameters for r in mine if r.parameters), {})
    params = {tower: count / 1e6 for tower, count in counted.items()}
    gflops = _measured_gflops(measured) or _profile(_architecture(model), "gflops")
    return Cost(model, params or _profile(_architecture(model), "params_millions"), gflops, measured)


def _measured_gflops(record: Record | None) -> dict[str, float]:
    if record is None:
        return {}
    named = {tower: record.metrics.get(metric) for tower, metric in GFLOPS.items()}
    return {tower: e.value for tower, e in named.items() if e and e.value is not None}


def _architecture(model: str) -> str:
    return plain(model).partition(":")[0]


def _profile(architecture: str, quantity: str) -> dict[str, float]:
    table = publications.profile()
    found = table[(table["model"] == architecture) & (table["quantity"] == quantity) & (table["tower"] != "total")]
    return {row["tower"]: row["value"] for row in found.drop_duplicates("tower").to_dict("records")}


def table(found: Sequence[Cost]) -> Table | None:
    """Return parameters and GFLOPs per tower, as in Table 3 of the CoCa blog, then measured speed and memory."""
    towers = [t for t in TOWERS if any(t in cost.params or t in cost.gflops for cost in found)]
    rates = _rates(found)
    if not towers and not rates:
        return None
    columns = [(t, kind) for kind in QUANTITY_LABELS for t in towers if any(t in getattr(cost, kind) for cost in found)]
    heads = [f"{tower.replace('_', ' ')}, {QUANTITY_LABELS[kind]}" for tower, kind in columns]
    measuring = [kind.name for kind in every() if kind.shown.costs]
    lines = tuple(
        Line(
            (
                Entry(cost.model, model=cost.model),
                *(quantity(getattr(cost, kind).get(tower)) for tower, kind in columns),
                *(_rate(cost, name) for name in rates),
            )
        )
        for cost in found
    )
    return Table(
        name="costs",
        caption="Parameters and GFLOPs per tower, and measured speed and memory",
        columns=("model", *heads, *rates.values()),
        lines=lines,
        shut=False,
        about="GFLOPs are for one image and one text. Published values are shown for open_clip's architectures unless "
        f"the task {' or '.join(measuring)} measured them.",
    )


def _rates(found: Sequence[Cost]) -> dict[str, str]:
    """Return {metric: column heading} for measured costs other than the GFLOPs of single towers."""
    measured = [cost.measured for cost in found if cost.measured]
    names = {name: find(record.evaluator).metric(name) for record in measured for name in record.metrics}
    per_tower = GFLOPS.values()
    return {
        name: metric.label if metric and metric.label else name
        for name, metric in names.items()
        if name not in per_tower and not name.endswith("_parameters")
    }


def _rate(cost: Cost, name: str) -> Entry:
    estimate = cost.measured.metrics.get(name) if cost.measured else None
    if estimate is None or cost.measured is None:
        return Entry("")
    notes = tuple(note.text for note in cost.measured.notes)
    return replace(of_estimate(estimate, cost.measured.definitions[name]), notes=notes)


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the (cost, quality) points on the Pareto front.

    No other point is at least as good at the same or a lower cost; two equal points are both on the front.
    """
    return [
        i
        for i, (cost, quality) in enumerate(points)
        if not any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points)
    ]
