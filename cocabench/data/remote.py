"""Files behind an address (https://…, s3://…, gs://…): listed, fetched in pieces, kept in a cache of limited size.

A data root may be such an address. What a task needs of it is fetched into a folder of the cache before its loader
reads there, so that loaders know files alone: images are read by offset, in any order, by several processes.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from cocabench.core.cache import cache_folder
from cocabench.core.errors import DataError, MissingDataError, UsageError, first_line

try:
    import fcntl
except ImportError:  # Windows: nothing is removed there, and two processes may fetch the same
    fcntl = None  # type: ignore[assignment]

FIRST_WAIT_S = 1.0
PIECE_BYTES = 16 << 20
"""Of a file that is fetched at once: a broken connection costs one piece."""

LIMIT_GB = 200
WEB = ("http", "https")
HUB = ("hf", "huggingface.co")
SCHEMES = (*WEB, "s3", "gs", "hf")

Wait = Callable[[float], None]


class Remote(NamedTuple):
    """A file behind an address. hash: md5:… where the store says it, else ''. version: changes with the content."""

    size: int
    hash: str
    version: str


def url_of(root: Path | str) -> str:
    """Return the address that a data root or a checkpoint is; '' for a path. A Path has lost a slash of it.

    UsageError for an address that cannot be one.

    >>> url_of(Path("https://host/data"))
    'https://host/data'
    """
    found = re.match(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])", str(root))
    url = f"{found[1]}://{str(root)[found.end() :]}" if found else ""
    try:
        if re.fullmatch(f"({'|'.join(SCHEMES)}):/*", str(root)):
            raise ValueError("no host")
        _ = urlsplit(url).port
    except ValueError as error:
        raise UsageError("an address", f"{first_line(error)} in {url or root}", wanted="https://HOST/FOLDER") from None
    return url


def shown(url: str) -> str:
    """Return an address without what may be secret: a password, the signature of a query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.scheme in WEB else url


def mirror(url: str) -> Path:
    """Return the folder of the cache for what is behind an address. Creates nothing."""
    words = re.sub(r"\W+", "-", shown(url).partition("://")[2], flags=re.ASCII).strip("-")[:60]
    return cache_folder() / "data" / f"{words}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def hub_parts(url: str) -> tuple[str, str, str] | None:
    """Return repository, revision and folder of an address of a data set on the hub; None for other addresses.

    >>> hub_parts("hf://datasets/org/name@abc/test")
    ('org/name', 'abc', 'test')
    >>> hub_parts("https://huggingface.co/datasets/org/name/tree/main")
    ('org/name', 'main', '')
    """
    form = r"hf://datasets/([^/]+/[^/@]+)(?:@([^/]+))?/?(.*)"
    if not (found := re.fullmatch(form, url)):
        form = r"https://huggingface\.co/datasets/([^/]+/[^/]+)(?:/(?:tree|resolve|raw)/([^/]+))?/?(.*)"
        found = re.fullmatch(form, url)
    return (found[1], (found[2] or "").replace("%2F", "/"), found[3].strip("/")) if found else None


def insistently(act: Callable[[], Any], where: str, wait: Wait, tries: int, why: Callable[[Exception], str]) -> Any:
    """Return what act returns; wait and try again, doubling the wait, where ``why`` says a reason.

    why: returns what was wrong, to try again; where that makes no sense '', or it raises the error that the user sees.
    """
    said = ""
    for attempt in range(tries):
        try:
            return act()
        except Exception as error:
            if not (said := why(error)):
                raise
        if attempt + 1 < tries:
            wait(FIRST_WAIT_S * 2**attempt)
    raise DataError(where, f"{tries} tries failed; the last: {said}", fix="run it again: what is there is kept")


def of_connection(error: BaseException) -> bool:
    """Return whether an error is one of the network: of a client library's transport, or of a short read."""
    names = {kind.__name__ for kind in type(error).__mro__}
    network = {"TransportError", "HTTPError", "ConnectionError", "TimeoutError", "RemoteProtocolError", "ClientError"}
    return bool(names & network) or "onsistency check failed" in str(error) or "cannot find the" in str(error).lower()


def status_of(error: BaseException | None) -> int:
    """Return the status of a server's answer that an error reports, aiohttp's or botocore's; 0 if it is of none."""
    if isinstance(status := getattr(error, "status", None), int):
        return status
    response = getattr(error, "response", None)
    answer = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    return int(answer.get("HTTPStatusCode", 0))


