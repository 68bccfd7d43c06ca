"""The standard sets in the formats that they come in: every image gets the name of what it shows."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from cocabench.core.errors import DataError, MissingDataError
from cocabench.core.types import Dataset, IdentifiedSource
from cocabench.data.images import FileImage, UnconvertedImage
from cocabench.specs.registry import Task, all_tasks
from tests.data.standard_sets import FORMATS, Shown, colour, number_of, picture

Written = Callable[[str], tuple[Task, Shown]]


@pytest.fixture(scope="module")
def tasks() -> dict[str, Task]:
    return all_tasks()


@pytest.fixture
def written(tmp_path: Path, tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch) -> Written:
    """Write a task's files where the task looks for them."""

    def files(name: str) -> tuple[Task, Shown]:
        form, task = FORMATS[name], tasks[name.partition(" ")[0]]
        if form.checked:
            monkeypatch.setattr(importlib.import_module(form.checked), "check_integrity", lambda *args, **_: True)
        return task, form.write(tmp_path / str(task.spec.data["path"]))

    return files


def names_by_colour(dataset: Dataset) -> dict[int, str]:
    labels = {number_of(example.image.open()): example.label for example in dataset.examples}
    return {number: dataset.classes[label] for number, label in labels.items() if isinstance(label, int)}


@pytest.mark.parametrize("name", FORMATS)
def test_every_image_gets_the_name_of_what_it_shows(name: str, written: Written, tmp_path: Path) -> None:
    task, shown = written(name)
    dataset = task.loader.build(tmp_path)
    found = names_by_colour(dataset)
    assert {k: found[k] for k, wanted in enumerate(shown) if wanted} == {k: n for k, n in enumerate(shown) if n}
    assert len(found) == len(dataset)
    assert list(tmp_path.glob("*")) == [tmp_path / str(task.spec.data["path"])]


@pytest.mark.parametrize("name", FORMATS)
def test_files_are_read_as_files_under_names_that_say_nothing_of_the_machine(
    name: str, written: Written, tmp_path: Path
) -> None:
    task, _ = written(name)
    examples = task.loader.build(tmp_path).examples
    in_memory = name in ("mnist", "stl10", "svhn", "pcam", "fer2013 as a table")
    images = [image.source if isinstance(image, UnconvertedImage) else image for image in (e.image for e in examples)]
    assert all(isinstance(image, FileImage) is not in_memory for image in images)
    assert [example.id for example in examples] == sorted(example.id for example in examples)
    assert not any(str(tmp_path) in example.id for example in examples)


@pytest.mark.parametrize("name", FORMATS)
def test_without_files_it_says_where_they_were_looked_for(name: str, tasks: dict[str, Task], tmp_path: Path) -> None:
    task = tasks[name.partition(" ")[0]]
    folder = tmp_path / str(task.spec.data["path"])
    with pytest.raises(MissingDataError, match=f"{folder}: no such folder; --data-root"):
        task.loader.build(tmp_path)
    folder.mkdir()
    with pytest.raises(MissingDataError, match=str(folder)) as error:
        task.loader.build(tmp_path)
    assert "\n" not in str(error.value)
    assert "download=True" not in str(error.value)


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"fer2013", "fer2013 as a table", "resisc45", "imagenet-o"}))
def test_a_root_that_several_sets_share(name: str, written: Written, tmp_path: Path) -> None:
    task, _ = written(name)
    own = task.loader.build(tmp_path)
    folder = tmp_path / str(task.spec.data["path"])
    folder.rename(tmp_path / "shared")
    found = task.loader.build(tmp_path / "shared")
    assert [(e.id, e.label) for e in found.examples] == [(e.id, e.label) for e in own.examples]
    assert found.classes == own.classes


