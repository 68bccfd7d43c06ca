"""What identifies the images of a result stands beside its signature: exchanged ones are measured again."""

import json
import os
import platform
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cocabench.core.cache import MemoryCache
from cocabench.core.types import Dataset, Example, Note, Record
from cocabench.data.base import rows_hash
from cocabench.data.images import BytesImage, ImageSource
from cocabench.models.cached import Cached
from cocabench.results.gate import Rules, gate
from cocabench.results.records import incomparable, unknown_parts
from cocabench.results.store import RecordSet, load
from cocabench.run.execute import planner_for, run_cell
from cocabench.run.plan import PICTURES_UNKNOWN, Planner
from cocabench.run.prepare import ExtraModel, Settings
from cocabench.specs.registry import find_tasks, model_sources
from cocabench.specs.spec import parse_models
from tests.conftest import Command

Measured = list[int]


@pytest.fixture
def place(tmp_path: Path, data: Path) -> Path:
    return shutil.copytree(data, tmp_path / "data")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """Return a list that grows with each call of a model."""
    calls: Measured = []
    original = Cached.encode_images

    def counted(self: Cached, images: list[ImageSource], **more: object) -> object:
        calls.append(len(images))
        return original(self, images, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Cached, "encode_images", counted)
    return calls


@pytest.fixture
def again(command: Command, models: Path, place: Path, tmp_path: Path):
    """Return a function that runs a task and returns its Records."""

    def run(*more: object, output: str = "results", name: str = "find", model: str = "clip") -> RecordSet:
        words = ["--model", models / model, "--tasks", place / f"{name}.toml", "--data-root", place]
        result = command("run", *words, "--output", tmp_path / output, "--json", *more)
        assert result.code == 0, result.err
        (tmp_path / "found.json").write_text(result.out)
        return load(tmp_path / "found.json")

    return run


def exchange(place: Path) -> None:
    """Give two images each other's name."""
    one, other, third = (place / "images" / name for name in ("00.png", "01.png", "third"))
    one.rename(third)
    other.rename(one)
    third.rename(other)


@pytest.mark.parametrize("cached", [(), ("--no-cache",)])
def test_exchanged_images_are_measured_again(again, place: Path, measured: Measured, cached: tuple[str, ...]) -> None:
    (before,) = again(*cached)
    again(*cached)
    assert measured == [12], "finished"
    exchange(place)
    (after,) = again(*cached)
    assert measured == [12, 12]
    assert before.pictures == after.pictures, "the same images"
    assert before.pictures_by_id != after.pictures_by_id, "under other names"
    assert incomparable(before, after, "t2i_recall@5") == ("other images under the same names",)
    (verdict,) = gate([before], [after], Rules())
    assert (verdict.status, verdict.exit_code) == ("incomparable", 2)
    again(*cached)
    assert measured == [12, 12], "the new result has replaced the old one"


def test_a_dry_run_says_that_images_were_exchanged(command: Command, again, models: Path, place: Path, tmp_path: Path):
    again()
    exchange(place)
    words = ["--model", models / "clip", "--tasks", place / "find.toml", "--data-root", place, "--dry-run"]
    printed = command("run", *words, "--output", tmp_path / "results").out
    assert "find: measures again: the images are others than those of the stored result" in printed


@pytest.mark.parametrize("cached", [(), ("--no-cache",)])
def test_files_that_were_only_touched_or_moved_stay_finished(
    again, place: Path, tmp_path: Path, measured: Measured, cached: tuple[str, ...]
) -> None:
    again(*cached)
    for file in (place / "images").iterdir():
        shutil.copy(file, tmp_path / "copy")
        (tmp_path / "copy").replace(file)
        os.utime(file, (1e9, 1e9))
    again(*cached)
    assert measured == [12]


def of_0_1(record: Record) -> Record:
    """Return a Record as version 0.1 wrote it, which said nothing of the images."""
    return record.model_copy(update=dict.fromkeys(("pictures", "pictures_by_id", "image_files", "rows"), ""))


