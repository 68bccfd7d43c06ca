"""Files that others wrote: pipes do not hang, bombs are refused with what raises the limit, text is made printable."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.io import savemat

from cocabench.core import files
from cocabench.core.errors import DataError, UsageError, unreadable
from cocabench.core.files import (
    PIXELS,
    RATIO,
    ROWS,
    Limit,
    check_mat,
    open_regular,
    parse_json,
    read_columns,
    read_parquet,
    read_text,
)
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


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file count that unpacks to 100 kB."""
    monkeypatch.setattr(files, "SMALL_BYTES", 100_000)


BOMBS = {
    "a value that many rows share": {"x": ["a" * 1000] * 30_000},
    "zeros": {"x": ["\0" * 3_000_000, "b"]},
    "one number": {"x": np.zeros(1_000_000)},
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_table_that_unpacks_to_much_more_is_refused(
    name: str, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd.DataFrame(BOMBS[name]).to_parquet(tmp_path / "x.parquet", compression="zstd")
    with pytest.raises(DataError, match=r"x\.parquet: [\d,]+ times its packed size; .* COCABENCH_MAX_RATIO=\d+$"):
        read_parquet(tmp_path / "x.parquet", tmp_path / "x.parquet")
    monkeypatch.setenv(RATIO.variable, "1000000000")
    assert read_parquet(tmp_path / "x.parquet", "x").num_rows == len(BOMBS[name]["x"])


@pytest.mark.parametrize("pieces", [1, 7, 1 << 16])
def test_a_table_in_pieces_is_the_table(pieces: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"a": [f"t{k}" for k in range(50)], "b": np.arange(50), "c": [[k, k] for k in range(50)]})
    frame.loc[3, "a"] = None
    frame.to_parquet(tmp_path / "x", index=False, row_group_size=20)
    monkeypatch.setattr(files, "ROWS_PER_PIECE", pieces)
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "x", "x").to_pandas(), pd.read_parquet(tmp_path / "x"))
    columns = read_parquet(tmp_path / "x", "x", ["c", "a"]).to_pandas()
    pd.testing.assert_frame_equal(columns, pd.read_parquet(tmp_path / "x", columns=["c", "a"]))
    frame[:0].to_parquet(tmp_path / "none", index=False)
    assert read_parquet(tmp_path / "none", "x", ["a"]).to_pandas().shape == (0, 1)
    monkeypatch.setenv(ROWS.variable, "49")
    with pytest.raises(DataError, match="50 rows in a table"):
        read_parquet(tmp_path / "x", "x")


@pytest.mark.parametrize("size", [20, 50])
def test_columns_of_equal_bytes_are_taken_from_another_file(size: int, tmp_path: Path) -> None:
    """Only of the same type and from one row group: else the bytes alone say nothing."""
    frame = pd.DataFrame({"a": [f"t{k}" for k in range(50)], "b": np.arange(50), "c": [[k, k] for k in range(50)]})
    others = (frame, frame.assign(b=0), frame.astype({"b": np.uint64}))
    contents = []
    for one in others:
        one.to_parquet(tmp_path / "x", index=False, row_group_size=size)
        contents.append((tmp_path / "x").read_bytes())
    like = read_columns(contents[0], "x")
    for one, content, same in zip(others, contents, ({"a", "b"}, {"a"}, {"a"}), strict=True):
        found = read_columns(content, "x", like=like)
        pd.testing.assert_frame_equal(found.table.to_pandas(), read_parquet(pa.BufferReader(content), "x").to_pandas())
        pd.testing.assert_frame_equal(found.table.to_pandas()[["a", "b"]], one[["a", "b"]])
        taken = {name for name, array in found.arrays.items() if array is like.arrays[name]}
        assert taken == (same if size == 50 else set())


@pytest.mark.parametrize("compressed", [True, False])
def test_matlab_files_have_a_limit_of_their_ratio(compressed: bool, small: None, tmp_path: Path) -> None:
    savemat(tmp_path / "good.mat", {"x": np.arange(100_000), "y": np.zeros((2, 2))}, do_compression=compressed)
    check_mat(tmp_path / "good.mat")
    savemat(tmp_path / "bad.mat", {"y": np.ones(2), "x": np.zeros(3_000_000)}, do_compression=compressed)
    if compressed:
        with pytest.raises(DataError, match="COCABENCH_MAX_RATIO"):
            check_mat(tmp_path / "bad.mat")
    else:
        check_mat(tmp_path / "bad.mat")


def test_a_git_lfs_pointer_instead_of_json_is_called_so() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        parse_json("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 123\n")
    assert unreadable(caught.value) == "a Git LFS pointer, not the file itself; run `git lfs pull` where it was cloned"
