"""Results for a model's page on the Hugging Face Hub: model-index, `.eval_results`, a section of its card, and pushing.

huggingface_hub knows the formats and talks to the hub; nothing is sent without ``push``. Values are as in Records:
fractions 0-1. A `.eval_results` entry belongs to a data set on the hub, so tasks whose file names none are left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from cocabench.core import __version__
from cocabench.core.errors import ResultsError, UsageError, first_line
from cocabench.core.files import read_text
from cocabench.core.formatting import escape, number, table
from cocabench.core.signature import short
from cocabench.core.temporary import temporary_folder
from cocabench.core.text import printable
from cocabench.core.types import Record
from cocabench.kinds import find
from cocabench.results.records import imported_by, limit, notes, published_by, standard
from cocabench.specs.registry import all_tasks

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry, HfApi

README, ENTRIES = "README.md", ".eval_results/cocabench.yaml"
"""The files of a model's repository that ``push`` writes."""

UNKNOWN = "no task of that name is installed"

BEGIN, END = "<!-- cocabench: begin -->", "<!-- cocabench: end -->"
"""Around the section of the card, which the next push replaces."""


def imported_hub() -> ModuleType:
    """Return huggingface_hub; UsageError if it is missing or too old for EvalResultEntry."""
    fix = "pip install 'cocabench[hub]'"
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.repocard_data
    except ImportError:
        raise UsageError("huggingface_hub", "not installed", fix=fix) from None
    if not hasattr(huggingface_hub, "EvalResultEntry"):
        got = f"version {huggingface_hub.__version__}, which has no EvalResultEntry"
        raise UsageError("huggingface_hub", got, fix=fix)
    return huggingface_hub


