"""Results of other programs as Records, and Records as theirs. What their files do not tell, nobody makes up.

Imported Records carry their program's name behind the model's, hold no samples, and tell of the protocol what the
file tells; they are compared with others by what both know.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cocabench.core.errors import ResultsError
from cocabench.core.types import Record
from cocabench.results.interop import clip_benchmark, open_clip_train

__all__ = ["clip_benchmark", "open_clip_train", "read"]

_READERS: dict[str, Callable[[Path], list[Record]]] = {
    ".json": clip_benchmark.read_json,
    ".csv": clip_benchmark.read_csv,
    ".jsonl": open_clip_train.read_jsonl,
}


def read(path: Path) -> list[Record]:
    """Return the Records of CLIP_benchmark's JSON, a folder of it, or CSV, or of open_clip_train's results.jsonl."""
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise ResultsError(str(path), "no JSON files in it", wanted="what clip_benchmark eval wrote")
        return [record for file in files for record in clip_benchmark.read_json(file)]
    wanted = "CLIP_benchmark's .json or .csv, or open_clip_train's results.jsonl"
    if not path.exists():
        raise ResultsError(str(path), "no such file or folder", wanted=wanted)
    if path.suffix not in _READERS:
        raise ResultsError(str(path), f"a file of the kind {path.suffix or 'without a suffix'}", wanted=wanted)
    return _READERS[path.suffix](path)
