"""Kills at random moments: of commands, of what they start, of one of several writers.

python -m tests.chaos --rounds 50 --seed 0      a long sweep; prints each failure and the counts
python -m tests.chaos --only scoring --rounds 5

What must hold: what a killed command started ends within seconds; the same command then finishes with the results of
one that nobody disturbed; a killed helper is started again, or the command ends with one line; a Record has its
samples, a baseline is the old one or the new one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import cocabench
from tests.conftest import CORENLP, task
from tests.models.tiny import CLIP, COCA, write_architecture, write_folder
from tests.samples import classified, right

ENDS_S = 10.0
"""How long what a killed command started may live."""

MARK = "COCABENCH_TESTS_CHAOS"
END = (signal.SIGKILL, signal.SIGTERM)


class Started:
    """A command in a process of its own; a variable of the environment marks what it starts, wherever it moves."""

    def __init__(self, folder: Path, *words: object) -> None:
        long = folder / "tmp" / ("scratch" * 15)  # longer than the path of a socket may be
        long.mkdir(parents=True, exist_ok=True)
        self.token = f"{random.SystemRandom().getrandbits(64):x}"
        self.before = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cocabench", *map(str, words)],
            env={
                **os.environ,
                MARK: self.token,
                "COCABENCH_CACHE": str(folder / "cache"),
                "TMPDIR": str(long),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def helpers(self, name: str = "") -> list[int]:
        """Return the processes that it started and that live, those whose command line holds a name."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != self.process.pid:
                try:
                    theirs = f"{MARK}={self.token}".encode() in (entry / "environ").read_bytes()
                    line = (entry / "cmdline").read_bytes().decode(errors="replace") if theirs else ""
                except OSError:  # it ended meanwhile
                    continue
                if theirs and line and name in line:
                    found.append(int(entry.name))
        return found

    def wait_for(self, name: str, count: int = 1) -> list[int]:
        """Return helpers once there are as many; what there is if the command ends before."""
        while len(found := self.helpers(name)) < count and self.process.poll() is None:
            time.sleep(0.01)
        return found

    def kill(self, how: int) -> None:
        """Kill the command alone, then see that nothing is left of what it started."""
        self.process.send_signal(how)
        self.process.wait()
        until = time.monotonic() + ENDS_S
        while left := self.helpers():
            if time.monotonic() > until:
                lines = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")[:150] for pid in left]
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"lives on {ENDS_S} s after {signal.Signals(how).name}: {lines}")
            time.sleep(0.05)
        self.process.communicate()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=300)
        return self.process.returncode, out, err


def with_spice(folder: Path) -> Path:
    """Link SPICE's jars, which are installed, into the cache of a case's folder."""
    assert CORENLP, "SPICE's jars"
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    if not (link := folder / "cache" / CORENLP.name).exists():
        link.symlink_to(CORENLP)
    return folder


def finished(folder: Path, *words: object) -> str:
    """Run a command to its end and return its output; AssertionError if it fails."""
    code, out, err = Started(folder, *words).end()
    assert code == 0, err
    return out


def captions(folder: Path, number: int) -> tuple[object, ...]:
    """Write captions and references; return the words that score them with two metrics of Java's."""
    chance = random.Random(0)
    words = ("dog", "cat", "street", "runs", "sits", "a", "the", "on", "red", "small", "man", "with", "boat", "water")
    texts = [" ".join(chance.choices(words, k=9)) for _ in range(3 * number)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "c.json").write_text(json.dumps({str(k): texts[k] for k in range(number)}))
    (folder / "r.json").write_text(json.dumps({str(k): texts[number + 2 * k :][:2] for k in range(number)}))
    files = ("--candidates", folder / "c.json", "--references", folder / "r.json")
    return ("score", *files, "--metrics", "meteor,bleu,cider", "--json")


