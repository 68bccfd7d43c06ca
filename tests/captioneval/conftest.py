"""Fixtures: a cache of the tests' own, with the user's CoreNLP in it if there is one, and Java."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cocabench.captioneval import corenlp, jvm, statistics
from tests.captioneval.sentences import pictures

CORENLP = corenlp.find()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what tests compute out of the user's cache; the folder's name has what paths may have."""
    folder = tmp_path_factory.mktemp("the cache é")
    if CORENLP is not None:
        (folder / CORENLP.name).symlink_to(CORENLP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COCABENCH_CACHE", str(folder))
        yield folder


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COCABENCH_CACHE", str(tmp_path / "empty"))
    return tmp_path / "empty"


@pytest.fixture(scope="session")
def java() -> jvm.Java:
    return jvm.find()


@pytest.fixture
def runner(java: jvm.Java) -> Iterator[jvm.Runner]:
    with jvm.Runner(java) as started:
        yield started


@pytest.fixture(scope="session")
def referee(java: jvm.Java, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return pycocoevalcap's answers for the tests' pictures."""
    answers = tmp_path_factory.mktemp("referee") / "answers.json"
    sentences = [[p.candidate for p in pictures()], [p.references for p in pictures()]]
    path = f"{java.path.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, Path(__file__).with_name("referee.py"), answers],
        input=json.dumps(sentences),
        env=os.environ | {"PATH": path},
        text=True,
        capture_output=True,
        check=True,
        timeout=300,
    )
    loaded: dict[str, Any] = json.loads(answers.read_text())
    return loaded


def table(candidates: list[str], references: list[list[str]], names: list[str]) -> pd.DataFrame:
    """Return samples as an evaluator stores them."""
    ids = [str(i) for i in range(len(candidates))]
    return pd.DataFrame({"id": ids, "image_id": ids, **statistics(candidates, references, names)})
