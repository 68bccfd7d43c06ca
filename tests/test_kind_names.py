"""No module outside kinds/ holds the name of a kind of task: whoever needs one asks the kind."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import cocabench
from cocabench.kinds import every

PACKAGE = Path(cocabench.__file__).parent
NAMES = frozenset(kind.name for kind in every())
FOREIGN = {
    "data/webdataset.py": "CLIP_benchmark's folders name the task of a webdataset",
}
"""Modules that hold words of a foreign file format which are names of kinds here, and why."""


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


def test_modules_outside_kinds_hold_no_name_of_a_kind() -> None:
    found = {str(path.relative_to(PACKAGE)): held(path) for path in FILES}
    holding = {name: sorted(names) for name, names in found.items() if names and name not in FOREIGN}
    assert not holding, "ask cocabench.kinds instead"
    assert all(found[name] for name in FOREIGN), "a module on the list holds no name any more: take it off"


def test_the_search_finds_a_planted_kind_name(tmp_path: Path) -> None:
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
