"""Results on disk: whole or not at all, versioned, without NaN."""

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cocabench
from cocabench.core import temporary as debris
from cocabench.core.errors import IgnoredRecordWarning, ResultsError
from cocabench.core.types import Estimate, MetricInfo, Record, Signature
from cocabench.results.store import Store, read_record, read_samples, samples_path, slug, write_atomically

INFO = MetricInfo(unit="fraction", higher_is_better=True, summary="s")


def record(
    model: str = "m", task: str = "t", seed: int = 0, value: float | None = 0.5, created: str = "2026-01-01T00:00:00"
) -> Record:
    return Record(
        task=task,
        model=model,
        evaluator="classification",
        primary="acc1",
        signature=Signature(protocol={"task": task, "seed": seed}, model={"id": model}),
        metrics={"acc1": Estimate(value=value, low=None, high=None, n=10)},
        definitions={"acc1": INFO},
        created=created,
    )


def test_a_record_comes_back_as_it_was_with_its_samples(tmp_path: Path) -> None:
    store, samples = Store(tmp_path), pd.DataFrame({"id": ["a"], "image_id": ["a"], "top5": [[1, 2]]})
    stored = store.put(record(), samples)
    assert stored.model_copy(update={"samples_file": "", "samples_digest": ""}) == record()
    assert read_record(store.file(stored)) == stored
    assert store.get("m", "t", record().signature) == stored
    assert store.get("m", "t", record(seed=1).signature) is None
    results = cocabench.load(tmp_path)
    assert results.samples(results.records[0])["top5"].iloc[0].tolist() == [1, 2]
    assert results.frame().loc[0, "value"] == 0.5


def test_nan_is_stored_as_null(tmp_path: Path) -> None:
    stored = Store(tmp_path).put(record(value=float("nan")), pd.DataFrame({"id": ["a"]}))
    assert (
        json.loads(Store(tmp_path).file(stored).read_text(), parse_constant=pytest.fail)["metrics"]["acc1"]["value"]
        is None
    )


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")

    def broken(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, broken)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_without_the_record_samples_do_not_count(tmp_path: Path) -> None:
    """The Record is written last: its presence says that all is there."""
    store = Store(tmp_path)
    stored = store.put(record(), pd.DataFrame({"id": ["a"]}))
    path = store.file(stored)
    path.unlink()
    assert samples_path(path, stored).exists()
    assert store.get("m", "t", record().signature) is None


class Killed(BaseException):
    """Ends what runs as a kill does: nothing is tidied up."""


@contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the body at its n-th change of a folder, a rename or a removal, just before it."""
    left = [step]

    def counted(change: Callable[..., None]) -> Callable[..., None]:
        def changes(*args: object, **options: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            change(*args, **options)

        return changes

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(os, "unlink", counted(os.unlink))
        patch.setattr(debris.Temporary, "release", lambda self: os.close(self.handle))
        yield


@pytest.mark.parametrize("steps", list(product(range(8), (1, 3, 6))))
def test_a_kill_at_any_moment_leaves_one_whole_record_with_its_own_samples(
    steps: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr("cocabench.results.store.STALE_S", -1.0)  # sweep at once

    def put(value: float) -> Path:
        samples = pd.DataFrame({"id": ["a"], "image_id": ["a"], "caption": [str(value)], "value": [value]})
        made = record(value=value, created=f"2026-01-01T00:00:0{value}").model_copy(update={"evaluator": "captioning"})
        return store.file(store.put(made, samples))

    path, stands = put(0.0), 0.0
    for value, step in zip((1.0, 2.0), steps, strict=True):
        with killed_at(step, monkeypatch):
            put(value)
        (found,) = cocabench.load(tmp_path)
        now = found.metrics["acc1"].value
        assert now in (stands, value), "the old one or the new one"
        assert store.samples(found)["value"].tolist() == [now]
        stands = now
        captions = samples_path(path, found).name.replace(".samples.parquet", ".captions.json")
        assert json.loads(path.with_name(captions).read_text())[0]["caption"] == str(stands)
    put(3.0)
    (found,) = cocabench.load(tmp_path)
    assert store.samples(found)["value"].tolist() == [found.metrics["acc1"].value] == [3]
    assert sorted(file.name.removeprefix(path.stem) for file in path.parent.iterdir()) == [
        f".{found.samples_digest}.captions.json",
        f".{found.samples_digest}.samples.parquet",
        ".json",
    ]


def test_samples_of_a_replaced_record_are_kept_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever read the Record just before it was replaced reads its samples, and not the new ones."""
    store = Store(tmp_path)
    first = store.put(record(), pd.DataFrame({"id": ["a"]}))
    second = store.put(record(), pd.DataFrame({"id": ["b"]}))
    assert [store.samples(one)["id"].tolist() for one in (first, second)] == [["a"], ["b"]]
    os.utime(samples_path(store.file(first), first), (0, 0))
    store.put(record(), pd.DataFrame({"id": ["c"]}))
    with pytest.raises(ResultsError, match="no samples beside the Record"):
        store.samples(first)
    assert store.samples(second)["id"].tolist() == ["b"]


