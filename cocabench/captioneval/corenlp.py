"""Stanford CoreNLP 3.6.0, which SPICE 1.0 needs and cocabench cannot ship: two jars, 370 MB, in the cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from cocabench.core.cache import cache_folder
from cocabench.core.errors import DataError, MetricUnavailableError, MissingDataError
from cocabench.core.temporary import temporary_folder

SITE = "https://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip"
COORDINATES = "edu.stanford.nlp:stanford-corenlp:3.6.0:jar"
REMEDY = "run `cocabench setup spice`, or `cocabench setup spice --corenlp DIR` if you have the jars"
DOWNLOAD_REMEDY = "try again, or download both jars yourself and pass their folder with --corenlp"
TIMEOUT_S = 60
MAVEN_TIMEOUT_S = 3600
BLOCK = 1 << 20


class Jar(NamedTuple):
    """A jar, its Maven coordinates, the SHA-256 of the file that Maven serves, and of its content (``_content``)."""

    name: str
    coordinates: str
    sha256: str
    content: str


JARS = (
    Jar(
        "stanford-corenlp-3.6.0.jar",
        COORDINATES,
        "d341d5863276f55782c5ef73212222d6b3b48e02ae1951ab6de7618d28b12742",
        "bb94b6e200dd92976bd13d69735cc1d409f50ff19b5055ba99e58611861719a0",
    ),
    Jar(
        "stanford-corenlp-3.6.0-models.jar",
        f"{COORDINATES}:models",
        "d285157bd7887ee3018094b5dbae092e49088b023361ccdb550ee1daf9b2c9bd",
        "2f8a0583ec36768533031fdad2bf97e2485950289ba2f261ecd04c763e0431a1",
    ),
)


def folder() -> Path:
    return cache_folder() / "corenlp-3.6.0"


def find() -> Path | None:
    """Return the folder with the jars, or None. ``setup`` verified them; one that was cut off since does not count."""
    return folder() if all(zipfile.is_zipfile(folder() / jar.name) for jar in JARS) else None


def jars() -> list[Path]:
    """Return both jars' paths."""
    if (found := find()) is None:
        raise MetricUnavailableError("SPICE", "Stanford CoreNLP 3.6.0 is not installed", fix=REMEDY)
    return [found / jar.name for jar in JARS]


def setup(corenlp: Path | None = None) -> Path:
    """Install the jars in the cache folder, unless they are there already, and return that folder.

    They come from the folder corenlp if given, else through Maven if installed, else from the Stanford site.
    """
    if corenlp is None and find() is not None and not any(map(_damaged, JARS)):
        return folder()
    folder().mkdir(parents=True, exist_ok=True)
    with temporary_folder("unfinished.", folder()) as unfinished:
        if corenlp is not None:
            _from_folder(corenlp, unfinished)
        elif shutil.which("mvn") is None:
            _from_site(unfinished)
        else:
            _from_maven(unfinished)
        for jar in JARS:
            _verify(unfinished / jar.name, jar)
        for jar in JARS:
            os.replace(unfinished / jar.name, folder() / jar.name)
    return folder()


def _from_folder(source: Path, target: Path) -> None:
    for jar in JARS:
        if not (source / jar.name).is_file():
            raise MissingDataError(str(source), f"no {jar.name}", wanted="the jars of CoreNLP 3.6.0 in this folder")
        shutil.copyfile(source / jar.name, target / jar.name)


def _from_maven(target: Path) -> None:
    for jar in JARS:
        order = ["mvn", "-B", "-q", "dependency:copy", f"-Dartifact={jar.coordinates}", f"-DoutputDirectory={target}"]
        try:
            subprocess.run(order, cwd=target, capture_output=True, text=True, timeout=MAVEN_TIMEOUT_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stdout", None) or str(error)).strip().splitlines()[0]
            raise MetricUnavailableError(
                "mvn", f"could not download {jar.coordinates}: {said}", fix=DOWNLOAD_REMEDY
            ) from None


def _from_site(target: Path) -> None:
    archive = _download(folder() / "corenlp.zip.part")
    try:
        with zipfile.ZipFile(archive) as packed:
            members = {Path(name).name: name for name in packed.namelist()}
            for jar in JARS:
                with packed.open(members[jar.name]) as source, open(target / jar.name, "wb") as out:
                    shutil.copyfileobj(source, out, BLOCK)
    except (zipfile.BadZipFile, KeyError) as error:
        raise MetricUnavailableError(SITE, f"not the archive of CoreNLP 3.6.0 ({error})", fix=DOWNLOAD_REMEDY) from None
    finally:
        archive.unlink()


def _download(part: Path) -> Path:
    """Download the archive; resume an earlier attempt."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    try:
        with requests.get(SITE, headers={"Range": f"bytes={have}-"}, stream=True, timeout=TIMEOUT_S) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                return part
            answer.raise_for_status()
            with open(part, "ab" if answer.status_code == requests.codes.partial_content else "wb") as out:
                for block in answer.iter_content(BLOCK):
                    out.write(block)
    except requests.RequestException as error:
        raise MetricUnavailableError(SITE, f"{type(error).__name__}: {error}", fix=DOWNLOAD_REMEDY) from None
    return part


def _damaged(jar: Jar) -> bool:
    """Tell whether an installed jar is other than the published one."""
    try:
        _verify(folder() / jar.name, jar)
    except DataError:
        return True
    return False


def _verify(path: Path, jar: Jar) -> None:
    """Raise DataError unless the file is the published jar or has the same content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != jar.sha256 and _content(path) != jar.content:
        raise DataError(jar.name, f"SHA-256 {digest.hexdigest()}", wanted=jar.sha256, fix=DOWNLOAD_REMEDY)


def _content(path: Path) -> str:
    """Return a hash of the names and contents in a jar, independent of how it was packed; "" if it is damaged."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(path) as packed:
            if packed.testzip() is not None:
                return ""
            for entry in sorted(packed.infolist(), key=lambda entry: entry.filename):
                if not entry.is_dir() and not entry.filename.startswith("META-INF/"):
                    digest.update(f"{entry.filename} {entry.file_size} {entry.CRC}\n".encode())
    except (zipfile.BadZipFile, OSError, zlib.error):
        return ""
    return digest.hexdigest()
