"""Data roots and checkpoints behind an address: a web server that drops, is busy or knows no ranges, and a bucket."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest

from cocabench.core.errors import DataError, MissingDataError, UsageError
from cocabench.data import fetch, remote
from cocabench.data.fetch import check, ensure, repository_of, revision, root_of
from cocabench.data.hub import Hub as HubTable
from cocabench.data.remote import hub_parts, local_file, make_room, mirror, shown, url_of
from cocabench.data.tables import Csv
from cocabench.data.webdataset import WebDataset
from cocabench.run.prepare import Settings, prepare
from cocabench.specs.registry import FailedSource, all_tasks, model_sources, read_tasks
from cocabench.specs.spec import parse_models
from tests.conftest import Command
from tests.data.drawing import encoded, write_tar
from tests.data.hub_server import COMMIT, Hub, served
from tests.data.test_fetch import hub  # noqa: F401

LOADER = WebDataset(path="set")


@pytest.fixture
def content(tmp_path: Path) -> dict[str, bytes]:
    """Two shards below set/, one of them of five pieces, with class names."""
    top = tmp_path / "origin"
    write_tar(top / "0.tar", {"s0.png": encoded("red"), "s0.cls": "0", "s0.pad": "x" * 300_000})
    write_tar(top / "1.tar", {"s1.png": encoded("blue"), "s1.cls": "1"})
    shards = {f"set/test/{k}.tar": (top / f"{k}.tar").read_bytes() for k in (0, 1)}
    return {**shards, "set/test/nshards.txt": b"2\n", "set/classnames.txt": b"a\nb\n", "set/train/0.tar": b"unasked"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("COCABENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PIECE_BYTES", 1 << 16)
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0)
    yield tmp_path / "cache/data"
    release()


def release() -> None:
    """Let go of what this process reads, as its end does."""
    for file in remote._held.values():
        file.close()
    remote._held.clear()


@pytest.fixture
def web(content: dict[str, bytes]) -> Iterator[Hub]:
    with served(Hub(content)) as running:
        yield running


def root(web: Hub) -> Path:
    return Path(f"{web.url}/org/data")


def test_a_path_is_no_address_and_an_address_survives_being_a_path() -> None:
    assert url_of("data") == url_of("/data/x") == url_of(Path("C:/data")) == ""
    assert url_of(Path("s3://bucket/data")) == "s3://bucket/data"
    assert shown("https://me:secret@host:1/data?sig=x") == "https://host:1/data"
    assert hub_parts("hf://datasets/org/name") == ("org/name", "", "")
    assert hub_parts("https://huggingface.co/datasets/org/name/tree/main/a/b") == ("org/name", "main", "a/b")
    assert hub_parts("https://example.com/datasets/org/name") is None


def test_shards_arrive_in_the_cache_and_the_task_reads_them(web: Hub, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\nversion = 1\nevaluator = "classification"\nsummary = "x"\nprimary = "acc1"\n'
        '[data]\nloader = "webdataset"\npath = "set"\n'
    )
    (task,) = read_tasks(file)
    data = prepare(task, Settings(data_root=root(web)))
    assert [e.label for e in data.dataset.examples] == [0, 1]
    assert [e.image.open().getpixel((0, 0)) for e in data.dataset.examples] == [(255, 0, 0), (0, 0, 255)]
    assert web.asked["set/train/0.tar"] == 0
    assert [one for one in web.ranges if "0.tar" in one][:3] == [f"set/test/0.tar:{k << 16}" for k in range(3)]
    web.asked.clear()
    prepare(task, Settings(data_root=root(web)))
    assert not web.asked, "what is there is not asked for again"


def test_a_broken_connection_costs_a_piece(web: Hub) -> None:
    web.drops = Counter({"set/test/0.tar": 2})
    ensure(LOADER, root(web))
    starts = [int(one.rpartition(":")[2]) for one in web.ranges if "0.tar" in one]
    assert starts[:3] == [0, 0, 0]
    assert starts == sorted(starts)
    assert (root_of(root(web)) / "set/test/0.tar").read_bytes() == web.files["set/test/0.tar"]


def test_an_interrupted_fetch_resumes_where_it_was(web: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    read = remote.Store._read
    pieces = []

    def stopped(self: remote.Store, name: str, start: int, end: int, size: int) -> bytes:
        pieces.append(name)
        if pieces.count("test/0.tar") == 3:
            raise KeyboardInterrupt
        return read(self, name, start, end, size)

    with monkeypatch.context() as patch:
        patch.setattr(remote.Store, "_read", stopped)
        with pytest.raises(KeyboardInterrupt):
            ensure(LOADER, root(web))
    with pytest.raises(MissingDataError, match=r"an unfinished download; .*test/0\.tar: missing"):
        revision(LOADER, root(web))
    web.ranges.clear()
    ensure(LOADER, root(web))
    assert next(one for one in web.ranges if "0.tar" in one) == f"set/test/0.tar:{2 << 16}"
    assert (root_of(root(web)) / "set/test/0.tar").read_bytes() == web.files["set/test/0.tar"]


def test_a_server_without_ranges_sends_a_file_once(web: Hub) -> None:
    web.resumes = False
    ensure(LOADER, root(web))
    assert web.asked["set/test/0.tar"] == 1
    assert (root_of(root(web)) / "set/test/0.tar").read_bytes() == web.files["set/test/0.tar"]


def test_a_busy_server_is_waited_for_and_one_that_stays_busy_is_one_line(web: Hub) -> None:
    web.busy = 2
    ensure(LOADER, root(web))
    web.busy = 10_000
    with pytest.raises(
        DataError, match=r"nshards\.txt: 6 tries failed; the last: the server answered 429; run it again"
    ):
        ensure(LOADER, root(web), anew=True)


def test_a_changed_file_is_fetched_again_when_asked(web: Hub, content: dict[str, bytes]) -> None:
    ensure(LOADER, root(web))
    web.asked.clear()
    web.files["set/classnames.txt"] = b"c\nd\n"
    ensure(LOADER, root(web))
    assert not web.asked
    ensure(LOADER, root(web), anew=True)
    assert LOADER.build(root_of(root(web))).classes == ("c", "d")
    assert web.asked["set/test/0.tar"] == 0


def test_what_is_not_there_is_one_line(web: Hub) -> None:
    where = f"{web.url}/org/data"
    with pytest.raises(MissingDataError, match=rf"{where}: no data of none there \(looked for {where}/none\); check"):
        ensure(WebDataset(path="none"), root(web))
    del web.files["set/test/1.tar"]
    with pytest.raises(DataError, match=r"no data of set there"):
        ensure(LOADER, root(web))
    with pytest.raises(UsageError, match="an address with nonsense://; wanted https://"):
        ensure(LOADER, Path("nonsense://host/data"))


def test_clip_benchmarks_template_names_the_set(web: Hub) -> None:
    web.files = {name.replace("set/", "wds_vtab-pets/"): content for name, content in web.files.items()}
    template = Path(f"{web.url}/org/data/wds_{{dataset_cleaned}}")
    loader = all_tasks()["pets"].loader
    ensure(loader, template)
    assert len(loader.build(root_of(template))) == 2
    ensure(loader, root(web))  # without a template each of the folder's names is tried
    assert len(loader.build(root_of(root(web)))) == 2


def test_a_hub_address_gives_the_commit(hub: Hub) -> None:  # noqa: F811
    hub.files = {name.replace("set/", "deep/"): content for name, content in hub.files.items()}
    address = Path("hf://datasets/org/data")
    loader = WebDataset(path="deep")
    ensure(loader, address)
    assert (revision(loader, address), len(loader.build(root_of(address)))) == (COMMIT, 2)
    found = repository_of(loader, address)
    assert found is not None
    assert check(found, address, hashes=True).complete
    hub.lies = frozenset(hub.files)
    (root_of(address) / "deep/test/1.tar").unlink()
    with pytest.raises(DataError, match=r"org/data: .*1\.tar: .*wanted sha256:|consistency"):
        ensure(loader, address)


def test_a_bucket_is_listed_and_read(content: dict[str, bytes]) -> None:
    bucket = fsspec.filesystem("memory")
    for name, found in content.items():
        bucket.pipe(f"/bucket/{name}", found)
    bucket.pipe("/bucket/table.csv", b"filepath,title\na.png,red\n")
    bucket.pipe("/bucket/a.png", encoded("red"))
    address = Path("memory://bucket")
    ensure(LOADER, address)
    assert [e.label for e in LOADER.build(root_of(address)).examples] == [0, 1]
    assert not (root_of(address) / "set/train").exists()
    ensure(Csv(path="table.csv"), address)
    assert Csv(path="table.csv").build(root_of(address)).examples[0].texts == ("red",)


def test_a_wrong_hash_is_refused(content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = fsspec.filesystem("memory")
    bucket.pipe("/hashed/set/0.tar", content["set/test/1.tar"])
    info = bucket.info("/hashed/set/0.tar")
    monkeypatch.setattr(
        bucket, "find", lambda *a, **k: {"/hashed/set/0.tar": info | {"md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}}
    )
    with pytest.raises(DataError, match=r"0\.tar: md5 .*wanted md5:0000"):
        ensure(LOADER, Path("memory://hashed"))


def test_a_table_of_the_hub_is_fetched_by_its_split() -> None:
    found = HubTable(path="hf:org/name@abc", label_key="label", split="validation").repository()
    assert found is not None
    assert (found.name, found.revision, found.folder) == ("org/name", "abc", "org/name")
    names = ["data/train-0.parquet", "data/val-0.parquet", "default/validation/0000.parquet", "test.parquet"]
    assert fetch._wanted(names, found) == names[1:3]


def test_the_cache_makes_room_and_keeps_what_is_in_use(web: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files |= {name.replace("set/", "other/"): found for name, found in web.files.items()}
    ensure(LOADER, root(web))
    monkeypatch.setenv("COCABENCH_DATA_GB", "0.0005")  # one set of 330 kB
    with pytest.raises(DataError, match=r"GB in use; wanted at most 0\.0 GB; set COCABENCH_DATA_GB higher"):
        ensure(WebDataset(path="other"), root(web))
    release()
    ensure(WebDataset(path="other"), root(web))
    assert not (root_of(root(web)) / "set").exists()
    assert (root_of(root(web)) / "other/test/0.tar").is_file()
    code = "import pathlib, sys; from cocabench.data.remote import hold; hold(pathlib.Path(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}; print('held', flush=True); input()", root_of(root(web)) / "other"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        release()
        with pytest.raises(DataError, match="GB in use"):
            make_room(400_000)
        other.communicate("\n")
    make_room(400_000)
    assert not (root_of(root(web)) / "other").exists()
    monkeypatch.setenv("COCABENCH_DATA_GB", "much")
    with pytest.raises(UsageError, match="COCABENCH_DATA_GB: got 'much'; wanted a number of gigabytes above 0"):
        make_room(1)


def test_a_checkpoint_behind_an_address_is_fetched_once(web: Hub) -> None:
    web.files["epoch_1.pt"] = b"x" * 200_000
    (spec,) = parse_models(f"ViT-B-32:{web.url}/org/data/epoch_1.pt?sig=1")
    assert spec.weights == f"{web.url}/org/data/epoch_1.pt?sig=1"
    assert local_file(spec.weights, download=False) is None
    web.drops = Counter({"epoch_1.pt": 1})
    found = local_file(spec.weights)
    assert found is not None
    assert found.read_bytes() == web.files["epoch_1.pt"]
    assert found.parent == mirror(spec.weights)
    web.asked.clear()
    assert local_file(spec.weights) == found
    assert not web.asked
    with pytest.raises(MissingDataError, match=r"epoch_2\.pt: no such file"):
        local_file(f"{web.url}/org/data/epoch_2.pt")


@pytest.mark.slow
def test_a_checkpoint_that_is_not_there_fails_its_model_alone(web: Hub) -> None:
    (source,) = model_sources(parse_models(f"ViT-B-32:{web.url}/org/data/epoch_2.pt"))
    assert isinstance(source, FailedSource)
    assert str(source.error).endswith("/org/data/epoch_2.pt: no such file")


@pytest.mark.slow
def test_the_commands_take_an_address(web: Hub, command: Command) -> None:
    web.files = {name.replace("set/", "wds_cars/"): found for name, found in web.files.items()}
    answer = command("data", "check", "cars", "--data-root", str(root(web)).replace(":/", "://"), "--json")
    assert (answer.code, "not fetched from" in json.loads(answer.out)[0]["found"]) == (1, True), answer
    answer = command("data", "fetch", "cars", "--data-root", str(root(web)).replace(":/", "://"))
    assert (answer.code, "wds_cars, 4 files" in answer.out) == (0, True), answer
    answer = command("data", "check", "cars", "--data-root", str(root(web)).replace(":/", "://"), "--json", "--hash")
    assert (answer.code, json.loads(answer.out)[0]["state"]) == (0, "complete"), answer


class BotocoreClientError(Exception):
    """A stand-in of botocore's ClientError, whose name is that of aiohttp's errors of the connection."""

    response: ClassVar = {"ResponseMetadata": {"HTTPStatusCode": 404}}


BotocoreClientError.__name__ = "ClientError"


def test_a_bucket_that_is_not_there_is_not_asked_for_again() -> None:
    waits: list[float] = []

    def lost() -> None:
        raise FileNotFoundError("The specified bucket does not exist") from BotocoreClientError("NoSuchBucket")

    assert remote.Store("memory://bucket", waits.append)._ask(lost, "x") is None
    assert waits == []
