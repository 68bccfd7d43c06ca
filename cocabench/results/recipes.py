"""Recipes: groups of checkpoints that differ in their training seed only, and tests of one against another."""

from __future__ import annotations

import csv
import glob
import io
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from cocabench.core.errors import SpecError, UnknownNameError, UnpairedError, UsageError, WithheldError
from cocabench.core.formatting import decimals, plural, points
from cocabench.core.types import MetricInfo, Record
from cocabench.metrics import seeds
from cocabench.metrics.seeds import MIN_SEEDS
from cocabench.metrics.statistics import moved_by_seed
from cocabench.results.difference import (
    LEVEL,
    Difference,
    Evidence,
    Finding,
    check_shared,
    in_points,
    with_finding,
    with_findings,
)
from cocabench.results.records import PUBLISHED, choose, first_reasons, incomparable, published_by, read
from cocabench.results.store import RecordSet
from cocabench.specs.spec import Spec, problems, read_toml


class Recipes(Spec):
    """A file that names recipes: ``[recipes]`` with ``name = ["pattern of model names", …]``."""

    recipes: dict[str, tuple[str, ...]] = Field(default_factory=dict)


def read_recipes(path: Path) -> dict[str, tuple[str, ...]]:
    """Return {name: patterns of model names} of a TOML file; SpecError with all of its errors."""
    try:
        return Recipes.model_validate(read_toml(path)).recipes
    except ValidationError as error:
        raise SpecError(str(path), problems(error, ["recipes"])) from None


@dataclass(frozen=True)
class Recipe:
    """A recipe's checkpoints. name: as it was asked for. records: of all checkpoints, one per model and task."""

    name: str
    records: tuple[Record, ...]

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(r.model for r in self.records))

    @property
    def text(self) -> str:
        """``a/seed* (3 checkpoints: a/seed0, a/seed1, a/seed2)``"""
        return f"{self.name} ({plural(len(self.models), 'checkpoint')}: {', '.join(self.models)})"

    def of_task(self, task: str) -> list[Record]:
        return [r for r in self.records if r.task == task]


def sides(
    results: Sequence[str],
    against: Sequence[str],
    *,
    models: Sequence[str] = (),
    recipes: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Recipe, Recipe, Evidence]:
    """Return two recipes and their samples.

    results, against: results folders, Record files, or patterns of them; against also names of recipes and patterns of
    models in results. models: names of recipes and patterns of models for the first; by default all that results have,
    but those of the second. UsageError where a side has no checkpoint, or the two share one.
    """
    named = recipes or {}
    first = read(*_files(results))
    places = [place for place in against if place not in named and _found(place)]
    patterns = [pattern for place in against if place not in places for pattern in named.get(place, (place,))]
    known = tuple(dict.fromkeys(r.model for r in first))
    second = read(*_files(places)) if places else RecordSet((), ())
    others = _matching(known, patterns)
    own = _matching(known, [p for name in models for p in named.get(name, (name,))]) if models else known
    chosen = choose(r for r in first if r.model in own and (models or r.model not in others)).records
    compared = (*choose(second).records, *choose(r for r in first if r.model in others).records)
    pair = Recipe(", ".join(models or results), chosen), Recipe(", ".join(against), compared)
    for side, flag in zip(pair, ("RESULTS", "--against"), strict=True):
        check(side, flag)
    check_apart(*pair)
    return (*pair, Evidence(first, second))


def _found(pattern: str) -> list[str]:
    return [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern))


def _files(patterns: Sequence[str]) -> list[str]:
    found = []
    for pattern in patterns:
        places = [pattern] if pattern.startswith(PUBLISHED) else _found(pattern)
        if not places and glob.has_magic(pattern):
            raise UsageError("RESULTS", f"no file or folder matches {pattern!r}", wanted="results folders")
        found += places or [pattern]
    return found


