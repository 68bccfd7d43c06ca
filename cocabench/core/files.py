"""Untrusted files: opened only if they are regular, read up to limits whose errors say how to raise them."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from cocabench.core.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class Limit(NamedTuple):
    """variable: the environment's name that sets it. default: the most that is taken. unit: of what, in words."""

    variable: str
    default: int
    unit: str

    @property
    def most(self) -> int:
        """The current limit; UsageError if the variable is not a whole number above 0."""
        text = os.environ.get(self.variable) or str(self.default)
        if not text.isascii() or not text.isdecimal() or not 0 < len(text) < 19 or int(text) == 0:
            raise UsageError(self.variable, f"got {text[:40]!r}", wanted="a whole number above 0")
        return int(text)

    def check(self, n: int, where: object, error: type[DataError] = DataError) -> None:
        """Raise an error if n exceeds the limit."""
        if n > self.most:
            fix = f"if you trust it: {self.variable}={n}"
            raise error(str(where), f"{n:,} {self.unit}", wanted=f"at most {self.most:,}", fix=fix)


PIXELS = Limit("COCABENCH_MAX_PIXELS", 10_000 * 10_000, "pixels in an image")
MEMBER_BYTES = Limit("COCABENCH_MAX_MEMBER_BYTES", 2_000_000_000, "bytes in a member of an archive")
ROWS = Limit("COCABENCH_MAX_ROWS", 5_000_000, "rows in a table")
RATIO = Limit("COCABENCH_MAX_RATIO", 1_000, "times its packed size")

SMALL_BYTES = 1 << 28
"""What any machine can hold: up to this size, columns of equal values may be packed as tightly as they will."""

ROWS_PER_PIECE = 1 << 16


def check_zip(path: Path) -> None:
    """Raise DataError if a member of a zip has an excessive compression ratio; zipfile.BadZipFile if damaged."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            RATIO.check(member.file_size // max(1, member.compress_size), f"{path}:{member.filename}")


def check_zlib(chunks: Iterable[bytes], where: object) -> None:
    """Raise DataError if zlib streams, one after the other, hold more than they may; zlib.error if damaged.

    Unpacks a piece at a time and keeps none.
    """
    packed = unpacked = 0
    for chunk in chunks:
        stream, left = zlib.decompressobj(), chunk
        packed += len(chunk)
        while left:
            unpacked += len(stream.decompress(left, 1 << 20))
            left = stream.unconsumed_tail
            check_ratio(unpacked, packed, where)


def check_mat(path: Path) -> None:
    """Raise DataError if a MATLAB file (version 5) unpacks to too much; zlib.error, OSError if it is damaged.

    After 128 bytes it is a sequence of elements: type and length, four bytes each; type 15 is a zlib stream.
    """
    with open_regular(path) as file:
        order: Literal["little", "big"] = "big" if file.read(128)[126:] == b"MI" else "little"
        while len(head := file.read(8)) == 8:
            kind, length = (int.from_bytes(head[k : k + 4], order) for k in (0, 4))
            if kind == PACKED_ELEMENT:
                check_zlib([file.read(length)], path)
            else:
                file.seek(length, os.SEEK_CUR)


PACKED_ELEMENT = 15


def check_ratio(unpacked: int, packed: int, where: object) -> None:
    """Raise DataError if what a file unpacks to is large, and more than the limit of times its packed size."""
    if unpacked > SMALL_BYTES:
        RATIO.check(unpacked // max(1, packed), where)


THREADS_FROM_BYTES = 1 << 20
"""Handing smaller files to threads takes longer than reading them."""


Chosen = Sequence[str] | Callable[[Sequence[str]], Sequence[str]] | None
"""Columns of a table: their names, or a function of the names that there are; None for all."""


def read_parquet(file: Path | IO[bytes] | pa.NativeFile, where: object, columns: Chosen = None) -> pa.Table:
    """Return a parquet file's rows, or some columns of them; ArrowException, OSError or ValueError if damaged.

    DataError where it has too many rows, or unpacks to too much: it is read in pieces, none of which can be large.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as content:
        return _decoded(content, where, columns)


@dataclass(frozen=True)
class Columns:
    """Columns of a parquet file. packed: {name: what it was decoded from}, without those in several pieces."""

    schema: pa.Schema
    arrays: Mapping[str, pa.ChunkedArray]
    packed: Mapping[str, tuple[object, ...]]

    @property
    def table(self) -> pa.Table:
        import pyarrow as pa

        return pa.Table.from_arrays(list(self.arrays.values()), schema=self.schema)


