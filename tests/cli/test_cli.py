"""The commands beside ``run``, as a user types them."""

import json
import math
import shutil
from pathlib import Path

import pytest
from PIL import Image

import cocabench
from tests.conftest import Command


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the results that the first test makes and all copy."""
    return tmp_path_factory.mktemp("ran") / "results"


@pytest.fixture
def drawn_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw figures without other processes, whose start takes longer; tests/report draws with them."""
    monkeypatch.setattr("cocabench.report.plots.MAX_FIGURES_IN_PROCESS", 1000)


@pytest.fixture
def results(command: Command, models: Path, data: Path, tmp_path: Path, ran: Path) -> Path:
    """Return the results of both tiny models on two tasks."""
    if ran.is_dir():
        return shutil.copytree(ran, tmp_path / "results")
    tasks = f"{data / 'find.toml'},{data / 'name.toml'}"
    folders = f"{models / 'clip'},{models / 'coca'}"
    told = command(
        "run", "--model", folders, "--tasks", tasks, "--data-root", data, "--output", tmp_path / "results", "--quiet"
    )
    assert told.code == 0, told.err
    shutil.copytree(tmp_path / "results", ran)
    return tmp_path / "results"


def test_compare_prints_a_table_markdown_and_csv(command: Command, results: Path) -> None:
    table, markdown, csv = (command("compare", results, "--format", form).out for form in ("table", "markdown", "csv"))
    assert "difference" in table
    assert markdown.startswith("| task | metric |")
    assert csv.splitlines()[0].startswith("task,metric,model,value,low,high,n")
    assert len(csv.splitlines()) == 5
    everything = command("compare", results, "--all-metrics", "--format", "csv").out
    assert "i2t_median_rank" in everything


@pytest.mark.usefixtures("drawn_here")
def test_report_writes_tables_and_figures(command: Command, results: Path, tmp_path: Path) -> None:
    told = command("report", results, "--output", tmp_path / "r")
    assert told.code == 0, told.err
    files = {p.relative_to(tmp_path / "r").as_posix() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    assert {"index.html", "data.json", "tables/results.md", "tables/results.tex", "figures/figure1a.pdf"} <= files
    assert "find" in (tmp_path / "r" / "index.html").read_text()


@pytest.mark.usefixtures("drawn_here")
def test_the_published_figure_is_drawn_without_results(command: Command, tmp_path: Path) -> None:
    models = "coca_ViT-L-14:laion2b_s13b_b90k,ViT-L-14:laion2b_s32b_b82k"
    told = command("report", "--published", models, "--output", tmp_path)
    assert told.code == 0, told.err
    assert "| imagenet1k | acc1 | **75.6** | 75.2 | +0.4 |" in (tmp_path / "tables" / "results.md").read_text()
    assert "another CLIP baseline than the blog" in (tmp_path / "figures" / "figure1a.svg").read_text()


def test_report_needs_something_to_report(command: Command) -> None:
    told = command("report")
    assert told.code == 2
    assert "neither results nor --published" in told.err


def test_gate_holds_regresses_and_refuses(command: Command, results: Path, tmp_path: Path) -> None:
    rules = tmp_path / "gates.toml"
    rules.write_text("[defaults]\ntolerance = 0.5\n")
    same = command("gate", "--baseline", results, "--current", results, "--rules", rules, "--junit", tmp_path / "j.xml")
    assert same.code == 0, same.err
    assert 'failures="0"' in (tmp_path / "j.xml").read_text()
    better = worsen(results, tmp_path / "before", by=-0.9)
    assert command("gate", "--baseline", better, "--current", results, "--rules", rules).code == 1
    for path in (tmp_path / "before").rglob("*.json"):
        path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    told = command("gate", "--baseline", better, "--current", results, "--rules", rules)
    assert told.code == 2
    assert "incomparable" in told.out
    assert command("gate", "--baseline", tmp_path / "nowhere", "--current", results, "--rules", rules).code == 2
    rules.write_text("[defaults]\ntolerence = 0.5\n")
    told = command("gate", "--baseline", results, "--current", results, "--rules", rules)
    assert told.code == 2
    assert "did you mean 'tolerance'" in told.err


def worsen(results: Path, folder: Path, *, by: float) -> Path:
    """Copy Records with every value lowered, and known exactly."""
    for path in results.rglob("*.json"):
        table = json.loads(path.read_text())
        for metric in table["metrics"].values():
            if metric["value"] is not None:
                metric["value"] -= by
                metric["low"] = metric["high"] = metric["value"]
        target = folder / path.relative_to(results)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(table))
    return folder


