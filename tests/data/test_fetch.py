"""Downloads from a server in the hub's HTTP layout: drops, busy servers, wrong content, other revisions, full disks."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import file_download

from cocabench.core.errors import DataError, MissingDataError
from cocabench.data import fetch
from cocabench.data.base import Repository
from cocabench.data.fetch import MANIFEST, check, ensure, revision
from cocabench.data.webdataset import WebDataset
from cocabench.run.prepare import Settings, prepare
from cocabench.specs.registry import all_tasks, read_tasks
from tests.conftest import Command
from tests.data.drawing import encoded, write, write_tar
from tests.data.hub_server import COMMIT, Hub, served


@pytest.fixture
def content(tmp_path: Path) -> dict[str, bytes]:
    """Two shards, one of them of a megabyte, with class names."""
    top = tmp_path / "origin"
    write_tar(top / "0.tar", {"s0.png": encoded("red"), "s0.cls": "0", "s0.pad": "x" * 1_000_000})
    write_tar(top / "1.tar", {"s1.png": encoded("blue"), "s1.cls": "1"})
    shards = {f"test/{k}.tar": (top / f"{k}.tar").read_bytes() for k in (0, 1)}
    return {**shards, "test/nshards.txt": b"2\n", "classnames.txt": b"a\nb\n", "train/0.tar": b"not asked for"}


@pytest.fixture
def hub(content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with served(Hub(content)) as running:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
        monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
        yield running


REPOSITORY = Repository("org/data", "", "set", ("test/*", "*.txt"))
LOADER = WebDataset(path="set", hub="org/data")
waits: list[float] = []


def fetched(root: Path, repository: Repository = REPOSITORY) -> fetch.Manifest:
    waits.clear()
    return fetch.fetch(repository, root, wait=waits.append)


def test_files_of_the_split_arrive_whole_and_of_a_known_commit(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    fetch.fetch(REPOSITORY, tmp_path, lambda stage, done, total: seen.append((done, total)))
    files = {name: (tmp_path / "set" / name).read_bytes() for name in hub.files if "train" not in name}
    assert files == {name: content for name, content in hub.files.items() if "train" not in name}
    assert not (tmp_path / "set/train").exists()
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1] == sum(map(len, files.values()))
    assert revision(LOADER, tmp_path) == COMMIT
    assert [e.label for e in LOADER.build(tmp_path).examples] == [0, 1]
    assert check(REPOSITORY, tmp_path, hashes=True).complete


def test_nothing_is_fetched_twice(hub: Hub, tmp_path: Path) -> None:
    fetched(tmp_path)
    hub.asked.clear()
    fetched(tmp_path)
    assert not hub.asked


def test_a_connection_that_breaks_in_the_middle_resumes_there(hub: Hub, tmp_path: Path) -> None:
    hub.drops = Counter({"test/0.tar": 3})
    fetched(tmp_path)
    assert check(REPOSITORY, tmp_path, hashes=True).complete
    assert len(hub.ranges) == 3
    starts = [int(one.rpartition(":")[2]) for one in hub.ranges]
    assert starts == sorted(starts)
    assert starts[0] > 0


def test_an_interrupted_fetch_is_known_as_one_and_resumes(hub: Hub, tmp_path: Path) -> None:
    hub.drops = Counter({"test/1.tar": 10_000})
    with pytest.raises(DataError, match=r"org/data: test/1\.tar: 3 tries failed; .*run it again"):
        fetched(tmp_path)
    assert waits == [1, 2]
    assert check(REPOSITORY, tmp_path).complete is False
    with pytest.raises(MissingDataError, match=r"an unfinished download; .*test/1\.tar: missing.*; fetch it"):
        revision(LOADER, tmp_path)
    hub.drops.clear()
    hub.asked.clear()
    ensure(LOADER.model_copy(update={"hub": "org/data"}), tmp_path)
    assert "test/0.tar" not in hub.asked
    assert check(REPOSITORY, tmp_path, hashes=True).complete


def test_a_busy_server_is_waited_for(hub: Hub, tmp_path: Path) -> None:
    hub.busy = 3
    fetched(tmp_path)
    assert check(REPOSITORY, tmp_path).complete


def test_a_listing_with_a_name_outside_of_the_repository_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files["test/../../../x.tar"] = b"x"
    with pytest.raises(DataError, match=r"a file named 'test/\.\./\.\./\.\./x\.tar'; wanted names below"):
        fetched(tmp_path / "a")
    assert not list(tmp_path.rglob("x.tar"))


@pytest.mark.parametrize(
    "listed", [b"{}", b"[]", b'{"id": "org/data", "siblings": [{"rfilename": "1", "lfs": {}}]}', b'{"id": "org/data"}']
)
def test_a_listing_that_is_not_understood_is_one_line(listed: bytes, hub: Hub, tmp_path: Path) -> None:
    hub.listed = listed
    with pytest.raises(DataError, match=r"^org/data@main: the hub's answer is not understood \(.+\)$"):
        fetched(tmp_path)


def test_other_content_than_promised_is_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    hub.lies = frozenset({"test/1.tar"})
    with pytest.raises(DataError, match=r"org/data: test/1\.tar: .*wanted sha256:|consistency"):
        fetched(tmp_path)
    assert not (tmp_path / "set/test/1.tar").exists()
    hub.lies = frozenset()
    fetched(tmp_path)
    assert check(REPOSITORY, tmp_path, hashes=True).complete


@pytest.mark.parametrize(
    ("repository", "said"),
    [
        (Repository("org/none", "", "set"), "org/none@main: no such data set on the hub"),
        (Repository("org/data", "f" * 40, "set"), "no such revision; check data.hub"),
        (Repository("org/data", "", "set", ("val/*",)), r"no file that fits val/\*; check data.hub, data.split"),
    ],
)
def test_what_is_not_there_is_one_line(repository: Repository, said: str, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as error:
        fetched(tmp_path, repository)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


def test_too_little_disk_space_is_an_error_before_anything_is_written(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 500_000})())
    with pytest.raises(DataError, match=r"0\.0 GB free; wanted 0\.1 GB; choose another --data-root"):
        fetched(tmp_path)
    assert not (tmp_path / "set").exists()


def test_a_folder_of_another_revision_is_refused_and_an_own_copy_is_left_alone(hub: Hub, tmp_path: Path) -> None:
    fetched(tmp_path)
    pinned = WebDataset(path="set", hub=f"org/data@{'e' * 40}")
    with pytest.raises(DataError, match=f"files of org/data@0123456789ab; wanted org/data@{'e' * 40}; move the folder"):
        revision(pinned, tmp_path)
    hub.commit = "e" * 40
    with pytest.raises(DataError, match="files of org/data@0123456789ab; wanted org/data@eeeeeeeeeeee"):
        fetched(tmp_path, Repository("org/data", "e" * 40, "set"))
    write(tmp_path / "mine/test/0.tar", "")
    own = WebDataset(path="mine", hub="org/data")
    hub.asked.clear()
    ensure(own, tmp_path)
    assert not hub.asked
    assert revision(own, tmp_path) == ""


def test_the_commit_is_part_of_the_protocol(hub: Hub, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\nversion = 1\nevaluator = "classification"\nsummary = "x"\nprimary = "acc1"\n'
        '[data]\nloader = "webdataset"\npath = "set"\nhub = "org/data"\n'
    )
    (task,) = read_tasks(file)
    data = prepare(task, Settings(data_root=tmp_path, download=True))
    assert data.protocol["revision"] == COMMIT
    (tmp_path / "set" / MANIFEST).unlink()
    assert "revision" not in prepare(task, Settings(data_root=tmp_path)).protocol


def test_a_damaged_manifest_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "set" / MANIFEST, "{")
    with pytest.raises(DataError, match=r"\.cocabench-hub\.json: damaged; remove it and fetch the data again"):
        revision(LOADER, tmp_path)


def test_wds_tasks_know_their_repositories() -> None:
    tasks = all_tasks()
    names = ("vtab/dmlab", "imagenet1k", "wilds/fmow", "winoground")
    found = {name: fetch.repository_of(tasks[name].loader) for name in names}
    assert found["vtab/dmlab"] == Repository("clip-benchmark/wds_vtab-dmlab", "", "wds_vtab-dmlab", ("test/*", "*.txt"))
    assert found["imagenet1k"] is not None
    assert found["imagenet1k"].name == "clip-benchmark/wds_imagenet1k"
    assert found["wilds/fmow"] == Repository("djghosh/wds_wilds-fmow_test", "", "wds_wilds-fmow_test")
    assert found["winoground"] is None


def test_the_commands_fetch_and_check(hub: Hub, tmp_path: Path, command: Command) -> None:
    hub.name = "djghosh/wds_wilds-fmow_test"
    asked = ("data", "check", "wilds/fmow", "--data-root", tmp_path, "--json")
    answer = command(*asked)
    assert answer.code == 1
    assert "no such folder" in json.loads(answer.out)[0]["found"]
    answer = command("data", "fetch", "wilds/fmow", "--data-root", tmp_path)
    assert (answer.code, f"{COMMIT[:12]}, 5 files" in answer.out) == (0, True), answer
    answer = command(*asked, "--hash")
    assert (answer.code, json.loads(answer.out)[0]["state"]) == (0, "complete")
    (tmp_path / "wds_wilds-fmow_test/test/1.tar").write_bytes(b"")
    answer = command(*asked)
    assert answer.code == 1
    assert "test/1.tar: 0 of" in json.loads(answer.out)[0]["found"]
    answer = command("data", "fetch", "winoground", "--data-root", tmp_path)
    assert (answer.code, "not on the hub, as far as its task file says" in answer.err) == (1, True)
