import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests

from cocabench.captioneval import corenlp
from cocabench.core.errors import DataError, MetricUnavailableError, MissingDataError


def jar(text: str, *, date: tuple[int, ...] = (2015, 12, 9, 0, 0, 0)) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        packed.writestr(zipfile.ZipInfo("a/B.class", date), text)  # type: ignore[arg-type]
    return data.getvalue()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, empty_cache: Path) -> Path:
    """Stand in for the two jars with small ones; return a folder that holds them."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    expected = []
    for real in corenlp.JARS:
        (folder / real.name).write_bytes(jar(real.name))
        expected.append(real._replace(content=corenlp._content(folder / real.name)))
    monkeypatch.setattr(corenlp, "JARS", tuple(expected))
    return folder


class Site:
    """The Stanford site, breaking off after some bytes the first time."""

    def __init__(self, content: bytes, *, breaks_at: int) -> None:
        self.content, self.breaks_at, self.ranges = content, breaks_at, list[str]()

    def get(self, url: str, *, headers: dict[str, str], **_: Any) -> "Site":
        assert url == corenlp.SITE
        self.ranges.append(headers["Range"])
        self.start = int(headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.status_code = 206
        return self

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def raise_for_status(self) -> None:
        pass

    def iter_content(self, _size: int) -> Any:
        if self.start == 0:
            yield self.content[: self.breaks_at]
            raise requests.ConnectionError("the line is dead")
        yield self.content[self.start :]


def test_a_given_folder_is_copied_and_then_found(small: Path) -> None:
    assert corenlp.find() is None
    assert corenlp.setup(small) == corenlp.find() == corenlp.folder()
    assert [path.name for path in corenlp.jars()] == [real.name for real in corenlp.JARS]
    assert corenlp.setup() == corenlp.folder()


def test_the_same_content_packed_on_another_day_is_right(small: Path) -> None:
    name = corenlp.JARS[0].name
    (small / name).write_bytes(jar(name, date=(2016, 1, 1, 0, 0, 0)))
    assert corenlp.setup(small) == corenlp.find()


def test_a_wrong_jar_is_refused_and_leaves_nothing(small: Path) -> None:
    (small / corenlp.JARS[1].name).write_bytes(jar("something else"))
    with pytest.raises(DataError, match=r"models\.jar: SHA-256 .*wanted .*--corenlp"):
        corenlp.setup(small)
    assert corenlp.find() is None
    assert list(corenlp.folder().iterdir()) == []


def test_a_truncated_jar_is_refused(small: Path) -> None:
    path = small / corenlp.JARS[0].name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="SHA-256"):
        corenlp.setup(small)


def test_a_folder_without_them_is_named(small: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"no stanford-corenlp-3\.6\.0\.jar"):
        corenlp.setup(tmp_path)


def test_an_interrupted_download_resumes(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        for real in corenlp.JARS:
            packed.write(small / real.name, f"stanford-corenlp-full-2015-12-09/{real.name}")
    site = Site(data.getvalue(), breaks_at=100)
    monkeypatch.setattr(corenlp.shutil, "which", lambda _: None)
    monkeypatch.setattr(requests, "get", site.get)
    with pytest.raises(MetricUnavailableError, match="the line is dead"):
        corenlp.setup()
    assert corenlp.setup() == corenlp.find()
    assert site.ranges == ["bytes=0-", "bytes=100-"]
    assert {path.name for path in corenlp.folder().iterdir()} == {real.name for real in corenlp.JARS}


def test_maven_that_fails_is_quoted(small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mvn").write_text("#!/bin/sh\necho '[ERROR] no such host'\nexit 1\n")
    (tmp_path / "mvn").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(MetricUnavailableError, match=r"mvn: could not download .*\[ERROR\] no such host"):
        corenlp.setup()