def test_score_scores_files(command: Command, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"1": "a red bus on the street", "2": "two dogs play in snow"}))
    references = {"1": ["a red bus on a street", "the bus is red"], "2": ["two dogs playing in the snow"]}
    (tmp_path / "r.json").write_text(json.dumps(references))
    told = command(
        "score",
        "--candidates",
        tmp_path / "c.json",
        "--references",
        tmp_path / "r.json",
        "--metrics",
        "bleu,cider",
        "--json",
    )
    found = json.loads(told.out)["metrics"]
    assert set(found) == {"BLEU@1", "BLEU@2", "BLEU@3", "BLEU@4", "CIDEr"}
    assert 0.5 < found["BLEU@1"]["value"] <= 1
    shuffled = {"1": "two dogs play in snow", "2": "a red bus on the street"}
    (tmp_path / "c.json").write_text(json.dumps(shuffled))
    told = command(
        "score", "--candidates", tmp_path / "c.json", "--references", tmp_path / "r.json", "--metrics", "bleu", "--json"
    )
    assert json.loads(told.out)["metrics"]["BLEU@1"]["value"] < found["BLEU@1"]["value"]


@pytest.mark.parametrize(
    ("metrics", "code", "said"), [("blue", 2, "did you mean BLEU"), ("bleu", 2, "no references for 1 of 1 ids")]
)
def test_score_says_what_is_wrong(command: Command, tmp_path: Path, metrics: str, code: int, said: str) -> None:
    (tmp_path / "c.json").write_text('{"1": "a"}')
    (tmp_path / "r.json").write_text('{"2": ["b"]}')
    told = command(
        "score", "--candidates", tmp_path / "c.json", "--references", tmp_path / "r.json", "--metrics", metrics
    )
    assert told.code == code
    assert said in told.err


def test_score_takes_a_record_with_its_references(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    told = command(
        "run",
        "--model",
        models / "coca",
        "--tasks",
        data / "tell.toml",
        "--data-root",
        data,
        "--output",
        tmp_path / "r",
    )
    (record,) = cocabench.load(tmp_path / "r")
    path = cocabench.load(tmp_path / "r").path(record)
    assert path is not None
    for name in (path, path.with_name(record.samples_file)):
        told = command("score", "--candidates", name, "--metrics", "bleu", "--json")
        found = json.loads(told.out)
        assert found["metrics"]["BLEU@4"] == record.metrics["BLEU@4"].model_dump()
        assert found["health"]["distinct_captions"]["value"] == record.metrics["distinct_captions"].value
    told = command("score", "--candidates", next(path.parent.glob("*.captions.json")))
    assert told.code == 2
    assert "--references: missing" in told.err


def test_score_with_a_model(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({f"{i:02}": f"thing {i}" for i in range(12)}))
    (tmp_path / "r.json").write_text(json.dumps({f"{i:02}": [f"a thing {i}", "no"] for i in range(12)}))
    order = ["score", "--candidates", tmp_path / "c.json", "--references", tmp_path / "r.json"]
    scorer = ["--metrics", "clipscore", "--clipscore", models / "clip"]
    told = command(*order, *scorer, "--images", data / "images", "--json")
    found = json.loads(told.out)["metrics"]
    assert set(found) == {"CLIPScore", "RefCLIPScore"}
    assert found["CLIPScore"]["n"] == 12
    for wrong, said in (
        (scorer, "--clipscore: without --images DIR"),
        (["--images", data], "--images: without --clipscore MODEL"),
        (["--metrics", "refclipscore"], "wanted --clipscore MODEL and --images DIR"),
    ):
        told = command(*order, *wrong)
        assert told.code == 2
        assert said in told.err


def test_caption_captions_files_and_folders(command: Command, models: Path, data: Path) -> None:
    told = command(
        "caption", "--model", models / "coca", data / "images", data / "images" / "03.png", "--seq-len", 8, "--json"
    )
    assert told.code == 0, told.err
    rows = json.loads(told.out)
    assert len(rows) == 13
    assert rows[3]["caption"] == rows[12]["caption"]
    plain = command("caption", "--model", models / "coca", data / "images" / "03.png", "--seq-len", 8).out
    assert rows[3]["caption"] in plain


def test_caption_refuses_a_clip_a_missing_file_and_a_text(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    told = command("caption", "--model", models / "clip", data / "images" / "03.png")
    assert told.code == 2
    assert "clip: a model that cannot caption; wanted a CoCa" in told.err
    assert "no such file" in command("caption", "--model", models / "coca", tmp_path / "x.png").err
    (tmp_path / "x.png").write_text("text")
    assert "x.png" in command("caption", "--model", models / "coca", tmp_path / "x.png").err


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("more", "said"), [((), "cannot caption"), (("--text", "a dog"), "cannot say how likely")])
def test_caption_with_a_plugins_model_that_cannot_is_one_line(
    command: Command, data: Path, more: tuple[str, ...], said: str
) -> None:
    told = command("caption", "--model", "toy::one", data / "images" / "03.png", *more)
    assert told.code == 2
    assert told.err.startswith(f"error --model toy::one: a model that {said}")
    assert told.err.count("\n") == 1


def test_caption_names_what_it_leaves_out(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("text")
    (tmp_path / "notes.txt").write_text("no image, and not looked at")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "good.png").write_bytes((data / "images" / "03.png").read_bytes())
    told = command("caption", "--model", models / "coca", tmp_path, "--seq-len", 8, "--skip-bad-images", "--json")
    assert [Path(row["image"]).name for row in json.loads(told.out)] == ["good.png"]
    assert "bad.png" in told.err
    assert "notes.txt" not in told.err


def test_caption_continues_a_prompt(command: Command, models: Path, data: Path) -> None:
    shared = ("caption", "--model", models / "coca", data / "images" / "03.png", "--seq-len", 9, "--json")
    for kind in ("beam_search", "top_k"):
        (row,) = json.loads(command(*shared, "--prompt", "A photo of", "--generation-type", kind).out)
        assert row["caption"].startswith("a photo of ")
    told = command(*shared, "--prompt", "a photo of a very very long thing")
    assert told.code == 2
    assert "prompt: 8 tokens; wanted at most 7" in told.err


def test_caption_tells_how_likely_texts_are(command: Command, models: Path, data: Path) -> None:
    texts = ("a dog", "a red bus on the street", "cat")
    flags = [flag for text in texts for flag in ("--text", text)]
    images = (data / "images" / "03.png", data / "images" / "04.png")
    told = command("caption", "--model", models / "coca", *images, *flags, "--json")
    rows = json.loads(told.out)
    assert [row["image"] for row in rows] == [str(image) for image in images for _ in texts]
    assert {row["text"]: row["n_tokens"] for row in rows} == {"a dog": 3, "a red bus on the street": 7, "cat": 2}
    for three in (rows[:3], rows[3:]):
        assert [row["logprob"] for row in three] == sorted((row["logprob"] for row in three), reverse=True)
    assert all(
        row["perplexity"] == pytest.approx(math.exp(-row["logprob"] / row["n_tokens"]), rel=1e-2) for row in rows
    )
    assert "wanted one of the two" in command("caption", "--model", "x", *images, *flags, "--prompt", "a").err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--top-k", 5), "--top-k: given with --generation-type beam_search; wanted --generation-type top_k"),
        (("--generation-type", "greedy", "--num-beams", 3), "--num-beams: given with --generation-type greedy"),
        (("--generation-type", "top_p", "--top-p", 7), "top_p: got 7.0, wanted between 0 and 1"),
        (("--num-beams", 4, "--num-beam-groups", 3), "num_beam_groups: got 3, wanted a divisor of 4 beams"),
        (("--diversity-penalty", 1), "diversity_penalty: got 1.0, wanted 0 in legacy decoding"),
    ],
)
def test_caption_refuses_options_that_say_nothing(
    command: Command, models: Path, data: Path, flags: tuple[object, ...], said: str
) -> None:
    told = command("caption", "--model", models / "coca", data / "images" / "03.png", "--seq-len", 8, *flags)
    assert told.code == 2
    assert said in told.err


