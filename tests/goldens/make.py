"""Make the goldens, or compare them with what this code computes.

python -m tests.goldens.make OUT          make them in a folder
python -m tests.goldens.make --update     make the committed ones anew
python -m tests.goldens.make --check      make them aside and compare them with the committed ones
python -m tests.goldens.make --diff A B   compare two folders
--only SCENE,SCENE: these scenes alone (scenes.py).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cocabench.core.temporary import alone_in
from tests.goldens.captured import Golden
from tests.goldens.equality import environment, folders_differ
from tests.goldens.scenes import SCENES

COMMITTED = Path(__file__).parent


def make(out: Path, scenes: Sequence[str]) -> None:
    """Run the scenes and write their goldens below a folder."""
    for name in scenes:
        write(out, name, run(name))
    (out / "environment.json").write_text(json.dumps(environment(), indent=1) + "\n", encoding="utf-8")


def run(name: str) -> Golden:
    """Run a scene in a folder of its own, with caches of its own."""
    with tempfile.TemporaryDirectory(prefix="goldens-") as folder, _inside(Path(folder).resolve()) as here:
        return SCENES[name].run(here)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[Path]:
    """Work in a folder, and let no cache or setting of the user move a number."""
    before, kept = Path.cwd(), dict(os.environ)
    ours = {name for name in os.environ if name.startswith("COCABENCH_") or name == "GITHUB_STEP_SUMMARY"}
    try:
        os.chdir(folder)
        for name in ours:
            del os.environ[name]
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        yield folder
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(kept)


def write(out: Path, name: str, golden: Golden) -> None:
    """Write a scene's numbers/NAME.json and words/NAME/*.txt, in the place of what was there."""
    numbers, words = out / "numbers" / f"{name}.json", out / "words" / name
    shutil.rmtree(words, ignore_errors=True)
    numbers.parent.mkdir(parents=True, exist_ok=True)
    numbers.write_text(_lines(golden.numbers) + "\n", encoding="utf-8")
    for key, text in golden.words.items():
        words.mkdir(parents=True, exist_ok=True)
        (words / f"{key}.txt").write_text(text, encoding="utf-8")


def _lines(tree: Any, indent: str = "") -> str:
    """Return JSON with a line for each table or list that fits one: small, and a change shows where it is."""
    flat = json.dumps(tree, ensure_ascii=False, allow_nan=False)
    if not isinstance(tree, dict | list) or not tree or len(flat) + len(indent) <= 150:
        return flat
    inner = indent + " "
    if isinstance(tree, dict):
        rows = [f"{inner}{json.dumps(key, ensure_ascii=False)}: {_lines(v, inner)}" for key, v in tree.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if all(not isinstance(item, dict | list) for item in tree):
        return flat
    return "[\n" + ",\n".join(inner + _lines(item, inner) for item in tree) + f"\n{indent}]"


def main() -> int:
    """Do what the command line asks; 1 where goldens differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.goldens.make", description=__doc__)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--diff", nargs=2, type=Path)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    scenes = asked.only.split(",") if asked.only else list(SCENES)
    if asked.diff:
        return _told(folders_differ(*asked.diff, scenes=scenes if asked.only else None))
    if asked.check:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), scenes)
            return _told(folders_differ(COMMITTED, Path(folder), scenes=scenes if asked.only else None))
    if asked.update == bool(asked.out):
        parser.error("say where to: OUT, --update, --check or --diff A B")
    start = time.process_time()
    out = COMMITTED if asked.update else asked.out
    with alone_in(out):  # a second process would mix its files with these
        make(out, scenes)
    print(f"{len(scenes)} scenes, {time.process_time() - start:.0f} s of this process", file=sys.stderr)
    return 0


def _told(lines: list[str]) -> int:
    print("\n".join(lines) if lines else "no difference")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