class Store:
    """What fsspec reads behind an address; errors are those of one line."""

    def __init__(self, url: str, wait: Wait = time.sleep, tries: int = 6) -> None:
        self.url, self.wait, self.tries = url.rstrip("/"), wait, tries
        self.web = urlsplit(url).scheme in WEB
        self.files = _file_system(url)

    def listed(self, split: str = "") -> dict[str, Remote]:
        """Return the files below the address; {} if there are none, or what is there cannot be listed.

        A web server lists nothing that can be relied upon: there, of CLIP_benchmark's webdatasets, split/nshards.txt
        says how many shards there are; of others the links of the page are followed.
        """
        if not self.web:
            found = self._ask(lambda: self.files.find(self.url, detail=True), "") or {}
            top = self.files._strip_protocol(self.url).rstrip("/") + "/"
            return {name.removeprefix(top): _remote(info) for name, info in found.items() if name.startswith(top)}
        if (count := self._ask(lambda: self.files.cat_file(self._at(f"{split}/nshards.txt")), "nshards.txt")) is None:
            pages = self._ask(lambda: self.files.find(self.url), "") or []
            names = [page.removeprefix(self.url + "/") for page in pages if page.startswith(self.url + "/")]
            return {name: one for name in names if (one := self._info(name))}
        if not count.strip().isdigit():
            raise DataError(shown(self._at(f"{split}/nshards.txt")), repr(count[:40]), wanted="the number of shards")
        shards = [f"{split}/{k}.tar" for k in range(int(count))]
        texts = ("classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt", f"{split}/nshards.txt")
        found = {name: self._info(name) for name in (*shards, *texts)}
        if lost := [name for name in shards if found[name] is None]:
            got = f"{len(shards) - len(lost)} of {len(shards)} shards (nshards.txt); the first missing: {lost[0]}"
            raise MissingDataError(shown(self.url), got)
        return {name: one for name, one in found.items() if one is not None}

    def one(self) -> Remote:
        """Return what the address itself is, a file; MissingDataError if there is none."""
        if (found := self._ask(lambda: self.files.info(self.url), "")) is None:
            raise MissingDataError(shown(self.url), "no such file")
        return _remote(found)

    def fetch(self, name: str, target: Path, size: int, version: str) -> None:
        """Fetch a file into target, after what an interrupted fetch of the same version left beside it."""
        mark = hashlib.sha256(f"{size} {version}".encode()).hexdigest()[:8]
        part = target.with_name(f".{target.name}.{mark}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("ab") as file:
                for piece in self._pieces(name, file.tell(), size):
                    file.write(piece)
            part.replace(target)
        except OSError as error:
            raise DataError(str(part), f"cannot be written ({error.strerror})", fix="check --data-root") from None

    def _pieces(self, name: str, start: int, size: int) -> Iterator[bytes]:
        while start < size:
            end = min(start + PIECE_BYTES, size)
            piece = self._ask(partial(self._read, name, start, end, size), name)
            if piece is None:
                raise MissingDataError(shown(self._at(name)), "no such file any more")
            start += len(piece)
            yield piece

    def _read(self, name: str, start: int, end: int, size: int) -> bytes:
        """Return the bytes from start to end, or to the file's end from a server that knows no ranges."""
        found: bytes = self.files.cat_file(self._at(name), start=start, end=end)
        if len(found) == end - start:
            return found
        if len(found) != size:
            raise ConnectionError(f"{len(found):,} of {end - start:,} bytes")
        return found[start:]

    def _info(self, name: str) -> Remote | None:
        found = self._ask(lambda: self.files.info(self._at(name)), name)
        if found is not None and found.get("size") is None:
            got = "the server does not say how long it is"
            raise DataError(shown(self._at(name)), got, fix="copy it, and name the folder with --data-root")
        return None if found is None else _remote(found)

    def _at(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url

    def _ask(self, act: Callable[[], Any], name: str) -> Any:
        """Return what act returns, trying again; None for what does not exist."""
        where = shown(self._at(name))

        def why(error: Exception) -> str:
            status = status_of(error) or status_of(error.__cause__)
            if status in (408, 429) or status >= 500:
                return f"the server answered {status}"
            if status in (404, 410) or (isinstance(error, FileNotFoundError | NotADirectoryError) and not status):
                if error.__cause__ is not None and not status and of_connection(error.__cause__):
                    return first_line(error.__cause__)
                raise _LostError from None
            if status or isinstance(error, PermissionError) or "redentials" in type(error).__name__:
                got = f"the server answered {status}" if status else first_line(error)
                raise DataError(where, got, fix="check the address, and your credentials for it") from None
            return first_line(error) if of_connection(error) or isinstance(error, OSError) else ""

        try:
            return insistently(act, where, self.wait, self.tries, why)
        except _LostError:
            return None


class _LostError(Exception):
    """There is no such file."""


def _file_system(url: str) -> Any:
    import fsspec

    scheme = urlsplit(url).scheme
    options: dict[str, Any] = {"client_kwargs": {"trust_env": True}} if scheme in WEB else {}
    try:
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        fix = "pip install 'cocabench[url]'" if scheme in WEB else ""
        raise DataError(shown(url), first_line(error), fix=fix) from None
    except ValueError:
        got = f"an address with {scheme}://"
        raise UsageError(shown(url), got, wanted="https://, s3://, gs://, hf:// or what fsspec knows") from None


def _remote(info: dict[str, Any]) -> Remote:
    """Return a file as fsspec lists it. An ETag of 32 digits is an MD5 of some files only, so it is none here."""
    given = info.get("md5Hash") or ""  # of Google's store, in base64
    known = base64.b64decode(given).hex() if isinstance(given, str) else ""
    marks = (info.get(key) for key in ("ETag", "etag", "LastModified", "mtime", "created"))
    version = next((str(mark).strip('"') for mark in marks if mark), "")
    return Remote(int(info["size"]), f"md5:{known}" if known else "", version)


def local_file(url: str, *, download: bool = True, wait: Wait = time.sleep) -> Path | None:
    """Return a copy in the cache of the file behind an address; None if there is none yet, and download is False."""
    name = Path(urlsplit(url).path).name or "file"
    target = mirror(url) / name
    if target.is_file() or not download:
        return target if target.is_file() else None
    store = Store(url, wait)
    found = store.one()
    with fetching(mirror(url)):
        if not target.is_file():
            make_room(found.size)
            store.fetch("", target, found.size, found.version)
    return target


# The cache: a folder for each address, removed when it is the one that was used the longest ago and room is needed.

USED, FETCHED = ".cocabench-used", ".cocabench-fetching"
_held: dict[Path, IO[bytes]] = {}


def size_limit() -> int:
    """Return how much the cache of data may hold, in bytes: $COCABENCH_DATA_GB, or 200 GB."""
    text = os.environ.get("COCABENCH_DATA_GB", str(LIMIT_GB))
    if not re.fullmatch(r"\d+(\.\d+)?", text) or float(text) <= 0:
        raise UsageError("COCABENCH_DATA_GB", f"got {text!r}", wanted="a number of gigabytes above 0")
    return int(float(text) * 1e9)


def hold(folder: Path) -> None:
    """Keep a folder of the cache until this process ends: another one must not remove what is being read."""
    if folder in _held or fcntl is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        file = (folder / USED).open("ab")
        fcntl.flock(file, fcntl.LOCK_SH)
        if (folder / USED).exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(folder / USED)):
            os.utime(folder / USED)
            _held[folder] = file
            return
        file.close()  # removed meanwhile
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def fetching(folder: Path) -> Iterator[None]:
    """Let one process fetch into a folder at a time; hold it."""
    hold(folder)
    if fcntl is None:
        yield
        return
    with (folder / FETCHED).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_room(needed: int) -> None:
    """Remove what was used the longest ago, as much as is needed; DataError where what is in use leaves no room."""
    top, limit = cache_folder() / "data", size_limit()
    marks = sorted(top.rglob(USED), key=lambda path: path.stat().st_mtime)
    sizes = {mark.parent: _size(mark.parent) for mark in marks}
    for folder in list(sizes):
        if sum(sizes.values()) + needed <= limit:
            return
        if folder not in _held and _removed(folder):
            del sizes[folder]
    if sum(sizes.values()) + needed > limit:
        got = f"{needed / 1e9:.1f} GB to fetch, beside {sum(sizes.values()) / 1e9:.1f} GB in use"
        fix = "set COCABENCH_DATA_GB higher, or evaluate fewer tasks at once"
        raise DataError(str(top), got, wanted=f"at most {limit / 1e9:.1f} GB", fix=fix)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _removed(folder: Path) -> bool:
    """Remove a folder that no process holds, nor one in it."""
    if fcntl is None or len(list(folder.rglob(USED))) > 1:
        return False
    with (folder / USED).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        shutil.rmtree(folder)
    return True
