"""Recipes and the command lines that they become."""

import json
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
from open_clip_train import main as trainer
from safetensors.torch import load_file

from cocabench.core.errors import DataError, MissingDataError, SpecError, UnknownNameError, UsageError
from cocabench.models.open_clip.blueprint import blueprint
from cocabench.models.open_clip.build import build_network
from cocabench.models.training import GIB, footprint
from cocabench.specs.spec import parse_model
from cocabench.train.checkpoints import complete, epochs_in
from cocabench.train.launch import adapt_trainer, marker_of, only_answers
from cocabench.train.recipe import find_recipe, parsed_flags, shipped, trainer_flags
from cocabench.train.start import write_weights
from cocabench.train.training import Training, shortage, training
from tests.conftest import Command
from tests.data.drawing import draw, write
from tests.models.tiny import CLIP, COCA, write_architecture

WEIGHTS = ("coca_contrastive_loss_weight", "coca_caption_loss_weight")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    draw(*(tmp_path / f"{i}.png" for i in range(10)))
    rows = [f"{tmp_path / f'{i}.png'}\tpicture {i} again {k}" for i in range(10) for k in range(2)]
    return write(tmp_path / "train.tsv", "\n".join(["filepath\ttitle", *rows]))


def planned(recipe: str, table: Path, *settings: str, **options: object) -> Training:
    given = (f"train_data={table}", "batch_size=4", "workers=0", *settings)
    return training(find_recipe(recipe, given), table.parent / "run", device="cpu", download=False, **options)  # type: ignore[arg-type]


def test_every_shipped_recipe_is_sound_and_says_where_its_values_are_from() -> None:
    assert set(shipped()) >= {
        "coca-scratch",
        "clip-scratch",
        "coca-caption-finetune",
        "coca-vqa-finetune",
        "coca-roberta",
        "pretrain-blog",
    }
    for name in shipped():
        assert find_recipe(name).name == name
        assert find_recipe(name).source


def test_the_fine_tune_is_that_of_open_clips_readme() -> None:
    readme = str(metadata.metadata("open_clip_torch").get_payload())
    blocks = re.findall(r"```bash\n(.*?)```", readme, re.DOTALL)
    block = next(b for b in blocks if "--coca-contrastive-loss-weight 0" in b and "--epochs" in b)
    result = dict(re.findall(r"--([\w-]+) \"?([^\s\"]+)", block))
    finetune = find_recipe("coca-caption-finetune")
    for name in ("wd", "warmup", "lr", "batch_size", "epochs", *WEIGHTS):
        assert finetune.trainer[name] == float(result[name.replace("_", "-")]), name
    assert finetune.model.startswith(result["model"])


def test_what_recipes_call_open_clips_defaults_are_its_defaults() -> None:
    known = trainer_flags()
    assert (known["wd"], known["warmup"], known["lr_scheduler"]) == (0.2, 10_000, "cosine")
    assert parsed_flags(["--model", "ViT-B-32"], "")["lr"] == find_recipe("coca-scratch").trainer["lr"]
    for name in ("clip-scratch", "coca-scratch", "coca-roberta", "pretrain-blog"):
        assert "wd" not in find_recipe(name).trainer


def test_the_blogs_values() -> None:
    """LAION, Training Contrastive Captioners, 2 February 2023."""
    pretrain, finetune = find_recipe("pretrain-blog"), find_recipe("coca-caption-finetune")
    seen = pretrain.trainer["train_num_samples"] * pretrain.trainer["epochs"]
    assert seen == 13e9
    assert pretrain.trainer["batch_size"] * 384 == pytest.approx(90_000, rel=0.01)
    assert (pretrain.trainer["lr"], pretrain.trainer["lr_scheduler"]) == (1e-3, "cosine")
    assert [pretrain.trainer[name] for name in WEIGHTS] == [1, 2]
    assert [finetune.trainer[name] for name in WEIGHTS] == [0, 1]
    wanted = (128, 1e-5, 1, "cosine")
    assert tuple(finetune.trainer[k] for k in ("batch_size", "lr", "epochs", "lr_scheduler")) == wanted


def test_from_scratch_is_from_a_checkpoint_that_cocabench_writes(table: Path) -> None:
    made = planned("clip-scratch", table)
    start, train = made.script.splitlines()
    weights = table.parent / "run/checkpoints/epoch_0.safetensors"
    python = [sys.executable, "-m"]
    assert shlex.split(start) == [*python, "cocabench.train.start", "ViT-B-32:random@0", "--weights", str(weights)]
    words = shlex.split(train)
    assert words[:3] == [*python, "cocabench.train.launch"]
    assert words[words.index("--pretrained") + 1] == str(weights)
    assert words[words.index("--precision") + 1] == "fp32"
    assert made.settings["warmup"] == 2000
    assert any("never ends" in note for note in made.notes)


