"""Lists of tasks and models in files, as CLIP_benchmark has them."""

from pathlib import Path

import pytest

from cocabench.core.errors import SpecError, UnknownNameError
from cocabench.specs.registry import find_tasks
from cocabench.specs.spec import parse_models


def written(folder: Path, text: str) -> str:
    (folder / "list.txt").write_text(text)
    return str(folder / "list.txt")


def test_clip_benchmarks_webdatasets_are_tasks_each_once(tmp_path: Path) -> None:
    file = written(tmp_path, "wds/cars\nwds/vtab/pets\n\n# small ones\nwds/mnist  # digits\nwds/cars\n")
    assert [task.name for task in find_tasks([file])] == ["cars", "pets", "mnist"]
    assert [task.name for task in find_tasks(["mnist", file])] == ["mnist", "cars", "pets"]


def test_clip_benchmarks_models_and_ours_are_models(tmp_path: Path) -> None:
    file = written(
        tmp_path, "ViT-B-32,openai\nViT-B-32:run/x.pt#ema  # averaged\ncoca_ViT-L-14:laion2b_s13b_b90k\ndemo/clip\n"
    )
    assert [spec.text for spec in parse_models(f"{file},RN50")] == [
        "ViT-B-32:openai", "ViT-B-32:run/x.pt#ema", "coca_ViT-L-14:laion2b_s13b_b90k", "demo/clip", "RN50",
    ]  # fmt: skip


def test_a_wrong_name_in_a_list_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="wds/carz"):
        find_tasks([written(tmp_path, "wds/carz\n")])


@pytest.mark.parametrize("read", [lambda file: find_tasks([file]), parse_models])
def test_a_list_that_is_not_there_or_empty_is_one_line(read: object, tmp_path: Path) -> None:
    assert callable(read)
    with pytest.raises(SpecError, match=r"(N|n)o such file"):
        read(str(tmp_path / "none.txt"))
    with pytest.raises(SpecError, match="no names; wanted one a line"):
        read(written(tmp_path, "# nothing\n"))
