"""Tables on narrow terminals: no word is broken, nothing is lost, no line is wider than the terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from cocabench.cli import console

HEADER = ["task", "metric", "demo/coca", "finding"]
ROWS = [
    [
        "emoji_smileys_emotion",
        "acc1",
        Text("24.3 ± 7.0 (n=169)", "bold"),
        "not significant (detects a difference of 13.5 or more)",
    ],
    ["emoji_flags", "t2i_recall@5", "57.8 ± 6.0 (n=270)", ""],
]


@pytest.mark.parametrize(("columns", "lines"), [(120, 3), (80, 5), (60, 9), (40, 7), (25, 10)])
def test_table_breaks_no_word_on_narrow_terminals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, lines: int
) -> None:
    monkeypatch.setattr(console, "out", Console(width=columns, highlight=False))
    console.print_table(HEADER, ROWS, numbers_from=2)
    result = capsys.readouterr().out.splitlines()
    message = " ".join(result).split()
    for word in ("emoji_smileys_emotion", "t2i_recall@5", "(n=169)", "difference"):
        assert word in message
    assert len(result) <= lines
    assert max(len(line.rstrip()) for line in result) <= columns


def test_a_terminal_breaks_no_word_of_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "out", Console(width=14, highlight=False, force_terminal=True, no_color=True))
    console.sentence("retrieval: A against B")
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == ["retrieval: A", "against B"]


def test_table_narrows_the_widest_column_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "out", Console(width=14, highlight=False))
    console.print_table(["words", "number"], [["aa bb cc dd", "123456"]])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "words   number",
        "aa bb   123456",
        "cc dd",
    ]


ODD = "caf\u00e9 \u72ac \U0001f600 a\x1b[31mb\x9b0c \ud800"

PRINTING = f"""
import json, sys
sys.argv = ["cocabench", "list"]
import cocabench.cli as cli
from cocabench.cli import console
console.escape_what_streams_cannot_hold()
if sys.argv.pop(0) and "JSON" in sys.stdin.read():
    print(json.dumps([{ODD!r}], ensure_ascii=False))
else:
    console.print_table(["name"], [[{ODD!r}]])
    console.say({ODD!r})
"""


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {}])
def test_what_a_stream_cannot_hold(environment: dict[str, str]) -> None:
    """JSON is escaped, and reads as it was; tables use replacements; no terminal is commanded."""

    def printed(kind: str) -> bytes:
        order = [sys.executable, "-c", PRINTING]
        done = subprocess.run(
            order, input=kind.encode(), stdout=subprocess.PIPE, env={**os.environ, **environment}, check=True
        )
        return done.stdout

    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    told = printed("JSON").decode(encoding)
    assert json.loads(told) == [ODD]
    table = printed("table").decode(encoding)
    assert "caf" in table
    assert not {"\x1b", "\x9b"} & set(table)


@pytest.mark.parametrize(
    "words",
    ["list tasks", *(pytest.param(w, marks=pytest.mark.slow) for w in ("list tasks --json", "show results/baselines"))],
)
def test_a_full_stdout_is_one_line(words: str) -> None:
    with Path("/dev/full").open("w") as full:
        order = [sys.executable, "-m", "cocabench", *words.split()]
        done = subprocess.run(order, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr.strip() == "error stdout: cannot be written to (No space left on device); what was stored is kept"
    )


def test_a_closed_stdout_ends_the_command_silently() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    order = [sys.executable, "-m", "cocabench", "list", "tasks", "--json"]
    done = subprocess.run(order, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr.strip() == ""
