"""Finding the image of each id in a folder; naming the first few of many."""

import json
from pathlib import Path

import pytest

from cocabench.core.errors import DataError, MissingDataError
from cocabench.data.files import absent, file_names, images_of, some


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("dog", "dog.png"),
        ("dog.png", "dog.png"),
        ("val/dog.png", "val/dog.png"),
        ("391895", "val2014/COCO_val2014_000000391895.jpg"),
        ("3", "3.jpg"),
    ],
)
def test_an_id_finds_its_file(key: str, file: str, tmp_path: Path) -> None:
    (found,) = images_of([key], folder(tmp_path, file, "other_3.jpg", "readme.txt"))
    assert found.path == tmp_path / file


def test_a_list_of_names_comes_first(tmp_path: Path) -> None:
    annotations = tmp_path / "captions.json"
    annotations.write_text(json.dumps({"images": [{"id": 7, "file_name": "val/b.jpg"}], "annotations": []}))
    (found,) = images_of(["7"], folder(tmp_path, "a_7.jpg", "b.jpg"), names=file_names(annotations))
    assert found.path.name == "b.jpg"
    annotations.write_text('{"7": ["a dog"]}')
    assert file_names(annotations) == {}


def test_what_is_not_there_or_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image for 1 of 2 ids: cat"):
        images_of(["dog", "cat"], folder(tmp_path, "dog.jpg"))
    with pytest.raises(DataError, match=r"1 id has several images: dog\.jpg, dog\.png"):
        images_of(["dog"], folder(tmp_path, "dog.png"))
    with pytest.raises(MissingDataError, match="no such folder"):
        images_of(["dog"], tmp_path / "nowhere")


def test_some_names_the_first_three_and_counts_the_rest() -> None:
    assert (some("abc"), some("abcde")) == ("a, b, c", "a, b, c and 2 more")


def test_what_is_absent(tmp_path: Path) -> None:
    """A link to contents that are not here, as of git-annex, a folder and a circle of links are no files."""
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "linked.png").symlink_to("a.png")
    (tmp_path / "annexed.png").symlink_to(".git/annex/objects/none")
    (tmp_path / "round.png").symlink_to("round.png")
    (tmp_path / "folder.png").mkdir()
    names = ["a.png", "linked.png", "annexed.png", "round.png", "folder.png", "none.png", "none/a.png"]
    lost = absent([tmp_path / name for name in names])
    assert sorted(path.relative_to(tmp_path).as_posix() for path in lost) == sorted(names[2:])