def _matching(known: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the models that match, in the order of patterns; UnknownNameError for one that matches none."""
    found: list[str] = []
    for pattern in patterns:
        matches = [pattern] if pattern in known else [name for name in known if fnmatchcase(name, pattern)]
        if not matches:
            raise UnknownNameError("model, pattern or folder", pattern, known)
        found += matches
    return list(dict.fromkeys(found))


def check(side: Recipe, where: str) -> None:
    """Raise UsageError for a recipe without measured checkpoints, or with the same weights twice."""
    if not side.records:
        raise UsageError(where, "no checkpoints are left", wanted="a group of checkpoints", fix="choose with --models")
    if of := next((r.model for r in side.records if published_by(r)), ""):
        raise UsageError(where, f"{of} has no samples", wanted="measured checkpoints", fix="compare with --published")
    held: dict[str, str] = {}
    for record in side.records:
        weights = record.signature.model.get("weights")
        if weights and held.setdefault(str(weights), record.model) != record.model:
            got = f"{held[str(weights)]} and {record.model} have the same weights"
            raise UsageError(where, got, wanted="checkpoints of different seeds")


def check_apart(first: Recipe, second: Recipe) -> None:
    """Raise UsageError where one Record is in both recipes."""
    shared = [r.model for r in first.records if any(r == other for other in second.records)]
    if shared:
        raise UsageError("--against", f"{shared[0]} is in both groups", wanted="two groups without common checkpoints")


@dataclass(frozen=True)
class RecipeRow:
    """One task and metric of two recipes, or a mean over tasks.

    first, second: the values of their checkpoints, in points. difference: of the means, with its test over seeds and
    images; None where the protocols differ or a number is missing. permutation: the p-value of dealing the seeds anew,
    None where there are too few. share: of the difference's variance, that of seeds; NaN where unknown. why: the reason
    for no difference. tasks: over which a mean is taken, empty for one task.
    """

    task: str
    metric: str
    info: MetricInfo
    evaluator: str
    first: tuple[float, ...] = ()
    second: tuple[float, ...] = ()
    difference: Difference | None = None
    permutation: float | None = None
    share: float = math.nan
    why: str = ""
    primary: bool = True
    tasks: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """``▲ first better (p=0.003; 0.008 by permutation)``, or why there is none."""
        gap = self.difference
        if gap is None or gap.finding is Finding.UNTESTED:
            return self.why or (gap.unpaired if gap else "")
        if self.permutation is None:
            return f"{gap.mark} {gap.verdict}".strip()
        if gap.significant:
            return f"{gap.mark} {gap.finding} ({gap.p}; {self.permutation:.2g} by permutation)"
        return f"{gap.verdict}"


def compare_recipes(
    first: Recipe, second: Recipe, evidence: Evidence, *, all_metrics: bool = False
) -> tuple[RecipeRow, ...]:
    """Return a row per task and metric that both recipes have, then one per mean over the tasks of a kind or group.

    Findings of primary metrics are corrected together (Holm); means are not corrected for several means. Where enough
    seeds allow a permutation, a finding also needs its p-value below 0.05.
    """
    tasks = [t for t in dict.fromkeys(r.task for r in first.records) if second.of_task(t)]
    rows = [
        _row(first.of_task(task), second.of_task(task), metric, evidence)
        for task in tasks
        for metric in _metrics(first.of_task(task), all_metrics)
    ]
    family = iter(with_findings([(row.difference, row.info) for row in rows if row.primary and row.difference]))
    found = []
    for row in rows:
        if row.difference is not None:
            gap = next(family) if row.primary else with_finding(row.difference, row.info)
            row = replace(row, difference=_confirmed(gap, row.permutation))
        found.append(row)
    return (*found, *_means(first, second, [row for row in found if row.primary], evidence))


def _confirmed(gap: Difference, permutation: float | None) -> Difference:
    """Return a difference that is significant only if a permutation over seeds says so, too."""
    held = permutation is None or permutation <= LEVEL or not gap.significant
    return gap if held else replace(gap, finding=Finding.NOTHING)


def _metrics(records: Sequence[Record], all_metrics: bool) -> list[str]:
    primary = records[0].primary
    return list(dict.fromkeys([primary, *(records[0].metrics if all_metrics else ())]))


def _row(one: Sequence[Record], other: Sequence[Record], metric: str, evidence: Evidence) -> RecipeRow:
    info = one[0].definitions[metric]
    row = RecipeRow(one[0].task, metric, info, one[0].evaluator, primary=metric == one[0].primary)
    if why := absent(one, other, metric):
        return replace(row, why=why)
    found, why = over_seeds([(one, other, metric)], evidence)
    values = [tuple(points(_value(r, metric), info) for r in side) for side in (one, other)]
    gap = statistics.fmean(values[0]) - statistics.fmean(values[1])
    places = decimals(max(map(abs, (*values[0], *values[1]))), info)
    if found is None or found.test is None:
        return replace(
            row, first=values[0], second=values[1], difference=Difference(gap, unpaired=why, places=places), why=why
        )
    return replace(
        row,
        first=values[0],
        second=values[1],
        difference=in_points(found.test, info, places=places),
        permutation=found.permutation,
        share=found.share,
    )


def absent(one: Sequence[Record], other: Sequence[Record], metric: str) -> str:
    """Return why a metric of two recipes cannot be compared, '' if it can."""
    lacking = [r.model for r in (*one, *other) if metric not in r.metrics or r.metrics[metric].value is None]
    if lacking:
        return f"not measured: {first_reasons(lacking)}"
    reasons = (reason for r in (*one[1:], *other) for reason in incomparable(one[0], r, metric))
    found = list(dict.fromkeys(reasons))
    return f"incomparable ({first_reasons(found)})" if found else ""


def over_seeds(
    groups: Sequence[tuple[Sequence[Record], Sequence[Record], str]], evidence: Evidence
) -> tuple[seeds.Seeds | None, str]:
    """Return the comparison of two recipes by the mean over (first, second, metric), and why there is no test."""
    counts = [len({r.model for one, _, _ in groups for r in one}), len({r.model for _, two, _ in groups for r in two})]
    if min(counts) < MIN_SEEDS:
        return None, f"too few seeds to say ({counts[0]} and {counts[1]}; {MIN_SEEDS} of each are the fewest)"
    try:
        parts: list[seeds.Moves] = []
        for one, other, metric in groups:
            frames = [[evidence.samples(r) for r in side] for side in (one, other)]
            moves = moved_by_seed(evidence.declared(one[0], metric), *frames)
            values = np.concatenate([moves.first, moves.second]).sum(axis=1)
            for record, value in zip((*one, *other), values, strict=True):
                _check_edited(record, metric, float(value))
            parts.append(moves)
        check_shared([one[0] for one, _, _ in groups], [part.images for part in parts])
        return seeds.compare(parts, np.random.default_rng(0)), ""
    except (UnpairedError, WithheldError) as reason:
        return None, str(reason)


def _check_edited(record: Record, metric: str, found: float) -> None:
    """Raise UnpairedError if a Record's samples give another number than it says."""
    said = _value(record, metric)
    if not math.isclose(said, found, rel_tol=1e-6, abs_tol=1e-6):
        text = f"{said:.6g} in the Record, {found:.6g} in its samples"
        raise UnpairedError("", f"{record.model} on {record.task} was edited ({text})")


def _value(record: Record, metric: str) -> float:
    value = record.metrics[metric].value
    assert value is not None, "absent() finds undefined numbers"
    return value


def _means(first: Recipe, second: Recipe, rows: Sequence[RecipeRow], evidence: Evidence) -> Iterator[RecipeRow]:
    """Yield the means over the tasks of each kind and group with two tasks or more that every checkpoint has."""
    members: dict[str, list[RecipeRow]] = {}
    whole = [row for row in rows if len(row.first) == len(first.models) and len(row.second) == len(second.models)]
    for row in whole:
        groups = first.of_task(row.task)[0].groups
        for name in dict.fromkeys((row.evaluator, *groups)):
            members.setdefault(name, []).append(row)
    seen: set[tuple[str, ...]] = set()
    for name, own in members.items():
        tasks = tuple(row.task for row in own)
        if len(tasks) < 2 or tasks in seen or len({(r.info.unit, r.info.higher_is_better) for r in own}) > 1:
            continue
        seen.add(tasks)
        yield _mean(name, own, first, second, evidence)


def _mean(name: str, rows: Sequence[RecipeRow], first: Recipe, second: Recipe, evidence: Evidence) -> RecipeRow:
    info, tasks = rows[0].info, tuple(row.task for row in rows)
    groups = [(_in_order(first, row.task), _in_order(second, row.task), row.metric) for row in rows]
    ones = _means_of([[points(_value(r, metric), info) for r in one] for one, _, metric in groups])
    others = _means_of([[points(_value(r, metric), info) for r in other] for _, other, metric in groups])
    gap = Difference(statistics.fmean(ones) - statistics.fmean(others))
    found, why = over_seeds(groups, evidence)
    row = RecipeRow(f"mean of {name}", "primary", info, rows[0].evaluator, ones, others, tasks=tasks)
    if found is None or found.test is None:
        return replace(row, difference=replace(gap, unpaired=why), why=why)
    difference = _confirmed(with_finding(in_points(found.test, info), info), found.permutation)
    return replace(row, difference=difference, permutation=found.permutation, share=found.share)


def _means_of(columns: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return each checkpoint's mean over tasks, of the values by task and checkpoint."""
    return tuple(statistics.fmean(values) for values in zip(*columns, strict=True))


def _in_order(side: Recipe, task: str) -> list[Record]:
    """Return a task's Records in the order of the recipe's models: a row of a mean is one checkpoint's."""
    by_model = {r.model: r for r in side.of_task(task)}
    return [by_model[model] for model in side.models]


HEADER = ("task", "metric", "first", "second", "difference", "seeds", "finding")


def cells(row: RecipeRow) -> list[str]:
    """Return a row's cells below HEADER: means with the deviation between seeds in brackets."""
    places = row.difference.places if row.difference else 1
    said = [
        f"{statistics.fmean(v):.{places}f}" + (f" [{statistics.stdev(v):.{places + 1}f}]" if len(v) > 1 else "")
        if v
        else ""
        for v in (row.first, row.second)
    ]
    share = "" if math.isnan(row.share) else f"{100 * row.share:.0f} %"
    return [row.task, row.metric, *said, str(row.difference) if row.difference else "", share, row.verdict]


COLUMNS = (
    *("task", "metric", "first", "second", "difference", "low", "high", "p_value", "adjusted", "permutation"),
    *("detectable", "share_of_seeds", "finding", "why"),
)


def lines(rows: Iterable[RecipeRow]) -> list[dict[str, object]]:
    """Return rows as {column: value}, in points; first and second list the checkpoints' values."""
    found: list[dict[str, object]] = []
    for row in rows:
        gap = row.difference or Difference(math.nan)
        numbers = (gap.value, gap.low, gap.high, gap.p_value, gap.adjusted, row.permutation, gap.detectable, row.share)
        rounded = [None if x is None or math.isnan(x) else float(f"{x:.6g}") for x in numbers]
        values = [[round(v, 4) for v in side] for side in (row.first, row.second)]
        found.append(
            dict(zip(COLUMNS, (row.task, row.metric, *values, *rounded, gap.finding.value, row.why), strict=True))
        )
    return found


def to_csv(rows: Iterable[RecipeRow]) -> str:
    """Return the rows as CSV; lists of values are separated by spaces."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines(rows):
        writer.writerow([" ".join(map(str, v)) if isinstance(v, list) else v for v in line.values()])
    return stream.getvalue()


def legend(rows: Sequence[RecipeRow]) -> list[str]:
    """Return the sentences below a table."""
    said = [
        "[ ] is the deviation between seeds; ± is half the width of the 95 % interval over seeds and images.",
        "seeds: what share of the difference's variance is due to training seeds; more images do not reduce it.",
    ]
    family = sum(row.primary and row.difference is not None and row.difference.adjusted is not None for row in rows)
    if family:
        holm = f", Holm-corrected for {family} differences; means are not corrected" if family > 1 else ""
        said.append(f"Better: p < {LEVEL:g}, two-sided{holm}.")
    if any(row.permutation is not None for row in rows):
        said.append(f"A finding also needs p <= {LEVEL:g} when the seeds are dealt to the two groups anew.")
    return said
