"""Files that others wrote: pipes do not hang, bombs are refused with what raises the limit, text is made printable."""

import os
from pathlib import Path

import pytest

from cocabench.core.errors import DataError, UsageError
from cocabench.core.files import PIXELS, Limit, open_regular, read_text
from cocabench.core.signature import digest, digest_file, digest_lines
from cocabench.core.text import all_printable, printable, well_formed

FEW = Limit("COCABENCH_MAX_TESTS", 3, "tests")


def test_a_limit_says_how_to_raise_it(monkeypatch: pytest.MonkeyPatch) -> None:
    FEW.check(3, "x")
    with pytest.raises(DataError, match=r"x: 4 tests; wanted at most 3; if you trust it: COCABENCH_MAX_TESTS=4"):
        FEW.check(4, "x")
    monkeypatch.setenv("COCABENCH_MAX_TESTS", "4")
    FEW.check(4, "x")
    assert PIXELS.most == 10_000 * 10_000


@pytest.mark.parametrize("value", ["0", "-1", "1e3", "many", "９", "9" * 30])
def test_a_limit_is_a_whole_number(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCABENCH_MAX_TESTS", value)
    with pytest.raises(UsageError, match="COCABENCH_MAX_TESTS: got"):
        FEW.check(1, "x")


def test_a_pipe_and_a_folder_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe or device"):
        open_regular(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(DataError, match="a pipe or device"):
        digest_file(tmp_path / "pipe")
    (tmp_path / "text").write_bytes(b"a\r\nb\rc\n")
    assert read_text(tmp_path / "text") == "a\nb\nc\n"


def test_text_cannot_command_a_terminal() -> None:
    assert printable("a\x1b[31mb\x07\x9b0c\u202ed\tö\n") == "a�[31mb��0c�d\tö\n"
    assert well_formed("a\ud800\x1b") == "a�\x1b"
    assert all_printable({"a\x1b": ["\x07", 1, None, ("\x9b",)]}) == {"a�": ["�", 1, None, ("�",)]}


def test_lone_surrogates_have_a_digest() -> None:
    assert digest("a\ud800") != digest("a\ud801")
    assert digest_lines(["a\ud800"]) != digest_lines(["a\ud801"])
