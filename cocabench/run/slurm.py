"""Plans as job arrays of Slurm: the script, what is submitted, and what of it waits or was given up.

results/slurm/ID/plan.json, job.sh    a submission: its cells are numbered as in the plan
results/slurm/ID/models, jobs.json    a line per cell (digest, model); job ids with their first cells
results/slurm/ID/logs/                a log per job and array index
results/slurm/attempts/DIGEST         a line per failed attempt of a model's cell; removed when it succeeds

Slurm is asked by its own commands (sbatch, scontrol, squeue). Nothing here needs accounting (sacct).
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from cocabench.core.errors import CocabenchError, ResultsError, UsageError, unreadable
from cocabench.core.files import read_regular, read_text
from cocabench.core.signature import digest
from cocabench.results.store import SUBMISSIONS, write_atomically
from cocabench.run.outcomes import Progress, progress
from cocabench.run.plan import Plan

ANSWER_S = 10.0
"""How long to wait for Slurm to answer."""

SUBMIT_S = 60.0
ATTEMPTS = "attempts"
STOP_S = 120
"""How long before the end of its time a job gets a signal to stop: enough to write the cache."""


class Array(NamedTuple):
    """Cells of one job array: array index + first = cell."""

    first: int
    cells: Sequence[int]

    def indices(self, limit: int | None) -> str:
        """Return the value of sbatch's --array: ``0-3,7%2``."""
        own = [cell - self.first for cell in self.cells]
        runs = [[i for _, i in group] for _, group in groupby(enumerate(own), lambda pair: pair[1] - pair[0])]
        text = ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
        return f"{text}%{limit}" if limit else text


def arrays(cells: Iterable[int], max_size: int) -> list[Array]:
    """Return the arrays of some cells, ascending; max_size: Slurm's MaxArraySize, one above the largest index."""
    return [Array(block * max_size, list(own)) for block, own in groupby(sorted(cells), lambda cell: cell // max_size)]


@dataclass(frozen=True)
class Submission:
    """A plan to submit. options: sbatch's, as ``--partition=gpu``. limit: jobs at once. retries: attempts of a cell."""

    plan: Plan
    output: Path
    options: Sequence[str] = ()
    limit: int | None = None
    retries: int = 3

    @property
    def folder(self) -> Path:
        stamp = re.sub(r"\D", "", self.plan.created[:19])
        return self.output / SUBMISSIONS / f"{stamp}-{digest(self.plan.to_json())[:4]}"

    def script(self) -> str:
        """Return the batch script."""
        folder = self.folder
        options = [
            "--job-name=cocabench",
            "--requeue",
            "--open-mode=append",
            f"--signal=B:USR1@{STOP_S}",
            f"--output={folder}/logs/%A_%a.log",
            *self.options,
        ]
        head = "\n".join(f"#SBATCH {option}" for option in options)
        return _SCRIPT.format(
            head=head,
            folder=shlex.quote(str(folder)),
            python=shlex.quote(sys.executable),
            java=f" --java {shlex.quote(str(java))}" if (java := self.plan.settings.java) else "",
            retries=self.retries,
            minutes=STOP_S // 60,
        )

    def commands(self, cells: Sequence[int], max_size: int) -> list[tuple[Array, list[str]]]:
        """Return the sbatch command of each array."""
        script = str(self.folder / "job.sh")
        return [
            (array, ["sbatch", "--parsable", f"--array={array.indices(self.limit)}", script, str(array.first)])
            for array in arrays(cells, max_size)
        ]

    def write(self) -> None:
        """Write plan, script and the list of models. ResultsError if the folder cannot be written to."""
        lines = "".join(f"{digest(cell.model)} {cell.model}\n" for cell in self.plan.cells)
        for name, text in (("plan.json", self.plan.to_json()), ("job.sh", self.script()), ("models", lines)):
            _write(self.folder / name, text)
        for path in (self.folder / "logs", self.output / SUBMISSIONS / ATTEMPTS):
            path.mkdir(parents=True, exist_ok=True)

    def submit(self, cells: Sequence[int]) -> list[str]:
        """Write all and submit the cells; return the jobs' ids. UsageError with what Slurm says if it refuses."""
        size = max_array_size()
        self.write()
        jobs: list[tuple[str, int, Sequence[int]]] = []
        try:
            for array, words in self.commands(cells, size):
                jobs.append((_asked(words, SUBMIT_S).strip().partition(";")[0], *array))
                _write(self.folder / "jobs.json", json.dumps(jobs))
        finally:
            if not jobs:
                shutil.rmtree(self.folder, ignore_errors=True)
        return [job for job, *_ in jobs]


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))


_SCRIPT = """\
#!/bin/bash
{head}

# Runs one cell of plan.json: the array index plus the first argument. Written by `cocabench submit slurm`.
folder={folder}
cell=$((${{1:-0}} + SLURM_ARRAY_TASK_ID))
job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
if [[ ! -r $folder/plan.json ]]; then
  echo "error $(hostname): $folder: cannot be read; put the results folder on a disk that all nodes share" >&2
  exit 2
fi
attempts=$folder/../attempts/$(sed -n "$((cell + 1))s/ .*//p" "$folder/models")

# {minutes} minutes before its time is over Slurm sends USR1: the command stops with its features kept, and the job is
# queued again, which Slurm does not do for a job that runs out of time. bash runs no trap during a command in the
# foreground, hence & and wait.
again= ended=
trap 'again=1; kill -TERM "$run"' USR1
trap 'ended=1; kill -TERM "$run"' TERM
{python} -m cocabench run --plan "$folder/plan.json" --cell "$cell"{java} --quiet &
run=$!
wait "$run"
code=$?
while kill -0 "$run" 2>/dev/null; do
  wait "$run"
  code=$?
done
if [[ -n $again ]]; then
  scontrol requeue "$job"
  exit 0
fi
[[ -n $ended ]] && exit "$code"
if ((code)); then
  echo "$(date -Iseconds) $(hostname) exit code $code" >>"$attempts"
  (($(wc -l <"$attempts") < {retries})) && scontrol requeue "$job"
  exit "$code"
fi
rm -f "$attempts"
"""


