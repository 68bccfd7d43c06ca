"""No module outside kinds/ holds the name of a kind of task: whoever needs one asks the kind."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import cocabench
from cocabench.kinds import every

PACKAGE = Path(cocabench.__file__).parent
NAMES = frozenset(kind.name for kind in every())
FOREIGN = {
    "data/webdataset.py": "CLIP_benchmark's folders name the task of a webdataset",
    "results/interop/clip_benchmark.py": "CLIP_benchmark's own names of its tasks",
    "results/interop/open_clip_train.py": "what open_clip_train's log files hold is of these kinds",
}
"""Modules that hold words of a foreign file format which are names of kinds here, and why."""

NOT_YET = frozenset(
    f"{room}/{name}"
    for room, names in {
        "cli": ("costs.py",),
        "report": ("answers.py", "cards.py", "content.py", "gallery.py", "pair.py", "pivots.py"),
        "report/templates": ("look.html", "page.js", "style.css"),
        "results": ("efficiency.py", "published/causes.py"),
    }.items()
    for name in names
)
"""Modules that still hold a name. This list only shrinks."""


def literals(path: Path) -> Iterator[str]:
    """Yield the string literals of a module, docstrings aside, and all of them that a template or script holds."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from re.findall(r"[\"'`]([\w-]+)[\"'`]", text)
        yield from re.findall(r"[.#]([\w-]+)", text) if path.suffix == ".css" else ()
        return
    tree = ast.parse(text)
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def held(path: Path) -> set[str]:
    """Return the names of kinds that a file holds: alone, or as the first or last word of an identifier."""
    return {name for text in literals(path) for name in NAMES if re.fullmatch(rf"(\w+_)?{name}(_\w*)?", text)}


FILES = [
    path
    for path in sorted(PACKAGE.rglob("*"))
    if path.suffix in (".py", ".html", ".js", ".css", ".jinja") and path.relative_to(PACKAGE).parts[0] != "kinds"
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_outside_kinds_knows_no_kinds_name(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    found = held(path)
    if name in FOREIGN or name in NOT_YET:
        assert found, f"{name} holds none any more: take it off the list"
    else:
        assert not found, f"{name} holds {', '.join(sorted(found))}: ask cocabench.kinds"


def test_a_planted_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('"""Of retrieval."""\nif kind == "retrieval":\n    pass\n')
    (tmp_path / "b.html").write_text('{% if kind == "captioning" %}captioning{% endif %}')
    (tmp_path / "c.css").write_text(".image_caption_selection { color: red }")
    (tmp_path / "d.py").write_text('"""Of retrieval."""\nTEXT = "found by retrieval"\n')
    found = {path.name: held(path) for path in tmp_path.iterdir()}
    assert found == {
        "a.py": {"retrieval"},
        "b.html": {"captioning"},
        "c.css": {"image_caption_selection"},
        "d.py": set(),
    }