def test_samples_that_a_living_writer_holds_are_not_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.file(record())
    path.parent.mkdir(parents=True)
    held = debris.temporary(path)
    theirs = path.with_name(f"{path.stem}.{'0' * 16}.samples.parquet")
    held.path.rename(theirs)
    os.utime(theirs, (0, 0))
    store.put(record(), pd.DataFrame({"id": ["a"]}))
    assert theirs.exists()
    os.close(held.handle)  # as the end of its process does
    store.put(record(), pd.DataFrame({"id": ["a"]}))
    assert not theirs.exists()


def put_number(folder: Path, value: float) -> None:
    """Store a measurement whose value, samples and captions are one number."""
    made = record(value=value / 1e6).model_copy(update={"evaluator": "captioning"})
    rows = {"id": ["a"], "image_id": ["a"], "caption": [str(value)], "value": [value]}
    Store(folder).put(made, pd.DataFrame(rows))


def check_whole(folder: Path) -> None:
    """The Record that stands is one whole writer's: its value, its samples and its captions are the same number."""
    (found,) = cocabench.load(folder)
    samples = Store(folder).samples(found)
    assert found.metrics["acc1"].value == samples["value"].iloc[0] / 1e6
    path = Store(folder).file(found)
    captions = path.with_name(found.samples_file.replace(".samples.parquet", ".captions.json"))
    assert json.loads(captions.read_text())[0]["caption"] == samples["caption"].iloc[0]


def fork_writer(folder: Path, place: int, rounds: int) -> int:
    """Start a process that stores its own numbers again and again, with random delays between its steps."""
    if pid := os.fork():
        return pid
    waits, whole = random.Random(place), os.fsync
    os.fsync = lambda file: (time.sleep(waits.random() / 500), whole(file))[1]
    for turn in range(rounds):
        put_number(folder, float(place * rounds + turn))
        time.sleep(waits.random() / 500)
    os._exit(0)


def write_at_once(folder: str, count: int) -> None:
    """Let several processes write, and read what they write all the time."""
    put_number(Path(folder), 0.0)
    running = {fork_writer(Path(folder), place, 60) for place in range(count)}
    n_read = 0
    while running:
        check_whole(Path(folder))
        n_read += 1
        for pid in list(running):
            if (ended := os.waitpid(pid, os.WNOHANG))[0]:
                assert ended[1] == 0, "a writer ended as it should"
                running.remove(pid)
    check_whole(Path(folder))
    assert n_read > 10


def kill_at_random(folder: str, rounds: int) -> None:
    """Kill two processes that write, at random moments, again and again."""
    put_number(Path(folder), 0.0)
    moments = random.Random(0)
    for turn in range(rounds):
        running = [fork_writer(Path(folder), 2 * turn + side, 10_000) for side in (0, 1)]
        time.sleep(0.02 + moments.random() / 20)
        for pid in running:
            os.kill(pid, signal.SIGKILL)
            assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        check_whole(Path(folder))
    (found,) = cocabench.load(folder)
    assert found.metrics["acc1"].value, "they did write"


def alone(call: str, *arguments: object) -> None:
    """Call a function of this module in a process of its own, which may fork: nothing else runs in it."""
    code = f"from tests.results import test_store; test_store.{call}(*{arguments!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_several_writers_leave_one_whole_record_at_every_moment(count: int, tmp_path: Path) -> None:
    alone("write_at_once", str(tmp_path), count)


