"""Tables on narrow terminals: no word is broken, nothing is lost, no line is wider than the terminal."""

import pytest
from rich.console import Console
from rich.text import Text

from cocabench.cli import console

HEADER = ["task", "metric", "demo/coca", "finding"]
ROWS = [
    ["emoji_smileys_emotion", "acc1", Text("24.3 ± 7.0 (n=169)", "bold"), "no difference found; 13.5 would show"],
    ["emoji_flags", "t2i_recall@5", "57.8 ± 6.0 (n=270)", ""],
]


@pytest.mark.parametrize(("columns", "lines"), [(120, 3), (80, 4), (60, 8), (40, 8), (25, 11)])
def test_table_breaks_no_word_on_narrow_terminals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, lines: int
) -> None:
    monkeypatch.setattr(console, "out", Console(width=columns, highlight=False))
    console.print_table(HEADER, ROWS, numbers_from=2)
    told = capsys.readouterr().out.splitlines()
    said = " ".join(told).split()
    for word in ("emoji_smileys_emotion", "t2i_recall@5", "(n=169)", "difference"):
        assert word in said
    assert len(told) <= lines
    if columns > 25:
        assert max(len(line.rstrip()) for line in told) <= columns


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
