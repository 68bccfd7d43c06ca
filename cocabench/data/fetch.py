"""Data sets from the Hugging Face Hub, and behind other addresses: fetched, verified, and checked later.

A fetched folder holds MANIFEST, which says the repository, the commit and the files with their sizes and hashes. It is
written first, so that an interrupted fetch is known as one and resumes.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from cocabench.core.errors import DataError, MissingDataError, first_line
from cocabench.core.files import expanded, read_text
from cocabench.core.types import Progress, silent
from cocabench.data.base import LocalLoader, Repository
from cocabench.data.files import some
from cocabench.data.inputs import note_file
from cocabench.data.remote import (
    Store,
    fetching,
    hold,
    hub_parts,
    insistently,
    make_room,
    mirror,
    of_connection,
    shown,
    url_of,
)

MANIFEST = ".cocabench-hub.json"
FETCHED_BELOW = ".cache/below"
"""Where the client library puts files of a folder of a repository, with their whole path."""

TRIES, TRIES_OF_A_FILE = 6, 3
"""Before a broken connection or a busy server is an error; waits double from one second. Of files the client library
resumes five times itself, each."""

SPARE_BYTES = 64 << 20
"""Disk space that stays free."""


class File(BaseModel):
    """hash: sha256:… of large files, git:… (of the blob) of small ones, md5:…, or '' where none is known.

    version: what else changes with the content, of files behind an address.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    hash: str
    version: str = ""


