"""Checks what is published: python -m tools.packages dist/*. Sizes, and what must or must not be inside."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_BYTES = 20_000_000
NEEDED = (
    "cocabench/py.typed",
    "cocabench/demo/models/coca/open_clip_model.safetensors",
    "cocabench/captioneval/java/cocabench.jar",
)
NEEDED_IN_WHEEL = ("cocabench/_tasks/retrieval/flickr30k.toml", "cocabench/_published/published.csv")


def problems(path: Path) -> Iterator[str]:
    """Yield what is wrong with a wheel or sdist, a line each."""
    if (size := path.stat().st_size) > MAX_BYTES:
        yield f"{path.name}: {size / 1e6:.1f} MB; wanted {MAX_BYTES / 1e6:.0f} or less"
    names = _names(path)
    needed = NEEDED + (NEEDED_IN_WHEEL if path.suffix == ".whl" else ())
    yield from (f"{path.name}: {name} is missing" for name in needed if name not in names)
    if path.suffix == ".whl":
        foreign = sorted(name for name in names if not name.startswith("cocabench"))
        yield from (f"{path.name}: {name} would be installed beside the package" for name in foreign[:5])


def _names(path: Path) -> set[str]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return set(wheel.namelist())
    with tarfile.open(path) as sdist:
        return {name.partition("/")[2] for name in sdist.getnames()}


def main(paths: Sequence[str]) -> int:
    """Print the problems and the sizes; return the exit code."""
    found = [line for path in paths for line in problems(Path(path))]
    for path in map(Path, paths):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    print(*found, sep="\n", end="\n" if found else "")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
