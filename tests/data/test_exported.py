"""The standard sets as CLIP_benchmark's webdatasets, which a task reads where its own files are not."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from cocabench.core.errors import DataError, MissingDataError
from cocabench.data.captions import Karpathy
from cocabench.data.clip_benchmark import ClipBenchmark
from cocabench.data.prompts import class_names, templates
from cocabench.run.prepare import Settings, prepare
from cocabench.specs.registry import Task, all_tasks, find_tasks
from tests.data import standard_sets
from tests.data.drawing import encoded, write, write_tar

PETS = "Abyssinian\nAmerican Bulldog\n"


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    return all_tasks()


def shards(folder: Path, names: str = PETS, split: str = "test") -> None:
    """Write what clip_benchmark_export_wds writes of two images, the second class first."""
    write_tar(folder / f"{split}/0.tar", {"s0000000.webp": encoded(kind="WEBP"), "s0000000.cls": "1"})
    write_tar(folder / f"{split}/1.tar", {"s0000001.webp": encoded(kind="WEBP"), "s0000001.cls": "0"})
    write(folder / f"{split}/nshards.txt", "2\n")
    write(folder / "classnames.txt", names)
    write(folder / "zeroshot_classification_templates.txt", "of the folder: {c}\n")


@pytest.mark.parametrize("folder", ["wds_vtab-pets", "wds_vtab-pets_test", "wds_pets_test", "wds/vtab/pets", "pets"])
def test_a_webdataset_is_found_under_the_names_that_it_goes_by(
    folder: str, tasks: dict[str, Task], tmp_path: Path
) -> None:
    shards(tmp_path / folder)
    dataset = tasks["pets"].loader.build(tmp_path)
    assert [(e.id, e.label) for e in dataset.examples] == [("s0000000", 1), ("s0000001", 0)]
    assert (dataset.name, dataset.classes) == ("pets", ("Abyssinian", "American Bulldog"))


def test_prompts_equal_in_both_forms_and_other_counts_give_a_note(tasks: dict[str, Task], tmp_path: Path) -> None:
    shards(tmp_path / "wds_vtab-pets")
    task = tasks["pets"]
    data = prepare(task, Settings(data_root=tmp_path))
    assert task.kind.prompts(data.dataset)[0] == (  # type: ignore[attr-defined]
        "Abyssinian",
        (templates("pets")[0].replace("{c}", "Abyssinian"),),  # type: ignore[index]
    )
    assert tuple(note.text.partition(": ")[2] for note in data.notes if note.code == "not_standard") == (
        "2 images, standard: 3669",
        "2 classes, standard: 37",
    )


@pytest.mark.parametrize(
    ("names", "texts", "said"),
    [
        (class_names("pets"), templates("pets"), []),
        (
            ("tabby", *class_names("pets")[1:]),
            templates("pets"),
            ["1 of 37 class names are others, such as 'tabby' in place of 'Ab"],
        ),
        (class_names("pets")[1:], templates("pets"), ["36 class names, not 37; 36 of 37 class names are others, such"]),
        (class_names("pets"), ("{c}",), ["1 of 1 templates are others, such as '{c}' in place of 'a photo of a {c}"]),
    ],
)
def test_a_note_says_where_the_folders_prompts_are_not_clip_benchmarks(
    names: tuple[str, ...], texts: tuple[str, ...], said: list[str], tasks: dict[str, Task], tmp_path: Path
) -> None:
    shards(tmp_path / "wds_vtab-pets", "\n".join(names))
    write(tmp_path / "wds_vtab-pets/zeroshot_classification_templates.txt", "\n".join(texts))
    found = [note.text for note in tasks["pets"].loader.build(tmp_path).notes if note.code == "other_prompts"]
    assert len(found) == len(said)
    for text, wanted in zip(found, said, strict=True):
        assert text.startswith(f"wds_vtab-pets and clip-benchmark: {wanted}")


def test_its_own_files_come_first(tasks: dict[str, Task], tmp_path: Path) -> None:
    shards(tmp_path / "wds_vtab-pets")
    standard_sets.pets(tmp_path / "pets")
    assert len(tasks["pets"].loader.build(tmp_path)) == 3


def test_a_set_of_vtab_alone_is_read_or_told_to_be_missing(tasks: dict[str, Task], tmp_path: Path) -> None:
    loader = tasks["vtab/dmlab"].loader
    wanted = f"{tmp_path}/wds_vtab-dmlab: no such folder; --data-root .* holds wds_vtab-dmlab .*on Hugging Face"
    for download in (True, False):
        with pytest.raises(MissingDataError, match=wanted) as error:
            loader.build(tmp_path, download=download)
        assert str(error.value).count("Hugging Face") == 1
    shards(tmp_path / "wds_vtab-dmlab_test", "near\nfar\n")
    assert loader.build(tmp_path).classes == ("near", "far")


def test_a_missing_set_is_an_error_that_names_both_forms(tasks: dict[str, Task], tmp_path: Path) -> None:
    with pytest.raises(
        MissingDataError, match=r"holds pets \(images\.tar\.gz .*or CLIP_benchmark's webdataset wds_vtab"
    ):
        tasks["pets"].loader.build(tmp_path)


def test_a_missing_shard_is_an_error(tasks: dict[str, Task], tmp_path: Path) -> None:
    shards(tmp_path / "wds_cars")
    (tmp_path / "wds_cars/test/0.tar").unlink()
    with pytest.raises(MissingDataError, match=r"1 of 2 shards \(nshards\.txt\); missing: 0\.tar"):
        tasks["cars"].loader.build(tmp_path)


def test_a_shard_that_nshards_does_not_count_is_not_read(tasks: dict[str, Task], tmp_path: Path) -> None:
    shards(tmp_path / "wds_cars")
    write(tmp_path / "wds_cars/test/nshards.txt", "1")
    assert len(tasks["cars"].loader.build(tmp_path)) == 1


def test_an_empty_line_would_shift_class_names(tasks: dict[str, Task], tmp_path: Path) -> None:
    shards(tmp_path / "wds_cars", "Acura\n\nAudi\n")
    with pytest.raises(DataError, match=r"classnames\.txt: line 2 is empty; wanted a class name in every line"):
        tasks["cars"].loader.build(tmp_path)


def test_the_train_split_is_not_taken_for_the_test_split(tmp_path: Path) -> None:
    shards(tmp_path / "wds_cars", split="train")
    train = ClipBenchmark(path="cars", dataset="cars", split="train", wds="cars")
    assert len(train.build(tmp_path)) == 2
    shards(tmp_path / "wds_cars")
    (tmp_path / "wds_cars/train/1.tar").unlink()
    assert len(train.model_copy(update={"split": "test"}).build(tmp_path)) == 2
    with pytest.raises(MissingDataError, match="1 of 2 shards"):
        train.build(tmp_path)


def test_another_split_is_not_taken_for_the_test_split(tmp_path: Path) -> None:
    shards(tmp_path / "wds_vtab-dtd")
    with pytest.raises(MissingDataError, match=r"wds_vtab-dtd: no shards"):
        ClipBenchmark(path="dtd", dataset="dtd", split="val", wds="vtab/dtd").build(tmp_path)


def test_imagenets_val_is_what_is_exported_as_test(tasks: dict[str, Task], tmp_path: Path) -> None:
    shards(tmp_path / "wds_imagenet1k", "tench\ngoldfish\n")
    assert len(tasks["imagenet1k"].loader.build(tmp_path)) == 2


@pytest.mark.parametrize("name", ["flickr30k", "flickr30k_captions", "mscoco_captions", "coco_karpathy_test"])
def test_captions_come_as_a_webdataset_too(name: str, tasks: dict[str, Task], tmp_path: Path) -> None:
    folder = tmp_path / ("wds_flickr30k" if "flickr" in name else "wds_mscoco_captions_test")
    write_tar(folder / "test/0.tar", {"s0.webp": encoded(kind="WEBP"), "s0.txt": "a dog\na cat"})
    write(folder / "test/nshards.txt", "1")
    write(folder / "dataset_type.txt", "retrieval")
    assert [example.texts for example in tasks[name].loader.build(tmp_path).examples] == [("a dog", "a cat")]


def test_a_part_of_a_webdatasets_captions_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_captions and wds exclude each other"):
        Karpathy(path="coco", wds="mscoco_captions", max_captions=5)


def test_the_whole_set_is_not_taken_for_vtabs_part_of_it(tasks: dict[str, Task], tmp_path: Path) -> None:
    shards(tmp_path / "wds_eurosat", "river\nforest\n")
    with pytest.raises(MissingDataError, match="wds_vtab-eurosat: no such folder"):
        tasks["vtab/eurosat"].loader.build(tmp_path)


class TestNamesOfClipBenchmark:
    @pytest.mark.parametrize("collection", ["vtab", "vtab+", "imagenet_robustness"])
    def test_its_collections_are_groups(self, collection: str) -> None:
        from clip_benchmark.datasets import builder

        theirs = find_tasks(builder.dataset_collection[collection])
        assert {task.name for task in find_tasks([collection])} == {task.name for task in theirs}
        assert len(theirs) == len(builder.dataset_collection[collection])

    @pytest.mark.parametrize(
        ("typed", "name"),
        [
            ("vtab/pets", "pets"),
            ("wds/vtab/pets", "pets"),
            ("wds/cars", "cars"),
            ("vtab/eurosat", "vtab/eurosat"),
            ("eurosat", "eurosat"),
            ("tfds/mnist", "mnist"),
        ],
    )
    def test_a_task_goes_by_them(self, typed: str, name: str) -> None:
        assert [task.name for task in find_tasks([typed])] == [name]

    def test_vtabs_part_of_a_set_is_another_task_than_the_whole(self, tasks: dict[str, Task]) -> None:
        images = {name: tasks[name].spec.expect.images for name in ("eurosat", "vtab/eurosat")}
        assert images == {"eurosat": 27000, "vtab/eurosat": 5400}
