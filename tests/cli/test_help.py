"""Help pages are read at 80 columns: whole flags, in panels, and what stands in brackets is not taken for markup."""

import pytest
from typer.testing import CliRunner

from cocabench.cli import COMMANDS, app, run

PAGES = [
    "",
    *(name for panel in COMMANDS.values() for name in panel),
    *("cache info", "cache clear", "data csv", "data webdataset", "list tasks", "list models", "list metrics"),
    *("setup spice", "setup clipscore"),
]


def page(words: str, columns: int = 80) -> str:
    told = CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": str(columns)})
    assert told.exit_code == 0
    return told.output


@pytest.mark.parametrize("words", PAGES)
def test_help_fits_80_columns_and_cuts_no_flag(words: str) -> None:
    lines = page(words).splitlines()
    assert max(map(len, lines)) <= 80
    for line in lines:
        flags = line[:40].split()
        assert not any(word.startswith("--") and word.endswith("…") for word in flags), line


def test_help_of_run_has_panels() -> None:
    told = page("run")
    for panel in ("What to measure", "Data", "How to compute", "What is kept", "Captions", "What is printed"):
        assert f"─ {panel} ─" in told
    assert run.run.__doc__
    assert run.run.__doc__ in told


def test_help_shows_brackets() -> None:
    assert "{id: [captions]}" in page("score")
