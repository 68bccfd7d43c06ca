"""The grammars: model strings, task files."""

from pathlib import Path

import pytest

from cocabench.core.errors import SpecError, UsageError
from cocabench.specs.registry import read_task
from cocabench.specs.spec import ModelSpec, WeightsKind, parse_model, parse_models, split_models

TAG, FILE, RANDOM = WeightsKind.TAG, WeightsKind.FILE, WeightsKind.RANDOM


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("coca_ViT-L-14", ModelSpec("coca_ViT-L-14", TAG, "coca_ViT-L-14")),
        ("ViT-B/32", ModelSpec("ViT-B/32", TAG, "ViT-B/32")),
        ("ViT-B-32:LAION2B-s34B-b79K", ModelSpec("ViT-B-32:laion2b_s34b_b79k", TAG, "ViT-B-32", "laion2b_s34b_b79k")),
        ("ViT-B-32:/runs/a b/e_5.pt", ModelSpec("ViT-B-32:/runs/a b/e_5.pt", FILE, "ViT-B-32", "/runs/a b/e_5.pt")),
        ("ViT-B-32:/x:y/e.pt", ModelSpec("ViT-B-32:/x:y/e.pt", FILE, "ViT-B-32", "/x:y/e.pt")),
        ("ViT-B-32:w.safetensors", ModelSpec("ViT-B-32:w.safetensors", FILE, "ViT-B-32", "w.safetensors")),
        ("ViT-B-32:random@7", ModelSpec("ViT-B-32:random@7", RANDOM, "ViT-B-32", "7")),
        ("ViT-B-32:random", ModelSpec("ViT-B-32:random@0", RANDOM, "ViT-B-32", "0")),
        ("/a/arch.json:/w.pt", ModelSpec("/a/arch.json:/w.pt", FILE, "/a/arch.json", "/w.pt")),
        ("arch.json:random@1", ModelSpec("arch.json:random@1", RANDOM, "arch.json", "1")),
        ("hf-hub:org/repo", ModelSpec("hf-hub:org/repo", WeightsKind.HUB, "org/repo")),
        ("local-dir:/m", ModelSpec("local-dir:/m", WeightsKind.FOLDER, "/m")),
        ("mine::big:1", ModelSpec("mine::big:1", WeightsKind.PLUGIN, "mine", "big:1")),
        ("demo", ModelSpec("demo", WeightsKind.DEMO, "")),
        ("demo/coca", ModelSpec("demo/coca", WeightsKind.DEMO, "coca")),
    ],
)
def test_a_model_string_means_what_the_grammar_says(text: str, expected: ModelSpec) -> None:
    assert parse_model(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no model"),
        ("ViT-B-32:", "an empty part"),
        (":x", "an empty part"),
        ("/nowhere/model", "neither a folder nor an architecture"),
        ("epoch_5.pt", "ViT-B-32:epoch_5.pt"),
        ("arch.json", "random@0"),
        ("hf-hub:", "nothing after"),
        ("ViT-B-32:/nowhere/*.pt", "no file matches"),
    ],
)
def test_a_model_string_that_means_nothing_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("*", r"\*")):
        parse_models(text)


def test_commas_separate_unless_quoted_backslashed_or_part_of_an_existing_path(tmp_path: Path) -> None:
    assert split_models('ViT-B-32:"/a,b.pt",demo , x:/c\\,d.pt') == ["ViT-B-32:/a,b.pt", "demo", "x:/c,d.pt"]
    folder = tmp_path / "a,b"
    folder.mkdir()
    assert parse_models(str(folder)) == [ModelSpec(str(folder), WeightsKind.FOLDER, str(folder))]


def test_a_glob_is_one_model_per_file_in_natural_order_and_a_literal_name_wins(tmp_path: Path) -> None:
    for name in ("epoch_10.pt", "epoch_9.pt", "odd[1].pt", "odd1.pt"):
        (tmp_path / name).touch()
    assert [Path(s.weights).name for s in parse_models(f"ViT-B-32:{tmp_path}/epoch_*.pt")] == [
        "epoch_9.pt",
        "epoch_10.pt",
    ]
    assert [Path(s.weights).name for s in parse_models(f"ViT-B-32:{tmp_path}/odd[1].pt")] == ["odd[1].pt"]


TASK = """
name = "x"
version = 1
evaluator = "retrieval"
summary = "s"
primary = "t2i_recall@5"
[data]
loader = "csv"
path = "x.csv"
[params]
ks = [1]
"""


def test_a_task_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(TASK)
    task = read_task(path)
    assert (task.name, task.spec.version, task.evaluator.ks) == ("x", 1, (1,))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ks = [1]", "k = [1]", r"params\.k: unknown key; did you mean 'ks'\?"),
        ("ks = [1]", "ks = [0]", r"params\.ks\.0"),
        ("version = 1", 'version = "1"', r"version: got '1'"),
        ('summary = "s"', "", "summary: missing"),
        ('evaluator = "retrieval"', 'evaluator = "retreival"', "did you mean retrieval"),
        ('loader = "csv"', 'loader = "cvs"', "did you mean"),
        ('loader = "csv"', "", r"data\.loader: missing"),
        ("[params]", "[parms]", "parms: unknown key; did you mean 'params'"),
        ("[params]", "[params", "not readable as TOML"),
    ],
)
def test_what_is_wrong_with_a_task_file_is_named_with_file_and_key(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(TASK.replace(old, new))
    with pytest.raises(SpecError, match=said) as caught:
        read_task(path)
    assert str(path) in str(caught.value)


def test_all_errors_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(TASK.replace("version = 1", "version = 0").replace("ks = [1]", "k = [1]").replace("path", "pth"))
    with pytest.raises(SpecError) as caught:
        read_task(path)
    assert len(caught.value.problems) >= 3
