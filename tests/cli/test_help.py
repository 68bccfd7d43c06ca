"""Help pages: width, panels, examples."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cocabench.cli import app


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    yield " ".join(words)
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*words, name))


PAGES = list(commands(typer.main.get_command(app)))


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
def test_help_starts_with_an_example_and_has_no_python_types(words: str) -> None:
    text = page(words)
    assert f"Example: cocabench {words}".rstrip() in text.partition("╭─")[0]
    assert not re.search(r"<[a-z][^ ]*>|\bNone\b|\bINTEGER\b|\bFLOAT\b|\blist\[|\bstr\b", text)


def test_help_shows_brackets() -> None:
    assert "{id: [captions]}" in page("score")
    assert "pip install 'cocabench[play]'" in re.sub(r"\s+", " ", page("play"))
    assert "a key of [params] in" in re.sub(r"[\s│]+", " ", page("run"))


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        ("--help", {"numpy", "pandas", "scipy", "torch"}),
        ("run --help", {"numpy", "pandas", "scipy", "torch"}),
        ("play --help", {"numpy", "gradio", "torch"}),
        ("list tasks", {"pandas", "scipy.stats", "requests", "torch"}),
    ],
)
def test_commands_that_only_name_things_import_no_large_package(words: str, absent: set[str]) -> None:
    code = (
        f"import sys; sys.argv = ['cocabench', *{words.split()}]\nfrom cocabench.cli import main\n"
        f"try:\n    main()\nexcept SystemExit:\n    sys.exit(', '.join({absent} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