def test_a_result_that_names_no_images_counts_as_done_with_a_note(again, tmp_path: Path, measured: Measured) -> None:
    (new,) = again()
    (file,) = (tmp_path / "results").rglob("find-*.json")
    old = of_0_1(new)
    file.write_text(old.model_dump_json())
    (found,) = again()
    assert measured == [12]
    assert found.notes[len(old.notes) :] == (Note("pictures_unknown", PICTURES_UNKNOWN),)
    assert found.model_copy(update={"notes": old.notes}) == old
    assert incomparable(old, new, "t2i_recall@5") == ()
    (note,) = unknown_parts(old, new, "t2i_recall@5")
    assert (note.code, "pictures" in note.text) == ("protocol_part_unknown", True)
    (verdict,) = gate([old], [new], Rules())
    assert (verdict.difference, verdict.notes) == (0, (note,))


def test_shuffled_lines_stay_comparable(again, place: Path) -> None:
    """Lines of a table, and with them the captions of an image."""
    (before,) = again(output="a")
    head, *rows = (place / "captions.tsv").read_text().splitlines()
    (place / "captions.tsv").write_text("\n".join([head, *reversed(rows)]))
    (after,) = again(output="b")
    data = [record.signature.protocol["data"] for record in (before, after)]
    assert data[0] != data[1], "the hash that names the file keeps the order: results of 0.1 have it"
    assert before.rows == after.rows
    for metric in before.metrics:
        assert incomparable(before, after, metric) == unknown_parts(before, after, metric) == ()
    assert gate([before], [after], Rules())[0].difference == 0
    (place / "captions.tsv").write_text("\n".join([head, *rows]).replace("thing 3", "thing three"))
    (other,) = again(output="c")
    assert "data.hash" in incomparable(before, other, "t2i_recall@5")[0]


def test_document_frequencies_have_no_order_either(again, place: Path) -> None:
    """With a limit they are of the whole set, of which the rows that were measured say nothing."""
    head, *rows = (place / "captions.tsv").read_text().splitlines()
    whole, limited = [], []
    for output, lines in (("a", rows), ("b", rows[::-1]), ("c", [*rows[:-1], rows[-1].replace("picture", "painting")])):
        (place / "captions.tsv").write_text("\n".join([head, *lines]))
        whole += again(output=output, name="tell", model="coca")
        limited += again("--limit", 3, output=f"{output}3", name="tell", model="coca")
    frequencies = {record.signature.protocol["document_frequencies"] for record in whole}
    assert len(frequencies) == 3
    assert incomparable(whole[0], whole[1], "BLEU@4") == ()
    assert any("document_frequencies" in said for said in incomparable(whole[0], whole[2], "BLEU@4"))
    assert limited[0].rows == limited[2].rows
    assert any("document_frequencies" in said for said in incomparable(limited[0], limited[2], "BLEU@4"))


def example(name: str, *texts: str, others: int = 0, **more: object) -> Example:
    image = BytesImage(b"", "a")
    return Example(name, image, texts, others=(image,) * others, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([example("a", "x", "y")], [example("a", "y", "x")], True),
        ([example("a"), example("b")], [example("b"), example("a")], True),
        ([example("a", "x"), example("b", "y")], [example("a", "y"), example("b", "x")], False),
        ([example("a", "x", "y", others=1)], [example("a", "y", "x", others=1)], False),
        (
            [example("a", "x", "y", negatives=(("1", "2"), ("3",)))],
            [example("a", "y", "x", negatives=(("3",), ("2", "1")))],
            True,
        ),
        (
            [example("a", "x", "y", negatives=(("1",), ("3",)))],
            [example("a", "y", "x", negatives=(("1",), ("3",)))],
            False,
        ),
        ([example("a", label=1)], [example("a", label=2)], False),
        ([example("a", domain="in")], [example("a")], False),
        ([example("a", metadata={"region": "x"})], [example("a")], False),
        ([example("a", "x\x1fty")], [example("a", "x", "y")], True),  # a unit separator is no caption's
    ],
)
def test_the_hash_of_rows_has_no_order(one: list[Example], other: list[Example], same: bool) -> None:
    hashes = [rows_hash({"": Dataset("d", "s", rows)}) for rows in (one, other)]
    assert (hashes[0] == hashes[1]) is same
    assert rows_hash({"train": Dataset("d", "s", one)}) != hashes[0]


