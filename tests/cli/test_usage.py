"""Errors of the command line: one line each, and the exit code."""

import json
from pathlib import Path

import pytest
import torch

from cocabench.cli.options import params_of
from cocabench.specs.registry import all_tasks, check_primary
from tests.conftest import Command, task

BASELINES = Path(__file__).parents[2] / "results" / "baselines"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run --model m --tasks t --limit abc", "--limit: got 'abc'; wanted a whole number, 1 or more"),
        ("run --model m --tasks t --num-beams 0", "--num-beams: got '0'; wanted 1 or more"),
        ("run --model m --tasks t --beams 0", "--num-beams: got '0'; wanted 1 or more"),
        ("caption x.png --model m --beam-groups 0", "--num-beam-groups: got '0'; wanted 1 or more"),
        ("caption x.png --model m --max-length 1", "--seq-len: got '1'; wanted 2 or more"),
        ("caption x.png --model m --min-length=-1", "--min-seq-len: got '-1'; wanted 0 or more"),
        ("serve --port 99999", "--port: got '99999'; wanted 0 to 65535"),
        ("run --model m --tasks t --watch-timeout soon", "--watch-timeout: got 'soon'; wanted a number, 0 or more"),
        ("run --model m --tasks t --precision fp8", "--precision: got 'fp8'; wanted auto or fp32 or bf16 or fp16"),
        ("run --model m --tasks t --resize fats", "--resize: got 'fats'; wanted own or fast"),
        ("run --model m --tasks emoji_probe --param probe", "--param probe: no =; wanted KEY=VALUE"),
        ("run --model m --tasks emoji_probe --param prob=knn", "no task of --tasks has the param 'prob'; did you mean"),
        (
            "run --model demo/clip --tasks emoji_probe --param probe=lasso",
            "emoji_probe.toml: params.probe: got 'lasso'; wanted 'ridge', 'clip', 'clip_benchmark' or 'knn'",
        ),
        (
            "run --model demo/clip,ViT-B-32:openai --tasks emoji_probe --preprocess openai",
            "--preprocess openai: no model is a checkpoint file, NAME:FILE; leave it out",
        ),
        ("run --model m --tasks t --limit", "--limit: no value; see `cocabench run --help`"),
        ("run --tasks t", "--model: missing; wanted NAME, NAME:TAG, NAME:FILE, a folder"),
        ("run --model m --tasks t --lmit 3", "cocabench run: unknown '--lmit'; did you mean --limit"),
        ("run --model m --tasks t rest", "unexpected extra argument"),
        ("caption --model m", "IMAGE: missing; wanted image files or folders of them"),
        ("rnu", "command: unknown 'rnu'; did you mean run"),
        ("list taks", "command: unknown 'taks'; did you mean tasks? see `cocabench list --help`"),
        ("data csv --from cocoo --output x.csv", "loader: unknown 'cocoo'; did you mean coco?"),
        (
            "data csv --from coco --output x.csv --max-captions x",
            "--annotations: missing; --max-captions: got 'x'; wanted a whole number",
        ),
        ("train coca-scratch --device gpu --dry-run", "--device gpu: no device; wanted auto, cpu, cuda or cuda:1"),
        ("train nosuch", "recipe: unknown 'nosuch'; known: clip-scratch, coca-caption-finetune"),
        ("train coca-scratch --set batch_size=x --dry-run", "trainer.batch_size: got 'x'; wanted a whole number"),
    ],
)
def test_usage_errors_are_one_line_and_exit_with_2(command: Command, words: str, message: str) -> None:
    result = command(*words.split())
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert "nput should" not in result.err, "pydantic's own words"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=3", 3),
        ("k=0.5", 0.5),
        ("k=true", True),
        ("k=ridge", "ridge"),
        ('k="5"', "5"),
        ("k=5,all", [5, "all"]),
        ('k=[1, "all"]', [1, "all"]),
        ("k=", ""),
        ("k=a photo of a = b", "a photo of a = b"),
    ],
)
def test_values_of_param_are_tomls_or_plain_text(text: str, value: object) -> None:
    assert params_of([text], ["k"]) == {"k": value}


