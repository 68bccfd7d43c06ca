"""Weights in every form that people keep them in load to the same network, or an error says what the file is."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from cocabench.core.errors import ModelError, UnknownNameError
from cocabench.core.types import Note
from cocabench.models.hardware import hardware
from cocabench.models.open_clip import checkpoint, torchscript
from cocabench.models.open_clip.adapter import sources
from cocabench.models.open_clip.blueprint import blueprint
from cocabench.models.open_clip.checkpoint import held, load
from cocabench.models.open_clip.weights import in_folder
from cocabench.specs.spec import WeightsKind, parse_model, parse_models
from tests.models.tiny import CLIP, random_network, write_architecture

State = dict[str, torch.Tensor]
TEXT = ("positional_embedding", "text_projection", "token_embedding", "transformer", "ln_final")
CUSTOM = {**CLIP, "custom_text": True}
BIASED = {**CLIP, "init_logit_bias": -10}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return random_network(tmp_path_factory.mktemp("net"), CLIP, seed=3)


@pytest.fixture(scope="module")
def state(net: Any) -> State:
    found: State = net.state_dict()
    return found


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def custom(state: State) -> State:
    return {f"text.{key}" if key.startswith(TEXT) else key: value for key, value in state.items()}


def inside(wrapper: str, state: State) -> State:
    """Put a wrapper's name around both transformers, as where they alone are compiled."""
    return {key.replace("transformer.", f"transformer.{wrapper}"): value for key, value in state.items()}


Form = Callable[[State], Any]
FORMS: dict[str, Form] = {
    "bare": lambda s: s,
    "DistributedDataParallel": lambda s: {"epoch": 5, "state_dict": under("module.", s)},
    "torch.compile": lambda s: {"epoch": 5, "state_dict": under("_orig_mod.", s)},
    "both": lambda s: {"epoch": 5, "state_dict": under("module._orig_mod.", s)},
    "both, the other way round": lambda s: under("_orig_mod.module.", s),
    "one's own loop": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}, "param_groups": []}},
    "half precision": lambda s: {"model": {key: value.half() for key, value in s.items()}},
    "DeepSpeed": lambda s: {"module": under("module.", s), "ds_version": "0.14", "dp_world_size": 8},
    "Lightning": lambda s: {"state_dict": under("model.", s), "pytorch-lightning_version": "2.2"},
    "a name of one's own": lambda s: under("clip_model.backbone.", s),
    "FSDP": lambda s: inside("_fsdp_wrapped_module.", under("_fsdp_wrapped_module.", s)),
    "activation checkpoints": lambda s: inside("_checkpoint_wrapped_module.", s),
    "compiled inside": lambda s: inside("_orig_mod.", s),
    "custom_text": custom,
}


def equal(net: Any, state: State) -> bool:
    own = net.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[key], value.float()) for key, value in state.items())


def halved(name: str, state: State) -> State:
    return {key: value.half() for key, value in state.items()} if name == "half precision" else state


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_weights(name: str, state: State, tmp_path: Path) -> None:
    torch.save(FORMS[name](state), tmp_path / "c.pt")
    other = random_network(tmp_path, CLIP)
    assert load(other, tmp_path / "c.pt") == []
    assert equal(other, halved(name, state))


def test_plain_weights_fill_a_custom_text_tower(state: State, tmp_path: Path) -> None:
    torch.save({"state_dict": under("module.", state)}, tmp_path / "c.pt")
    other = random_network(tmp_path, CUSTOM)
    assert load(other, tmp_path / "c.pt") == []
    assert equal(other, custom(state))


def test_a_file_is_what_its_first_bytes_say(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "safetensors.pt")
    torch.save(state, tmp_path / "zip.safetensors")
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("safetensors.pt", "zip.safetensors", "old.bin"):
        other = random_network(tmp_path, CLIP)
        load(other, tmp_path / name)
        assert equal(other, state), name


