"""Plain English: texts and names avoid the phrases of the project's glossary.

The texts of the goldens are a rendered report page and the output of every command.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cocabench
from cocabench.cli import app
from cocabench.core.notes import CODES
from tests.cli.test_help import PAGES

ROOT = Path(__file__).parents[1]
PACKAGE = Path(cocabench.__file__).parent

PHRASES: Mapping[str, str] = {
    r"no difference found": "not significant",
    r"(would|could)( not)? (show|have shown)": "detects a difference of …",
    r"mend(s|ed)?": "gets right, corrects, repairs",
    r"images that \w+ broke": "images that NEW gets wrong and OLD got right",
    r"(is|are) not here": "is not installed, is not cached",
    r"(to|can|cannot|could not) be had": "download failed, not available",
    r"(go|goes|going|went) on": "continues; rerun to resume",
    r"what is finished is kept": "finished results are saved",
    r"begun anew": "recreating",
    r"out of use": "disabled",
    r"takes? the tasks for": "assumes independent tasks",
    r"whatever they say": "caption health",
    r"captions health": "caption health",
    r"told": "note; is reported, is passed",
    r"remarks": "notes",
    r"departures?": "note",
    r"troubles?": "note; error",
    r"debris": "temporary files",
    r"obituary": "exit reason",
    r"dismiss(es|ed|al)?": "shutdown",
    r"contrasts": "model selection",
    r"(look|looks) closer|closer look": "samples, error analysis",
    r"albums?": "thumbnails",
    r"ahead": "better; prefetch",
    r"at hand": "available",
    r"held against": "compared with",
}
"""Regular expressions of whole words, lower case, and what to write instead."""

RIDDLES = frozenset(
    {"told", "looks", "album", "closer", "debris", "obituary", "dismiss", "ahead", "contrasts", "departures", "remarks"}
    | {"at_hand", "exactly", "Alone", "Together", "alone_together"}
)
"""Names of functions, classes, arguments and variables."""

VAGUE_CONSTANT = re.compile(r"_?([A-Z0-9]+_)*(FEW|MOST|FAR|TALL|PALE|MANY)(_[A-Z0-9]+)*")
"""Constants are nouns with a unit: MAX_TEXTS_PER_BATCH."""

ALLOWED: Mapping[str, str] = {
    "airplane departure": "an emoji",
    "departure airplane": "its name with the words exchanged, as a wrong caption",
    "flight departure": "an emoji",
    "Captions health: ": "summaries in the Records of version 0.1 in results/baselines",
    "not at hand": "a value in signatures of stored Records",
    **dict.fromkeys(('"no difference found"', "`mended`", "`remarks`"), "former JSON, named in CHANGELOG.md"),
}
"""Texts that hold a phrase, and why."""

SEARCH = re.compile(r"\b(" + "|".join(PHRASES) + r")\b", re.IGNORECASE)


def phrases(text: str) -> list[str]:
    """Return the phrases of a text that plain English has other words for, each with the words around it."""
    text = " ".join(text.split())
    for allowed in ALLOWED:
        text = text.replace(allowed, "")
    return [f"…{text[max(0, m.start() - 40) : m.end() + 20]}…" for m in SEARCH.finditer(text)]


def strings(path: Path) -> Iterator[str]:
    """Yield the string literals of a module: messages, labels and docstrings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def comments(path: Path) -> Iterator[str]:
    """Yield the comments of a module."""
    with path.open("rb") as file:
        yield from (token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT)


def names(path: Path) -> Iterator[str]:
    """Yield the names that a module defines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                yield name


def readable(*patterns: str) -> list[Path]:
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def modules() -> list[Path]:
    return [*sorted(PACKAGE.rglob("*.py")), *readable("tools/**/*.py", "benchmarks/*.py")]


DOCUMENTS = readable(
    *(
        "*.md",
        "docs/**/*.md",
        "benchmarks/*.md",
        "cocabench/**/*.md",
        "examples/**/*.md",
        "reports/*.md",
        "results/*.md",
    ),
    *("action.yml", "examples/*.yml", "tasks/**/*.toml", "cocabench/train/recipes/*.toml", "results/*.toml"),
)
TEMPLATES = readable("cocabench/report/templates/*")
RENDERED = readable("tests/goldens/words/**/*.txt")


def found(texts: Mapping[str, str]) -> list[str]:
    return [f"{name}: {phrase}" for name, text in texts.items() for phrase in phrases(text)]


def test_messages_labels_docstrings_and_comments_are_plain() -> None:
    texts = {str(p.relative_to(ROOT)): "\n".join((*strings(p), *comments(p))) for p in modules()}
    assert not found(texts)


def test_names_are_no_riddles() -> None:
    bad = {
        str(path.relative_to(ROOT)): odd
        for path in modules()
        if (odd := sorted({name for name in names(path) if name in RIDDLES or VAGUE_CONSTANT.fullmatch(name)}))
    }
    assert not bad


def test_notes_are_plain() -> None:
    assert not found({code: f"{code.replace('_', ' ')}: {said.meaning} {said.advice}" for code, said in CODES.items()})


def test_help_pages_are_plain() -> None:
    runner = CliRunner()
    assert not found({page: runner.invoke(app, [*page.split(), "--help"]).output for page in PAGES})


def test_documents_and_templates_are_plain() -> None:
    assert len(DOCUMENTS) > 50 < len(TEMPLATES) + 50
    assert not found({str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for p in [*DOCUMENTS, *TEMPLATES]})


def test_what_commands_print_and_a_rendered_report_are_plain() -> None:
    assert any(path.stem == "report_page" for path in RENDERED)
    assert not found({str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for p in RENDERED})


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("no difference found; 7.3 would show", 2),
        ("the weights are not here,\nthe same command goes on", 2),
        ("the images that NEW broke and mended", 2),
        ("Captions Health", 1),
        ("its interval takes the tasks for independent", 1),
        ("not significant (detects a difference of 7.3 or more); rerun to resume", 0),
        ("recommended for untold ongoing comparisons", 0),
    ],
)
def test_the_search_finds_planted_phrases_and_whole_words_only(text: str, count: int) -> None:
    assert len(phrases(text)) == count


def test_the_search_finds_planted_names(tmp_path: Path) -> None:
    module = tmp_path / "planted.py"
    module.write_text("MOST_TESTED = 5\n\n\ndef looks(told):\n    for album in told:\n        MAX_SIDE = album\n")
    defined = set(names(module))
    assert defined & RIDDLES == {"looks", "told", "album"}
    assert {name for name in defined if VAGUE_CONSTANT.fullmatch(name)} == {"MOST_TESTED"}
