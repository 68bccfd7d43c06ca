"""Rules files. The primary metric of every task in the baseline is always checked; rules add metrics and set limits.

Of several rules that match, the later one wins, key by key:

    [defaults]
    tolerance   = 0.2        # points: fractions and caption scores times 100; other units as they are
    confidence  = 0.95       # of the one-sided test, for all checked metrics together
    required    = true       # false: what the current run does not have is not held against it
    cannot_tell = 0          # the exit code where the data cannot show a drop of the tolerance's size

    [[rule]]
    task      = "emoji_*"    # a name or a pattern; "*" when left out
    model     = "demo/*"     # likewise
    metric    = "primary"    # "primary", a name or a pattern
    tolerance = 1.0
    required  = true         # written out, it also fails when the baseline has nothing that matches

Which direction is better is the metric's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, StrictBool, ValidationError

from cocabench.core.errors import SpecError
from cocabench.core.types import Record
from cocabench.specs.spec import Spec, problems, read_toml

Points = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.5, lt=1)]
ExitCode = Annotated[int, Field(ge=0, le=2, strict=True)]


class Defaults(Spec):
    """Used where no rule says otherwise."""

    tolerance: Points = 0.2
    confidence: Share = 0.95
    required: StrictBool = True
    cannot_tell: ExitCode = 0


class Rule(Spec):
    """Which metrics it is about, and what holds for them (None: not said)."""

    task: str = "*"
    model: str = "*"
    metric: str = "primary"
    tolerance: Points | None = None
    confidence: Share | None = None
    required: StrictBool | None = None
    cannot_tell: ExitCode | None = None

    def matches(self, record: Record, metric: str) -> bool:
        """Return whether the rule is about a metric; one of health has to be named, a pattern is not about it."""
        wanted = record.primary if self.metric == "primary" else self.metric
        if metric != wanted and metric in record.definitions and record.definitions[metric].kind == "health":
            return False
        return (
            fnmatchcase(record.task, self.task)
            and fnmatchcase(record.model, self.model)
            and fnmatchcase(metric, wanted)
        )


class Rules(Spec):
    """A rules file."""

    defaults: Defaults = Defaults()
    rule: tuple[Rule, ...] = ()

    def limits(self, record: Record, metric: str) -> Limits | None:
        """Return what holds for a metric of a baseline's Record, or None where it is not checked."""
        matching = [rule for rule in self.rule if rule.matches(record, metric)]
        if not matching and metric != record.primary:
            return None
        return Limits(*(self._last(name, matching) for name in Limits._fields))

    def _last(self, name: str, matching: Iterable[Rule]) -> Any:
        said = [value for rule in matching if (value := getattr(rule, name)) is not None]
        return [getattr(self.defaults, name), *said][-1]

    def insist(self, record: Record) -> bool:
        """Return whether a rule that says ``required = true`` is about one of a Record's metrics."""
        return any(rule.required and rule.matches(record, metric) for rule in self.rule for metric in record.metrics)

    def unmatched(self, records: Iterable[Record]) -> list[Rule]:
        """Return the rules that say ``required = true`` and are about nothing in the baseline."""
        found = [(record, metric) for record in records for metric in record.metrics]
        return [rule for rule in self.rule if rule.required and not any(rule.matches(r, m) for r, m in found)]


class Limits(NamedTuple):
    """What holds for one metric: see Defaults."""

    tolerance: float
    confidence: float
    required: bool
    cannot_tell: int


def read_rules(path: Path) -> Rules:
    """Return the rules of a TOML file; SpecError with everything that is wrong with it."""
    try:
        return Rules.model_validate(read_toml(path))
    except ValidationError as error:
        known = sorted({*Rules.model_fields, *Defaults.model_fields, *Rule.model_fields})
        raise SpecError(str(path), problems(error, known)) from None
