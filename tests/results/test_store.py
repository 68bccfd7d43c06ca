"""Results on disk: whole or not at all, versioned, without NaN."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

import cocabench
from cocabench.core import temporary as debris
from cocabench.core.errors import IgnoredRecordWarning, ResultsError
from cocabench.core.types import Estimate, MetricInfo, Record, Signature
from cocabench.results.store import Store, read_record, samples_path, settle, slug, write_atomically

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
    path = store.put(record(), samples)
    assert read_record(path) == record()
    assert store.get("m", "t", record().signature) == record()
    assert store.get("m", "t", record(seed=1).signature) is None
    results = cocabench.load(tmp_path)
    assert results.samples(results.records[0])["top5"].iloc[0].tolist() == [1, 2]
    assert results.frame().loc[0, "value"] == 0.5


def test_nan_is_stored_as_null(tmp_path: Path) -> None:
    path = Store(tmp_path).put(record(value=float("nan")), pd.DataFrame({"id": ["a"]}))
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["metrics"]["acc1"]["value"] is None


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
    path = store.put(record(), pd.DataFrame({"id": ["a"]}))
    path.unlink()
    assert samples_path(path).exists()
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

    def put(value: float) -> Path:
        samples = pd.DataFrame({"id": ["a"], "image_id": ["a"], "caption": [str(value)], "value": [value]})
        made = record(value=value, created=f"2026-01-01T00:00:0{value}").model_copy(update={"evaluator": "captioning"})
        return store.put(made, samples)

    path, stands = put(0.0), 0.0
    for value, step in zip((1.0, 2.0), steps, strict=True):
        with killed_at(step, monkeypatch):
            put(value)
        (found,) = cocabench.load(tmp_path)
        now = found.metrics["acc1"].value
        assert now in (stands, value), "the old one or the new one"
        assert store.samples(found)["value"].tolist() == [now]
        stands = now
    settle(path)
    assert json.loads(path.with_suffix(".captions.json").read_text())[0]["caption"] == str(stands)
    put(3.0)
    (found,) = cocabench.load(tmp_path)
    assert store.samples(found)["value"].tolist() == [found.metrics["acc1"].value] == [3]
    assert sorted(file.name.removeprefix(path.stem) for file in path.parent.iterdir()) == [
        ".captions.json",
        ".json",
        ".samples.parquet",
    ]


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
    (tmp_path / "x-dead").mkdir()
    (tmp_path / "x-dead" / "file").write_text("left by a kill")
    (tmp_path / "mine").mkdir()
    with debris.temporary_folder("x-") as first, debris.temporary_folder("x-") as second:
        assert {path.name for path in tmp_path.iterdir()} == {"mine", first.name, second.name}
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_broken_record_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Store(tmp_path).put(record(), pd.DataFrame({"id": ["a"]}))
    with killed_at(1, monkeypatch):
        Store(tmp_path).put(record(), pd.DataFrame({"id": ["a"]}))
    path.write_text("")
    Store(tmp_path).put(record(), pd.DataFrame({"id": ["b"]}))
    assert Store(tmp_path).samples(record())["id"].tolist() == ["b"]


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