def test_caption_samples_with_a_seed(command: Command, models: Path, data: Path) -> None:
    sampled = ("caption", "--model", models / "coca", data / "images", "--seq-len", 9, "--json")
    sampled += ("--generation-type", "top_k", "--top-k", 50, "--temperature", 2, "--seed")
    first, again, other = (command(*sampled, seed).out for seed in (1, 1, 2))
    assert first == again != other


def test_lists_are_tables_and_json(command: Command) -> None:
    tasks = {row["task"]: row for row in json.loads(command("list", "tasks", "--json").out)}
    assert {"imagenet1k", "flickr30k", "coco_karpathy_test", "emoji_retrieval"} <= tasks.keys()
    assert tasks["flickr30k"]["primary"] == "t2i_recall@5"
    names = {row["model"]: row for row in json.loads(command("list", "models", "--json").out)}
    assert names["coca_ViT-L-14"]["default"] == "laion2b_s13b_b90k"
    metrics = {row["metric"] for row in json.loads(command("list", "metrics", "--json").out)}
    assert {"acc1", "t2i_recall@5", "CIDEr"} <= metrics
    assert "imagenet1k" in command("list", "tasks").out
    robust = {row["task"] for row in json.loads(command("list", "tasks", "imagenet_robustness", "pets", "--json").out)}
    assert robust == {"imagenetv2", "imagenet_sketch", "imagenet-a", "imagenet-r", "objectnet", "pets"}


def test_doctor_says_what_works_and_the_remedy(command: Command, tmp_path: Path) -> None:
    told = command("doctor", "--data-root", tmp_path)
    assert told.code == 0, told.out
    for word in ("torch", "CPU", "METEOR", "SPICE", "flickr30k"):
        assert word in told.out


def test_version_and_unknown_commands(command: Command) -> None:
    assert command("--version").out.strip() == f"cocabench {cocabench.__version__}"
    assert command("rnu").code == 2


def test_an_image_with_transparency_or_grey_is_captioned(command: Command, models: Path, tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P", "I;16", "1"):
        Image.new(mode, (20, 10)).save(tmp_path / f"{mode.replace(';', '')}.png")
    told = command("caption", "--model", models / "coca", tmp_path, "--seq-len", 8, "--json")
    assert len(json.loads(told.out)) == 5, told.err
