"""Fixtures: Java with a cache of the tests' own, and pycocoevalcap's scores."""

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

from cocabench.captioneval import jvm, statistics
from cocabench.core.cache import MemoryCache
from tests.captioneval.sentences import pictures


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COCABENCH_CACHE", str(tmp_path / "empty"))
    return tmp_path / "empty"


@pytest.fixture(scope="session")
def cache() -> MemoryCache:
    """Return a cache that the tests share: what one parsed, the others need not parse."""
    return MemoryCache()


@pytest.fixture(scope="session")
def java() -> jvm.Java:
    return jvm.find()


@pytest.fixture
def runner(java: jvm.Java, cache: MemoryCache) -> Iterator[jvm.Runner]:
    with jvm.Runner(java, cache) as started:
        yield started


@pytest.fixture
def closed_runner(java: jvm.Java) -> jvm.Runner:
    """Return a runner that starts no Java, with an empty cache."""
    closed = jvm.Runner(java, MemoryCache())
    closed.close()
    return closed


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
