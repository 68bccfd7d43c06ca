"""``cocabench run`` from end to end on tiny models and small data, and with everything that can go wrong."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import cocabench
from cocabench.core.errors import ResultsError
from cocabench.models.cached import Cached
from cocabench.models.hardware import hardware
from cocabench.models.open_clip.model import OpenClip
from cocabench.results.store import Store
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models
from tests.conftest import PLUGIN, Command, task


def run(
    command: Command, models: Path, data: Path, output: Path, *more: object, model: str = "clip", tasks: str = "find"
):
    files = ",".join(str(data / f"{name}.toml") for name in tasks.split(","))
    return command("run", "--model", models / model, "--tasks", files, "--data-root", data, "--output", output, *more)


def test_a_run_writes_records_samples_and_thumbnails(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    result = run(command, models, data, tmp_path, tasks="find,name")
    assert result.code == 0, result.err
    assert "t2i_recall@5" in result.out
    results = cocabench.load(tmp_path)
    assert {r.task for r in results} == {"find", "name"}
    assert set(results.frame()["metric"]) >= {"acc1", "t2i_recall@1", "i2t_median_rank"}
    find = next(r for r in results if r.task == "find")
    samples = results.samples(find)
    assert samples["t2i_n_above"].count() == 24
    assert samples["i2t_n_above"].count() == 12
    assert find.parameters.keys() == {"image_encoder", "text_encoder"}
    (thumbnails, _) = sorted((tmp_path / "thumbnails").iterdir())
    assert len(pd.read_parquet(thumbnails)) == 12


def test_numbers_are_reproduced_from_the_stored_samples(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    run(command, models, data, tmp_path, "--json")
    from cocabench.kinds.retrieval import Retrieval
    from cocabench.metrics.base import estimate

    results = cocabench.load(tmp_path)
    record = results.records[0]
    samples = results.samples(record)
    for metric in Retrieval(ks=(1, 5)).metrics():
        assert estimate(metric, samples, seed=0) == record.metrics[metric.name]


def test_json_prints_records_and_nothing_else(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    result = run(command, models, data, tmp_path, "--json", tasks="name")
    (record,) = json.loads(result.out)
    assert record["task"] == "name"
    assert record["metrics"]["acc5"]["n"] == 12
    (tmp_path / "all.json").write_text(result.out)
    assert cocabench.load(tmp_path / "all.json").records[0].task == "name"


def test_finished_results_are_not_run_again_without_fresh(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(command, models, data, tmp_path)
    calls: list[str] = []
    original = Cached.encode_images
    monkeypatch.setattr(Cached, "encode_images", lambda *a, **k: calls.append("x") or original(*a, **k))
    run(command, models, data, tmp_path)
    assert calls == []
    run(command, models, data, tmp_path, "--fresh")
    assert calls == ["x"]
    run(command, models, data, tmp_path, "--limit", 5)
    assert calls == ["x", "x"]


def test_plans_and_runs_that_are_done_import_no_torch(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    run(command, models, data, tmp_path, "--device", "cpu")
    given = ["--tasks", str(data / "find.toml"), "--data-root", str(data), "--output", str(tmp_path), "--device", "cpu"]
    code = (
        "import contextlib, sys\n"
        "from cocabench.cli import main\n"
        "for words in ([], ['--dry-run', '--json'], ['--dry-run', '--fresh']):\n"
        f"    sys.argv[1:] = ['run', '--model', {str(models / 'clip')!r}, *{given}, *words]\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main()\n"
        "    assert not {'torch', 'open_clip', 'torchvision', 'transformers'} & sys.modules.keys(), words\n"
    )
    process = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "(already done)" in process.stderr
    assert "1 of 1 to run" in process.stdout, "with --fresh"


def test_a_dry_run_prints_the_plan_and_loads_nothing(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocabench.models.open_clip.model.build_network", lambda plan: pytest.fail("loaded"))
    result = run(command, models, data, tmp_path, "--dry-run", tasks="find,tell")
    assert "ready" in result.out
    assert "not applicable" in result.out
    assert "1 of 2 to run, 12 images" in result.out
    result = command("run", "--model", "coca_ViT-L-14", "--tasks", "flickr30k", "--data-root", tmp_path, "--dry-run")
    assert "cannot run" in result.out
    assert f"flickr30k: {tmp_path / 'flickr30k'}" in result.out


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_dry_run_of_which_nothing_can_run_exits_with_2(
    command: Command, models: Path, data: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    words = ["run", "--model", models / "clip", "--data-root", tmp_path, "--output", tmp_path / "r", "--dry-run", *more]
    result = command(*words, "--tasks", data / "find.toml")
    assert result.code == 2
    (line,) = result.err.strip().splitlines()
    assert line.startswith("failed nothing can run; find: ")
    result = command(*words, "--tasks", f"{data / 'find.toml'},emoji_flags", "--limit", 2)
    assert (result.code, result.err) == (0, ""), "a part can run"


def test_a_dry_run_says_what_the_run_will_say_of_the_data(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    text = (data / "name.toml").read_text().replace("[params]", '[params]\nclassnames = "./names.txt"')
    names = [f"thing {i}" for i in range(6)]
    (tmp_path / "names.txt").write_text("\n".join([*names, "thing 7"]))
    (tmp_path / "some.toml").write_text(
        text.replace('"name"', '"some"').replace("[data]", "[expect]\nimages = 99\n[data]")
    )
    tasks = ["--tasks", f"{tmp_path / 'some.toml'},{data / 'tell.toml'}", "--limit", 9]
    words = ["run", "--model", models / "clip", *tasks, "--data-root", data, "--output", tmp_path / "r"]
    planned = command(*words, "--dry-run").out
    result = command(*words, "--json")
    (record,) = json.loads(result.out)
    of_data = ("not_standard", "limited", "classes_without_images", "data", "class_order")
    said = [note["text"] for note in record["notes"] if note["code"] in of_data]
    assert {note["code"] for note in record["notes"]} >= {*of_data[:3]}
    for text in said:
        assert f"some: {text}" in planned
    assert f"tell with {models / 'clip'}: the model cannot caption" in planned


def test_one_failing_task_does_not_lose_the_others(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    result = command(
        "run",
        "--model",
        models / "clip",
        "--tasks",
        f"flickr30k,{data / 'name.toml'}",
        "--data-root",
        data,
        "--output",
        tmp_path,
    )
    assert result.code == 1
    assert "failed" in result.err
    assert "flickr30k" in result.err
    assert [r.task for r in cocabench.load(tmp_path)] == ["name"]


def test_an_interruption_keeps_what_is_finished(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = OpenClip.encode_text_block
    count = iter(range(9))

    def interrupted(*args: object, **kwargs: object) -> object:
        if next(count):
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(OpenClip, "encode_text_block", interrupted)
    result = run(command, models, data, tmp_path, tasks="find,name")
    assert result.code == 130
    assert f"1 of 2 results are saved in {tmp_path}; rerun to resume" in result.err
    assert len(cocabench.load(tmp_path)) == 1


def test_a_captioning_task_is_not_applicable_to_a_clip(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    result = run(command, models, data, tmp_path, tasks="tell,find")
    assert result.code == 0
    assert "not applicable" in result.err
    two = run(command, models, data, tmp_path / "two", model=f"coca,{models / 'clip'}", tasks="tell,find")
    assert two.err.index(f"\n{models / 'clip'}\n") < two.err.index("not applicable"), "below its own model's name"
    alone = run(command, models, data, tmp_path / "other", tasks="tell")
    assert alone.code == 2, "nothing was evaluated"
    assert f"nothing was evaluated; tell with {models / 'clip'}: the model cannot caption" in alone.err


def test_a_coca_captions_and_its_captions_are_written_for_cocos_server(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    result = run(command, models, data, tmp_path, model="coca", tasks="tell")
    assert result.code == 0, result.err
    results = cocabench.load(tmp_path)
    (written,) = tmp_path.rglob("*.captions.json")
    captions = {row["image_id"]: row["caption"] for row in json.loads(written.read_text())}
    samples = results.samples(results.records[0])
    assert captions == {int(i): c for i, c in zip(samples["image_id"], samples["caption"], strict=True)}
    options = results.records[0].signature.protocol["decoding"]
    assert options["num_beams"] == 6  # type: ignore[index]


def test_decoding_flags_override_the_task_and_stand_in_the_signature(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    run(
        command,
        models,
        data,
        tmp_path,
        "--num-beams",
        2,
        "--seq-len",
        8,
        "--decoding",
        "logprob",
        model="coca",
        tasks="tell",
    )
    decoding = cocabench.load(tmp_path).records[0].signature.protocol["decoding"]
    assert isinstance(decoding, dict)
    assert (decoding["num_beams"], decoding["num_beam_groups"], decoding["seq_len"], decoding["decoding"]) == (
        2,
        1,
        8,
        "logprob",
    )


def test_the_batch_is_halved_when_memory_runs_out(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = OpenClip.encode_image_batch

    def greedy(self: OpenClip, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("too many")
        return original(self, pixels)

    plain = run(command, models, data, tmp_path / "a", "--json")
    monkeypatch.setattr(OpenClip, "encode_image_batch", greedy)
    result = run(command, models, data, tmp_path / "b", "--json", "--no-cache")
    (before,), (after,) = json.loads(plain.out), json.loads(result.out)
    assert after["metrics"] == before["metrics"]
    assert [note["text"] for note in after["notes"]][:2] == [
        "out of memory with 12 images per batch; continued with 6",
        "out of memory with 6 images per batch; continued with 3",
    ]


def test_a_batch_of_texts_is_not_halved_for_images(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_sources(parse_models(str(models / "clip")))[0].load(hardware(device="cpu"))
    assert isinstance(model, OpenClip)
    pixels, sizes = torch.zeros(8, 1), dict[str, list[int]](images=[], texts=[])

    def work(kind: str, most: int, inputs: torch.Tensor) -> None:
        sizes[kind].append(len(inputs))
        if len(inputs) > most:
            raise torch.OutOfMemoryError("too many")

    for kind, most in (("images", 2), ("texts", 8), ("images", 2)):
        model.run_batch(kind, partial(work, kind, most), pixels)
    assert sizes == {"images": [8, 4] + [2] * 8, "texts": [8]}


def test_nan_features_are_an_error(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        OpenClip, "encode_image_batch", lambda self, pixels: torch.full((len(pixels), 16), float("nan"))
    )
    result = run(command, models, data, tmp_path)
    assert result.code == 1
    assert "NaN" in result.err
    assert "00.png" in result.err
    assert [path.parts[-3] for path in tmp_path.rglob("*find*")] == ["outcomes"], "the error, no Record"


def broken_copy(data: Path, folder: Path) -> Path:
    """Copy the data with one image truncated and one that is a text file."""
    import shutil

    shutil.copytree(data, folder)
    (folder / "images" / "03.png").write_bytes((folder / "images" / "03.png").read_bytes()[:200])
    (folder / "images" / "07.png").write_text("no image")
    return folder


def test_a_bad_image_is_named_or_skipped_and_counted(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    broken = broken_copy(data, tmp_path / "data")
    result = run(command, models, broken, tmp_path / "r")
    assert result.code == 1
    assert "03.png" in result.err
    assert "--skip-bad-images" in result.err
    result = run(command, models, broken, tmp_path / "r", "--skip-bad-images", "--json")
    (record,) = json.loads(result.out)
    assert record["skipped_images"] == ["03", "07"]
    assert record["metrics"]["i2t_recall@1"]["n"] == 10


def test_a_limit_is_labelled_and_another_protocol(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    (record,) = json.loads(run(command, models, data, tmp_path, "--limit", 5, "--json").out)
    assert record["signature"]["protocol"]["limit"] == 5
    assert any("5 of 12" in note["text"] for note in record["notes"])


def test_non_standard_counts_are_labelled(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "strict.toml"
    path.write_text(
        (data / "find.toml")
        .read_text()
        .replace("[data]", "[expect]\nimages = 1000\n[data]")
        .replace('"find"', '"strict"')
    )
    result = command(
        "run", "--model", models / "clip", "--tasks", path, "--data-root", data, "--output", tmp_path, "--json"
    )
    (record,) = json.loads(result.out)
    assert record["signature"]["protocol"]["standard"] is False
    assert "12 images, standard: 1000" in record["notes"][0]["text"]


def test_random_weights_are_labelled(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    arch = models / "arch.json"
    from tests.models.tiny import CLIP, write_architecture

    write_architecture(arch, CLIP)
    result = command(
        "run", "--model", f"{arch}:random@4", "--tasks", data / "find.toml", "--data-root", data, "--output", tmp_path
    )
    assert "random weights" in result.out
    assert "random@4" in result.out


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--model", "ViT-L-41", "--tasks", "imagenet1k"], 2, "did you mean"),
        (["--model", "ViT-L-14:openia", "--tasks", "imagenet1k"], 2, "openai"),
        (["--model", "demo", "--tasks", "imagenet1"], 2, "did you mean imagenet1k"),
        (["--model", "demo", "--tasks", "nowhere.toml"], 2, "no such file"),
        (["--model", "demo", "--tasks", "flicker30k,imagenet1"], 2, "unknown 'imagenet1' (did you mean imagenet1k"),
        (["--model", "demo", "--tasks", ","], 2, "no tasks given"),
        (["--model", "demo", "--tasks", "demo", "--device", "tpu9"], 2, "--device tpu9"),
        (["--model", "demo", "--tasks", "demo", "--batch-size", "many"], 2, "--batch-size"),
        (["--model", "demo/clip", "--tasks", "flickr30k", "--data-root", "/nowhere"], 2, "/nowhere/flickr30k"),
    ],
)
def test_wrong_input_is_one_line_and_an_exit_code(
    command: Command, args: list[str], code: int, said: str, tmp_path: Path
) -> None:
    result = command("run", *args, "--output", tmp_path, "--quiet")
    assert result.code == code
    assert said in result.err
    assert "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_an_unwritable_folder_is_an_error_before_the_run(command: Command, models: Path, data: Path) -> None:
    result = run(command, models, data, Path("/proc/cocabench/r"))  # where root cannot write either
    assert result.code == 2
    assert "cannot write" in result.err


def test_a_results_path_that_is_a_file_is_an_error(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("")
    result = run(command, models, data, tmp_path / "r")
    assert result.code == 2
    assert "cannot write" in result.err


def test_two_tasks_of_one_name_are_an_error_that_names_both(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.toml").write_text(task("imagenet1k", "retrieval", "t2i_recall@5", 'path = "captions.tsv"', ""))
    result = command("run", "--model", models / "clip", "--tasks", tmp_path / "other.toml", "--data-root", data)
    assert result.code == 2
    assert "already used by" in result.err


@pytest.mark.usefixtures("plugin")
def test_a_plugin_brings_its_model_loader_evaluator_and_task(command: Command, tmp_path: Path) -> None:
    result = command("run", "--model", "toy::one", "--tasks", "toy_norms", "--output", tmp_path, "--json")
    assert result.code == 0, result.err
    (record,) = json.loads(result.out)
    assert record["model"] == "toy::one"
    assert {name: e["value"] for name, e in record["metrics"].items()} == pytest.approx(
        {"norm": 1.0, "norm_north": 1.0, "longer": 0.0}
    )
    assert record["metrics"]["norm_north"]["n"] == 2, "i0 and i2 are from the north"
    train = record["signature"]["protocol"]["extra_data"]["train"]
    assert (train["images"], record["signature"]["protocol"]["standard"]) == (6, True)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("[expect.train]\nimages = 7", "not the standard protocol: 6 images in train, standard: 7"),
        ("[expect.train]\nimgs = 6", "expect.train.imgs: unknown key; did you mean 'images'?"),
        ("[expect.trian]\nimages = 6", "expect.trian: unknown key; did you mean 'train'?"),
    ],
)
def test_further_splits_of_the_data_are_counted(command: Command, tmp_path: Path, changed: str, said: str) -> None:
    text = (PLUGIN / "toy_plugin" / "tasks" / "toy_norms.toml").read_text().replace("toy_norms", "mine")
    (tmp_path / "t.toml").write_text(text.replace("[expect.train]\nimages = 6", changed))
    result = command("run", "--model", "toy::one", "--tasks", tmp_path / "t.toml", "--output", tmp_path, "--json")
    assert said in result.out + result.err


def test_an_old_entry_point_group_is_an_error_that_names_the_new_one(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "old_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: old-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cocabench.evaluators]\nold = old_plugin:Old\n")
    (tmp_path / "t.toml").write_text(task("t", "old", "acc", 'path = "x.tsv"', ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    result = command("run", "--model", "demo/clip", "--tasks", tmp_path / "t.toml")
    assert result.code == 2
    assert "declared in the entry point group cocabench.evaluators; wanted cocabench.kinds" in result.err


def test_shuffled_images_change_no_number(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    lines = (data / "labels.tsv").read_text().splitlines()
    order = np.random.default_rng(0).permutation(len(lines) - 1)
    (data / "shuffled.tsv").write_text("\n".join([lines[0], *(lines[1 + i] for i in order)]))
    (data / "shuffled.toml").write_text(
        (data / "name.toml").read_text().replace("labels.tsv", "shuffled.tsv").replace('"name"', '"shuffled"')
    )
    (a,), (b,) = (json.loads(run(command, models, data, tmp_path, "--json", tasks=t).out) for t in ("name", "shuffled"))
    for metric, value in a["metrics"].items():
        assert b["metrics"][metric]["value"] == pytest.approx(value["value"], abs=1e-9)


def test_samples_lie_beside_the_record(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    run(command, models, data, tmp_path, tasks="name")
    samples = pd.read_parquet(next(tmp_path.rglob("name-*.samples.parquet")))
    assert list(samples["top5_names"].iloc[0])
    assert len(samples["top5"].iloc[0]) == len(samples["top5_scores"].iloc[0]) == 5


def test_a_new_recall_k_is_computed_from_stored_samples(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(command, models, data, tmp_path)
    monkeypatch.setattr("cocabench.models.open_clip.model.build_network", lambda plan: pytest.fail("loaded"))
    path = tmp_path / "find.toml"
    text = (data / "find.toml").read_text().replace("ks = [1, 5]", "ks = [3]").replace("recall@5", "recall@3")
    path.write_text(text)
    result = command(
        "run", "--model", models / "clip", "--tasks", path, "--data-root", data, "--output", tmp_path, "--json"
    )
    (record,) = json.loads(result.out)
    assert record["primary"] == "t2i_recall@3"
    assert set(record["metrics"]) >= {"t2i_recall@3", "i2t_recall@3"}
    assert cocabench.load(tmp_path).records[0].primary == "t2i_recall@3"


def test_a_record_with_skipped_images_is_rerun_unless_skipping_is_allowed(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    broken = broken_copy(data, tmp_path / "data")
    assert run(command, models, broken, tmp_path / "r", "--skip-bad-images").code == 0
    result = run(command, models, broken, tmp_path / "r")
    assert result.code == 1
    assert "03.png" in result.err


def test_a_task_that_cannot_be_planned_does_not_stop_others(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"thing 0": ["a thing"], "thing 1": ["one"]}))
    text = (data / "name.toml").read_text().replace('"cifar10"', '"./p.json"').replace('"name"', '"cupl"')
    (tmp_path / "cupl.toml").write_text(text)
    tasks = f"{tmp_path / 'cupl.toml'},{data / 'find.toml'}"
    result = command("run", "--model", models / "clip", "--tasks", tasks, "--data-root", data, "--output", tmp_path)
    assert result.code == 1
    assert "no prompts for 'thing 2' and 3 more" in result.err
    assert [r.task for r in cocabench.load(tmp_path)] == ["find"]


def test_class_specific_prompts_beside_the_task_file(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.json").write_text(json.dumps({f"thing {i}": [f"a thing numbered {i}", f"{i}"] for i in range(6)}))
    text = (data / "name.toml").read_text().replace('"cifar10"', '"./p.json"').replace('"name"', '"cupl"')
    (tmp_path / "cupl.toml").write_text(text)
    result = command(
        "run", "--model", models / "clip", "--tasks", tmp_path / "cupl.toml", "--data-root", data, "--output", tmp_path
    )
    assert result.code == 0, result.err


def test_unavailable_and_crashing_models_do_not_stop_others(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--tasks", data / "find.toml", "--data-root", data, "--output", tmp_path)
    result = command("run", "--model", f"ViT-B-32:/nowhere/e.pt,{models / 'clip'}", *arguments)
    assert result.code == 1
    assert "no such file: /nowhere/e.pt" in result.err
    assert len(cocabench.load(tmp_path)) == 1
    monkeypatch.setattr(OpenClip, "encode_text_block", lambda *a, **k: 1 / 0)
    result = command("run", "--model", models / "coca", *arguments)
    assert result.code == 1
    assert "ZeroDivisionError" in result.err


def test_out_of_memory_with_one_sample_says_what_to_do(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: OpenClip, pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(OpenClip, "encode_image_batch", never)
    result = run(command, models, data, tmp_path)
    assert result.code == 1
    assert "out of memory with one sample" in result.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("t2i_recall@5", "t2i_recal@5", "primary: 't2i_recal@5' is not among the metrics; did you mean"),
        ("ks = [1, 5]", 'ks = ["1"]', "params.ks.0"),
    ],
)
def test_a_wrong_primary_or_type_is_an_error_before_the_run(
    command: Command, models: Path, data: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "x.toml"
    path.write_text((data / "find.toml").read_text().replace(old, new))
    result = command("run", "--model", models / "clip", "--tasks", path, "--data-root", data, "--output", tmp_path)
    assert result.code != 0
    assert said in result.err


def test_a_score_at_chance_is_flagged(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    result = run(command, models, data, tmp_path, tasks="name")
    assert "% is near chance (16.7 %)" in result.out


def test_unavailable_metrics_of_a_record_survive_resuming(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cocabench.kinds.retrieval import Retrieval

    run(command, models, data, tmp_path)
    before = next(tmp_path.rglob("find-*.json")).read_text()
    monkeypatch.setattr(Retrieval, "unavailable", lambda self, machine: {"t2i_recall@1": "no such tool here"})
    assert run(command, models, data, tmp_path).code == 0
    assert next(tmp_path.rglob("find-*.json")).read_text() == before


def test_a_checkpoint_is_hashed_once_per_model(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cocabench.models.open_clip import weights

    hashed: list[Path] = []
    original = weights.digest_file
    monkeypatch.setattr(weights, "digest_file", lambda path: hashed.append(path) or original(path))
    run(command, models, data, tmp_path, "--dry-run", tasks="find,name")
    assert len(hashed) == 1


def test_tasks_and_runs_on_the_same_images_encode_once(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plain,) = json.loads(run(command, models, data, tmp_path / "a", "--json", "--no-cache", tasks="name").out)
    run(command, models, data, tmp_path / "b")
    monkeypatch.setattr(OpenClip, "encode_image_batch", lambda self, pixels: pytest.fail("encoded again"))
    result = run(command, models, data, tmp_path / "b", "--json", tasks="name")
    assert result.code == 0, result.err
    (shared,) = json.loads(result.out)
    assert {**shared, "timing": 0, "created": 0} == {**plain, "timing": 0, "created": 0}
    samples = [pd.read_parquet(next((tmp_path / x).rglob("name-*.samples.parquet"))) for x in "ab"]
    pd.testing.assert_frame_equal(*samples, check_exact=True)


@pytest.mark.parametrize("more", [["--precision", "bf16"], ["--no-cache", "--fresh"]])
def test_another_precision_and_no_cache_compute_anew(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    run(command, models, data, tmp_path)
    encoded: list[int] = []
    original = OpenClip.encode_image_batch
    monkeypatch.setattr(OpenClip, "encode_image_batch", lambda s, x: encoded.append(len(x)) or original(s, x))
    assert run(command, models, data, tmp_path, *more).code == 0
    assert encoded == [12]


def test_the_cache_is_shown_and_cleared(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    cache = ("--cache", tmp_path / "cache")
    assert f"{tmp_path / 'cache' / 'spaces'}: 0.0 MB of at most 10.0 GB" in command("cache", "info", *cache).out
    run(command, models, data, tmp_path, *cache)
    assert f"{models / 'clip'} images" in command("cache", "info", *cache).out
    spaces = json.loads(command("cache", "info", "--json", *cache).out)["spaces"]
    assert sorted(one["entries"] for one in spaces if one["label"].startswith(str(models))) == [12, 12, 24]
    assert "removed" in command("cache", "clear", *cache).out
    assert json.loads(command("cache", "info", "--json", *cache).out)["spaces"] == []


def test_the_cache_of_version_0_1_is_removed_with_a_note(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    old = tmp_path / "cache"
    (old / "features").mkdir(parents=True)
    (old / "captions").mkdir()
    for name in ("features/index.sqlite", "features/1.f32", "captions/answers.sqlite"):
        (old / name).write_bytes(bytes(1_000_000))
    result = run(command, models, data, tmp_path, "--cache", old)
    assert "version 0.1" not in result.err, "what others keep under such names stays"
    assert (old / "features" / "1.f32").is_file()
    (old / "features/index.sqlite").write_bytes(b"CREATE TABLE collections (".ljust(1_000_000))
    (old / "captions/answers.sqlite").write_bytes(b"CREATE TABLE answers (".ljust(1_000_000))
    (old / "features" / "mine.txt").touch()
    result = run(command, models, data, tmp_path, "--cache", old, "--fresh")
    assert f"{old}: removed 3.0 MB cached by version 0.1" in result.err
    assert [path.name for path in old.rglob("*.*") if path.suffix != ".sqlite"] == ["mine.txt"]
    assert "version 0.1" not in run(command, models, data, tmp_path, "--cache", old, "--fresh").err


def test_a_dry_run_counts_cached_images(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocabench.core.signature.SETTLED_S", -10.0)  # the images may have been written just now
    result = run(command, models, data, tmp_path, "--dry-run", tasks="find,name")
    assert "2 of 2 to run, 24 images to process\n" in result.out
    run(command, models, data, tmp_path)
    result = run(command, models, data, tmp_path, "--dry-run", tasks="find,name")
    assert "1 of 2 to run, 12 images to process, 12 of them cached" in result.out
    result = run(command, models, data, tmp_path, "--dry-run", "--no-cache", tasks="find,name")
    assert "12 images to process\n" in result.out


def test_an_unusable_cache_is_one_note_and_the_run_continues(
    command: Command, models: Path, data: Path, tmp_path: Path, own_spaces: Path
) -> None:
    own_spaces.write_text("a file where a folder should be")
    result = run(command, models, data, tmp_path, "--quiet")
    assert result.code == 0
    assert len(result.err.strip().splitlines()) == 1
    assert f"{own_spaces}: cannot be written to" in result.err
    (record,) = cocabench.load(tmp_path)
    assert sum(str(own_spaces) in note.text for note in record.notes) == 1


def test_a_failed_thumbnail_write_is_a_note_and_the_record_is_kept(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Store, *arguments: object) -> None:
        raise ResultsError("thumbnails", "cannot write (No space left on device)")

    monkeypatch.setattr(Store, "put_thumbnails", full)
    assert run(command, models, data, tmp_path).code == 0
    (record,) = cocabench.load(tmp_path)
    said = "no pictures for reports: thumbnails: cannot write (No space left on device)"
    assert ("no_pictures", said) in record.notes


def test_an_invalid_cache_limit_is_an_error(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCABENCH_CACHE_GB", "much")
    result = run(command, models, data, tmp_path)
    assert result.code == 2
    assert "COCABENCH_CACHE_GB: got 'much'" in result.err


def elsewhere(data: Path, name: str, folder: Path) -> Path:
    """Write the task of that name over copies of its images."""
    import shutil

    shutil.copytree(data / "images", data / "copies", dirs_exist_ok=True)
    (data / "copies.tsv").write_text((data / "captions.tsv").read_text().replace("images/", "copies/"))
    path = folder / f"{name}_elsewhere.toml"
    text = (data / f"{name}.toml").read_text().replace("captions.tsv", "copies.tsv")
    path.write_text(text.replace(f'"{name}"', f'"{name}_elsewhere"'))
    return path


@pytest.mark.parametrize("tasks", ["tell,find", "find,name,tell", "choose,find,prefer"])
def test_captioning_and_other_tasks_on_the_same_images_encode_once(
    command: Command, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: str
) -> None:
    apart = {}
    for name in tasks.split(","):
        (record,) = json.loads(
            run(command, models, data, tmp_path, "--no-cache", "--json", model="coca", tasks=name).out
        )
        apart[name] = record["metrics"]
    from open_clip.transformer import VisionTransformer

    encoded: list[int] = []
    original = VisionTransformer.forward
    monkeypatch.setattr(VisionTransformer, "forward", lambda net, x: encoded.append(len(x)) or original(net, x))
    result = run(command, models, data, tmp_path, "--fresh", "--json", model="coca", tasks=tasks)
    assert sum(encoded) == 12
    records = json.loads(result.out)
    assert {record["task"]: record["metrics"] for record in records} == apart
    assert records[0]["task"] in ("tell", "prefer")


def test_captioning_is_reordered_for_shared_images_only(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    apart = elsewhere(data, "find", tmp_path), elsewhere(data, "tell", tmp_path)
    for names, order in (
        (("find", "name", apart[1]), ["find", "name", "tell_elsewhere"]),
        ((apart[0], "find", "name", "tell"), ["find_elsewhere", "tell", "find", "name"]),
    ):
        files = ",".join(str(data / f"{name}.toml") if isinstance(name, str) else str(name) for name in names)
        result = command("run", "--model", models / "coca", "--tasks", files, "--data-root", data, "--dry-run")
        assert [line.split()[1] for line in result.out.splitlines() if " ready " in line] == order
