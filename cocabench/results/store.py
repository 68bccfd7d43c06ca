"""Results on disk. A Record is one JSON file, its samples a parquet file beside it; both appear whole or not at all.
Where a Record replaces another, its files first stand beside the old ones as ….next: the new Record, once it is in its
place, says that they count. So a kill at any moment leaves one of the two, with the samples that are its own.

results/MODEL/TASK-SIGNATURE.json              the Record
results/MODEL/TASK-SIGNATURE.samples.parquet   a row per sample
results/MODEL/TASK-SIGNATURE.captions.json     of captioning, as COCO's server takes it
results/thumbnails/FINGERPRINT.parquet         id and JPEG, shared by the Records of one data set
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from cocabench import kinds
from cocabench.core.errors import IgnoredRecordWarning, ResultsError, unreadable
from cocabench.core.signature import digest, short
from cocabench.core.temporary import temporary
from cocabench.core.types import SCHEMA_VERSION, Record, Signature
from cocabench.results import schema1
from cocabench.specs.spec import problems

CAPTIONS = ".captions.json"

CREATED = b"cocabench.created"
"""The key in a samples file's metadata of when the Record that it belongs to was made."""

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

    def columns(self, record: Record) -> list[str]:
        """Return the columns of a stored Record's samples."""
        return columns(self.path(record.model, record.task, record.signature), record)

    def put(self, record: Record, samples: pd.DataFrame) -> Path:
        """Write a Record and its samples. Until all is written, what was there before stands."""
        path = self.path(record.model, record.task, record.signature)
        settle(path)
        table = pa.Table.from_pandas(samples, preserve_index=False)
        table = table.replace_schema_metadata({**table.schema.metadata, CREATED: record.created})
        write_atomically(_next(_samples_file(path)), lambda p: pq.write_table(table, p))
        written = [c.name for c in kinds.find(record.evaluator).samples if c.type == "caption" and c.name in samples]
        if written:
            text = json.dumps(_coco_results(samples, written[0]), ensure_ascii=False)
            write_atomically(_next(path.with_suffix(CAPTIONS)), lambda p: p.write_text(text, encoding="utf-8"))
        self.put_record(record)
        settle(path)
        return path

    def put_record(self, record: Record) -> Path:
        """Write a Record whose samples are there."""
        path = self.path(record.model, record.task, record.signature)
        write_atomically(path, lambda p: p.write_text(to_json([record])[0], encoding="utf-8"))
        return path

    def results(self, records: Iterable[Record]) -> RecordSet:
        """Return Records of this folder with their files, as ``load`` would."""
        found = tuple(records)
        return RecordSet(found, tuple(self.path(r.model, r.task, r.signature) for r in found))

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


def settle(record_path: Path) -> None:
    """End what a kill interrupted: the next files of the Record that stands take their places, other ones go."""
    samples = _samples_file(record_path)
    counts = samples_path(record_path) != samples
    for file in (record_path.with_suffix(CAPTIONS), samples):  # samples last: they say whether both count
        if _next(file).is_file():
            with _told(file):
                _next(file).replace(file) if counts else _next(file).unlink()


def samples_path(record_path: Path) -> Path:
    """Return the file of a Record's samples: the one beside it, or that which an interrupted ``put`` left as next."""
    samples = _samples_file(record_path)
    staged = _next(samples)
    if not staged.is_file() or not record_path.is_file():
        return samples
    belongs_to = (pq.read_schema(staged).metadata or {}).get(CREATED, b"").decode()
    try:
        return staged if read_record(record_path).created == belongs_to else samples
    except ResultsError:  # a broken Record has no samples; whoever reads it is told
        return samples


def _samples_file(record_path: Path) -> Path:
    return record_path.with_suffix(".samples.parquet")


def _next(file: Path) -> Path:
    return file.with_name(f"{file.name}.next")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call write on a temporary file beside path and move it there. An interruption leaves the old file, or none.

    What is there is on the disk, not on its way to it; what a kill left of an earlier attempt is removed.
    """
    with _told(path.parent, fix="choose another --output"):
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = temporary(path)
    try:
        with _told(path):
            write(mine.path)
            mine.path.chmod(0o644)
            with mine.path.open("rb+") as file:
                os.fsync(file)
            mine.path.replace(path)
    finally:
        mine.release()


@contextmanager
def _told(path: Path, fix: str = "free space, or another --output") -> Iterator[None]:
    """Raise what the system refuses as a ResultsError."""
    try:
        yield
    except OSError as error:
        raise ResultsError(str(path), f"cannot write ({error.strerror})", fix=fix) from None


def _coco_results(samples: pd.DataFrame, column: str) -> list[dict[str, str | int]]:
    """Return captions as COCO's and NoCaps' servers take them; numeric ids as numbers."""
    pairs = zip(samples["image_id"], samples[column], strict=True)
    return [{"image_id": int(key) if key.isdecimal() else key, "caption": caption} for key, caption in pairs]


def read_samples(path: Path | None, record: Record, *, images: Collection[str] | None = None) -> pd.DataFrame:
    """Return the samples beside a Record's file, or those of some images; ResultsError where there are none."""
    if path is None or not samples_path(path).is_file():
        where = f"{record.model} on {record.task}"
        raise ResultsError(where, "no samples beside the Record", fix="run the task again with --fresh")
    wanted = None if images is None else [("image_id", "in", list(images))]
    return pd.read_parquet(samples_path(path), filters=wanted)