@pytest.mark.parametrize(
    "words",
    [
        "run --model demo/clip --tasks flickr30k --data-root {nowhere}",
        "run --model ViT-B-32:{nowhere} --tasks emoji_flags",
        "caption --model demo/coca {nowhere}",
        "score --candidates {nowhere} --references {nowhere}",
        "data csv --from karpathy --path coco --data-root {nowhere} --output {nowhere}.csv",
        "train coca-scratch --set train_data={nowhere}.csv",
        "train {nowhere}.toml",
        "setup spice --corenlp {nowhere}",
        "compare {nowhere}",
        "show {nowhere}",
        "report {nowhere}",
        "gate --baseline {nowhere} --current {nowhere}",
        "import {nowhere}",
        "export {nowhere}",
        "serve {nowhere}",
    ],
)
def test_missing_files_exit_with_2_in_every_command(command: Command, words: str, tmp_path: Path) -> None:
    result = command(*words.format(nowhere=tmp_path / "nowhere").split())
    assert (result.code, result.out) == (2, "")
    assert str(tmp_path / "nowhere") in result.err


def test_run_exits_with_1_after_a_failure_and_2_if_nothing_started(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    arguments = ("--tasks", data / "find.toml", "--data-root", data, "--output", tmp_path, "--quiet")
    assert command("run", "--model", f"{models / 'clip'},ViT-B-32:/nowhere.pt", *arguments).code == 1
    result = command("run", "--model", "ViT-B-32:/nowhere.pt", *arguments)
    assert result.code == 2, "nothing could be started"


def test_run_prints_an_error_of_several_tasks_once(command: Command, data: Path, tmp_path: Path) -> None:
    tasks = f"{data / 'find.toml'},{data / 'name.toml'}"
    result = command(
        "run", "--model", "ViT-B-32:/nowhere.pt", "--tasks", tasks, "--data-root", data, "--output", tmp_path, "--quiet"
    )
    assert result.err.count("no such file: /nowhere.pt") == 1
    assert "on 2 tasks" in result.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that is not there")
@pytest.mark.parametrize("device", ["cuda", "cuda:3", "gpu"])
def test_missing_device_error_is_one_line_with_the_remedy(command: Command, device: str) -> None:
    result = command("run", "--model", "demo/clip", "--tasks", "demo", "--device", device)
    assert result.code == 2
    assert f"--device {device}: " in result.err
    assert "--device cpu" in result.err
    assert "cocabench doctor --gpu" in result.err
    assert len(result.err) < 200


@pytest.mark.parametrize(
    ("evaluator", "primary", "params", "message"),
    [
        ("retrieval", "t2i_recall@3", "ks = [1, 5]", "did you mean 't2i_recall@"),
        ("classification", "acc3", 'classnames = "imagenet1k"\ntemplates = "cifar10"', "did you mean 'acc5'?"),
        ("captioning", "BLUE", 'metrics = ["CIDEr"]', "not among the metrics"),
    ],
)
def test_primary_metric_is_checked_before_the_data(
    command: Command, tmp_path: Path, evaluator: str, primary: str, params: str, message: str
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(task("x", evaluator, primary, 'path = "not-there.tsv"', params))
    result = command("run", "--model", "demo/coca", "--tasks", path, "--data-root", tmp_path, "--output", tmp_path)
    assert result.code == 2
    assert f"x.toml: primary: {primary!r} is not among the metrics" in result.err
    assert message in result.err
    assert "not-there" not in result.err


def test_primary_metric_of_a_domain_is_checked_with_the_data(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(task("x", "captioning", "CIDEr[near]", 'path = "not-there.tsv"', 'metrics = ["CIDEr"]'))
    result = command("run", "--model", "demo/coca", "--tasks", path, "--data-root", tmp_path, "--output", tmp_path)
    assert "primary:" not in result.err
    assert "not-there.tsv" in result.err


def test_train_dry_run_needs_no_data(command: Command, tmp_path: Path) -> None:
    shared = ("train", "coca-scratch", "--dry-run", "--no-memory-check", "--device", "cpu", "--output", tmp_path / "r")
    result = command(*shared)
    assert result.code == 0
    assert "--train-data TRAIN_DATA" in result.out
    assert "could not start: train_data: no training data named" in result.err
    result = command(*shared, "--set", f"train_data={tmp_path / 'later.csv'}")
    assert f"--train-data {tmp_path / 'later.csv'}" in result.out
    assert "later.csv: no such file" in result.err


def test_show_notes_a_renamed_record(command: Command, tmp_path: Path) -> None:
    kept = next(BASELINES.rglob("emoji_retrieval*.json"))
    for name in (kept.name, "mine.json"):
        (tmp_path / name).write_bytes(kept.read_bytes())
    result = command("show", tmp_path)
    assert result.code == 0
    assert result.err.strip().endswith("is left out; name the file itself")
    assert len(result.err.strip().splitlines()) == 1


def test_run_stores_the_seed_and_the_seed_moves_no_value(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    shared = ("--tasks", data / "name.toml", "--data-root", data, "--json")
    one, other = (
        json.loads(
            command("run", "--model", models / "clip", *shared, "--output", tmp_path / seed, "--seed", seed).out
        )[0]
        for seed in ("0", "7")
    )
    assert (one["environment"]["interval_seed"], other["environment"]["interval_seed"]) == ("0", "7")
    assert one["signature"] == other["signature"]
    for name, metric in one["metrics"].items():
        assert metric["value"] == other["metrics"][name]["value"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "a folder, not a file"), (b"", "empty"), (b"\xff\xfe", "not UTF-8 text (byte 0)"), (b"{", "not JSON")],
)
@pytest.mark.parametrize(
    "words",
    [
        "score --candidates {0} --references {0}",
        "import {0}",
        "show {0}",
        "run --model {0}:random@0 --tasks emoji_flags",
    ],
)
def test_unreadable_file_errors_are_plain_english(
    command: Command, tmp_path: Path, words: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / "x.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    result = command(*words.format(path).split(), *(["--output", tmp_path / "r", "--quiet"] if "run" in words else []))
    assert result.code == 2
    assert str(path) in result.err
    assert "rrno" not in result.err
    assert "codec" not in result.err
    if content is not None or words.startswith("score"):
        assert message in result.err


def test_train_rejects_a_binary_table(command: Command, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe")
    result = command("train", "coca-scratch", "--set", f"train_data={tmp_path / 't.csv'}")
    assert result.code == 2
    assert "t.csv: not UTF-8 text (byte 0)" in result.err


def test_ctrl_c_prints_one_line_and_exits_with_130(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cocabench.specs.registry.all_tasks", interrupted)
    result = command("list", "tasks")
    assert (result.code, result.out, result.err.strip()) == (130, "", "stopped")


def test_require_metrics_exits_with_1_if_a_metric_cannot_run(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = {"BLEU@4": "no Java here; install one"}
    monkeypatch.setattr("cocabench.captioneval.unavailable", lambda names, **_: why)
    monkeypatch.setattr("cocabench.kinds.captioning.Captioning.unavailable", lambda self, machine: why)
    (tmp_path / "c.json").write_text('{"1": "a"}')
    (tmp_path / "r.json").write_text('{"1": ["b"]}')
    scored = ("score", "--candidates", tmp_path / "c.json", "--references", tmp_path / "r.json")
    ran = ("run", "--model", models / "coca", "--tasks", data / "tell.toml", "--data-root", data)
    for words in (scored, (*ran, "--output", tmp_path / "r", "--quiet")):
        result = command(*words, "--require-metrics")
        assert result.code == 1
        assert "--require-metrics: BLEU@4: no Java here; install one" in result.err


def test_shipped_tasks_have_their_primary_metric() -> None:
    for task_of_ours in all_tasks().values():
        check_primary(task_of_ours)


def test_java_option_names_the_broken_java_and_holds_for_one_command(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    (tmp_path / "c.json").write_text('{"1": "a"}')
    (tmp_path / "r.json").write_text('{"1": ["b"]}')
    scored = ("score", "--candidates", tmp_path / "c.json", "--references", tmp_path / "r.json")
    ran = ("run", "--model", models / "coca", "--tasks", data / "tell.toml", "--data-root", data)
    for words in (scored, (*ran, "--output", tmp_path / "r", "--quiet")):
        result = command(*words, "--java", nowhere, "--require-metrics")
        assert result.code == 1
        assert f"{nowhere} does not run" in result.err
    assert "BLEU@4" in command(*scored, "--metrics", "BLEU@4").out
