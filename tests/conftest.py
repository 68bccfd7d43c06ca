"""Fixtures that several tests share: the command line in process, small data, small models."""

import signal
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from cocabench import cli
from cocabench.captioneval import corenlp
from cocabench.core import cache
from tests.models.tiny import CLIP, COCA, write_folder

PLUGIN = Path(__file__).parent / "plugin"
EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"


class Result(NamedTuple):
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs ``cocabench ARGS…`` in this process."""

    def run(*args: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["cocabench", *map(str, args)])
        monkeypatch.setenv("COLUMNS", "200")
        code, of_pytest = 0, signal.getsignal(signal.SIGINT)
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        finally:
            signal.signal(signal.SIGINT, of_pytest)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


CORENLP = corenlp.find()
"""The user's, found before the tests get a cache of their own."""


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep tests out of the user's cache, but for its CoreNLP. The folder's name holds what paths may hold."""
    folder = tmp_path_factory.mktemp("the cache é")
    if CORENLP is not None:
        (folder / CORENLP.name).symlink_to(CORENLP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COCABENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_spaces(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """Keep the features that a test's runs cache apart from other tests'; return their folder."""
    folder, named = tmp_path_factory.mktemp("cache") / "spaces", cache.spaces_folder
    monkeypatch.setenv("COCABENCH_CACHE", str(own_cache))  # --cache sets it
    monkeypatch.setattr(
        cache, "spaces_folder", lambda given=None: folder if given in (None, own_cache) else named(given)
    )
    return folder


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the toy plugin for one test."""
    monkeypatch.syspath_prepend(str(PLUGIN))


@pytest.fixture
def example_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the example for one test, as pip does: the package, and its entry points beside it."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site"
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, names in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (site / "cocabench_pair_choice").symlink_to(EXAMPLE / "cocabench_pair_choice", target_is_directory=True)
    monkeypatch.syspath_prepend(str(site))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two model folders of random weights: clip and coca."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in (("clip", CLIP), ("coca", COCA)):
        write_folder(folder / name, config)
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root with noise images and captions, a task file for each kind of task beside them."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    captions, labels, pairs = ["filepath\ttitle"], ["filepath\tlabel"], ["filepath\ttitle\twrong"]
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(root / "images" / f"{i:02}.png")
        captions += [f"images/{i:02}.png\ta picture of thing {i} number {k}" for k in range(1 + i % 3)]
        labels.append(f"images/{i:02}.png\tthing {i % 6}")
        pairs += [f"images/{i:02}.png\tthing {i} of {k}\tthing {k} of {i}, not" for k in range(20, 21 + i % 3)]
    (root / "captions.tsv").write_text("\n".join(captions))
    (root / "labels.tsv").write_text("\n".join(labels))
    (root / "pairs.tsv").write_text("\n".join(pairs))
    (root / "find.toml").write_text(task("find", "retrieval", "t2i_recall@5", 'path = "captions.tsv"', "ks = [1, 5]"))
    (root / "name.toml").write_text(
        task("name", "classification", "acc1", 'path = "labels.tsv"\nlabel_key = "label"', 'templates = "cifar10"')
    )
    (root / "tell.toml").write_text(
        task("tell", "captioning", "BLEU@4", 'path = "captions.tsv"', 'metrics = ["BLEU@4"]\nseq_len = 12')
    )
    chosen = ("image_caption_selection", "acc", 'path = "pairs.tsv"\nnegative_key = "wrong"')
    (root / "choose.toml").write_text(task("choose", *chosen, ""))
    (root / "prefer.toml").write_text(task("prefer", *chosen, 'scoring = "likelihood"'))
    return root


def task(name: str, evaluator: str, primary: str, data: str, params: str) -> str:
    """Return a task file over a table."""
    return (
        f'name = "{name}"\nversion = 1\nevaluator = "{evaluator}"\n'
        f'summary = "s"\nprimary = "{primary}"\ngroups = ["mine"]\n'
        f'[data]\nloader = "tsv"\n{data}\n[params]\n{params}\n'
    )
