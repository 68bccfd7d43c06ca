"""What the tests of transformers' checkpoints share: tiny folders of every family, made once, and some images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from cocabench.core.types import ImageSource
from cocabench.data.images import FileImage
from cocabench.models.hardware import Hardware, hardware
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models
from tests.models.hf import tiny


class Load:
    """Loads tiny checkpoints on the CPU: a folder as a user names it, or a Source."""

    cpu: Hardware = hardware(device="cpu", workers=0, batch_size=3)

    def __call__(self, folder: Path) -> Any:
        (source,) = model_sources(parse_models(f"transformers::{folder}"))
        return self.loaded(source)

    def loaded(self, source: Any) -> Any:
        return source.load(self.cpu)


def pytest_report_header() -> str:
    return f"transformers {transformers.__version__}"


@pytest.fixture(scope="session")
def cpu() -> Hardware:
    return Load.cpu


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a family's name to its folder, which is made when it is first wanted."""
    root, made = tmp_path_factory.mktemp("transformers"), {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tiny.FAMILIES[name](root / name)
        return made[name]

    return folder


@pytest.fixture(scope="session")
def load() -> Load:
    return Load()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[ImageSource]:
    """Return images of several shapes; one of three rows, which looks like one of three channels."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i, shape in enumerate([(20, 24, 3), (60, 40, 3), (3, 50, 3), (33, 32, 3)]):
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(folder / f"{i}.png")
    return [FileImage(path) for path in sorted(folder.iterdir())]