@pytest.mark.parametrize("index", [True, False])
def test_shards_become_one_file_that_the_trainer_reads(table: Path, tmp_path: Path, index: bool) -> None:
    from tests.models.test_checkpoint import shards

    arch = write_architecture(tmp_path / "arch.json", CLIP)
    net = build_network(blueprint(parse_model(f"{arch}:random@3"), download=False))
    first, _ = shards(tmp_path / "m", net.state_dict(), index=index)
    weights = tmp_path / "m/model.safetensors.index.json" if index else first
    made = planned("clip-scratch", table, f"model={arch}:{weights}")
    assert made.weights == made.checkpoints / "epoch_0.safetensors"
    assert made.words[made.words.index("--pretrained") + 1] == str(made.weights)
    write_weights(made.plan, tmp_path / "whole.safetensors")
    whole = load_file(tmp_path / "whole.safetensors")
    assert whole.keys() == net.state_dict().keys()
    assert all(torch.equal(whole[name], value) for name, value in net.state_dict().items())
    alone = planned("clip-scratch", table, f"model={arch}:{tmp_path / 'whole.safetensors'}")
    assert alone.weights is None


def test_a_tag_is_left_to_open_clip_with_its_quick_gelu(table: Path) -> None:
    made = planned("clip-scratch", table, "model=ViT-B-32:openai")
    assert made.weights is None
    assert made.words[made.words.index("--pretrained") + 1] == "openai"
    assert "--force-quick-gelu" in made.words
    assert "--force-quick-gelu" not in planned("clip-scratch", table, "model=ViT-B-32-quickgelu:openai").words


@pytest.mark.parametrize(("config", "name"), [(COCA, "coca_ViT-own"), (CLIP, "clip_ViT-own")])
def test_open_clip_chooses_the_loss_by_a_name_that_is_never_a_path(
    table: Path, config: dict[str, object], name: str
) -> None:
    """open_clip_train takes CoCa's loss where "coca" is anywhere in --model, a folder's name included."""
    path = write_architecture(table.parent / "cocabench.json", config)
    made = planned("coca-scratch", table, f"model={path}:random@3")
    assert made.words[made.words.index("--model") + 1] == name
    assert made.words[2:5] == ["cocabench.train.launch", "--architecture", str(table.parent / "run/architecture.json")]


def test_roberta_has_its_own_vocabulary_and_pad_id(table: Path) -> None:
    made = planned("coca-roberta", table)
    assert made.plan.config["pad_id"] == 1
    assert made.plan.config["text_cfg"]["vocab_size"] == 50265
    assert made.plan.config["text_cfg"]["hf_model_name"] == "roberta-base", "the rest stays"
    assert any("not causal" in note for note in made.notes)
    start = shlex.split(made.script.splitlines()[0])
    assert json.loads(start[start.index("--changes") + 1])["pad_id"] == 1


def test_several_processes_go_through_torchrun(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = planned("coca-scratch", table, processes=2)
    at = made.words.index("torch.distributed.run")
    assert made.words[at + 1 : at + 4] == ["--standalone", "--nproc-per-node", "2"]
    assert "cocabench.train.launch" in made.words, "on a CPU open_clip_train cannot"
    there = SimpleNamespace(device="cuda")
    monkeypatch.setattr("cocabench.train.training.hardware", lambda device: there)
    with pytest.raises(UsageError, match="one process per GPU"):
        training(find_recipe("coca-scratch", [f"train_data={table}"]), Path("x"), device="cuda", processes=99)


def test_a_setting_is_a_toml_value_or_a_text(table: Path) -> None:
    recipe = find_recipe("coca-scratch", ["lr=1e-3", "local-loss=false", "architecture.vision_cfg.width=96"])
    assert (recipe.trainer["lr"], recipe.trainer["local_loss"]) == (1e-3, False)
    assert recipe.architecture == {"vision_cfg": {"width": 96}}
    made = planned("clip-scratch", table, "aug_cfg={scale='(0.9,1.0)'}", "image_mean=[0.5, 0.5, 0.5]")
    assert made.settings["aug_cfg"] == {"scale": (0.9, 1.0)}
    assert made.settings["image_mean"] == [0.5] * 3


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("batchsize=3", "did you mean batch_size"),
        ("architectur.pad_id=3", "did you mean architecture"),
        ("resume=x", "--resume sets it"),
        ("lr", "no '='"),
    ],
)
def test_a_wrong_setting_is_told_with_a_guess(setting: str, wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted):
        find_recipe("coca-scratch", [setting])


