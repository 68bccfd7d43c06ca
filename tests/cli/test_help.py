"""Help pages: width, panels, examples."""

import re

import pytest
from typer.testing import CliRunner

from cocabench.cli import COMMANDS, app

PAGES = [
    "",
    *(name for panel in COMMANDS.values() for name in panel),
    *("cache info", "cache clear", "data csv", "data webdataset", "list tasks", "list models", "list metrics"),
    *("setup spice", "setup clipscore"),
]


def page(words: str, columns: int = 80) -> str:
    result = CliRunner().invoke(app, [*words.split(), "--help"], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("words", PAGES)
def test_help_fits_80_columns_and_cuts_no_flag(words: str) -> None:
    lines = page(words).splitlines()
    assert max(map(len, lines)) <= 80
    for line in lines:
        flags = line[:40].split()
        assert not any(word.startswith("--") and word.endswith("…") for word in flags), line


def test_help_of_run_has_panels() -> None:
    result = page("run")
    for panel in ("What to evaluate", "Data", "Computation", "Results and cache", "Captions", "Output"):
        assert f"─ {panel} ─" in result


@pytest.mark.parametrize("words", PAGES)
def test_help_has_an_example_and_no_python_types(words: str) -> None:
    text = page(words)
    assert f"Example: cocabench {words}".rstrip() in text
    assert not re.search(r"<[a-z][^ ]*>|\bNone\b", text)


def test_help_shows_brackets() -> None:
    assert "{id: [captions]}" in page("score")