def of_one_model(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return the Records; UsageError unless one model measured them all."""
    found = tuple(records)
    models = list(dict.fromkeys(record.model for record in found))
    if len(models) != 1:
        fix = f"choose one with --model: {', '.join(models)}"
        raise UsageError("export", f"results of {len(models)} models", wanted="those of one", fix=fix)
    return found


def _date(record: Record) -> str:
    return record.created[:10]


def eval_results(records: Iterable[Record]) -> list[EvalResult]:
    """Return an EvalResult for each defined metric of quality; its metric_args hold interval, n and signature."""
    hub, tasks = imported_hub(), all_tasks()
    found = []
    for record in of_one_model(records):
        data = tasks[record.task].spec.hub if record.task in tasks else ""
        for name, estimate in record.metrics.items():
            if estimate.value is None or record.definitions[name].kind != "quality":
                continue
            interval = {key: getattr(estimate, key) for key in ("low", "high") if getattr(estimate, key) is not None}
            found.append(
                hub.EvalResult(
                    task_type=find(record.evaluator).hub_task or record.evaluator.replace("_", "-"),
                    task_name=find(record.evaluator).title(),
                    dataset_type=data or record.task,
                    dataset_name=record.task,
                    metric_type=name,
                    metric_name=record.definitions[name].summary,
                    metric_value=estimate.value,
                    metric_args={**interval, "n": estimate.n, "signature": short(record.signature)},
                )
            )
    return found


def to_model_index(records: Iterable[Record]) -> str:
    """Return the YAML of a card's metadata: model-index alone, to paste between its lines of three dashes."""
    import yaml

    chosen = of_one_model(records)
    index = imported_hub().repocard_data.eval_results_to_model_index(chosen[0].model, eval_results(chosen))
    return str(yaml.safe_dump({"model-index": index}, sort_keys=False, allow_unicode=True))


class Entries(NamedTuple):
    """Entries of `.eval_results`, and {task: why it has none}."""

    entries: list[EvalResultEntry]
    left_out: dict[str, str]


def entries(records: Iterable[Record]) -> Entries:
    """Return the entry of each Record's primary metric whose task file names a data set on the hub (`hub = …`)."""
    hub, tasks, found = imported_hub(), all_tasks(), Entries([], {})
    for record in of_one_model(records):
        estimate = record.metrics.get(record.primary)
        spec = tasks[record.task].spec if record.task in tasks else None
        if spec is None or not spec.hub:
            found.left_out[record.task] = "its task file names no data set on the hub" if spec else UNKNOWN
            continue
        if estimate is None or estimate.value is None or limit(record) is not None or not standard(record):
            found.left_out[record.task] = "not a whole result of the standard protocol"
            continue
        said = f"{record.primary}: {number(estimate, record.definitions[record.primary])}"
        found.entries.append(
            hub.EvalResultEntry(
                dataset_id=spec.hub,
                task_id=record.task,
                value=estimate.value,
                date=_date(record),
                notes="; ".join([said, f"signature {short(record.signature)}", f"cocabench {__version__}"]),
            )
        )
    return found


def to_yaml(found: Sequence[EvalResultEntry]) -> str:
    """Return entries as the YAML of a file in `.eval_results`."""
    import yaml

    table = imported_hub().eval_result_entries_to_yaml(list(found))
    return str(yaml.safe_dump(table, sort_keys=False, allow_unicode=True))


def to_card(records: Iterable[Record]) -> str:
    """Return a section of a model card in Markdown: primary metrics with intervals, signatures, how to measure them."""
    chosen = of_one_model(records)
    rows, footnotes = [], dict[str, None]()
    for record in chosen:
        estimate = record.metrics.get(record.primary)
        value = number(estimate, record.definitions[record.primary]) if estimate else "not measured"
        rows.append([f"`{record.task}`", f"`{record.primary}`", value, f"`{short(record.signature)}`"])
        footnotes |= dict.fromkeys(f"{record.task}: {note.text}" for note in notes(record))
    tasks = ",".join(record.task for record in chosen)
    measured = not any(published_by(record) or imported_by(record) for record in chosen)
    lines = [
        "## Evaluation\n",
        f"`{chosen[0].model}`, by cocabench {__version__}, {max(map(_date, chosen))}. ± is half the width of the 95 % "
        "interval over images; n is the number of images. Scores are times 100.\n",
        table(["task", "metric", "value", "signature"], rows, left=2).rstrip("\n") + "\n",
        *(f"- {escape(text)}" for text in footnotes),
    ]
    if measured:
        lines.append(f"\n```sh\ncocabench run --model {chosen[0].model} --tasks {tasks}\n```")
    return "\n".join(lines).rstrip("\n") + "\n"


# Pushing.


class Change(NamedTuple):
    """A file of a repository: what is there ('' if it is not), and what shall be."""

    path: str
    before: str
    after: str

    @property
    def diff(self) -> str:
        """The change as a unified diff to print, without what would command a terminal; '' if there is none."""
        lines = (self.before.splitlines(), self.after.splitlines())
        return printable("\n".join(difflib.unified_diff(*lines, f"a/{self.path}", f"b/{self.path}", lineterm="", n=2)))


def changes(repo: str, records: Iterable[Record]) -> list[Change]:
    """Return what a push would change in a model's repository; reads it, and sends nothing.

    The card keeps its text and the results of others: the section between two marks and equal results are replaced.
    """
    chosen = of_one_model(records)
    there = {path: _read(repo, path) for path in (README, ENTRIES)}
    found = entries(chosen).entries
    made = {README: _card(there[README], chosen, repo), ENTRIES: to_yaml(found) if found else ""}
    return [Change(path, there[path], text) for path, text in made.items() if text and text != there[path]]


def push(repo: str, made: Sequence[Change], *, pull_request: bool) -> str:
    """Send changes as one commit, or as a pull request; return its address. ResultsError if the hub refuses."""
    hub = imported_hub()
    operations = [hub.CommitOperationAdd(c.path, c.after.encode()) for c in made]
    try:
        done = _api().create_commit(
            repo, operations, commit_message="Evaluation by cocabench", create_pr=pull_request, repo_type="model"
        )
    except (hub.errors.HfHubHTTPError, OSError, ValueError) as error:
        raise _refused(repo, error) from None
    return str(done.pr_url if pull_request else done.commit_url)


def _api() -> HfApi:
    api: HfApi = imported_hub().HfApi(library_name="cocabench", library_version=__version__)
    return api


def _read(repo: str, path: str) -> str:
    """Return a file of a repository as text, '' if there is none; ResultsError if the repository cannot be read."""
    hub = imported_hub()
    with temporary_folder("cocabench-hub-") as folder:
        try:
            return read_text(Path(_api().hf_hub_download(repo, path, local_dir=folder)))
        except hub.errors.RemoteEntryNotFoundError:
            return ""
        except (hub.errors.HfHubHTTPError, OSError, ValueError) as error:
            raise _refused(repo, error) from None


def _refused(repo: str, error: Exception) -> ResultsError:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return ResultsError(f"hub: {repo}", said[0], fix="see `hf auth login`, and the name of the repository")


def _card(text: str, records: Sequence[Record], repo: str) -> str:
    """Return a card with the results in its metadata and the section in its text."""
    card = _parsed(text, repo)
    mine = eval_results(records)
    kept = [r for r in card.data.eval_results or [] if not any(_same(r, own) for own in mine)]
    card.data.model_name = card.data.model_name or records[0].model
    card.data.eval_results = [*kept, *mine]
    section = f"{BEGIN}\n{to_card(records)}{END}"
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    body = card.text
    if marked.search(body):
        card.text = marked.sub(lambda _: section, body)
    else:
        title = "" if body.strip() else f"# {records[0].model}\n"
        card.text = "\n".join(part for part in (body.rstrip("\n"), title, section) if part) + "\n"
    return str(card)


def _parsed(text: str, repo: str) -> Any:
    """Return a repository's card; ResultsError if its metadata are damaged, since they would be lost."""
    hub = imported_hub()
    import yaml

    whole = text if re.match(r"\s*---[\r\n]", text) else f"---\n{{}}\n---\n{text}"
    try:
        card = hub.ModelCard(whole, ignore_metadata_errors=False)
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        got = f"metadata that cannot be read ({first_line(error).partition('. Pass ')[0]})"
        raise ResultsError(f"hub: {repo}: {README}", got, fix="correct them there") from None
    return card


def _same(one: EvalResult, other: EvalResult) -> bool:
    """Tell whether two results are of one task, data set and metric, whatever their values."""
    names: Mapping[str, object] = {
        name: getattr(one, name) for name in ("task_type", "dataset_type", "dataset_name", "metric_type")
    }
    return all(getattr(other, name) == value for name, value in names.items())
