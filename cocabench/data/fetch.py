"""Data sets from the Hugging Face Hub: fetched into --data-root, verified, and checked later.

A fetched folder holds MANIFEST, which says the repository, the commit and the files with their sizes and hashes. It is
written first, so that an interrupted fetch is known as one and resumes.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from cocabench.core.errors import DataError, MissingDataError
from cocabench.core.files import expanded, read_text
from cocabench.core.types import Progress, silent
from cocabench.data.base import LocalLoader, Repository
from cocabench.data.files import some
from cocabench.data.inputs import note_file

MANIFEST = ".cocabench-hub.json"
TRIES, TRIES_OF_A_FILE = 6, 3
"""Before a broken connection or a busy server is an error; waits double from one second. Of files the client library
resumes five times itself, each."""

SPARE_BYTES = 64 << 20
"""Disk space that stays free."""


class File(BaseModel):
    """hash: sha256:… of large files, git:… (of the blob) of small ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    hash: str


class Manifest(BaseModel):
    """What was fetched, or is being fetched. revision: the commit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    revision: str
    files: dict[str, File]


def repository_of(loader: object) -> Repository | None:
    """Return the repository that holds a loader's data; None if none is known."""
    if not isinstance(loader, LocalLoader):
        return None
    return loader.repository()


def ensure(loader: object, root: Path, progress: Progress = silent) -> None:
    """Fetch a loader's data if they are not there, or if a fetch was interrupted. Other copies are left alone."""
    repository = repository_of(loader)
    if repository is None or not isinstance(loader, LocalLoader) or loader.downloads:
        return
    folder = expanded(root) / repository.folder
    kept = manifest(folder)
    if kept is None and (folder.exists() or loader.there(root)):
        return
    if kept is None or any(_differing(folder, kept)):
        fetch(repository, root, progress)


def revision(loader: object, root: Path) -> str:
    """Return the commit of a loader's fetched data, '' of other copies; DataError where the task wants another."""
    repository = repository_of(loader)
    if repository is None:
        return ""
    folder = expanded(root) / repository.folder
    if (kept := manifest(folder)) is None:
        return ""
    if kept.repository != repository.name or (_commit(repository.revision) and repository.revision != kept.revision):
        wanted = f"{repository.name}@{repository.revision}".rstrip("@")
        fix = "move the folder away, or choose another --data-root"
        raise DataError(str(folder), f"files of {kept.repository}@{kept.revision[:12]}", wanted=wanted, fix=fix)
    if broken := list(_differing(folder, kept)):
        fix = "fetch it: cocabench data fetch TASK"
        raise MissingDataError(str(folder), f"an unfinished download; {some(broken)}", fix=fix)
    return kept.revision


def manifest(folder: Path) -> Manifest | None:
    """Return what a folder was fetched from; None if it was not."""
    if not note_file(path := folder / MANIFEST).is_file():
        return None
    try:
        return Manifest.model_validate_json(read_text(path))
    except (ValidationError, OSError, UnicodeDecodeError):
        raise DataError(str(path), "damaged", fix="remove it and fetch the data again") from None


class State(NamedTuple):
    """What of a task's data is there. complete: None where nothing was fetched, so that nobody knows."""

    complete: bool | None
    text: str


def check(repository: Repository, root: Path, *, hashes: bool = False) -> State:
    """Return whether a repository's files are there and whole. hashes: read all of them, too."""
    folder = expanded(root) / repository.folder
    kept = manifest(folder)
    if kept is None:
        return State(None, f"{folder}: not fetched from {repository.name}")
    broken = list(_differing(folder, kept, hashes=hashes))
    size = sum(file.size for file in kept.files.values()) / 1e6
    whole = f"{len(kept.files) - len(broken)} of {len(kept.files)} files" if broken else f"{len(kept.files)} files"
    said = f"{folder}: {kept.repository}@{kept.revision[:12]}, {whole}, {size:,.1f} MB"
    other = _commit(repository.revision) and repository.revision != kept.revision
    lacking = f"; {some(broken)}" if broken else f"; the task wants {repository.revision[:12]}" if other else ""
    return State(not broken and not other, said + lacking)


def fetch(
    repository: Repository,
    root: Path,
    progress: Progress = silent,
    *,
    wait: Callable[[float], None] = time.sleep,
) -> Manifest:
    """Fetch what is missing of a repository, verified; an interrupted download resumes.

    DataError for an unknown repository or revision, too little disk space, other content than the hub promises, a
    folder that holds another revision, or a connection that does not come back. progress counts bytes.
    """
    folder = expanded(root) / repository.folder
    wanted = _listed(repository, wait)
    kept = manifest(folder)
    if kept is not None and kept.revision != wanted.revision and repository.revision == "":
        return fetch(repository._replace(revision=kept.revision), root, progress, wait=wait)  # stay at what is there
    if kept is not None and (kept.repository, kept.revision) != (wanted.repository, wanted.revision):
        got = f"files of {kept.repository}@{kept.revision[:12]}"
        fix = "move the folder away, or choose another --data-root"
        raise DataError(str(folder), got, wanted=f"{wanted.repository}@{wanted.revision[:12]}", fix=fix)
    missing = {name: file for name, file in wanted.files.items() if not _whole(folder / name, file)}
    _check_space(folder, sum(file.size for file in missing.values()))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_text(wanted.model_dump_json(indent=1), encoding="utf-8")
    total = sum(file.size for file in wanted.files.values())
    done = total - sum(file.size for file in missing.values())
    for name, file in missing.items():
        progress("download", done, total)
        _download(repository.name, wanted.revision, name, folder, wait)
        if said := _wrong(folder / name, file, hashes=True):
            (folder / name).unlink(missing_ok=True)
            fix = "fetch it again; if this repeats, a proxy changes the download"
            raise DataError(f"{repository.name}: {name}", said, wanted=file.hash, fix=fix)
        done += file.size
    progress("download", done, total)
    return wanted


