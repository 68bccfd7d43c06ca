"""Results on disk. A Record is one JSON file, its samples a parquet file beside it; both appear whole or not at all.
Files of samples are named by their content, and the Record, which is written last, names its own. So a kill at any
moment, and any number of writers, leave one whole Record with the samples that are its own.

results/MODEL/TASK-SIGNATURE.json                       the Record
results/MODEL/TASK-SIGNATURE.CONTENT.samples.parquet    a row per sample
results/MODEL/TASK-SIGNATURE.CONTENT.captions.json      of captioning, as COCO's server takes it
results/thumbnails/FINGERPRINT.parquet                  id and JPEG, shared by the Records of one data set

Version 0.1 wrote no CONTENT, and put the files of a Record that replaced another beside the old ones as ….next.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import stat
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from cocabench import kinds
from cocabench.core.errors import CocabenchError, IgnoredRecordWarning, ResultsError, of_disk, unreadable
from cocabench.core.files import (
    Columns,
    open_regular,
    parse_json,
    read_columns,
    read_parquet,
    read_regular,
    read_text,
)
from cocabench.core.signature import digest, short
from cocabench.core.temporary import alone_in, remove_unless_held, temporary, temporary_folder
from cocabench.core.text import printable
from cocabench.core.types import SCHEMA_VERSION, Record, Signature
from cocabench.results import schema1
from cocabench.specs.spec import problems

SAMPLES, CAPTIONS = ".samples.parquet", ".captions.json"

STALE_S = 3600.0
"""How long samples outlive their Record, for whoever has just read it."""

AGAIN = "run the task again with --fresh"

CREATED = b"cocabench.created"
"""The key in the metadata of version 0.1's samples of when the Record that they belong to was made."""

REFERENCE_FOLDERS = ("baselines", "published")
"""What a results folder holds to be compared with. Records in these count only where the folder itself is named."""

OUTCOMES, SUBMISSIONS = "outcomes", "slurm"
"""Folders in a results folder that hold no Records: how steps of plans ended, and what was submitted to Slurm."""


def slug(name: str) -> str:
    """Return name as a folder's name: as it is where it may be, else cleaned and distinguished by four digits."""
    name = printable(name)
    clean = re.sub(r"[^A-Za-z0-9_.@+-]+", "_", name).strip("._")[:100]
    return clean if clean == name else f"{clean}-{digest(name)[:4]}"


@dataclass(frozen=True)
class Store:
    """A results folder."""

    root: Path

    def path(self, model: str, task: str, signature: Signature) -> Path:
        return self.root / slug(model) / f"{slug(task)}-{short(signature)}.json"

    def file(self, record: Record) -> Path:
        return self.path(record.model, record.task, record.signature)

    def get(self, model: str, task: str, signature: Signature) -> Record | None:
        """Return the finished Record of exactly this measurement, if there is one."""
        path = self.path(model, task, signature)
        return read_record(path) if path.is_file() else None

    def samples(self, record: Record) -> pd.DataFrame:
        """Return the samples of a stored Record."""
        return read_samples(self.file(record), record)

    def columns(self, record: Record) -> list[str]:
        """Return the columns of a stored Record's samples."""
        return columns(self.file(record), record)

    def put(self, record: Record, samples: pd.DataFrame) -> Record:
        """Write a Record and its samples, and return it as it is stored. Until all is written, the one before stands.

        Of several writers each stores a whole Record; that of the last one stands.
        """
        path = self.file(record)
        content = _parquet(samples)
        own = path.with_name(f"{path.stem}.{_digest(content)}{SAMPLES}")
        stored = record.model_copy(update={"samples_file": own.name, "samples_digest": _digest(content)})
        with ExitStack() as held:
            held.enter_context(_written(own, lambda p: p.write_bytes(content), beside=path))
            if (captions := _coco_results(record, samples)) is not None:
                file = _captions_of(own)
                held.enter_context(_written(file, lambda p: p.write_text(captions, encoding="utf-8"), beside=path))
            _retire(path)
            self.put_record(stored)
        _sweep(path, stored)
        return stored

    def put_record(self, record: Record) -> Path:
        """Write a Record whose samples are there."""
        path = self.file(record)
        write_atomically(path, lambda p: p.write_text(to_json([record])[0], encoding="utf-8"))
        return path

    def results(self, records: Iterable[Record]) -> RecordSet:
        """Return Records of this folder with their files, as ``load`` would."""
        found = tuple(records)
        return RecordSet(found, tuple(map(self.file, found)))

    def put_thumbnails(self, fingerprint: str, images: Mapping[str, bytes]) -> None:
        """Add {example id: JPEG} to what is kept of a data set."""
        path = self.thumbnails_path(fingerprint)
        with _told(path.parent), alone_in(path.parent):
            whole = self.thumbnails(fingerprint) | dict(images)
            frame = pd.DataFrame({"id": list(whole), "jpeg": list(whole.values())})
            write_atomically(path, lambda p: frame.to_parquet(p, index=False))

    def thumbnails(self, fingerprint: str) -> dict[str, bytes]:
        """Return {example id: JPEG} of a data set; empty where none were kept, or where their file is damaged."""
        path = self.thumbnails_path(fingerprint)
        return read_thumbnails(path) if path.is_file() else {}

    def thumbnails_path(self, fingerprint: str) -> Path:
        return self.root / "thumbnails" / f"{fingerprint}.parquet"

    def check_writable(self) -> None:
        """ResultsError, before anything is computed, where results could not be written."""
        write_atomically(self.root / ".writable", lambda p: p.write_bytes(b""))
        (self.root / ".writable").unlink(missing_ok=True)