def test_a_missing_image_is_an_error_at_once(written: Written, tmp_path: Path) -> None:
    task, _ = written("food101")
    (tmp_path / "food101/food-101/images/apple_pie/1.jpg").unlink()
    with pytest.raises(MissingDataError, match=r"apple_pie: 1 of 3 images missing: 1\.jpg"):
        task.loader.build(tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        ("cars", "cars_meta.mat", r"cars': not readable \(Mat file appears to be truncated\)"),
        ("food101", "food-101/meta/test.json", r"incomplete: no such file or directory: \S+/food-101/meta/test\.json"),
        ("pcam", "pcam/camelyonpatch_level_2_split_test_x.h5", r"pcam: not readable \(Unable to synchronously open"),
    ],
)
def test_files_that_torchvision_cannot_read_are_an_error_of_one_line(
    name: str, file: str, said: str, written: Written, tmp_path: Path
) -> None:
    task, _ = written(name)
    path = next(tmp_path.rglob(file))
    path.unlink()
    if path.suffix in (".h5", ".mat"):
        path.write_bytes(b"none" if path.suffix == ".h5" else b"")
    with pytest.raises(DataError, match=said) as error:
        task.loader.build(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "file"), [("flowers", "imagelabels.mat"), ("pcam", "*_x.h5"), ("food101", "1.jpg"), ("svhn", "*.mat")]
)
def test_pipes_among_what_torchvision_reads_do_not_hang(name: str, file: str, written: Written, tmp_path: Path) -> None:
    task, _ = written(name)
    path = next(tmp_path.rglob(file))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: a pipe or device, not a file"):
        task.loader.build(tmp_path)


class TestLabelsThatWouldBeShifted:
    """Class folders number the labels: one that is missing shifts those after it, and every number would be wrong."""

    def test_caltechs_background_is_a_class(self, written: Written, tmp_path: Path) -> None:
        task, _ = written("caltech101")
        shutil.rmtree(tmp_path / "caltech101/caltech101/101_ObjectCategories/BACKGROUND_Google")
        with pytest.raises(DataError, match=r"101 class folders for 102 class names; .*BACKGROUND_Google"):
            task.loader.build(tmp_path)

    @pytest.mark.parametrize("name", ["eurosat", "country211", "fer2013"])
    def test_a_folder_more(self, name: str, written: Written, tmp_path: Path) -> None:
        task, _ = written(name)
        folder = next(path for path in tmp_path.rglob("*") if path.suffix == ".jpg").parent.parent / "AAA"
        picture(folder / "1.jpg", 300)
        with pytest.raises(DataError, match="class folders for"):
            task.loader.build(tmp_path)


def test_the_order_in_which_a_machine_lists_files_is_not_the_data_sets(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = written("sun397")
    found = task.loader.build(tmp_path).examples
    listed = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda *args, **kwargs: reversed(list(listed(*args, **kwargs))))
    assert [(e.id, e.label) for e in task.loader.build(tmp_path).examples] == [(e.id, e.label) for e in found]


def test_pcams_images_are_found_again_without_decoding(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = written("pcam")
    monkeypatch.setattr("cocabench.core.signature.SETTLED_S", -1.0)
    examples = task.loader.build(tmp_path).examples
    sources = [cast(IdentifiedSource, example.image) for example in examples]
    assert len({source.identity() for source in sources}) == 3
    assert len({source.stamp() for source in sources} - {""}) == 3
    assert number_of(examples[2].image.open()) == 2


@pytest.mark.slow
def test_pcam_is_read_by_a_process_that_has_not_imported_h5py(written: Written, tmp_path: Path) -> None:
    written("pcam")
    code = "import sys, pathlib; from cocabench.specs.registry import find_tasks; assert 'h5py' not in sys.modules; "
    code += f"print(len(find_tasks(['pcam'])[0].loader.build(pathlib.Path({str(tmp_path)!r}))))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "3\n"


def test_pcam_needs_h5py_and_says_so(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, _ = written("pcam")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"h5py is not installed; pip install 'cocabench\[pcam\]'"):
        task.loader.build(tmp_path)


def test_colours_are_numbers() -> None:
    assert len({colour(k) for k in range(4096)}) == 4096
