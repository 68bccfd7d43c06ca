import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cocabench.core.errors import DataError, UnknownNameError
from cocabench.data import prompts
from cocabench.data.prompts import class_names, places, synsets, templates
from tests.data.drawing import write, write_json
from tools import make_prompts

PEER = make_prompts.clip_benchmark_folder()


def peers(name: str) -> dict[str, list[str]]:
    table: dict[str, list[str]] = json.loads((PEER / f"en_{name}.json").read_text(encoding="utf-8"))
    return table


class TestShipped:
    """The shipped names, templates and synsets are clip-benchmark's."""

    def test_all_class_names(self) -> None:
        assert {name: list(class_names(name)) for name in peers("classnames")} == peers("classnames")

    def test_all_templates(self) -> None:
        table = peers("zeroshot_classification_templates")
        assert {name: list(templates(name)) for name in table} == table

    def test_templates_that_clip_benchmark_falls_back_to(self) -> None:
        names = ("imagenetv2", "imagenet_sketch", "imagenet-a", "imagenet-r", "objectnet")
        assert {templates(name) for name in names} == {templates("imagenet1k")}

    @pytest.mark.parametrize("name", ["imagenetv2", "imagenet_sketch"])
    def test_all_1000_classes(self, name: str) -> None:
        assert (class_names(name), synsets(name)) == (class_names("imagenet1k"), synsets("imagenet1k"))

    @pytest.mark.parametrize(("name", "key"), make_prompts.SUBSETS.items())
    def test_subsets_are_masked_as_clip_benchmark_masks_them(self, name: str, key: str) -> None:
        known = make_prompts.constants((PEER / "builder.py").read_text(encoding="utf-8"))
        every, wanted = known["all_imagenet_wordnet_ids"], set(known[key])
        mask = [wnid in wanted for wnid in every]
        names = [cl for cl, kept in zip(peers("classnames")["imagenet1k"], mask, strict=True) if kept]
        assert list(class_names(name)) == names
        assert list(synsets(name)) == sorted(wanted)
        assert list(synsets("imagenet1k")) == every

    def test_the_script_makes_the_shipped_files(self, tmp_path: Path) -> None:
        make_prompts.main(tmp_path)
        folder = Path(prompts.__file__).parent
        for stem in ("classnames", "templates", "synsets"):
            assert (tmp_path / f"{stem}.json").read_bytes() == (folder / f"{stem}.json").read_bytes()

    def test_unknown_names_get_the_closest(self) -> None:
        for wanted in (class_names, templates):
            with pytest.raises(
                UnknownNameError, match=r"unknown 'imagenet-1k'; did you mean imagenet1k.*or write the path"
            ):
                wanted("imagenet-1k")
        with pytest.raises(UnknownNameError, match="did you mean imagenet-r"):
            synsets("imagenet_r")


NAMES = {
    "list": ("n.json", '["cat", "red fox "]'),
    "BOM": ("n.json", '\ufeff["cat", "red fox"]'),
    "custom file": ("n.json", '{"pets": ["cat", "red fox"]}'),
    "text": ("n.txt", "\ufeffcat\r\nred fox\r\n\r\n"),
}


@pytest.mark.parametrize(("name", "text"), NAMES.values(), ids=NAMES)
def test_own_class_names(name: str, text: str, tmp_path: Path) -> None:
    assert class_names(str(write(tmp_path / name, text))) == ("cat", "red fox")


def test_one_of_several_data_sets(tmp_path: Path) -> None:
    file = write_json(tmp_path / "n.json", {"pets": ["cat"], "birds": ["hen"]})
    assert class_names(f"{file}#birds") == ("hen",)
    with pytest.raises(DataError, match=rf"2 data sets \(pets, birds\); wanted one; write {file}#NAME"):
        class_names(str(file))
    with pytest.raises(UnknownNameError, match="did you mean birds"):
        class_names(f"{file}#bird")


TEMPLATES: dict[str, tuple[Any, Any]] = {
    "list": (["a {c}", "the {c}."], ("a {c}", "the {c}.")),
    "open_clip style": (["a {}"], ("a {c}",)),
    "custom file": ({"pets": ["a {c}"]}, ("a {c}",)),
    "CuPL": (
        {"cat": ["A cat purrs."], "hen": ["A hen.", "Hens."]},
        {"cat": ("A cat purrs.",), "hen": ("A hen.", "Hens.")},
    ),
    "CuPL in a custom file": ({"pets": {"cat": ["A cat."]}}, {"cat": ("A cat.",)}),
}


@pytest.mark.parametrize(("content", "expected"), TEMPLATES.values(), ids=TEMPLATES)
def test_own_templates(content: Any, expected: Any, tmp_path: Path) -> None:
    assert templates(str(write_json(tmp_path / "t.json", content))) == expected


def test_one_of_several_data_sets_templates(tmp_path: Path) -> None:
    file = write_json(tmp_path / "t.json", {"pets": ["a {c}"], "birds": {"hen": ["A hen."]}, "food": ["{}"]})
    assert templates(f"{file}#birds") == {"hen": ("A hen.",)}
    assert templates(f"{file}#food") == ("{c}",)
    with pytest.raises(DataError, match="3 data sets"):
        templates(str(file))