def _commit(revision: str) -> bool:
    return len(revision) == 40 and all(c in "0123456789abcdef" for c in revision)


def _listed(repository: Repository, wait: Callable[[float], None]) -> Manifest:
    """Return the commit and the files of a repository by the hub."""
    from huggingface_hub import HfApi

    def ask() -> Any:
        chosen = repository.revision or "main"
        return HfApi().dataset_info(repository.name, revision=chosen, files_metadata=True)

    info = _insistently(ask, f"{repository.name}@{repository.revision or 'main'}", wait)
    files = {
        one.rfilename: File(
            size=one.size or 0, hash=f"sha256:{one.lfs.sha256}" if one.lfs else f"git:{one.blob_id or ''}"
        )
        for one in info.siblings or ()
        if any(fnmatch(one.rfilename, pattern) for pattern in repository.patterns)
        and not one.rfilename.startswith((".", "README"))
    }
    if not files:
        got = f"no file that fits {some(repository.patterns)}"
        raise DataError(f"{repository.name}@{info.sha[:12]}", got, fix="check data.hub, data.split")
    if bad := [name for name in files if name.startswith("/") or ".." in Path(name).parts]:
        raise DataError(repository.name, f"a file named {bad[0]!r}", wanted="names below the repository")
    return Manifest(repository=repository.name, revision=str(info.sha), files=files)


def _download(name: str, revision: str, file: str, folder: Path, wait: Callable[[float], None]) -> None:
    from huggingface_hub import hf_hub_download

    bar: Any = import_module("huggingface_hub.utils").tqdm

    def silently(self: Any, *args: Any, **more: Any) -> None:
        bar.__init__(self, *args, **{**more, "disable": True})

    silent = type("Silent", (bar,), {"__init__": silently})  # one bar counts all files

    def load() -> Any:
        return hf_hub_download(name, file, repo_type="dataset", revision=revision, local_dir=folder, tqdm_class=silent)

    _insistently(load, f"{name}: {file}", wait, TRIES_OF_A_FILE)


def _insistently(act: Callable[[], Any], where: str, wait: Callable[[float], None], tries: int = TRIES) -> Any:
    """Return what act returns; wait and try again where the connection broke or the server was busy (429, 5xx)."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    said = ""
    for attempt in range(tries):
        try:
            return act()
        except GatedRepoError:
            fix = "accept its terms on its page, and log in: hf auth login"
            raise DataError(where, "its owner must grant access", fix=fix) from None
        except RevisionNotFoundError:
            raise DataError(where, "no such revision", fix="check data.hub") from None
        except RepositoryNotFoundError:
            raise DataError(where, "no such data set on the hub, or a private one", fix="check data.hub") from None
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status not in (0, 408, 429) and status < 500:
                raise DataError(where, f"the hub answered {status}", fix="check data.hub") from None
            said = f"the hub answered {status}"
        except OSError as error:
            if not _of_connection(error):
                raise DataError(where, f"cannot be written ({error})", fix="check --data-root") from None
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
        except Exception as error:
            if not _of_connection(error):
                raise
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
        if attempt + 1 < tries:
            wait(2.0**attempt)
    raise DataError(where, f"{tries} tries failed; the last: {said}", fix="run it again: what is there is kept")


def _of_connection(error: BaseException) -> bool:
    """Return whether an error is one of the network: of the client library's transport, or of a short read."""
    names = {kind.__name__ for kind in type(error).__mro__}
    network = {"TransportError", "HTTPError", "ConnectionError", "TimeoutError", "RemoteProtocolError"}
    return bool(names & network) or "onsistency check failed" in str(error) or "cannot find the" in str(error).lower()


def _check_space(folder: Path, needed: int) -> None:
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if needed and needed + SPARE_BYTES > free:
        got = f"{free / 1e9:.1f} GB free"
        wanted = f"{(needed + SPARE_BYTES) / 1e9:.1f} GB"
        raise DataError(str(place), got, wanted=wanted, fix="choose another --data-root")


def _differing(folder: Path, kept: Manifest, *, hashes: bool = False) -> Iterator[str]:
    """Yield what is wrong with each file that is not as the manifest says."""
    for name, file in kept.files.items():
        if said := _wrong(note_file(folder / name), file, hashes=hashes):
            yield f"{name}: {said}"


def _whole(path: Path, file: File) -> bool:
    return not _wrong(path, file, hashes=False)


def _wrong(path: Path, file: File, *, hashes: bool) -> str:
    """Return what is wrong with a file, '' if nothing is."""
    if not path.is_file():
        return "missing"
    if (size := path.stat().st_size) != file.size:
        return f"{size:,} of {file.size:,} bytes"
    if not hashes:
        return ""
    kind, _, digest = file.hash.partition(":")
    with path.open("rb") as content:
        sha = hashlib.sha256() if kind == "sha256" else hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        while piece := content.read(1 << 20):
            sha.update(piece)
    return "" if sha.hexdigest() == digest else f"{kind} {sha.hexdigest()[:12]}, not {digest[:12]}"