@pytest.mark.slow
def test_writers_killed_a_hundred_times_leave_one_whole_record(tmp_path: Path) -> None:
    alone("kill_at_random", str(tmp_path), 50)


def test_of_a_temporary_file_whose_maker_lives_nobody_disposes(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    mine = debris.temporary(path)
    write_atomically(path, lambda other: other.write_text("other"))
    assert mine.path.exists()
    os.close(mine.handle)  # as the end of its process does
    write_atomically(path, lambda other: other.write_text("another"))
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_a_temporary_folder_lasts_as_long_as_its_maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / f"x-{'0' * 16}"
    dead.mkdir()
    (dead / "file").write_text("left by a kill")
    (tmp_path / "mine").mkdir()
    (tmp_path / "x-mine").mkdir()
    with debris.temporary_folder("x-") as first, debris.temporary_folder("x-") as second:
        assert {path.name for path in tmp_path.iterdir()} == {"mine", "x-mine", first.name, second.name}
        assert stat.S_IMODE(first.stat().st_mode) == 0o700
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "x-mine"}


def test_a_pipe_at_a_temporary_files_name_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in (f"x-{'0' * 16}", f".y.json.{'0' * 16}"):
        os.mkfifo(tmp_path / name)
    with debris.temporary_folder("x-"):
        write_atomically(tmp_path / "y.json", lambda path: path.write_text("y"))
    assert (tmp_path / "y.json").read_text() == "y"