def test_all_that_is_wrong_with_a_recipe_is_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "r.toml", 'name = "r"\nmodell = "x"\n[trainer]\nlrr = 1\nlogs = "x"\n')
    with pytest.raises(SpecError) as caught:
        find_recipe(str(path))
    assert len(caught.value.problems) == 5, caught.value
    for part in ("did you mean 'model'", "did you mean lr", "--output does", "summary: missing", "model: missing"):
        assert part in str(caught.value)
    with pytest.raises(UnknownNameError, match="did you mean coca-scratch"):
        find_recipe("coca-scrach")


def test_a_wrong_value_is_told_with_what_was_wanted(table: Path) -> None:
    with pytest.raises(UsageError, match=r"trainer\.epochs: got 'many'; wanted a whole number"):
        planned("coca-scratch", table, "epochs=many")


def test_what_is_wrong_with_the_data_is_told_before_anything_runs(table: Path) -> None:
    with pytest.raises(UsageError, match="no training data named; --set train_data"):
        training(find_recipe("coca-scratch"), Path("x"), device="cpu")
    with pytest.raises(MissingDataError, match="no such file"):
        planned("coca-scratch", table.with_name("absent.csv"))
    with pytest.raises(UsageError, match="20 samples make no step of batch_size 32"):
        planned("coca-scratch", table, "batch_size=32")
    with pytest.raises(DataError, match="wanted filepath and words"):
        planned("coca-scratch", table, "csv_caption_key=words")
    (table.parent / "3.png").unlink()
    with pytest.raises(MissingDataError, match="1 of its images are not there"):
        planned("coca-scratch", table)


def test_shards_are_counted_and_named_in_braces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocabench.train.data.metadata.version", lambda name: "0.2.86")
    for k in range(3):
        write(tmp_path / f"s/{k:06}.tar", b"")
    with pytest.raises(UsageError, match="train_num_samples=N"):
        planned("coca-scratch", tmp_path / "s")
    write(tmp_path / "s/sizes.json", json.dumps({f"{k:06}.tar": 4 for k in range(3)}))
    made = planned("coca-scratch", tmp_path / "s")
    assert made.settings["train_data"] == f"{tmp_path}/s/{{000000..000002}}.tar"
    assert "12 samples an epoch" in made.notes[0]
    with pytest.raises(UsageError, match="--set workers=3"):
        planned("coca-scratch", tmp_path / "s", "workers=4")
    (tmp_path / "s/000001.tar").unlink()
    assert "::" in planned("coca-scratch", tmp_path / "s").settings["train_data"]
    with pytest.raises(MissingDataError, match="1 of 3 shards missing"):
        planned("coca-scratch", Path(f"{tmp_path}/s/{{000000..000002}}.tar"))
    monkeypatch.setattr("cocabench.train.data.metadata.version", lambda name: "1.0.2")
    with pytest.raises(UsageError, match=r"pip install 'cocabench\[train\]'"):
        planned("coca-scratch", tmp_path / "s")


def test_too_little_memory_names_a_batch_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = blueprint(parse_model("coca_ViT-L-14:random@0"))
    flags = {"precision": "amp", "batch_size": 128, "accum_freq": 1, "grad_checkpointing": False}
    monkeypatch.setattr("cocabench.train.training.available", lambda device: 45 * GIB)
    short = shortage(plan, flags, "cuda", 1)
    assert short is not None
    assert "--set batch_size=64 --set accum_freq=2 keeps the batch" in str(short)
    assert shortage(plan, {**flags, "batch_size": 64, "accum_freq": 2}, "cuda", 1) is None
    assert shortage(plan, {**flags, "grad_checkpointing": True}, "cuda", 1) is None
    monkeypatch.setattr("cocabench.train.training.available", lambda device: 5 * GIB)
    assert "smaller model" in str(shortage(plan, flags, "cuda", 1)), "its parameters alone do not fit"


def test_a_clip_takes_less_memory_than_a_coca_of_its_size() -> None:
    kinds = [footprint(blueprint(parse_model(f"{m}:random@0")), "fp32") for m in ("ViT-B-32", "coca_ViT-B-32")]
    assert kinds[0].total(64, 1) < kinds[1].total(64, 1)
    assert kinds[0].per_gathered == 0