class Scenarios:
    """Each is a function of a folder and of chance that raises AssertionError where something is lost.

    shared: a folder for what all rounds use, and the results of commands that nobody disturbed.
    """

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self._calm: dict[str, Any] = {}

    def calm(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._calm:
            self._calm[name] = make()
        return self._calm[name]

    def spice(self, folder: Path, chance: random.Random) -> None:
        """A command is killed while SPICE's Java parses, then that Java alone: it is started again."""
        words = ["spice" if word == "meteor,bleu,cider" else word for word in captions(self.shared / "few", 12)]
        expected = self.calm("spice", lambda: finished(with_spice(self.shared / "calm-spice"), *words))
        started = Started(with_spice(folder), *words)
        assert started.wait_for("-Xmx"), started.end()
        time.sleep(5 * chance.random())
        started.kill(chance.choice(END))
        started = Started(folder, *words)
        found = started.wait_for("-Xmx")  # none where the killed one had kept what it parsed
        time.sleep(5 * chance.random())
        for pid in found[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, chance.choice(END))
        code, out, err = started.end()
        assert (code, out) == (0, expected), err
        assert "Traceback" not in err

    def _scores(self) -> tuple[tuple[object, ...], str]:
        words = captions(self.shared / "captions", 400)
        return words, self.calm("scores", lambda: finished(self.shared / "calm", *words))

    def scoring(self, folder: Path, chance: random.Random) -> None:
        """A command that scores is killed while Java works."""
        words, expected = self._scores()
        started = Started(folder, *words)
        assert started.wait_for("-Xmx"), started.end()
        time.sleep(chance.random())
        started.kill(chance.choice(END))
        assert finished(folder, *words) == expected

    def java(self, folder: Path, chance: random.Random) -> None:
        """Java is killed while a command waits for it: it is started again."""
        words, expected = self._scores()
        started = Started(folder, *words)
        (pid, *_) = started.wait_for("-Xmx")
        time.sleep(0.3 * chance.random())
        with suppress(ProcessLookupError):
            os.kill(pid, chance.choice(END))
        code, out, err = started.end()
        assert (code, out) == (0, expected), err
        assert "Traceback" not in err

    def _images(self) -> Path:
        """Return a data root with 60 images and a task."""

        def write() -> Path:
            root = self.shared / "data"
            root.mkdir()
            rows, noise = ["filepath\ttitle"], np.random.default_rng(0)
            for k in range(60):
                Image.fromarray(noise.integers(0, 255, (200, 240, 3), dtype=np.uint8)).save(root / f"{k}.png")
                rows.append(f"{k}.png\ta picture of thing {k}")
            (root / "x.tsv").write_text("\n".join(rows))
            params = 'path = "x.tsv"', "ks = [1, 5]"
            (root / "t.toml").write_text(task("t", "retrieval", "t2i_recall@5", *params))
            for name, config in (("clip", CLIP), ("coca", COCA)):
                write_folder(self.shared / name, config)
            write_architecture(self.shared / "tiny.json", COCA)
            return root

        root: Path = self.calm("images", write)
        return root

    def _run(self, folder: Path, workers: int = 2) -> list[object]:
        root = self._images()
        words = ["run", "--model", self.shared / "clip", "--tasks", root / "t.toml", "--data-root", root, "--quiet"]
        return [*words, "--device", "cpu", "--batch-size", 4, "--workers", workers, "--output", folder / "results"]

    def _same(self, folder: Path) -> None:
        def alone() -> Any:
            finished(self.shared / "calm", *self._run(self.shared / "calm", 0))
            return kept(self.shared / "calm" / "results")

        assert kept(folder / "results") == self.calm("run", alone)

    def reading(self, folder: Path, chance: random.Random) -> None:
        """A command is killed while processes read its images."""
        started = Started(folder, *self._run(folder))
        started.wait_for("forkserver" if chance.random() < 0.5 else "")
        time.sleep(2 * chance.random())
        started.kill(chance.choice(END))
        finished(folder, *self._run(folder))
        self._same(folder)

    def worker(self, folder: Path, chance: random.Random) -> None:
        """A process that reads images is killed: one line, or the result, and the next run has it."""
        started = Started(folder, *self._run(folder))
        pids = started.wait_for("", 3)
        time.sleep(0.2 * chance.random())
        for pid in started.helpers()[-1:] or pids[-1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, chance.choice(END))
        code, _, err = started.end()
        assert code in (0, 1), err
        assert "Traceback" not in err, err
        assert "this is a bug" not in err, err
        assert not started.helpers()
        finished(folder, *self._run(folder))
        self._same(folder)

    def writers(self, folder: Path, chance: random.Random) -> None:
        """Of three runs of one measurement at once one is killed: the Record that stands is whole."""
        runs = [Started(folder, *self._run(folder, 0), "--fresh") for _ in range(3)]
        time.sleep(3 + 3 * chance.random())
        runs[0].kill(chance.choice(END))
        assert [run.end()[0] for run in runs[1:]] == [0, 0]
        self._same(folder)

    def baseline(self, folder: Path, chance: random.Random) -> None:
        """gate --update is killed: the old baseline stands, or the new one, and the next update leaves nothing else."""
        for name, n in (("old", 50), ("new", 60)):
            for one in ("t1", "t2"):
                classified(folder / name, "m", right(n, 100), one)
        words = ("gate", "--baseline", folder / "old", "--current", folder / "new", "--update")
        seconds = self.calm("update", lambda: self._seconds_of_an_update(folder))
        started = Started(folder, *words)
        time.sleep(seconds * chance.uniform(0.5, 1.0))
        started.kill(chance.choice(END))
        found = cocabench.load(folder / "old")
        values = sorted((record.task, record.metrics["acc1"].value) for record in found)
        assert values in ([("t1", v), ("t2", v)] for v in (0.5, 0.6)), values
        assert all(len(found.samples(record)) == 100 for record in found)
        finished(folder, *words)
        assert sorted(path.name for path in folder.iterdir()) == ["new", "old", "tmp"]

    def _seconds_of_an_update(self, folder: Path) -> float:
        before = time.monotonic()
        base = self.shared / "base"
        finished(self.shared, "gate", "--baseline", base, "--current", folder / "new", "--update")
        return time.monotonic() - before

    def training(self, folder: Path, chance: random.Random) -> None:
        """A training in two processes is killed: torchrun's processes, one per device, end too."""
        root = self._images()
        settings = {"model": f"{self.shared}/tiny.json:random@0", "train_data": root / "train.csv", "workers": 1}
        settings |= {"batch_size": 4, "epochs": 50, "warmup": 1, "log_every_n_steps": 1}
        rows = [f"{root}/{k}.png,a picture of thing {k}" for k in range(60)]
        (root / "train.csv").write_text("\n".join(["filepath,title", *rows]))
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        more = ("--device", "cpu", "--nproc", 2, "--no-memory-check", "--output", folder / "run")
        started = Started(folder, "train", "coca-scratch", *words, *more)
        pids = started.wait_for("cocabench.train.launch", 3)
        assert len(pids) >= 3, started.end()
        time.sleep(8 * chance.random())
        started.kill(chance.choice(END))


def kept(results: Path) -> list[Any]:
    """Return what Records and samples of a folder say, but for times."""
    found = cocabench.load(results)
    rows = []
    for record in sorted(found, key=lambda record: record.task):
        said = record.model_dump(mode="json", exclude={"timing", "created", "environment"})
        rows.append((said, found.samples(record).to_json()))
    return rows


NAMES = ("scoring", "java", *(("spice",) if CORENLP else ()), "reading", "worker", "writers", "baseline", "training")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="of each scenario")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=NAMES)
    given = parser.parse_args()
    failed = 0
    names = (given.only,) if given.only else NAMES
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        scenarios = Scenarios(Path(name))
        for scenario in names:
            for number in range(given.rounds):
                folder = Path(name) / f"{scenario}-{number}"
                try:
                    getattr(scenarios, scenario)(folder, random.Random(f"{given.seed}:{scenario}:{number}"))
                except AssertionError as error:
                    failed += 1
                    print(f"{scenario} {number}: {error}", flush=True)
            print(f"{scenario}: {given.rounds} rounds", flush=True)
    print(f"seed {given.seed}, tried {given.rounds * len(names)}, failed {failed}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