def test_other_files_beside_the_written_one_stay(tmp_path: Path) -> None:
    for name in (".x.json.bak", ".x.json.swp", ".x.json.12345678"):
        (tmp_path / name).write_text("theirs")
    write_atomically(tmp_path / "x.json", lambda path: path.write_text("x"))
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_umask_says_who_may_read(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "x", lambda path: path.write_text("x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~umask


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_atomically(tmp_path / "link", lambda path: path.write_text("new"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", lambda path: path.write_text("through"))
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_device_stays_a_device() -> None:
    with pytest.raises(ResultsError, match="/dev/full: cannot write \\(No space left on device\\)"):
        write_atomically(Path("/dev/full"), lambda path: path.write_text("x"))
    assert Path("/dev/full").is_char_device()
    write_atomically(Path("/dev/null"), lambda path: path.write_text("x"))


def test_a_pipe_among_results_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    os.mkfifo(tmp_path / "m" / "t-0123456789ab.json")
    with pytest.raises(ResultsError, match="a pipe or device, not a file"):
        cocabench.load(tmp_path)


def test_a_broken_record_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    path = store.file(store.put(record(), pd.DataFrame({"id": ["a"]})))
    with killed_at(1, monkeypatch):
        store.put(record(), pd.DataFrame({"id": ["a"]}))
    path.write_text("")
    assert store.samples(store.put(record(), pd.DataFrame({"id": ["b"]})))["id"].tolist() == ["b"]


BASELINES = Path(__file__).parents[2] / "results" / "baselines"


@pytest.mark.parametrize("damage", ["cut", "half", "doubled", "nameless", "empty", "one value", "no parquet"])
@pytest.mark.parametrize("named", [True, False])
def test_damaged_samples_are_one_line_that_names_the_file(damage: str, named: bool, tmp_path: Path) -> None:
    """named: by a Record that says their digest; those of version 0.1 say how many images there are."""
    shutil.copytree(BASELINES / "demo_clip-dd08", tmp_path / "m")
    path = next((tmp_path / "m").glob("emoji_retrieval-*.json"))
    made = read_record(path)
    if named:
        made = Store(tmp_path / "named").put(made, read_samples(path, made))
        path = Store(tmp_path / "named").file(made)
    file = samples_path(path, made)
    frame = pd.read_parquet(file)
    match damage:
        case "cut":
            file.write_bytes(file.read_bytes()[:-100])
        case "half":
            frame.iloc[: len(frame) // 2].to_parquet(file, index=False)
        case "doubled":
            pd.concat([frame, frame]).to_parquet(file, index=False)
        case "nameless":
            frame.assign(id=[None, *frame["id"][1:]]).to_parquet(file, index=False)
        case "empty":
            numbers = [name for name in frame if name not in ("id", "image_id")]
            frame.assign(**dict.fromkeys(numbers, float("nan"))).to_parquet(file, index=False)
        case "one value":
            frame.assign(t2i_n_above=[None, *frame["t2i_n_above"][1:]]).to_parquet(file, index=False)
        case "no parquet":
            file.write_text("hello")
    with pytest.raises(ResultsError, match="damaged") as caught:
        read_samples(path, made)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_names_no_file_of_another_folder(tmp_path: Path) -> None:
    path = Store(tmp_path).put_record(record())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"samples_file": "../../mine.samples.parquet"}))
    with pytest.raises(ResultsError, match="samples_file: got"):
        read_record(path)


def test_what_a_killed_writer_of_version_1_left_counts_as_before(tmp_path: Path) -> None:
    """0.1 put the samples of a Record that replaced another beside the old ones until the Record was there."""
    path = Store(tmp_path).put_record(record(created="2026-01-02"))
    for name, created, value in ((".samples.parquet", "old", 1), (".samples.parquet.next", "2026-01-02", 2)):
        table = pa.table({"id": ["a"], "value": [value]}).replace_schema_metadata({"cocabench.created": created})
        pq.write_table(table, path.with_name(path.stem + name))
    assert Store(tmp_path).samples(record(created="2026-01-02"))["value"].tolist() == [2]
    path = Store(tmp_path).put_record(record(created="2026-01-03"))
    assert Store(tmp_path).samples(record(created="2026-01-03"))["value"].tolist() == [1]


def test_two_runs_add_pictures_to_one_data_set(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_thumbnails("x", {"a": b"1"})
    store.put_thumbnails("x", {"b": b"2"})
    assert store.thumbnails("x") == {"a": b"1", "b": b"2"}
    store.thumbnails_path("x").write_bytes(b"damaged")
    with pytest.warns(IgnoredRecordWarning, match="pictures left out"):
        store.put_thumbnails("x", {"c": b"3"})
    assert store.thumbnails("x") == {"c": b"3"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema_version": 99}', "a Record of schema 99; wanted schema 2 or older; upgrade cocabench"),
        ('{"schema_version": 1, "task": 3}', "not a Record"),
        ("[1, 2", "not a Record"),
        ('{"hello": 1}', "not a Record"),
    ],
)
def test_what_is_no_record_is_said_with_its_path(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "t-0123456789ab.json").write_text(content)
    with pytest.raises(ResultsError, match=said) as caught:
        cocabench.load(tmp_path)
    assert str(tmp_path / "t-0123456789ab.json") in str(caught.value)


def test_nothing_to_load_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no Records"):
        cocabench.load(tmp_path)
    with pytest.raises(ResultsError, match="no such file or folder; wanted a results folder"):
        cocabench.load(tmp_path / "demo/coca")


def test_baselines_below_a_results_folder_are_not_its_results(tmp_path: Path) -> None:
    Store(tmp_path / "baselines").put(record("old"), pd.DataFrame({"id": ["a"]}))
    Store(tmp_path).put(record("new"), pd.DataFrame({"id": ["a"]}))
    assert [r.model for r in cocabench.load(tmp_path)] == ["new"]
    assert [r.model for r in cocabench.load(tmp_path / "baselines")] == ["old"]


def test_names_that_clean_to_the_same_folder_stay_apart() -> None:
    assert slug("ViT-B-32") == "ViT-B-32"
    assert slug("a/b") != slug("a:b")
    assert "/" not in slug("../../etc/passwd")
    assert slug("../x").startswith("x")


def test_a_renamed_record_is_told_and_other_json_is_not(tmp_path: Path) -> None:
    kept = next((Path(__file__).parents[2] / "results" / "baselines").rglob("emoji_retrieval*.json"))
    folder = tmp_path / "demo_clip"
    folder.mkdir()
    (folder / kept.name).write_bytes(kept.read_bytes())
    (folder / "notes.json").write_text('{"metrics": "mine"}')
    (folder / "broken.json").write_text("{")
    assert len(cocabench.load(tmp_path)) == 1
    (folder / "mine.json").write_bytes(kept.read_bytes())
    with pytest.warns(IgnoredRecordWarning, match=r"mine\.json: a Record under another name"):
        assert len(cocabench.load(tmp_path)) == 1