def test_a_bias_that_moves_no_ranking_is_left_out_with_a_note(state: State, tmp_path: Path) -> None:
    torch.save(under("module.", {**state, "logit_bias": torch.tensor(-10.0)}), tmp_path / "c.pt")
    other = random_network(tmp_path, CLIP)
    (note,) = load(other, tmp_path / "c.pt")
    assert note.code == "left_out_weights"
    assert equal(other, state)
    biased = random_network(tmp_path, BIASED)
    assert load(biased, tmp_path / "c.pt") == []
    assert biased.logit_bias == -10


def test_other_weights_in_the_file_are_noted(state: State, tmp_path: Path) -> None:
    torch.save({"model": state, "ema": state, "step": 3}, tmp_path / "two.pt")
    torch.save({"state_dict": {**under("model.", state), "loss.weight": torch.ones(2)}}, tmp_path / "loss.pt")
    other = random_network(tmp_path, CLIP)
    assert load(other, tmp_path / "two.pt") == [
        (
            "left_out_weights",
            "two.pt also holds weights under 'ema'; those under 'model' were taken; "
            "#ema behind the file takes the others",
        )
    ]
    assert load(other, tmp_path / "loss.pt") == [
        ("left_out_weights", "1 weights beside 'model' were left out: loss.weight")
    ]
    assert equal(other, state)


@pytest.mark.parametrize(
    ("table", "changed", "said"),
    [
        ("text_cfg", {"context_length": 9}, "of texts was interpolated from 16 positions to 9"),
        ("vision_cfg", {"image_size": 48}, "of images was interpolated from 5 positions to 10"),
    ],
)
def test_interpolated_positions_are_noted(
    table: str, changed: dict[str, int], said: str, state: State, tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "c.pt")
    (note,) = load(random_network(tmp_path, {**CLIP, table: {**CLIP[table], **changed}}), tmp_path / "c.pt")
    assert note.code == "resized_positions"
    assert said in note.text


