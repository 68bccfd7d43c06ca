"""Results on disk. A Record is one JSON file, its samples a parquet file beside it; both appear whole or not at all.

results/MODEL/TASK-SIGNATURE.json              the Record
results/MODEL/TASK-SIGNATURE.samples.parquet   a row per sample
results/thumbnails/FINGERPRINT.parquet         id and JPEG, shared by the Records of one data set
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from cocabench.errors import ResultsError
from cocabench.signature import digest, short
from cocabench.types import SCHEMA_VERSION, Record, Signature

CAPTIONS = ".captions.json"

NUMBERS = ("id", "image_id", "domain", "class_scores", "labels")
"""Columns of samples that are no numbers and that metrics read."""

REFERENCE_FOLDERS = ("baselines", "published")
"""What a results folder holds to be compared with. Records in these count only where the folder itself is named."""


def slug(name: str) -> str:
    """Return name as a folder's name: as it is where it may be, else cleaned and told apart by four digits."""
    clean = re.sub(r"[^A-Za-z0-9_.@+-]+", "_", name).strip("._")[:100]
    return clean if clean == name else f"{clean}-{digest(name)[:4]}"


@dataclass(frozen=True)
class Store:
    """A results folder."""

    root: Path

    def path(self, model: str, task: str, signature: Signature) -> Path:
        return self.root / slug(model) / f"{slug(task)}-{short(signature)}.json"

    def get(self, model: str, task: str, signature: Signature) -> Record | None:
        """Return the finished Record of exactly this measurement, if there is one."""
        path = self.path(model, task, signature)
        return read_record(path) if path.is_file() else None

    def samples(self, record: Record) -> pd.DataFrame:
        """Return the samples of a stored Record."""
        return read_samples(self.path(record.model, record.task, record.signature), record)

    def put(self, record: Record, samples: pd.DataFrame) -> Path:
        """Write samples, then the Record; its presence says that all is there."""
        path = self.path(record.model, record.task, record.signature)
        write_atomically(samples_path(path), lambda p: samples.to_parquet(p, index=False))
        if "caption" in samples:
            text = json.dumps(_coco_results(samples), ensure_ascii=False)
            write_atomically(path.with_suffix(CAPTIONS), lambda p: p.write_text(text, encoding="utf-8"))
        return self.put_record(record)

    def put_record(self, record: Record) -> Path:
        """Write a Record whose samples are there."""
        path = self.path(record.model, record.task, record.signature)
        write_atomically(path, lambda p: p.write_text(to_json([record])[0], encoding="utf-8"))
        return path

    def results(self, records: Iterable[Record]) -> Results:
        """Return Records of this folder with their files, as ``load`` would."""
        found = tuple(records)
        return Results(found, tuple(self.path(r.model, r.task, r.signature) for r in found))

    def put_thumbnails(self, fingerprint: str, images: Mapping[str, bytes]) -> None:
        """Write {example id: JPEG} for a data set."""
        frame = pd.DataFrame({"id": list(images), "jpeg": list(images.values())})
        write_atomically(self.thumbnails_path(fingerprint), lambda p: frame.to_parquet(p, index=False))

    def thumbnails(self, fingerprint: str) -> dict[str, bytes]:
        """Return {example id: JPEG} of a data set; empty where none were kept."""
        path = self.thumbnails_path(fingerprint)
        return read_thumbnails(path) if path.is_file() else {}

    def thumbnails_path(self, fingerprint: str) -> Path:
        return self.root / "thumbnails" / f"{fingerprint}.parquet"

    def check_writable(self) -> None:
        """ResultsError, before anything is computed, where results could not be written."""
        write_atomically(self.root / ".writable", lambda p: p.write_bytes(b""))
        (self.root / ".writable").unlink(missing_ok=True)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call write on a temporary file beside path and move it there. An interruption leaves the old file, or none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise ResultsError(
            str(path.parent), f"cannot write ({error.strerror})", fix="choose another --output"
        ) from None
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise ResultsError(
            str(path), f"cannot write ({error.strerror})", fix="free space, or another --output"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _coco_results(samples: pd.DataFrame) -> list[dict[str, str | int]]:
    """Return captions as COCO's and NoCaps' servers take them; numeric ids as numbers."""
    pairs = zip(samples["image_id"], samples["caption"], strict=True)
    return [{"image_id": int(key) if key.isdecimal() else key, "caption": caption} for key, caption in pairs]


def samples_path(record_path: Path) -> Path:
    return record_path.with_suffix(".samples.parquet")


def read_samples(path: Path | None, record: Record) -> pd.DataFrame:
    """Return the samples beside a Record's file; ResultsError where there are none."""
    if path is None or not samples_path(path).is_file():
        where = f"{record.model} on {record.task}"
        raise ResultsError(where, "no samples beside the Record", fix="run the task again with --fresh")
    return pd.read_parquet(samples_path(path))


def read_numbers(path: Path | None, record: Record) -> pd.DataFrame:
    """Return of a Record's samples what metrics are computed from: ids, domain, numbers and multi-label scores."""
    if path is None or not samples_path(path).is_file():
        return read_samples(path, record)
    with pq.ParquetFile(samples_path(path)) as file:
        names = [field.name for field in file.schema_arrow if field.name in NUMBERS or _is_number(field.type)]
        samples: pd.DataFrame = file.read(columns=names, use_threads=False).to_pandas()
    return samples


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def read_thumbnails(path: Path) -> dict[str, bytes]:
    """Return the {example id: JPEG} of a thumbnails file."""
    table = pd.read_parquet(path)
    return dict(zip(table["id"].astype(str), table["jpeg"], strict=True))


def to_json(records: Iterable[Record]) -> list[str]:
    """Return each Record as JSON text, indented, without NaN."""
    return [
        json.dumps(r.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n" for r in records
    ]


def read_record(path: Path) -> Record:
    """Return a stored Record; ResultsError where the file is no Record, or one of a newer schema."""
    try:
        return parse_record(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ResultsError(str(path), f"not a Record ({error})", fix="remove it, or run with --fresh") from None


def parse_record(table: object, where: str) -> Record:
    version = table.get("schema_version") if isinstance(table, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        fix = "upgrade cocabench to read it"
        raise ResultsError(where, f"a Record of schema {version}", wanted=f"schema {SCHEMA_VERSION} or older", fix=fix)
    try:
        return Record.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ResultsError(where, f"not a Record ({key}: {first['msg']})") from None


@dataclass(frozen=True)
class Results:
    """Loaded Records, each with the file that it came from (None: from an array of them)."""

    records: tuple[Record, ...]
    paths: tuple[Path | None, ...]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def frame(self) -> pd.DataFrame:
        """Return a tidy frame: one row per model, task and metric, with value, interval, n and signature."""
        rows = [
            {"model": r.model, "task": r.task, "metric": name, **e.model_dump(), "signature": short(r.signature)}
            for r in self.records
            for name, e in r.metrics.items()
        ]
        return pd.DataFrame(rows, columns=["model", "task", "metric", "value", "low", "high", "n", "signature"])

    def samples(self, record: Record) -> pd.DataFrame:
        """Return the per-sample statistics of one of these Records."""
        return read_samples(self.path(record), record)

    def path(self, record: Record) -> Path | None:
        """Return the file of a Record, None where it came from an array or is none of these."""
        same = self._places.get((record.model, record.task), ())
        return next((self.paths[i] for i in same if self.records[i] is record or self.records[i] == record), None)

    @cached_property
    def _places(self) -> dict[tuple[str, str], list[int]]:
        """Where the Records of a model and task stand: comparing each with all takes minutes for thousands."""
        places: dict[tuple[str, str], list[int]] = {}
        for i, record in enumerate(self.records):
            places.setdefault((record.model, record.task), []).append(i)
        return places


def load(*paths: str | Path) -> Results:
    """Return the Records of folders, Record files, or files with an array of them (``run --json``), oldest first."""
    loaded = [item for path in paths for item in _load(Path(path))]
    if not loaded:
        raise ResultsError(", ".join(map(str, paths)), "no Records", fix="`cocabench run` writes them")
    loaded.sort(key=lambda pair: pair[0].created)
    return Results(tuple(record for record, _ in loaded), tuple(path for _, path in loaded))


def is_record(file: Path) -> bool:
    """Records lie in a model's folder under TASK-SIGNATURE.json; other JSON that people put there is left alone."""
    return re.fullmatch(r".+-[0-9a-f]{12}\.json", file.name) is not None


def _load(path: Path) -> Iterator[tuple[Record, Path | None]]:
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            if file.relative_to(path).parts[0] not in REFERENCE_FOLDERS and is_record(file):
                yield read_record(file), file
    elif path.is_file():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ResultsError(str(path), f"not JSON ({error})") from None
        if isinstance(content, list):
            yield from ((parse_record(item, f"{path}[{i}]"), None) for i, item in enumerate(content))
        else:
            yield parse_record(content, str(path)), path
    else:
        raise ResultsError(
            str(path),
            "no such file or folder",
            wanted="a results folder (a whole one, or one model's in it) or a Record's file",
            fix="`cocabench show FOLDER` lists what a folder holds",
        )