def test_clip_benchmarks_cupl_file() -> None:
    found = templates(str(PEER / "cupl_prompts.json"))
    assert isinstance(found, dict)
    assert set(found) == set(class_names("imagenet1k"))


BAD: dict[str, tuple[Any, str]] = {
    "no placeholder": (["a {c}", "a photo"], r"1 template without \{c\}: 'a photo'"),
    "empty": ([], "something else, or an empty entry; wanted a list of templates"),
    "number": (3, "wanted a list of templates"),
    "blank": (["a {c}", " "], "an empty entry"),
    "prompts that are no lists": ({"pets": {"cat": "A cat."}}, "wanted lists of prompts by class name"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_bad_templates(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        templates(str(write_json(tmp_path / "t.json", content)))


PYTHON = {
    "a function": "a photo of a {c}.\nlambda c: f'a photo of a {c}.',\n",
    "strings of a list": "'a photo of a {}.',\n'a {}.',\n",
    "an f-string": 'f"a photo of a {c}."\n',
    "a list's brackets": "templates = [\na photo of a {c}\n]\n",
}


@pytest.mark.parametrize("text", PYTHON.values(), ids=PYTHON)
def test_lines_of_python_are_no_templates(text: str, tmp_path: Path) -> None:
    file = write(tmp_path / "t.txt", text)
    with pytest.raises(
        DataError, match=r"t\.txt: \d entr(y that is|ies that are) Python, not text: .*; wanted a template a"
    ):
        templates(str(file))
    write_json(tmp_path / "t.json", text.strip().splitlines())
    with pytest.raises(DataError, match=r"that (is|are) Python, not text"):
        templates(str(tmp_path / "t.json"))


def test_lines_of_python_are_no_class_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 entries that are Python, not text: .*; wanted a class name a line"):
        class_names(str(write(tmp_path / "n.txt", '"cat",\n"dog",\n')))


@pytest.mark.parametrize(
    "text", ['"{c}", said the sign', 'a sign that says "{c}"', "lambda, a {c}", "[{c}] in brackets"]
)
def test_quotation_marks_in_templates_are_text(text: str, tmp_path: Path) -> None:
    assert templates(str(write(tmp_path / "t.txt", text))) == (text,)


MATCHED: dict[str, tuple[list[str], list[str], tuple[int, ...]]] = {
    "a class absent": (["arrow", "time"], ["animal bug", "arrow", "time"], (1, 2)),
    "another order": (["b", "a"], ["a", "b"], (1, 0)),
    "written otherwise": (["Red_fox", "ice-cream"], ["ice cream", "red fox"], (1, 0)),
    "numbers": (["0", "2"], ["cat", "dog", "fox"], (0, 2)),
    "numbers from one": (["1", "2"], ["cat", "dog"], (0, 1)),
    "numbers that are names": (["1994", "1990"], ["1990", "1992", "1994"], (2, 0)),
    "other names, as many": (["n01", "n02"], ["cat", "dog"], (0, 1)),
    "a name that repeats": (["crane", "fox", "crane"], ["crane", "fox", "crane"], (0, 1, 2)),
    "some names in their places": (["cat", "hound"], ["cat", "dog"], (0, 1)),
}


@pytest.mark.parametrize(("own", "names", "expected"), MATCHED.values(), ids=MATCHED)
def test_classes_are_found_by_name(own: list[str], names: list[str], expected: tuple[int, ...]) -> None:
    assert places(own, names, "x") == expected


UNMATCHED = {
    "a class absent": (["arrow", "clock"], ["bug", "arrow", "time"], "2 classes .*, 3 class names, without 'clock'"),
    "numbers from one, one absent": (["1", "3"], ["a", "b", "c"], "2 classes in the data, 3 class names"),
    "a class too many": (["a", "b", "c"], ["a", "b"], "3 classes in the data, 2 class names, without 'c'"),
    "two folders of one class": (["red_fox", "red fox"], ["cat", "red fox"], r"another order .* \('red_fox'\)"),
    "another edition of a list": (["crane", "a", "crane"], ["crane", "a", "hoist"], r"another order .* \('crane'\)"),
    "another order": (["b", "c", "x"], ["a", "b", "c"], r"another order than .* \('b', 'c'\), without 'x'"),
}  # fmt: skip


@pytest.mark.parametrize(("own", "names", "message"), UNMATCHED.values(), ids=UNMATCHED)
def test_classes_that_cannot_be_matched_are_an_error(own: list[str], names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=f"x: .*{message}.*; name them alike, each once"):
        places(own, names, "x")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.txt: no such file"):
        templates(str(tmp_path / "t.txt"))


def test_importing_loaders_imports_no_torch() -> None:
    modules = [f"cocabench.data.{p.stem}" for p in Path(prompts.__file__).parent.glob("*.py") if p.stem != "__init__"]
    code = f"import sys, {', '.join(modules)}; print({{'torch', 'torchvision', 'clip_benchmark'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_class_name_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "n.json").write_text('["cat", "\\ud800 dog"]')
    with pytest.raises(DataError, match=r"n\.json: '\\ud800 dog' holds what is no Unicode character"):
        class_names(str(tmp_path / "n.json"))