def test_a_checkpoint_is_complete_when_its_end_is_there(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, tmp_path / "epoch_10.pt")
    whole = (tmp_path / "epoch_10.pt").read_bytes()
    write(tmp_path / "epoch_2.pt", whole[:-100])
    write(tmp_path / "epoch_3.pt", b"")
    write(tmp_path / "epoch_latest.pt", whole)
    assert list(epochs_in(tmp_path)) == [2, 3, 10]
    assert [complete(tmp_path / f"epoch_{k}.pt") for k in (10, 2, 3)] == [True, False, False]
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1000)}, tmp_path / "a.safetensors")
    cut = write(tmp_path / "b.safetensors", (tmp_path / "a.safetensors").read_bytes()[:-1])
    assert (complete(tmp_path / "a.safetensors"), complete(cut)) == (True, False)
    assert not complete(tmp_path / "absent.pt")


def test_a_dry_run_prints_the_commands_and_writes_nothing(command: Command, table: Path) -> None:
    run = table.parent / "run"
    given = ["train", "clip-scratch", "--set", f"train_data={table}", "--set", "batch_size=4", "--output", run]
    result = command(*given, "--device", "cpu", "--dry-run")
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) == 2
    assert "20 samples an epoch" in result.err
    assert not run.exists()
    assert "clip-scratch" in command("train").out
    write(run / "out.log", "of an earlier run")
    assert "--resume continues it" in command(*given, "--device", "cpu").err
    write(run / "checkpoints/epoch_1.pt", b"PK cut off")
    assert "cut off while it was written" in command(*given, "--device", "cpu", "--resume").err


def test_the_loss_of_questions_counts_what_follows_the_marker_alone() -> None:
    labels = torch.tensor([[5, 7, 8, 9, 2, 0], [7, 8, 7, 8, 2, 0], [5, 6, 7, 7, 8, 2], [1, 2, 3, 4, 5, 6]])
    assert only_answers(labels, [7, 8], 0).tolist() == [
        [0, 0, 0, 9, 2, 0],
        [0, 0, 7, 8, 2, 0],  # the first marker counts
        [0, 0, 0, 0, 0, 2],
        [0] * 6,  # cut before its answer
    ]
    with pytest.raises(DataError, match=r"none of 1 captions of a batch has the tokens \[7, 8\] of answers_after"):
        only_answers(labels[3:], [7, 8], 0)


def test_the_markers_tokens_are_those_between_question_and_answer() -> None:
    tokenizer = open_clip.get_tokenizer("coca_ViT-B-32")
    marker = marker_of("coca_ViT-B-32", "answer:", 0)
    labels = tokenizer(["question: is it red? answer: no"])[:, 1:]
    assert only_answers(labels, marker, 0)[labels != 0].nonzero().flatten().tolist() == [8, 9], "no, and the end token"
    assert marker_of("coca_ViT-B-32", "", 0) == []


def test_the_trainers_loss_gets_labels_without_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "create_loss", lambda args: open_clip.CoCaLoss(1.0, 0.0))
    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", torch.nn.parallel.DistributedDataParallel)
    adapt_trainer({}, captions_only=False, marker=[7])
    logits = torch.randn(1, 4, 9, generator=torch.Generator().manual_seed(0))
    given = {"image_features": None, "text_features": None, "logits": logits, "logit_scale": None, "output_dict": True}
    found = trainer.create_loss(None)(**given, labels=torch.tensor([[5, 7, 8, 2]]))["caption_loss"]
    wanted = -(logits.log_softmax(-1)[0, 2, 8] + logits.log_softmax(-1)[0, 3, 2]) / 2
    assert found.item() == pytest.approx(wanted.item())


def test_a_recipe_of_questions_needs_captions_with_its_marker(table: Path, tmp_path: Path) -> None:
    settings = (f"train_data={table}", f"model={tmp_path}/tiny.json:random@0", "batch_size=4")
    write_architecture(tmp_path / "tiny.json", COCA)
    with pytest.raises(DataError, match=r"captions without 'answer:' \(first: row 1\)"):
        training(find_recipe("coca-vqa-finetune", settings), tmp_path / "run", device="cpu")
    table.write_text(table.read_text().replace("\tpicture", "\tquestion: what? answer: picture"))
    words = training(
        find_recipe("coca-vqa-finetune", [*settings, "answers_after=?"]), tmp_path / "run", device="cpu"
    ).words
    assert words[words.index("--answers-after") + 1] == "?"