def read_columns(content: bytes, where: object, columns: Chosen = None, *, like: Columns | None = None) -> Columns:
    """Do as read_parquet, but take columns that were packed to the same bytes in another file from there.

    like: the other file's columns. Samples of two models on one task differ in few columns, and decoding the others
    is most of the work.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.BufferReader(content)) as file:
        schema = file.schema_arrow
        names = _wanted(schema, columns)
        packed = _packed(file.metadata, {name: schema.field(name) for name in names}, content)
        same = {name for name in packed if like and like.packed.get(name) == packed[name]}
        table = _decoded(file, where, [name for name in names if name not in same])
    arrays = {name: like.arrays[name] if like and name in same else table[name] for name in names}
    fields = [pa.field(name, array.type, schema.field(name).nullable) for name, array in arrays.items()]
    return Columns(pa.schema(fields, schema.metadata), arrays, packed)


def _packed(meta: pq.FileMetaData, fields: Mapping[str, pa.Field], content: bytes) -> dict[str, tuple[object, ...]]:
    """Return the bytes of columns with what else decides what they decode to; nothing of several row groups."""
    if meta.num_row_groups != 1:
        return {}
    group = meta.row_group(0)
    found: dict[str, tuple[object, ...]] = {}
    for chunk in (group.column(k) for k in range(group.num_columns)):
        if (name := chunk.path_in_schema) in fields:
            start = chunk.dictionary_page_offset or chunk.data_page_offset
            pages = content[start : start + chunk.total_compressed_size]
            found[name] = fields[name], chunk.physical_type, chunk.compression, pages
    return found


def _wanted(schema: pa.Schema, columns: Chosen) -> list[str]:
    named = columns(schema.names) if callable(columns) else schema.names if columns is None else columns
    return [name for name in named if name in schema.names]


def _decoded(content: pq.ParquetFile, where: object, columns: Chosen) -> pa.Table:
    """Return a file's rows, decoded in pieces; DataError as above."""
    import pyarrow as pa

    meta, schema = content.metadata, content.schema_arrow
    ROWS.check(meta.num_rows, where)
    groups = [meta.row_group(k) for k in range(meta.num_row_groups)]
    chunks = [group.column(k) for group in groups for k in range(group.num_columns)]
    largest = max((chunk.total_uncompressed_size for chunk in chunks), default=0)
    packed = sum(max(0, chunk.total_compressed_size) for chunk in chunks)
    check_ratio(sum(chunk.total_uncompressed_size for chunk in chunks), packed, where)
    wanted = None if columns is None else _wanted(schema, columns)
    batches, unpacked = [], 0
    size, threads = max(1, min(ROWS_PER_PIECE, SMALL_BYTES // max(1, largest))), packed > THREADS_FROM_BYTES
    for batch in content.iter_batches(size, columns=wanted, use_threads=threads):
        unpacked += batch.nbytes
        check_ratio(unpacked, packed, where)
        batches.append(batch)
    if wanted is not None:
        schema = pa.schema([schema.field(name) for name in wanted], schema.metadata)
    return pa.Table.from_batches(batches, batches[0].schema if batches else schema)


def open_regular(path: Path | str) -> io.BufferedReader:
    """Open a file for reading; OSError if it is missing, or a pipe or device, which could hang or never end."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    found = os.fstat(handle).st_mode
    if stat.S_ISREG(found):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "a pipe or device, not a file", str(path))


def read_regular(path: Path) -> bytes:
    """Return a regular file's content; OSError as above."""
    with open_regular(path) as file:
        return file.read()


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return a regular file's text, its lines ending with a newline only; OSError as above, UnicodeDecodeError."""
    return read_regular(path).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Return a JSON value; JSONDecodeError for all that is none, too deep or too long a number among it.

    pairs: makes an object of its keys and values; by default a dict.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise json.JSONDecodeError("nested too deeply", "[", 0) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError:
        raise json.JSONDecodeError("a number with thousands of digits", "[", 0) from None


def expanded(path: Path | str) -> Path:
    """Return a path with ~ and ~NAME as folders; UsageError if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(str(path), f"no user {str(path).partition('/')[0][1:]!r}", wanted="a path") from None
