"""cocabench.evaluate and prepare: the Records of a run, and a network that is left as it was."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import cocabench
from cocabench.core.cache import MemoryCache
from cocabench.core.errors import BadImageError, ModelError, UsageError
from cocabench.models.hardware import hardware
from cocabench.models.objects import state_digest
from cocabench.models.open_clip.model import OpenClip
from cocabench.report.results import Results
from cocabench.specs.registry import one_model
from tests.run.contract import UNLIKE


@pytest.fixture(scope="module")
def loaded(models: Path) -> OpenClip:
    model = one_model(str(models / "coca")).load(hardware(device="cpu", workers=0))
    assert isinstance(model, OpenClip)
    return model


def files(data: Path, *names: str) -> list[str]:
    return [str(data / f"{name}.toml") for name in names]


def in_memory(loaded: OpenClip, tasks: Any, **more: Any) -> Results:
    return cocabench.evaluate(loaded.net, tasks, preprocess=loaded.transform, tokenizer=loaded.tokenizer, **more)


def test_a_model_string_gives_the_records_of_a_run(models: Path, data: Path, tmp_path: Path, command: Any) -> None:
    names = files(data, "find", "tell")
    results = cocabench.evaluate(str(models / "coca"), names, data_root=data)
    words = ("--data-root", data, "--output", tmp_path, "--quiet")
    assert command("run", "--model", models / "coca", "--tasks", ",".join(names), *words).code == 0
    run = {r.task: r for r in cocabench.load(tmp_path)}
    assert [r.task for r in results] == ["tell", "find"]
    for record in results:
        unlike = UNLIKE | {"samples_file", "samples_digest"}  # of a file
        assert record.model_dump(exclude=unlike) == run[record.task].model_dump(exclude=unlike)
        stored = cocabench.load(tmp_path).samples(record.task)
        pd.testing.assert_frame_equal(results.samples(record), stored, check_exact=True)


def test_a_network_in_memory_gives_the_numbers_of_its_checkpoint_and_is_left_as_it_was(
    loaded: OpenClip, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = files(data, "find", "tell", "name")
    stored = cocabench.evaluate(str(models / "coca"), names, data_root=data)
    loaded.net.train()
    loaded.net.visual.eval()
    modes = {name: module.training for name, module in loaded.net.named_modules()}
    state, random, numbers = state_digest(loaded.net), torch.get_rng_state(), np.random.get_state()[1].tolist()
    results = in_memory(loaded, names, data_root=data, name="step 7")
    assert [r.model for r in results] == ["step 7"] * 3
    assert [r.metrics for r in results] == [r.metrics for r in stored]
    assert {name: module.training for name, module in loaded.net.named_modules()} == modes
    assert state_digest(loaded.net) == state
    assert torch.equal(torch.get_rng_state(), random)
    assert np.random.get_state()[1].tolist() == numbers
    assert not list(tmp_path.iterdir()), "nothing is stored"
    loaded.net.eval()


def test_the_state_hash_distinguishes_training_steps(loaded: OpenClip, data: Path, tmp_path: Path) -> None:
    tasks = cocabench.prepare(files(data, "name"), data_root=data)
    first = in_memory(loaded, tasks, output=tmp_path)
    again = in_memory(loaded, tasks, output=tmp_path)
    assert again[0].created == first[0].created, "found in the results folder"
    with torch.no_grad():
        loaded.net.visual.proj.add_(0.5)
    other = in_memory(loaded, tasks, output=tmp_path)
    with torch.no_grad():
        loaded.net.visual.proj.sub_(0.5)
    assert other[0].signature.model["weights"] != first[0].signature.model["weights"]
    assert len(cocabench.load(tmp_path)) == 2
    assert first.path(first[0]) is not None


def test_prepared_tasks_are_not_parsed_again_and_keep_their_subset(
    models: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = cocabench.prepare(files(data, "find"), data_root=data, limit=5)
    assert [len(task) for task in tasks] == [5]
    fresh = cocabench.evaluate(str(models / "clip"), files(data, "find"), data_root=data, limit=5)
    monkeypatch.setattr(type(tasks[0].task.loader), "build", lambda *a, **k: pytest.fail("parsed again"))
    results = cocabench.evaluate(str(models / "clip"), tasks)
    assert results[0].metrics == fresh[0].metrics
    assert results[0].signature == fresh[0].signature
    with pytest.raises(UsageError, match="find: prepared with limit=5; wanted limit=7"):
        cocabench.evaluate(str(models / "clip"), tasks, limit=7)


def test_a_cache_is_used_when_it_is_given(
    loaded: OpenClip, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    original = OpenClip.encode_image_batch
    monkeypatch.setattr(OpenClip, "encode_image_batch", lambda s, x: encoded.append(len(x)) or original(s, x))
    tasks = cocabench.prepare(files(data, "name"), data_root=data)
    for cache in (None, memory := MemoryCache(), memory, tmp_path / "cache", tmp_path / "cache"):
        in_memory(loaded, tasks, cache=cache)
    assert encoded == [12, 12, 12]


def test_what_cannot_run_is_an_error_before_anything_is_loaded(models: Path, data: Path, loaded: OpenClip) -> None:
    with pytest.raises(ModelError, match=r"clip on tell: the model cannot caption; leave the task out"):
        cocabench.evaluate(str(models / "clip"), files(data, "find", "tell"), data_root=data)
    with pytest.raises(UsageError, match="model demo: 2 models; wanted one"):
        cocabench.evaluate("demo", files(data, "find"))
    with pytest.raises(UsageError, match="tasks: no tasks given"):
        cocabench.evaluate(str(models / "clip"), [])
    with pytest.raises(UsageError, match="preprocess: not given"):
        cocabench.evaluate(loaded.net, files(data, "find"))


def test_an_error_while_measuring_is_raised_and_finished_results_are_kept(
    models: Path, data: Path, tmp_path: Path
) -> None:
    (data / "bad.png").write_text("no image")
    (data / "bad.tsv").write_text("filepath\ttitle\nimages/00.png\tone\nbad.png\ttwo")
    text = (data / "find.toml").read_text()
    (data / "bad.toml").write_text(text.replace("captions.tsv", "bad.tsv").replace('"find"', '"bad"'))
    with pytest.raises(BadImageError, match=r"bad\.png"):
        cocabench.evaluate(str(models / "clip"), files(data, "find", "bad"), data_root=data, output=tmp_path)
    assert [r.task for r in cocabench.load(tmp_path)] == ["find"]


def test_the_public_names_are_there_without_torch() -> None:
    code = (
        "import sys, cocabench\n"
        "assert set(cocabench.__all__) <= set(dir(cocabench))\n"
        "assert 'torch' not in sys.modules and 'cocabench.run' not in sys.modules\n"
        "assert cocabench.load.__module__ == 'cocabench.report.results'\n"
        "assert 'torch' not in sys.modules\n"
    )
    process = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
def test_workers_need_no_main_guard_where_python_forks(models: Path, data: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, cocabench\n"
        "if 'fork' in multiprocessing.get_all_start_methods():\n"
        "    multiprocessing.set_start_method('fork')\n"
        f"model, tasks = {str(models / 'clip')!r}, {files(data, 'find')}\n"
        f"print(cocabench.evaluate(model, tasks, data_root={str(data)!r}, workers=1))\n"
    )
    process = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("1 result\n")