def shards(folder: Path, state: State, *, index: bool) -> list[Path]:
    folder.mkdir()
    names = [f"model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    keys = sorted(state)
    parts = [keys[: len(keys) // 2], keys[len(keys) // 2 :]]
    for name, part in zip(names, parts, strict=True):
        save_file({key: state[key].contiguous() for key in part}, folder / name)
    if index:
        table = {key: name for name, part in zip(names, parts, strict=True) for key in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return [folder / name for name in names]


@pytest.mark.parametrize("index", [True, False])
def test_shards_are_one_checkpoint(index: bool, state: State, tmp_path: Path) -> None:
    first, second = shards(tmp_path / "m", state, index=index)
    (tmp_path / "m/open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}))
    arch = write_architecture(tmp_path / "arch.json", CLIP)
    texts = [f"{tmp_path}/m", f"{arch}:{first}", f"{arch}:{second}"]
    texts += [f"{arch}:{tmp_path}/m/model.safetensors.index.json"] if index else []
    plans = [blueprint(parse_model(text), download=False) for text in texts]
    for plan in plans:
        assert plan.weights is not None
        other = random_network(tmp_path, CLIP)
        assert load(other, plan.weights) == []
        assert equal(other, state)
    before = {str(plan.signature()["weights"]) for plan in plans}
    save_file({key: value + 1 for key, value in checkpoint._read(second).items()}, second)
    after = {str(plan.signature()["weights"]) for plan in plans}
    assert len(before) == len(after) == 1
    assert before != after
    second.unlink()
    with pytest.raises(ModelError, match=r"1 of 2 shards are missing: model-00002-of-00002\.safetensors"):
        load(random_network(tmp_path, CLIP), first)


def test_shards_of_a_hub_repository_are_one_checkpoint(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards(tmp_path / "remote", state, index=True)
    (tmp_path / "remote/open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}))
    (tmp_path / "cache").mkdir()

    def download(repository: str, name: str, **_: object) -> str:
        if not (tmp_path / "remote" / name).is_file():
            raise LocalEntryNotFoundError(f"{name} is not there")
        return str(shutil.copy(tmp_path / "remote" / name, tmp_path / "cache" / name))

    def cached(repository: str, name: str) -> str | None:
        return str(tmp_path / "cache" / name) if (tmp_path / "cache" / name).is_file() else None

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    spec = parse_model("hf-hub:me/sharded")
    plan = blueprint(spec, download=True)
    assert plan.weights == tmp_path / "cache/model.safetensors.index.json"
    other = random_network(tmp_path, CLIP)
    assert load(other, plan.weights) == []
    assert equal(other, state)
    assert blueprint(spec, download=False).signature() == plan.signature()
    (tmp_path / "cache/model-00002-of-00002.safetensors").unlink()
    assert blueprint(spec, download=False).weights is None, "a shard is not downloaded yet"
    (tmp_path / "remote/model.safetensors.index.json").unlink()
    with pytest.raises(ModelError, match="hf-hub:me/sharded: download failed"):
        blueprint(spec, download=True)


def test_an_index_is_no_architecture() -> None:
    spec = parse_model("ViT-B-32:/m/model.safetensors.index.json")
    assert (spec.kind, spec.name, spec.weights) == (WeightsKind.FILE, "ViT-B-32", "/m/model.safetensors.index.json")


class Node(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def write_torchscript(path: Path, state: State) -> Path:
    """Write an archive as OpenAI's are: half precision, and three numbers beside the weights."""
    root = Node()
    extras = {name: torch.tensor(7) for name in checkpoint.OPENAI_EXTRAS}
    for key, value in {**{key: value.half() for key, value in state.items()}, **extras}.items():
        *parents, leaf = key.split(".")
        module: torch.nn.Module = root
        for name in parents:
            if name not in dict(module.named_children()):
                module.add_module(name, Node())
            module = getattr(module, name)
        module.register_buffer(leaf, value)
    torch.jit.save(torch.jit.script(root), path)
    return path


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_torchscript_archive_is_read_and_not_run(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_torchscript(tmp_path / "jit.pt", state)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("run"))
    other = random_network(tmp_path, CLIP)
    (note,) = load(other, path)
    assert "trained with quick-GELU, in a network without it" in note.text
    assert equal(other, {key: value.half() for key, value in state.items()})
    assert load(random_network(tmp_path, {**CLIP, "quick_gelu": True}), path) == []


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("ran",))


def test_an_archive_that_wants_more_than_tensors_is_refused(
    tmp_path: Path, net: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "jit.pt", "w") as file:
        file.writestr("a/data.pkl", pickle.dumps(Evil(), protocol=2))
        file.writestr("a/constants.pkl", pickle.dumps((), protocol=2))
    assert torchscript.is_archive(tmp_path / "jit.pt")
    with pytest.raises(ModelError, match=r"a pickle that would run .*print; wanted weights only"):
        load(net, tmp_path / "jit.pt")
    assert "ran" not in capsys.readouterr().out


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 605143316\n"
STRANGE: dict[str, tuple[bytes, str]] = {
    "a Git LFS pointer": (POINTER, "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    "a web page": (b"\n<!DOCTYPE html><html>", "a web page, not the file itself; download it again"),
    "nothing": (saved({}), "no weights in it; wanted a state dict, alone or under state_dict or model_state_dict"),
    "nothing inside": (saved({"state_dict": {}, "epoch": 1}), "no weights in it; wanted a state dict"),
    "numbers": (saved({"epoch": 1, "lr": 0.1}), "no weights in it, only 'epoch', 'lr'; wanted a state dict"),
    "a list": (saved([torch.ones(2)]), "a list, not weights by name; wanted a state dict; save it again"),
    "a tensor": (saved(torch.ones(2)), "a Tensor, not weights by name; wanted a state dict"),
    "two models": (
        saved({"model.logit_scale": torch.ones(()), "teacher.logit_scale": torch.ones(())}),
        "weights of several models, under 'model.', 'teacher.'; wanted one",
    ),
    "a shard of ZeRO-3": (
        saved({"module": {"logit_scale": torch.ones(0), "visual.conv1.weight": torch.ones(0)}, "ds_version": "0.19"}),
        "weights without contents, as DeepSpeed's ZeRO-3 leaves them in model_states.pt; join its shards",
    ),
    "another library's": (
        saved({"logit_scale": torch.ones(()), "text_model.x": torch.ones(1)}),
        "another architecture",
    ),
}


@pytest.mark.parametrize(("content", "said"), STRANGE.values(), ids=STRANGE)
def test_what_is_no_checkpoint_is_called_what_it_is(content: bytes, said: str, net: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load(net, path)
    assert f"{path}: {said}" in str(caught.value) or said in str(caught.value)
    assert "\n" not in str(caught.value)


OURS = "open_clip_model.safetensors"
FOLDERS: dict[str, tuple[list[str], str]] = {
    "open_clip's name": (["epoch_10.safetensors", OURS, "a.bin"], OURS),
    "the same weights twice": (["open_clip_pytorch_model.bin", OURS], OURS),
    "the only one": (["epoch_10.pt", "optimizer.pt", "training_args.bin", "notes.txt"], "epoch_10.pt"),
    "an index": (["m-00001-of-00002.bin", "m-00002-of-00002.bin", "m.bin.index.json"], "m.bin.index.json"),
    "shards": (["m-00001-of-00002.bin", "m-00002-of-00002.bin"], "m-00001-of-00002.bin"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "chosen"), FOLDERS.values(), ids=FOLDERS)
def test_the_weights_of_a_folder(files: list[str], chosen: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_text('{"weight_map": {}}')
    assert in_folder(tmp_path).name == chosen


def test_several_files_in_a_folder_are_listed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights file; wanted open_clip_model"):
        in_folder(tmp_path)
    for name in ("epoch_09.safetensors", "epoch_10.safetensors"):
        (tmp_path / name).touch()
    said = (
        r"2 files with weights: epoch_09\.safetensors, epoch_10\.safetensors; keep one, or call the right one open_clip"
    )
    with pytest.raises(ModelError, match=said):
        in_folder(tmp_path)


def notes_of(text: str, preprocess: str = "") -> list[Note]:
    (spec,) = parse_models(text)
    (source,) = sources(replace(spec, preprocess=preprocess), download=False)
    return list(source.notes)


def test_preprocessing_that_no_published_weights_have_is_noted(tmp_path: Path) -> None:
    (tmp_path / "c.pt").touch()
    (note,) = notes_of(f"ViT-B-16-SigLIP:{tmp_path}/c.pt")
    assert note.code == "preprocess_assumed"
    assert (
        "assumed mean 0.481/0.458/0.408, std 0.269/0.261/0.276, interpolation bicubic, resize_mode shortest"
        in note.text
    )
    assert "the published webli has mean 0.5/0.5/0.5" in note.text
    assert notes_of(f"ViT-B-32:{tmp_path}/c.pt") == []


def test_assumed_preprocessing_stands_in_the_record(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "c.pt")
    (source,) = sources(parse_model(f"{write_architecture(tmp_path / 'arch.json', CLIP)}:{tmp_path}/c.pt"))
    said = Note("preprocess_assumed", "assumed")
    loaded = replace(source, notes=(said,)).load(hardware(device="cpu", precision="fp32"))
    assert list(loaded.notes) == [said]


def test_preprocess_says_it(tmp_path: Path) -> None:
    (tmp_path / "c.pt").write_bytes(b"x")
    text = f"ViT-B-16-SigLIP:{tmp_path}/c.pt"
    (note,) = notes_of(text, "webli")
    assert "preprocessing of ViT-B-16-SigLIP:webli by --preprocess" in note.text
    specs = [replace(parse_model(text), preprocess=tag) for tag in ("", "webli", "ViT-B-16-SigLIP-256:webli")]
    digests = [sources(spec, download=False)[0].signature()["preprocess"] for spec in specs]
    assert digests[0] != digests[1] == digests[2]
    with pytest.raises(
        UnknownNameError, match="--preprocess, a tag of ViT-B-16-SigLIP: unknown 'weblii'; did you mean webli"
    ):
        notes_of(text, "weblii")


@pytest.mark.parametrize(
    "content", [b"\x80\x02\x87.", b"\x80\x02K", b"\x80\x02Kd0.", b"\x80\x02X\xff\xff\xff\x7f.", b"\x87"]
)
def test_a_damaged_pickle_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"not readable as a checkpoint|a pickle that would run"):
        held(tmp_path / "x.pt")


def test_a_folder_of_shards_says_how_to_join_them(tmp_path: Path) -> None:
    architecture = write_architecture(tmp_path / "arch.json", CLIP)
    for name, inside, said in (
        ("dcp", ".metadata", r"a distributed checkpoint; join it: .*dcp_to_torch .*/dcp FILE.pt"),
        ("zero/global_step5", "../zero_to_fp32.py", r"a checkpoint of DeepSpeed; join its shards: .*zero FOLDER;"),
        ("other", "weights.pt", r"other: a folder; wanted a weights file; name a file in it"),
    ):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / inside).write_text("")
        with pytest.raises(ModelError, match=said):
            sources(parse_model(f"{architecture}:{tmp_path / name}"))


SHARDED = """
import sys
from pathlib import Path
import torch, torch.distributed as dist, torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, StateDictType, fully_shard
import cocabench
from cocabench.core.errors import UsageError
from tests.models.tiny import CLIP, random_network

dist.init_process_group("gloo")
folder, rank, mesh = Path(sys.argv[1]), dist.get_rank(), init_device_mesh("cpu", (2,))
(folder / str(rank)).mkdir()
net = random_network(folder / str(rank), CLIP)
net.logit_scale = torch.nn.Parameter(net.logit_scale.detach().reshape(1))  # FSDP takes no scalars
torch.save(net.state_dict(), folder / f"whole{rank}.pt")
if sys.argv[2] == "FSDP2":
    for block in net.visual.transformer.resblocks:
        fully_shard(block, mesh=mesh)
    fully_shard(net, mesh=mesh)
else:
    net = FullyShardedDataParallel(net, device_mesh=mesh, device_id=torch.device("cpu"), use_orig_params=True)
    FullyShardedDataParallel.set_state_dict_type(net, StateDictType.SHARDED_STATE_DICT)  # by default it gathers
try:
    cocabench.evaluate(net, "emoji_retrieval", preprocess=str, tokenizer=str)
except UsageError as error:
    (folder / f"said{rank}").write_text(str(error))
torch.save({"state_dict": net.state_dict()}, folder / f"shard{rank}.pt")
dcp.save(get_model_state_dict(net), checkpoint_id=folder / "dcp")
whole = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
if rank == 0:
    torch.save({"state_dict": whole}, folder / "gathered.pt")
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FSDP", "FSDP2"])
def test_a_network_sharded_by_fsdp_is_refused_in_every_form_and_read_when_gathered(tmp_path: Path, kind: str) -> None:
    (tmp_path / "ranks.py").write_text(SHARDED)
    words = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    place = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, *words, str(tmp_path / "ranks.py"), str(tmp_path), kind]
    done = subprocess.run(run, check=False, capture_output=True, text=True, timeout=300, env=place)
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert (tmp_path / f"said{rank}").read_text().startswith("model: a sharded network (FSDP); wanted one with all")
    net = random_network(tmp_path, CLIP, seed=7)
    with pytest.raises(ModelError, match=r"shard1.pt: one process's part of weights sharded by FSDP; gather them"):
        load(net, tmp_path / "shard1.pt")
    with pytest.raises(ModelError, match=r"a part of a distributed checkpoint; join it: .* dcp_to_torch"):
        load(net, tmp_path / "dcp" / "__0_0.distcp")
    whole = torch.load(tmp_path / "whole0.pt", weights_only=True)
    dcp_to_torch_save(tmp_path / "dcp", tmp_path / "joined.pt")
    for name in ("gathered.pt", "joined.pt"):
        net = random_network(tmp_path, CLIP, seed=7)
        assert load(net, tmp_path / name) == []
        assert equal(net, {key: value.reshape(net.state_dict()[key].shape) for key, value in whole.items()})
