"""The grammars: model strings, task files."""

from pathlib import Path

import pytest

from cocabench.core.errors import SpecError, UsageError
from cocabench.specs.registry import entry, find_tasks, read_tasks
from cocabench.specs.spec import ModelSpec, WeightsKind, parse_model, parse_models, split_models, task_tables

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
        ("ViT-B-32:random@-1", "ViT-B-32:random@-1: the seed '-1'; wanted ViT-B-32:random@SEED, a whole number from 0"),
        ("ViT-B-32:random@", "the seed ''; wanted ViT-B-32:random@SEED"),
        ("hf-hub:", "no name after"),
        ("ViT-B-32:/nowhere/*.pt", "no file matches"),
    ],
)
def test_an_invalid_model_string_is_an_error_that_shows_the_right_form(text: str, said: str) -> None:
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
    (task,) = read_tasks(path)
    assert (task.name, task.spec.version, task.kind.ks) == ("x", 1, (1,))  # type: ignore[attr-defined]


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
def test_task_file_errors_name_file_and_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(TASK.replace(old, new))
    with pytest.raises(SpecError, match=said) as caught:
        read_tasks(path)
    assert str(path) in str(caught.value)


def test_all_errors_of_a_file_are_listed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(TASK.replace("version = 1", "version = 0").replace("ks = [1]", "k = [1]").replace("path", "pth"))
    with pytest.raises(SpecError) as caught:
        read_tasks(path)
    assert len(caught.value.problems) >= 3


VARIANTS = """
name = "{set}/r"
version = 1
evaluator = "retrieval"
summary = "{n:,} images; a photo of a {c}."
primary = "t2i_recall@5"
groups = ["g-{set}"]
[data]
loader = "csv"
path = "./{set}.csv"
[expect]
images = "{n}"
[[variants]]
set = "x"
n = 1000
[[variants]]
set = "y"
n = 20
"""


def test_variants_give_one_task_each_with_their_values_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "v.toml"
    path.write_text(VARIANTS)
    first, second = (task.spec for task in read_tasks(path))
    assert (first.name, first.summary, first.groups) == ("x/r", "1,000 images; a photo of a {c}.", ("g-x",))
    assert (first.expect.images, second.expect.images, second.name) == (1000, 20, "y/r")
    assert read_tasks(path)[1].loader.path == str(tmp_path / "y.csv")  # type: ignore[attr-defined]


def test_lists_of_variants_stand_for_their_combinations(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text('name = "{a}{b}"\nvariants = [[{a = "x"}, {a = "y"}], [{b = ""}, {b = "_2"}]]\n')
    assert [table["name"] for table in task_tables(file)] == ["x", "x_2", "y", "y_2"]
    file.write_text('name = "{a}"\nvariants = [[{a = "x"}], 3]\n')
    with pytest.raises(SpecError, match="wanted a list of tables"):
        task_tables(file)


def test_languages_give_one_task_each_in_a_group_of_the_set(tmp_path: Path) -> None:
    path = tmp_path / "v.toml"
    head = VARIANTS.replace('groups = ["g-{set}"]', 'groups = ["g"]\nlanguages = ["de", "jp"]')
    path.write_text(head.replace("./{set}.csv", "./{set}-{language}.csv"))
    tasks = read_tasks(path)
    assert [task.name for task in tasks] == ["x/r/de", "x/r/jp", "y/r/de", "y/r/jp"]
    assert [(task.spec.language, task.spec.groups) for task in tasks[2:]] == [
        ("de", ("y/r", "g")),
        ("jp", ("y/r", "g")),
    ]
    assert tasks[1].loader.path == str(tmp_path / "x-jp.csv")  # type: ignore[attr-defined]
    counted = 'name = "r"\nn = "{k}"\nlanguages = [{ language = "de", k = 1 }, { language = "fr", k = 2 }]\n'
    path.write_text(counted)
    assert [(table["name"], table["n"]) for table in task_tables(path)] == [("r/de", 1), ("r/fr", 2)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('languages = "de"', r"languages: wanted a list of names, \["),
        ("languages = []", "languages: wanted a list of names"),
        ("languages = [3]", "languages: wanted a list of names"),
        ('languages = [{ lang = "de" }]', "languages: wanted a list of names"),
        ('languages = ["de", "de"]', "languages: 'de' more than once"),
        ('languages = ["de"]\nlanguage = "de"', "language: give it, or languages"),
    ],
)
def test_languages_are_different_names(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "v.toml"
    path.write_text(line + TASK)
    with pytest.raises(SpecError, match=said):
        read_tasks(path)


def test_a_file_with_variants_is_run_whole(tmp_path: Path) -> None:
    path = tmp_path / "v.toml"
    path.write_text(VARIANTS)
    assert [task.name for task in find_tasks([str(path)])] == ["x/r", "y/r"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("n = 20", "", [r"variants.1.n: missing"]),
        ("n = 20", 'n = "many"', [r"variants: Cannot specify ','"]),
        ("n = 20", "n = 2.5", [r"variants.1: expect.images: got 2.5; wanted a whole number"]),
        ('set = "y"', 'set = "x"', ["name: several variants are named 'x/r'"]),
        ("n = 1000", "n = 1000\nk = 1", ["variants.1.k: missing"]),
        ("images = ", "image = ", ["expect.image: unknown key; did you mean 'images'?"]),
        ('./{set}.csv"', './x.csv"\nsplit = "{sett}"', ["data.split: unknown key"]),
    ],
)
def test_variant_errors_name_file_and_key(tmp_path: Path, old: str, new: str, said: list[str]) -> None:
    path = tmp_path / "v.toml"
    path.write_text(VARIANTS.replace(old, new))
    with pytest.raises(SpecError) as caught:
        read_tasks(path)
    assert str(path) in str(caught.value)
    assert len(caught.value.problems) == len(said)
    for problem, start in zip(caught.value.problems, said, strict=True):
        assert problem.startswith(start)


@pytest.mark.parametrize("wrong", ["variants = 3", "variants = []", "variants = [1]"])
def test_variants_are_a_list_of_tables(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "v.toml"
    path.write_text(wrong + TASK)
    with pytest.raises(SpecError, match="variants: wanted a list of tables"):
        read_tasks(path)


def test_a_variants_key_is_used_and_is_not_that_of_class_names(tmp_path: Path) -> None:
    path = tmp_path / "v.toml"
    path.write_text(TASK + "[[variants]]\nidle = 1\n")
    with pytest.raises(SpecError, match=r"variants\.idle: unused; write \{idle\}"):
        read_tasks(path)
    path.write_text(TASK + "[[variants]]\nc = 1\n")
    with pytest.raises(SpecError, match=r"variants\.c: choose another key"):
        read_tasks(path)


def test_two_packages_that_offer_one_name_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the first on the path would load its own model under the other's name."""
    info = tmp_path / "rival-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cocabench.models]\ntransformers = rival:sources\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    message = "model library transformers: offered by cocabench.models.hf.source:sources and rival:sources; wanted one"
    with pytest.raises(UsageError, match=message):
        entry("models", "transformers")
    assert callable(entry("models", "open_clip"))