class Manifest(BaseModel):
    """What was fetched, or is being fetched. repository: its name, or an address. revision: the commit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str
    revision: str
    files: dict[str, File]

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision[:12]}".rstrip("@")


def root_of(root: Path) -> Path:
    """Return the folder in which loaders read: of an address, the one of the cache that keeps what was fetched."""
    url = url_of(root)
    return mirror(url) if url else expanded(root).resolve()


def repository_of(loader: object, root: Path | None = None) -> Repository | None:
    """Return the repository that holds a loader's data; None if none is known.

    root: the data root; if it is an address, the data are behind it.
    """
    if not isinstance(loader, LocalLoader):
        return None
    if root is None or not url_of(root):
        return loader.repository()
    found = _behind(loader, url_of(root))
    return next((one for one in found if manifest(root_of(root) / one.folder)), found[0])


def _behind(loader: LocalLoader, url: str) -> list[Repository]:
    """Return where a loader's data may be behind an address, the likeliest first.

    {dataset} and {dataset_cleaned} in the address stand for CLIP_benchmark's name of the webdataset, as for its
    --dataset_root: vtab/pets, and vtab-pets.
    """
    folders, patterns = loader.served()
    split = str(getattr(loader, "exported_split", None) or getattr(loader, "split", ""))
    if "{" in url:
        name = getattr(loader, "wds", "") or Path(loader.path).name.removeprefix("wds_")
        places = {folders[0]: url.replace("{dataset}", name).replace("{dataset_cleaned}", name.replace("/", "-"))}
    else:
        places = {folder: f"{url.rstrip('/')}/{folder}".removesuffix("/.") for folder in dict.fromkeys(folders)}
    found = []
    for folder, place in places.items():
        if parts := hub_parts(place):
            found.append(Repository(parts[0], parts[1], folder, patterns, parts[2], split))
        else:
            found.append(Repository(place, "", folder, patterns, split=split))
    return found


def ensure(loader: object, root: Path, progress: Progress = silent, *, anew: bool = False) -> None:
    """Fetch a loader's data if they are not there, or if a fetch was interrupted. Other copies are left alone.

    Behind an address they are looked for in each folder that they may have; DataError if none has them. anew: ask there
    again whether what was fetched is still the same.
    """
    if not isinstance(loader, LocalLoader):
        return
    if url := url_of(root):
        _ensure_behind(loader, root, _behind(loader, url), progress, anew=anew)
        return
    repository = loader.repository()
    if repository is None or loader.downloads:
        return
    folder = expanded(root) / repository.folder
    kept = manifest(folder)
    if kept is None and (folder.exists() or loader.there(root)):
        return
    if kept is None or any(_differing(folder, kept)):
        fetch(repository, root, progress)


def _ensure_behind(
    loader: LocalLoader, root: Path, places: Sequence[Repository], progress: Progress, *, anew: bool
) -> None:
    for place in places:
        folder = root_of(root) / place.folder
        if not anew and (kept := manifest(folder)) and not any(_differing(folder, kept)):
            hold(folder)
            return
    for place in places:
        try:
            fetch(place, root, progress)
            return
        except MissingDataError:
            if place is places[-1]:
                names = some(f"{one.name}/{one.below}".rstrip("/") for one in places)
                got = f"no data of {loader.name} there (looked for {names})"
                fix = f"check the address; {loader.source}" if loader.source else "check the address"
                raise MissingDataError(shown(url_of(root)), got, fix=fix) from None


def revision(loader: object, root: Path) -> str:
    """Return the commit of a loader's fetched data, '' of other copies; DataError where the task wants another."""
    repository = repository_of(loader, root)
    if repository is None:
        return ""
    folder = root_of(root) / repository.folder
    if (kept := manifest(folder)) is None:
        return ""
    if kept.repository != repository.name or (_commit(repository.revision) and repository.revision != kept.revision):
        wanted = f"{repository.name}@{repository.revision}".rstrip("@")
        fix = "move the folder away, or choose another --data-root"
        raise DataError(str(folder), f"files of {kept}", wanted=wanted, fix=fix)
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
    folder = root_of(root) / repository.folder
    kept = manifest(folder)
    if kept is None:
        return State(None, f"{folder}: not fetched from {shown(repository.name)}")
    broken = list(_differing(folder, kept, hashes=hashes))
    size = sum(file.size for file in kept.files.values()) / 1e6
    whole = f"{len(kept.files) - len(broken)} of {len(kept.files)} files" if broken else f"{len(kept.files)} files"
    said = f"{folder}: {kept}, {whole}, {size:,.1f} MB"
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
    folder that holds another revision, or a connection that does not come back; MissingDataError if it has none of the
    files. progress counts bytes.
    """
    folder = root_of(root) / repository.folder
    store = Store(repository.name, wait) if url_of(repository.name) else None
    wanted = _listed(repository, wait) if store is None else _listed_behind(repository, store)
    kept = manifest(folder)
    if kept is not None and kept.revision != wanted.revision and repository.revision == "":
        return fetch(repository._replace(revision=kept.revision), root, progress, wait=wait)  # stay at what is there
    if kept is not None and (kept.repository, kept.revision) != (wanted.repository, wanted.revision):
        fix = "move the folder away, or choose another --data-root"
        raise DataError(str(folder), f"files of {kept}", wanted=str(wanted), fix=fix)
    with fetching(folder) if url_of(root) else nullcontext():
        before = (manifest(folder) or wanted).files
        names = wanted.files.items()
        missing = {name: file for name, file in names if file != before.get(name) or not _whole(folder / name, file)}
        needed = sum(file.size for file in missing.values())
        if url_of(root):
            make_room(needed)
        _check_space(folder, needed)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).write_text(wanted.model_dump_json(indent=1), encoding="utf-8")
        done = total = sum(file.size for file in wanted.files.values())
        done -= needed
        for name, file in missing.items():
            progress("download", done, total)
            if store is None:
                _download(repository, wanted.revision, name, folder, wait)
            else:
                store.fetch(name, folder / name, file.size, file.version)
            if said := _wrong(folder / name, file, hashes=True):
                (folder / name).unlink(missing_ok=True)
                fix = "fetch it again; if this repeats, a proxy changes the download"
                raise DataError(f"{shown(repository.name)}: {name}", said, wanted=file.hash, fix=fix)
            done += file.size
        progress("download", done, total)
    return wanted


def _wanted(names: Iterable[str], repository: Repository) -> list[str]:
    """Return the names that a pattern fits; one without a / is for the top."""
    fits = [name for name in names if any(_fits(name, pattern) for pattern in repository.patterns)]
    if bad := [name for name in fits if name.startswith("/") or ".." in Path(name).parts]:
        raise DataError(shown(repository.name), f"a file named {bad[0]!r}", wanted="names below the repository")
    return [name for name in fits if not name.startswith((".", "README"))]


def _fits(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern) and ("/" in pattern or "/" not in name)


def _commit(revision: str) -> bool:
    return len(revision) == 40 and all(c in "0123456789abcdef" for c in revision)


def _listed(repository: Repository, wait: Callable[[float], None]) -> Manifest:
    """Return the commit and the files of a repository by the hub."""
    from huggingface_hub import HfApi

    def ask() -> Any:
        chosen = repository.revision or "main"
        found = HfApi().dataset_info(repository.name, revision=chosen, files_metadata=True)
        if not isinstance(found.sha, str) or not all(isinstance(one.rfilename, str) for one in found.siblings or ()):
            raise TypeError("no commit, or files without names")
        return found

    info = _insistently(ask, f"{repository.name}@{repository.revision or 'main'}", wait)
    top = f"{repository.below}/" if repository.below else ""
    below = {one.rfilename.removeprefix(top): one for one in info.siblings or () if one.rfilename.startswith(top)}
    files = {
        name: File(size=one.size or 0, hash=f"sha256:{one.lfs.sha256}" if one.lfs else f"git:{one.blob_id or ''}")
        for name, one in below.items()
        if name in _wanted([name], repository)
    }
    if not files:
        got = f"no file that fits {some(repository.patterns)}" + (f" in {repository.below}" if top else "")
        raise MissingDataError(f"{repository.name}@{info.sha[:12]}", got, fix="check data.hub, data.split")
    return Manifest(repository=repository.name, revision=str(info.sha), files=files)


def _listed_behind(repository: Repository, store: Store) -> Manifest:
    """Return the files behind an address."""
    found = store.listed(repository.split)
    files = {name: File(**found[name]._asdict()) for name in _wanted(found, repository)}
    if not files:
        raise MissingDataError(shown(repository.name), "nothing there, or nothing that can be listed")
    return Manifest(repository=shown(repository.name), revision="", files=files)


def _download(repository: Repository, revision: str, file: str, folder: Path, wait: Callable[[float], None]) -> None:
    """Let the client library fetch a file, which it puts at its path in the repository below a folder."""
    from huggingface_hub import hf_hub_download

    bars: Any = import_module("huggingface_hub.utils")
    name = f"{repository.below}/{file}".lstrip("/")
    place = folder / FETCHED_BELOW if repository.below else folder

    def load() -> Any:
        quiet = bars.are_progress_bars_disabled()
        bars.disable_progress_bars()  # one bar counts all files
        try:
            return hf_hub_download(repository.name, name, repo_type="dataset", revision=revision, local_dir=place)
        finally:
            if not quiet:
                bars.enable_progress_bars()

    found = Path(_insistently(load, f"{repository.name}: {name}", wait, TRIES_OF_A_FILE))
    if repository.below:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        found.replace(folder / file)


def _insistently(act: Callable[[], Any], where: str, wait: Callable[[float], None], tries: int = TRIES) -> Any:
    """Return what act returns; wait and try again where the connection broke or the hub was busy (429, 5xx)."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    def why(error: Exception) -> str:
        match error:
            case GatedRepoError():
                fix = "accept its terms on its page, and log in: hf auth login"
                raise DataError(where, "its owner must grant access", fix=fix) from None
            case RevisionNotFoundError():
                raise DataError(where, "no such revision", fix="check data.hub") from None
            case RepositoryNotFoundError():
                got = "no such data set on the hub, or a private one"
                raise DataError(where, got, fix="check data.hub") from None
            case HfHubHTTPError():
                status = error.response.status_code if error.response is not None else 0
                if status not in (0, 408, 429) and status < 500:
                    raise DataError(where, f"the hub answered {status}", fix="check data.hub") from None
                return f"the hub answered {status}"
        if of_connection(error):
            return first_line(error)
        if isinstance(error, OSError):
            raise DataError(where, f"cannot be written ({first_line(error)})", fix="check --data-root") from None
        if isinstance(error, (KeyError, TypeError, ValueError, AttributeError, RecursionError)):
            raise DataError(where, f"the hub's answer is not understood ({first_line(error)})") from None
        return ""

    return insistently(act, where, wait, tries, why)


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
    kind, _, digest = file.hash.partition(":")
    if not hashes or not digest:
        return ""
    with path.open("rb") as content:
        sha = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
        if kind == "git":
            sha.update(f"blob {size}\0".encode())
        while piece := content.read(1 << 20):
            sha.update(piece)
    return "" if sha.hexdigest() == digest else f"{kind} {sha.hexdigest()[:12]}, not {digest[:12]}"