def columns(path: Path | None, record: Record) -> list[str]:
    """Return the names of the columns of a Record's samples, without reading them."""
    if path is None or not samples_path(path).is_file():
        return list(read_samples(path, record).columns)
    return [str(name) for name in pq.read_schema(samples_path(path)).names]


def read_numbers(path: Path | None, record: Record) -> pd.DataFrame:
    """Return of a Record's samples what metrics are computed from, but for words: a baseline keeps no captions."""
    wanted = kinds.find(record.evaluator).numbers(columns(path, record))
    with pq.ParquetFile(samples_path(path or Path())) as file:
        samples: pd.DataFrame = file.read(columns=wanted, use_threads=False).to_pandas()
    return samples


def as_stored(samples: pd.DataFrame) -> pd.DataFrame:
    """Return samples as ``read_samples`` would once they were written: lists in columns become arrays."""
    frame: pd.DataFrame = pa.Table.from_pandas(samples, preserve_index=False).to_pandas()
    return frame


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
        raise ResultsError(
            str(path), f"not a Record ({unreadable(error)})", fix="remove it, or run with --fresh"
        ) from None


def parse_record(table: object, where: str) -> Record:
    version = table.get("schema_version") if isinstance(table, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        fix = "upgrade cocabench to read it"
        raise ResultsError(where, f"a Record of schema {version}", wanted=f"schema {SCHEMA_VERSION} or older", fix=fix)
    if isinstance(table, dict) and version == 1:
        table = schema1.upgraded(table)
    try:
        return Record.model_validate(table)
    except ValidationError as error:
        raise ResultsError(where, f"not a Record ({problems(error, [])[0]})") from None


@dataclass(frozen=True)
class RecordSet:
    """Records, each with its file (None: from an array of them, or in memory). ``cocabench.Results`` builds on it.

    held: the samples of each that are in memory; empty where none are.
    """

    records: tuple[Record, ...]
    paths: tuple[Path | None, ...]
    held: tuple[pd.DataFrame | None, ...] = field(default=(), compare=False, repr=False)

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
        place = self._place(record)
        held = self.held[place] if self.held and place is not None else None
        return held if held is not None else read_samples(self.path(record), record)

    def path(self, record: Record) -> Path | None:
        """Return the file of a Record, None where it came from an array or is none of these."""
        place = self._place(record)
        return None if place is None else self.paths[place]

    def _place(self, record: Record) -> int | None:
        same = self._places.get((record.model, record.task), ())
        return next((i for i in same if self.records[i] is record or self.records[i] == record), None)

    @cached_property
    def _places(self) -> dict[tuple[str, str], list[int]]:
        """Where the Records of a model and task stand: comparing each with all takes minutes for thousands."""
        places: dict[tuple[str, str], list[int]] = {}
        for i, record in enumerate(self.records):
            places.setdefault((record.model, record.task), []).append(i)
        return places


def load(*paths: str | Path) -> RecordSet:
    """Return the Records of folders, Record files, or files with an array of them (``run --json``), oldest first.

    IgnoredRecordWarning for a Record in a folder that was renamed: its samples are not found, so it is left out.
    """
    loaded = [item for path in paths for item in _load(Path(path))]
    if not loaded:
        raise ResultsError(", ".join(map(str, paths)), "no Records", fix="`cocabench run` writes them")
    loaded.sort(key=lambda pair: pair[0].created)
    return RecordSet(tuple(record for record, _ in loaded), tuple(path for _, path in loaded))


def is_record(file: Path) -> bool:
    """Records lie in a model's folder under TASK-SIGNATURE.json; other JSON that people put there is left alone."""
    return re.fullmatch(r".+-[0-9a-f]{12}\.json", file.name) is not None


def _was_record(file: Path) -> bool:
    """Tell whether a file holds a Record although its name is none; captions and other people's JSON do not."""
    if file.name.endswith(CAPTIONS):
        return False
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return False
    return isinstance(content, dict) and {"schema_version", "signature", "metrics"} <= content.keys()


def _load(path: Path) -> Iterator[tuple[Record, Path | None]]:
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            if file.relative_to(path).parts[0] in REFERENCE_FOLDERS:
                continue
            if is_record(file):
                yield read_record(file), file
            elif _was_record(file):
                text = f"{file}: a Record under another name than TASK-SIGNATURE.json is left out; name the file itself"
                warnings.warn(text, IgnoredRecordWarning, stacklevel=3)
    elif path.is_file():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ResultsError(str(path), unreadable(error)) from None
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