@pytest.fixture
def planned(models: Path, place: Path, tmp_path: Path) -> Planner:
    cache = tmp_path / "spaces"
    settings = Settings(data_root=place, output=tmp_path / "results", cache=cache, device="cpu", workers=0)
    planner = planner_for(settings, settings.hardware())
    planner.for_others = True
    return planner


@pytest.mark.parametrize("name", ["tell", "find"])
def test_another_machine_with_other_images_does_not_run(planned: Planner, models: Path, place: Path, name: str) -> None:
    """And with the same ones it does, wherever they lie."""
    (source,) = model_sources(parse_models(str(models / "coca")))
    (cell,) = planned.plan([source], find_tasks([str(place / f"{name}.toml")])).cells
    assert cell.steps[0].pictures
    settings, load = planned.settings, lambda source: source.load(planned.settings.hardware())
    moved = replace(settings, data_root=shutil.copytree(place, place.parent / "elsewhere"))
    from cocabench.results.store import Store

    def run(settings: Settings) -> str:
        (outcome,) = run_cell(cell, settings, load, MemoryCache(), Store(place.parent / "results"))
        return str(outcome.error or "")

    exchange(moved.data_root)
    said = f"on {platform.node()}: {source.id} on {name}: pictures differ from the plan; use the same data"
    assert run(moved).startswith(said)
    exchange(moved.data_root)
    (moved.data_root / "images" / "05.png").unlink()
    assert run(moved).startswith(f"on {platform.node()}: {moved.data_root}"), "a missing file names the machine"
    shutil.copy(place / "images" / "05.png", moved.data_root / "images" / "05.png")
    assert run(moved) == ""


def test_plans_in_json_hash_the_images_and_others_do_not(
    command: Command, models: Path, place: Path, tmp_path: Path
) -> None:
    words = ["--model", models / "clip", "--tasks", place / "find.toml", "--data-root", place, "--output", tmp_path]
    (step,) = json.loads(command("run", *words, "--dry-run", "--json").out)["cells"][0]["steps"]
    assert len(step["pictures"]) == 16
    (record,) = json.loads(command("run", *words, "--json").out)
    assert record["pictures_by_id"] == step["pictures"]


def test_tasks_on_the_same_images_say_so(again) -> None:
    (found,), (named,) = again(name="find"), again(name="name")
    assert found.pictures == named.pictures
    assert found.rows != named.rows


@pytest.mark.usefixtures("plugin")
def test_a_signature_of_a_name_alone_is_refused_of_extra_models_too(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ExtraModel.of("toy::one", "fp32")
    assert (whole.problem, whole.identity) == ("", {"weights": "0.5", "preprocess": "", "vocabulary": ""})
    import toy_plugin

    monkeypatch.setattr(toy_plugin.Ones, "signature", lambda self: {"id": self.id})
    refused = ExtraModel.of("toy::one", "fp32")
    assert refused.plan is None
    assert "its signature() has no weights" in refused.problem


def test_a_set_of_other_peoples_images_is_told_by_a_few(command: Command) -> None:
    """Of images that only decoding identifies, the first, middle and last are read to notice a change."""
    from cocabench.data.images import ItemImage
    from cocabench.models.contents import hash_of_marks, marks
    from tests.models.test_modes import picture

    def hashed(colours: str) -> str:
        items = [(picture(mode), 0) for mode in colours.split()]
        images = [ItemImage(items, k, "x") for k in range(len(items))]
        return hash_of_marks(["a"] * len(items), marks(images))

    assert hashed("RGB L RGB L RGB") == hashed("RGB L RGB L RGB") != hashed("RGB L RGB L L")