def samples_path(record_path: Path, record: Record | None = None) -> Path:
    """Return the file of a Record's samples, whether it is there or not. record: what record_path holds, if known."""
    if record is None:
        try:
            record = read_record(record_path)
        except ResultsError:  # a broken Record has no samples; reading it raises the error
            return record_path.with_suffix(SAMPLES)
    if record.samples_file:
        return record_path.with_name(record.samples_file)
    return _of_version_1(record_path, record)


def _of_version_1(record_path: Path, record: Record) -> Path:
    """Return the samples beside a Record of version 0.1: those that a killed writer left as next, if they are its."""
    samples = record_path.with_suffix(SAMPLES)
    staged = samples.with_name(f"{samples.name}.next")
    if not staged.is_file():
        return samples
    with _readable(staged):
        belongs_to = (pq.read_schema(staged).metadata or {}).get(CREATED, b"").decode()
    return staged if record.created == belongs_to else samples


def files_of(record_path: Path, record: Record) -> tuple[Path, ...]:
    """Return the files of a Record that are there, itself among them."""
    samples = samples_path(record_path, record)
    files = (record_path, samples, _captions_of(samples))
    return tuple(file for file in files if file.is_file())


def _captions_of(samples: Path) -> Path:
    return samples.with_name(samples.name.replace(SAMPLES, CAPTIONS))


def _retire(record_path: Path) -> None:
    """Let the time begin after which the files of the Record that stands may go."""
    with suppress(ResultsError, OSError):  # there is none, or a broken one, or the disk cannot be written to
        for file in files_of(record_path, read_record(record_path)):
            os.utime(file)


def _sweep(record_path: Path, record: Record) -> None:
    """Remove samples and captions of other Records of this measurement, but for those that may still be read."""
    own = {file.name for file in files_of(record_path, record)}
    stale = rf"{re.escape(record_path.stem)}(\.[0-9a-f]{{16}})?({re.escape(SAMPLES)}|{re.escape(CAPTIONS)})(\.next)?"
    for name in os.listdir(record_path.parent):
        if re.fullmatch(stale, name) and name not in own:
            remove_unless_held(record_path.with_name(name), older_s=STALE_S)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call write on a temporary file beside path and move it there. An interruption leaves the old file, or none.

    What is there is on the disk, not on its way to it; what a kill left of an earlier attempt is removed.
    """
    with _written(path, write):
        pass


@contextmanager
def _written(path: Path, write: Callable[[Path], object], *, beside: Path | None = None) -> Iterator[None]:
    """Write atomically, and hold the file's lock until the body ends: nobody sweeps it as stale.

    beside: whose temporary file it is until then; by default the path's own. Of a link the target is replaced, and
    the link stays. A device or pipe is written into.
    """
    if _is_stream(path):
        with _told(path), temporary_folder("cocabench-output-") as own:
            write(whole := own / path.name)
            with whole.open("rb") as content, path.open("wb") as stream:
                shutil.copyfileobj(content, stream)
        yield
        return
    path = path.resolve() if path.is_symlink() else path
    with _told(path.parent, fix="choose another --output"):
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = temporary(beside or path)
    try:
        with _told(path.parent):
            write(mine.path)
            with mine.path.open("rb+") as file:
                os.fsync(file)
            mine.path.replace(path)
        yield
    finally:
        mine.release()


def _is_stream(path: Path) -> bool:
    """Tell whether a path is no file that could be replaced: a device, a pipe, or what /dev/stdout stands for."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    named = path.absolute().parts[:2] in (("/", "dev"), ("/", "proc"))
    return not stat.S_ISDIR(mode) and (named or not stat.S_ISREG(mode))


@contextmanager
def _told(path: Path, fix: str = "free space, or another --output") -> Iterator[None]:
    """Raise what the system refuses as a ResultsError, also where a library hides it by an error of its own."""
    try:
        yield
    except Exception as error:
        refused = error if isinstance(error, OSError) else of_disk(error)
        if refused is None or isinstance(error, CocabenchError):
            raise
        raise ResultsError(str(path), f"cannot write ({refused.strerror or error})", fix=fix) from None


