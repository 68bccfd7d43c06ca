"""From data to a trained checkpoint to its report, on a CPU, with open_clip's own trainer."""

import itertools
import json
import re
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from safetensors.torch import load_file

import cocabench
from cocabench.models.open_clip.blueprint import blueprint
from cocabench.models.open_clip.build import build_network
from cocabench.specs.spec import parse_model
from tests.conftest import Command
from tests.conftest import task as task_text
from tests.models.test_roberta import WORDS, write_roberta
from tests.models.tiny import COCA, write_architecture

pytestmark = pytest.mark.slow

COLOURS = ("red", "green", "blue", "white", "yellow", "purple")
SHAPES = ("square", "circle", "cross", "bar")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root with 24 drawings, two captions each, and a retrieval and a captioning task."""
    folder = tmp_path_factory.mktemp("drawings")
    rows = ["filepath\ttitle"]
    for colour in COLOURS:
        for shape in SHAPES:
            name = f"{colour}-{shape}.png"
            _drawing(colour, shape).save(folder / name)
            rows += [f"{name}\ta {colour} {shape}", f"{name}\tone {shape}, {colour}"]
    (folder / "all.tsv").write_text("\n".join(rows))
    (folder / "find.toml").write_text(task_text("find", "retrieval", "t2i_recall@5", 'path = "all.tsv"', "ks = [1, 5]"))
    params = 'metrics = ["BLEU@4"]\nseq_len = 10\nnum_beams = 1\nnum_beam_groups = 1'
    (folder / "tell.toml").write_text(task_text("tell", "captioning", "BLEU@4", 'path = "all.tsv"', params))
    write_architecture(folder / "tiny.json", COCA)
    return folder


def _drawing(colour: str, shape: str) -> Image.Image:
    image = Image.new("RGB", (32, 32), "black")
    pen = ImageDraw.Draw(image)
    match shape:
        case "square":
            pen.rectangle((6, 6, 26, 26), fill=colour)
        case "circle":
            pen.ellipse((6, 6, 26, 26), outline=colour, width=4)
        case "cross":
            pen.line((4, 4, 28, 28), fill=colour, width=5)
            pen.line((28, 4, 4, 28), fill=colour, width=5)
        case "bar":
            pen.rectangle((2, 13, 30, 19), fill=colour)
    return image


def given(root: Path, data: Path, run: Path, *settings: str) -> list[object]:
    shared = (f"model={root}/tiny.json:random@0", f"train_data={data}", "workers=0", "log_every_n_steps=1")
    words = [word for setting in (*shared, *settings) for word in ("--set", setting)]
    return [*words, "--device", "cpu", "--output", run]


def losses(run: Path) -> list[float]:
    return [float(value) for value in re.findall(r" Loss: (\S+) ", (run / "out.log").read_text())]


def test_data_train_run_report(command: Command, root: Path, tmp_path: Path) -> None:
    table, run, results = tmp_path / "train.csv", tmp_path / "runs/tiny", tmp_path / "results"
    assert (
        command("data", "csv", "--from", "tsv", "--path", "all.tsv", "--data-root", root, "--output", table).code == 0
    )
    settings = ("batch_size=8", "epochs=15", "save_frequency=5", "warmup=5", "lr=3e-3")
    result = command("train", "coca-scratch", *given(root, table, run, *settings))
    assert result.code == 0, result.err
    assert losses(run)[-1] < 0.7 * losses(run)[0], "it learns"
    stored = load_file(run / "checkpoints/epoch_0.safetensors")
    fresh = build_network(blueprint(parse_model(f"{root}/tiny.json:random@0"))).state_dict()
    assert all(np.array_equal(stored[name], fresh[name]) for name in fresh), "it starts where random@0 does"

    again = command("train", "coca-scratch", *given(root, table, run, *settings, "epochs=20"), "--resume")
    assert again.code == 0, again.err
    assert "(epoch 15)" in (run / "out.log").read_text(), "resumed, not begun again"

    model = f"{run}/architecture.json:{run}/checkpoints/epoch_*"
    tasks = f"{root}/find.toml,{root}/tell.toml"
    result = command("run", "--model", model, "--tasks", tasks, "--data-root", root, "--output", results, "--quiet")
    assert result.code == 0, result.err
    frame = cocabench.load(results).frame()
    recall = frame[frame.metric == "t2i_recall@5"].set_index("model").value
    by_epoch = [recall[f"{run}/architecture.json:{run}/checkpoints/epoch_{k}.pt"] for k in (5, 10, 15, 20)]
    assert max(by_epoch) > 0.45 > recall[f"{run}/architecture.json:{run}/checkpoints/epoch_0.safetensors"]
    result = command("report", results, "--output", tmp_path / "report")
    assert result.code == 0, result.err
    assert "epoch_20" in (tmp_path / "report/index.html").read_text()


@pytest.mark.parametrize("contrastive", [1.0, 0.0], ids=["both losses", "captions only"])
def test_two_processes_on_a_cpu_give_a_checkpoint_that_evaluates(
    command: Command, root: Path, tmp_path: Path, contrastive: float
) -> None:
    """open_clip_train alone cannot: it names a GPU to DistributedDataParallel, and without the contrastive loss waits
    for gradients that never come."""
    table, run = tmp_path / "train.csv", tmp_path / "runs/two"
    command("data", "csv", "--from", "tsv", "--path", "all.tsv", "--data-root", root, "--output", table)
    settings = ("batch_size=4", "epochs=1", "warmup=2", f"coca_contrastive_loss_weight={contrastive}", "lr=3e-3")
    result = command("train", "coca-scratch", *given(root, table, run, *settings), "--nproc", 2)
    assert result.code == 0, result.err
    assert "Device: cpu" in (run / "out.log").read_text()
    assert losses(run)[-1] < losses(run)[0]
    model = f"{run}/architecture.json:{run}/checkpoints/epoch_1.pt"
    result = command(
        "run", "--model", model, "--tasks", f"{root}/find.toml", "--data-root", root, "--json", "--output", run
    )
    (record,) = json.loads(result.out)
    assert record["metrics"]["t2i_recall@5"]["n"] == 24


def test_shards_and_accumulated_gradients(command: Command, root: Path, tmp_path: Path) -> None:
    if tuple(map(int, metadata.version("webdataset").split(".")[:3])) > (0, 2, 86):
        pytest.skip("open_clip's trainer reads shards with webdataset <= 0.2.86; the extra `train` brings it")
    shards, run = tmp_path / "shards", tmp_path / "runs/shards"
    made = ["data", "webdataset", "--from", "tsv", "--path", "all.tsv", "--data-root", root, "--samples", 16]
    assert command(*made, "--output", shards).code == 0
    settings = ("batch_size=4", "accum_freq=2", "epochs=2", "warmup=2", "lr=3e-3", "workers=1")
    result = command("train", "coca-scratch", *given(root, shards, run, *settings))
    assert result.code == 0, result.err
    assert "48 samples an epoch, 12 steps of 8" in result.err
    assert losses(run)[-1] < losses(run)[0]


def test_a_named_clip_is_trained_without_an_architecture_of_its_own(
    command: Command, root: Path, tmp_path: Path
) -> None:
    table, run = tmp_path / "train.tsv", tmp_path / "runs/clip"
    made = ["data", "csv", "--from", "tsv", "--path", "all.tsv", "--data-root", root, "--limit", 4]
    assert command(*made, "--output", table).code == 0
    settings = ("model=ViT-S-32-alt:random@0", "batch_size=4", "epochs=1", "warmup=1")
    result = command("train", "clip-scratch", *given(root, table, run, *settings))
    assert result.code == 0, result.err
    assert not (run / "architecture.json").exists()
    assert "epoch_1.pt" in {path.name for path in (run / "checkpoints").iterdir()}
    assert len(losses(run)) == 2


def test_a_model_folder_is_fine_tuned_with_its_own_tokenizer_and_preprocessing(
    command: Command, root: Path, tmp_path: Path
) -> None:
    table, run = tmp_path / "train.csv", tmp_path / "runs/captioner"
    command(
        "data", "csv", "--from", "emoji", "--target", "captions", "--limit", 8, "--images", tmp_path, "--output", table
    )
    settings = ("model=demo/coca", "batch_size=8", "warmup=1")
    result = command("train", "coca-caption-finetune", *given(root, table, run, *settings))
    assert result.code == 0, result.err
    assert losses(run)[0] < 4, "it starts from what demo/coca knows; at random the loss is 7 or more"
    assert "image_mean: [0.5, 0.5, 0.5]" in (run / "params.txt").read_text()
    model = f"{run}/architecture.json:{run}/checkpoints/epoch_1.pt"
    result = command(
        "run", "--model", model, "--tasks", "emoji_retrieval", "--limit", 9, "--output", tmp_path, "--quiet"
    )
    assert result.code == 0, result.err


def test_the_recipe_of_questions_teaches_the_demos_coca_to_answer(command: Command, root: Path, tmp_path: Path) -> None:
    """Twelve steps on two questions about each drawing: from no word at all to well above the most frequent answers."""
    rows = ["image,question,answers"]
    for colour, shape in itertools.product(COLOURS, SHAPES):
        rows += [f"{colour}-{shape}.png,what {what}?,{own}" for what, own in (("colour", colour), ("shape", shape))]
    (root / "questions.csv").write_text("\n".join(rows) + "\n")
    text = task_text(
        "ask", "vqa", "vqa_accuracy", 'path = "questions.csv"', 'template = "{question}"\nagreement = "any"'
    )
    (root / "ask.toml").write_text(text.replace('"tsv"', '"questions"') + "answer_tokens = 5\n")
    table, run = tmp_path / "train.csv", tmp_path / "runs/asked"
    made = ("data", "csv", "--from", "questions", "--path", "questions.csv", "--template", "{question}")
    assert command(*made, "--data-root", root, "--output", table).code == 0
    settings = (
        "model=demo/coca",
        "answers_after=?",
        "batch_size=16",
        "epochs=4",
        "save_frequency=4",
        "warmup=3",
        "lr=1e-3",
    )
    result = command("train", "coca-vqa-finetune", *given(root, table, run, *settings))
    assert result.code == 0, result.err
    assert losses(run)[-1] < 0.2 * losses(run)[0]
    models = f"demo/coca,{run}/architecture.json:{run}/checkpoints/epoch_4.pt"
    words = ("run", "--model", models, "--tasks", root / "ask.toml", "--data-root", root, "--json")
    before, after = json.loads(command(*words, "--output", tmp_path / "r").out)
    assert before["metrics"]["vqa_accuracy"]["value"] == 0, "the demo's models were trained on names"
    most_frequent = (4 / 24 + 6 / 24) / 2
    assert after["metrics"]["vqa_accuracy"]["value"] > 2 * most_frequent


def test_a_roberta_is_trained_with_its_pad_id_and_labelled(command: Command, root: Path, tmp_path: Path) -> None:
    folder, run = write_roberta(tmp_path / "roberta"), tmp_path / "runs/roberta"
    table = tmp_path / "train.tsv"
    command("data", "csv", "--from", "tsv", "--path", "all.tsv", "--data-root", root, "--output", table)
    vocabulary = [f"architecture.{part}.vocab_size={len(WORDS)}" for part in ("text_cfg", "multimodal_cfg")]
    settings = (f"model={folder}/open_clip_config.json:random@0", "batch_size=8", "epochs=1", "warmup=1", "lr=3e-3")
    result = command("train", "coca-roberta", *given(root, table, run, *settings, *vocabulary))
    assert result.code == 0, result.err
    assert "not causal" in result.err
    assert losses(run)[-1] < losses(run)[0]
    assert json.loads((run / "architecture.json").read_text())["model_cfg"]["pad_id"] == 1


def test_a_trainer_that_fails_is_an_error_that_names_the_log(command: Command, root: Path, tmp_path: Path) -> None:
    table, run = tmp_path / "train.tsv", tmp_path / "runs/broken"
    command("data", "csv", "--from", "tsv", "--path", "all.tsv", "--data-root", root, "--output", table)
    (tmp_path / "broken.png").write_bytes(b"no image")
    table.write_text(f"filepath\ttitle\n{tmp_path}/broken.png\tx\n")
    result = command("train", "coca-scratch", *given(root, table, run, "batch_size=1", "epochs=1"))
    assert result.code == 1
    assert "open_clip_train: ended with code 1" in result.err
