"""cocabench.evaluate and prepare: the Records of a run, and a network that is left as it was."""

import doctest
import inspect
import random
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
from cocabench.kinds import retrieval
from cocabench.metrics.matching import rank_both_ways
from cocabench.models.hardware import hardware
from cocabench.models.identity import state_digest
from cocabench.models.open_clip.model import OpenClip
from cocabench.report.results import Results
from cocabench.run import execute
from cocabench.run.measure import site_of
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


@pytest.mark.parametrize(("device", "given"), [("cuda:1", {"device": "cuda:1"}), ("cpu", None), ("mps", None)])
def test_retrieval_is_given_the_gpu_of_the_run_and_no_other_device(
    device: str, given: Any, models: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []

    def rank(*rows: Any, device: Any) -> Any:
        used.append(device and device.keywords)
        return rank_both_ways(*rows)

    monkeypatch.setattr(retrieval, "rank_both_ways", rank)
    monkeypatch.setattr(execute, "site_of", lambda hardware: site_of(hardware)._replace(device=device))
    cocabench.evaluate(str(models / "coca"), files(data, "find"), data_root=data)
    assert used == [given]


def test_a_network_in_memory_gives_the_numbers_of_its_checkpoint_and_is_left_as_it_was(
    loaded: OpenClip, models: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = files(data, "find", "tell", "name")
    stored = cocabench.evaluate(str(models / "coca"), names, data_root=data)
    loaded.net.train()
    loaded.net.visual.eval()
    modes = {name: module.training for name, module in loaded.net.named_modules()}
    state, drawn = state_digest(loaded.net), torch.get_rng_state()
    numbers, python = np.random.get_state()[1].tolist(), random.getstate()
    results = in_memory(loaded, names, data_root=data, name="step 7")
    assert [r.model for r in results] == ["step 7"] * 3
    assert [r.metrics for r in results] == [r.metrics for r in stored]
    assert {name: module.training for name, module in loaded.net.named_modules()} == modes
    assert state_digest(loaded.net) == state
    assert torch.equal(torch.get_rng_state(), drawn)
    assert np.random.get_state()[1].tolist() == numbers
    assert random.getstate() == python
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


def test_a_fast_resize_has_its_own_features_and_says_so(
    loaded: OpenClip, models: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    original = OpenClip.encode_image_batch
    monkeypatch.setattr(OpenClip, "encode_image_batch", lambda s, x: encoded.append(len(x)) or original(s, x))
    memory, name = MemoryCache(), str(models / "coca")
    tasks = cocabench.prepare(files(data, "name"), data_root=data)
    own, fast, again = (cocabench.evaluate(name, tasks, cache=memory, resize=how)[0] for how in ("own", "fast", "own"))
    assert encoded == [12, 12], "cached features of the own resize are no hit, and stay"
    assert own.signature.model == again.signature.model
    assert fast.signature.model == own.signature.model | {"resize": "fast"}
    assert fast.signature.protocol == own.signature.protocol
    in_ram = in_memory(loaded, tasks, resize="fast")[0]
    assert in_ram.metrics == fast.metrics
    assert in_ram.signature.model["resize"] == "fast"


def test_a_fast_resize_is_refused_where_it_has_no_place(loaded: OpenClip, data: Path) -> None:
    tasks = cocabench.prepare(files(data, "name"), data_root=data)
    with pytest.raises(UsageError, match="resize: got 'fats'; wanted own or fast"):
        cocabench.evaluate("demo/clip", tasks, resize="fats")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="--resize fast: got the transform <lambda>; wanted torchvision"):
        cocabench.evaluate(loaded.net, tasks, preprocess=lambda image: image, tokenizer=loaded.tokenizer, resize="fast")
    with pytest.raises(UsageError, match="resize: got 'fast' without preprocess, whose resize it replaces; give both"):
        cocabench.evaluate(loaded, tasks, resize="fast")
    with pytest.raises(UsageError, match=r"model: a tuple of 3; wanted the network alone; evaluate\(net, tasks, "):
        cocabench.evaluate((loaded.net, None, loaded.tokenizer), tasks, resize="fast")


def test_what_cannot_run_is_an_error_before_anything_is_loaded(models: Path, data: Path, loaded: OpenClip) -> None:
    with pytest.raises(ModelError, match=r"clip on tell: the model cannot caption; leave the task out"):
        cocabench.evaluate(str(models / "clip"), files(data, "find", "tell"), data_root=data)
    with pytest.raises(UsageError, match="model demo: 2 models; wanted one"):
        cocabench.evaluate("demo", files(data, "find"))
    with pytest.raises(UsageError, match="tasks: no tasks given"):
        cocabench.evaluate(str(models / "clip"), [])
    with pytest.raises(UsageError, match="preprocess: not given"):
        cocabench.evaluate(loaded.net, files(data, "find"))
    with pytest.raises(UsageError, match="an object of type Linear; wanted a model string, a network of open_clip or"):
        cocabench.evaluate(torch.nn.Linear(1, 1), files(data, "find"))
    for name in ("preprocess", "tokenizer", "processor", "name"):
        with pytest.raises(UsageError, match=f"{name}: given with a model string, which says it all; leave it out"):
            cocabench.evaluate("demo/clip", files(data, "find"), **{name: "x"})


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


@pytest.mark.parametrize("name", sorted(set(cocabench.__all__) - {"__version__"}))
def test_a_public_name_has_types_and_an_example_that_runs(name: str) -> None:
    public = getattr(cocabench, name)
    examples = doctest.DocTestFinder(recurse=False).find(public, name, globs={})
    assert sum(len(one.examples) for one in examples) > 0, f"{name} has no example"
    for one in examples:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(one).failed == 0
    if inspect.isfunction(public):
        signature = inspect.signature(public)
        assert all(p.annotation is not p.empty for p in signature.parameters.values())
        assert signature.return_annotation is not signature.empty


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_network_of_transformers_is_evaluated_with_its_processor(data: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from tests.models.hf import tiny

    folder = tiny.clip(tmp_path / "hf")
    net = transformers.AutoModel.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    (stored,) = cocabench.evaluate(f"transformers::{folder}", files(data, "find"), data_root=data)
    (found,) = cocabench.evaluate(net, files(data, "find"), processor=processor, data_root=data, name="step 3")
    assert (found.model, found.metrics) == ("step 3", stored.metrics)
    with pytest.raises(UsageError, match="tokenizer: given with a network of transformers, whose processor does it"):
        cocabench.evaluate(net, files(data, "find"), processor=processor, tokenizer=processor.tokenizer)


RANKS = """
import os, sys, cocabench, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo")
model = cocabench.specs.registry.one_model(sys.argv[1]).load(cocabench.models.hardware.hardware(device="cpu"))
net = DistributedDataParallel(model.net)
if dist.get_rank() == 0:
    given = {"preprocess": model.transform, "tokenizer": model.tokenizer, "workers": 0}
    (record,) = cocabench.evaluate(net, sys.argv[2], data_root=sys.argv[3], **given)
    print(record.metrics["t2i_recall@5"].value)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_one_rank_of_torchrun_evaluates_and_the_other_waits(models: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "ranks.py").write_text("import cocabench.specs.registry, cocabench.models.hardware\n" + RANKS)
    words = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--rdzv-backend=c10d"]
    words += ["--rdzv-endpoint=127.0.0.1:0", tmp_path / "ranks.py", models / "clip", data / "find.toml", data]
    done = subprocess.run([sys.executable, *map(str, words)], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (record,) = cocabench.evaluate(str(models / "clip"), files(data, "find"), data_root=data)
    assert float(done.stdout) == record.metrics["t2i_recall@5"].value


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