@contextmanager
def _readable(file: Path, fix: str = AGAIN) -> Iterator[None]:
    """Raise what a damaged parquet file gives as a ResultsError."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip().split("\n")[0]
        raise ResultsError(str(file), f"damaged ({why[:120]})", fix=fix) from None


def _parquet(samples: pd.DataFrame) -> bytes:
    """Return samples as a parquet file; equal samples give equal bytes."""
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(samples, preserve_index=False), file, compression="zstd")
    return file.getvalue()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _coco_results(record: Record, samples: pd.DataFrame) -> str | None:
    """Return captions as COCO's and NoCaps' servers take them, numeric ids as numbers; None where there are none."""
    written = [c.name for c in kinds.find(record.evaluator).samples if c.type == "caption" and c.name in samples]
    if not written:
        return None
    pairs = zip(samples["image_id"], samples[written[0]], strict=True)
    rows = [{"image_id": int(key) if key.isdecimal() else key, "caption": caption} for key, caption in pairs]
    return json.dumps(rows, ensure_ascii=False)


def read_samples(path: Path | None, record: Record, *, images: Collection[str] | None = None) -> pd.DataFrame:
    """Return the samples beside a Record's file, or those of some images.

    ResultsError where there are none, or others than the Record was made of.
    """
    file = _samples_file(path, record)
    with _readable(file):
        table = read_parquet(pa.BufferReader(_content(file, record)), file)
        if images is not None:
            table = table.filter(pc.is_in(table["image_id"], pa.array(list(images), table["image_id"].type)))
        samples: pd.DataFrame = table.to_pandas()
    return samples if images is not None else _checked(samples, record, file)


def columns(path: Path | None, record: Record) -> list[str]:
    """Return the names of the columns of a Record's samples, without reading them; ResultsError as above."""
    file = _samples_file(path, record)
    with _readable(file):
        return [str(name) for name in pq.read_schema(file).names]


def read_numbers(path: Path | None, record: Record) -> pd.DataFrame:
    """Return of a Record's samples what metrics are computed from, but for words: a baseline keeps no captions."""
    samples: pd.DataFrame = read_number_columns(path, record).table.to_pandas()
    return samples


def read_number_columns(path: Path | None, record: Record, *, like: Columns | None = None) -> Columns:
    """Do as read_numbers, without making a frame, which takes longer than reading small files.

    like: those of another Record, for the columns that are equal.
    """
    file = _samples_file(path, record)
    with _readable(file):
        found = read_columns(_content(file, record), file, kinds.find(record.evaluator).numbers, like=like)
    if not record.samples_digest:
        _checked(found.table.to_pandas(), record, file)
    return found


def _samples_file(path: Path | None, record: Record) -> Path:
    file = path and samples_path(path, record)
    if file is None or not file.is_file():
        raise ResultsError(f"{record.model} on {record.task}", "no samples beside the Record", fix=AGAIN)
    return file


def _content(file: Path, record: Record) -> bytes:
    """Return the content of a Record's samples; ResultsError where it is other than the Record says."""
    content = read_regular(file)
    if record.samples_digest and _digest(content) != record.samples_digest:
        raise ResultsError(str(file), "damaged, or not what its Record was made of", fix=AGAIN)
    return content


def _checked(samples: pd.DataFrame, record: Record, file: Path) -> pd.DataFrame:
    """Return samples; ResultsError where their rows are not those of a Record that says no digest."""
    if got := "" if record.samples_digest else schema1.damage(samples, record):
        raise ResultsError(str(file), f"damaged ({got})", wanted="what its Record was made of", fix=AGAIN)
    return samples


def as_stored(samples: pd.DataFrame) -> pd.DataFrame:
    """Return samples as ``read_samples`` would once they were written: lists in columns become arrays."""
    frame: pd.DataFrame = pa.Table.from_pandas(samples, preserve_index=False).to_pandas()
    return frame


def read_thumbnails(path: Path) -> dict[str, bytes]:
    """Return the {example id: JPEG} of a thumbnails file; none of a damaged one, and IgnoredRecordWarning says so."""
    try:
        with _readable(path, fix="the next run makes them again"):
            with open_regular(path) as file:
                table = read_parquet(file, path, ["id", "jpeg"]).to_pandas()
            return {str(key): bytes(jpeg) for key, jpeg in zip(table["id"], table["jpeg"], strict=True)}
    except ResultsError as error:
        warnings.warn(f"pictures left out: {error}", IgnoredRecordWarning, stacklevel=2)
        return {}


def to_json(records: Iterable[Record]) -> list[str]:
    """Return each Record as JSON text, indented, without NaN."""
    return [
        json.dumps(r.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n" for r in records
    ]


def read_record(path: Path) -> Record:
    """Return a stored Record; ResultsError where the file is no Record, or one of a newer schema."""
    try:
        return parse_record(parse_json(read_text(path)), str(path))
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
        content = parse_json(read_text(file))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return False
    return isinstance(content, dict) and {"schema_version", "signature", "metrics"} <= content.keys()


def _load(path: Path) -> Iterator[tuple[Record, Path | None]]:
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            if file.relative_to(path).parts[0] in (*REFERENCE_FOLDERS, OUTCOMES, SUBMISSIONS):
                continue
            if is_record(file):
                yield read_record(file), file
            elif _was_record(file):
                text = f"{file}: a Record under another name than TASK-SIGNATURE.json is left out; name the file itself"
                warnings.warn(text, IgnoredRecordWarning, stacklevel=3)
    elif path.is_file():
        try:
            content = parse_json(read_text(path))
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