def max_array_size() -> int:
    """Return Slurm's MaxArraySize. UsageError if Slurm is not installed or does not answer."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _asked(["scontrol", "show", "config"], ANSWER_S), re.MULTILINE)
    if found is None:
        raise UsageError("scontrol show config", "no MaxArraySize in its output", wanted="Slurm's configuration")
    return int(found[1])


def to_send(plan: Plan, output: Path, retries: int) -> tuple[list[int], dict[str, str], dict[str, list[str]]]:
    """Return the cells to submit, {model: state} of those in the queue, and {model: attempts} of those given up.

    A cell is sent if one of its steps is missing or failed, unless it waits already or has failed ``retries`` times.
    """
    open_cells = {s.cell: s.model for s in progress(plan, output) if s.state in (Progress.MISSING, Progress.FAILED)}
    queue = waiting(output)
    tried = {model: lines for model in open_cells.values() if len(lines := attempts(output, model)) >= retries}
    cells = [cell for cell, model in open_cells.items() if model not in queue and model not in tried]
    return cells, {m: q for m, q in queue.items() if m in open_cells.values()}, tried


def attempts(output: Path, model: str) -> list[str]:
    """Return a line per failed attempt of a model's cell since it last succeeded."""
    path = output / SUBMISSIONS / ATTEMPTS / digest(model)
    return read_regular(path).decode(errors="replace").splitlines() if path.is_file() else []


def last_plan(output: Path) -> Path | None:
    """Return the plan that was submitted last, None if there is none."""
    found = sorted((output / SUBMISSIONS).glob("*/plan.json"))
    return found[-1] if found else None


def waiting(output: Path) -> dict[str, str]:
    """Return {model: state} of the cells in Slurm's queue ("running", "pending" …); empty if Slurm is not installed."""
    jobs = {job.id: job for job in _jobs(output)}
    if not jobs or shutil.which("squeue") is None:
        return {}
    found: dict[str, str] = {}
    for line in _asked(["squeue", "--me", "--noheader", "--array", "--format=%F %K %T"], ANSWER_S).splitlines():
        name, index, state = line.split()
        job = jobs.get(name)
        if job and index.isdecimal() and (cell := job.first + int(index)) < len(job.models):
            found[job.models[cell]] = state.lower()
    return found


def unseen(output: Path, queue: Mapping[str, str]) -> list[str]:
    """Return the models whose last job left the queue without a log: its node could not see the folder."""
    logged: dict[str, bool] = {}
    for job in _jobs(output):
        for cell in job.cells:
            log = job.folder / "logs" / f"{job.id}_{cell - job.first}.log"
            logged[job.models[cell]] = log.exists()
    return [model for model, there in logged.items() if not there and model not in queue]


@dataclass(frozen=True)
class _Job:
    """A submitted array."""

    folder: Path
    id: str
    first: int
    cells: Sequence[int]
    models: Sequence[str]


_JOBS = TypeAdapter(list[tuple[str, NonNegativeInt, list[NonNegativeInt]]])
"""Of jobs.json: each array's id, its first cell, its cells."""


def _jobs(output: Path) -> Iterator[_Job]:
    """Yield the submitted arrays, oldest first."""
    for path in sorted((output / SUBMISSIONS).glob("*/jobs.json")):
        try:
            models = [line.partition(" ")[2] for line in read_text(path.parent / "models").splitlines()]
            found = _JOBS.validate_json(read_regular(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ResultsError(str(path.parent), unreadable(error), fix="remove the folder") from None
        except ValidationError:
            raise ResultsError(str(path), "no list of jobs", fix="remove the folder") from None
        for name, first, cells in found:
            if not all(first <= cell < len(models) for cell in cells):
                got = f"job {name} has cells that its {len(models)} models do not"
                raise ResultsError(str(path), got, fix="remove the folder")
            yield _Job(path.parent, name, first, cells, models)


def _asked(words: Sequence[str], timeout: float) -> str:
    """Return what a command of Slurm prints. UsageError if it is not installed, does not answer, or refuses."""
    if shutil.which(words[0]) is None:
        fix = "run this on a login node of the cluster, or print the script with --dry-run"
        raise UsageError("submit slurm", f"{words[0]} is not installed here", wanted="Slurm", fix=fix)
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise CocabenchError(words[0], f"no answer in {timeout:.0f} s", fix=_NO_ANSWER) from None
    if done.returncode:
        lines = [line.removeprefix(f"{words[0]}: ").removeprefix("error: ") for line in done.stderr.splitlines()]
        said = "; ".join(filter(None, dict.fromkeys(lines))) or f"exit code {done.returncode}"
        raise UsageError(words[0], said, fix=_fix(done.stderr))
    return done.stdout


_NO_ANSWER = "is slurmctld running? try `sinfo`"


def _fix(said: str) -> str:
    """Return what to do about an error of sbatch."""
    if "partition" in said:
        return f"partitions here: {', '.join(_asked(['sinfo', '--noheader', '--format=%R'], ANSWER_S).split())}"
    if "contact slurm controller" in said:
        return _NO_ANSWER
    return ""
