"""From a folder or hub repository to a Source: what is read, what is hashed, and what is refused in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers

from cocabench.core.errors import CocabenchError, ModelError, UsageError
from cocabench.core.types import ImageSource
from cocabench.models.hf import families
from cocabench.models.hf.memory import in_memory, is_of_transformers
from cocabench.models.hf.source import source_of, sources
from cocabench.models.identity import state_digest
from cocabench.specs.spec import parse_model
from tests.conftest import Command
from tests.models.hf import tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def copied(folder: Path, to: Path, **files: Any) -> Path:
    """Copy a checkpoint; a file is removed for None, and changed or written for a table."""
    shutil.copytree(folder, to)
    for name, table in files.items():
        path = to / name.replace("__", ".")
        if table is None:
            path.unlink()
        else:
            old = json.loads(path.read_text()) if path.is_file() and path.suffix == ".json" else {}
            tiny.write_json(path, old | table)
    return to


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("clip", {"vocab__json": None}, "no tokenizer in the folder; wanted one of tokenizer.json, vocab.json"),
        ("clip", {"preprocessor_config__json": None}, "no image processor in the folder; wanted preprocessor"),
        ("clip", {"model__safetensors": None}, "no weights file; wanted model.safetensors or pytorch_model.bin"),
        ("clip", {"config__json": None}, "no config.json in the folder; wanted a folder of save_pretrained"),
        ("clip", {"config__json": {"model_type": "bert"}}, "model_type: unknown 'bert'; .*clip, siglip"),
        ("clip", {"config__json": {"architectures": ["CLIPVisionModel"]}}, "a CLIPVisionModel; wanted a CLIPModel"),
        ("blip", {"config__json": {"architectures": ["BlipForQuestionAnswering"]}}, "wanted a BlipForCond"),
        ("clip", {"config__json": {"auto_map": {"AutoModel": "x.Y"}}}, "auto_map would run code that comes"),
        ("clip", {"tokenizer_config__json": {"auto_map": {"AutoTokenizer": ["x.Y", None]}}}, "auto_map would run code"),
        ("clip", {"preprocessor_config__json": {"auto_map": {"AutoImageProcessor": "x.Y"}}}, "auto_map would run code"),
        ("clip", {"config__json": {"vision_config": {"trust_remote_code": True}}}, "trust_remote_code would run code"),
        ("clip", {"adapter_config__json": {"peft_type": "LORA"}}, "adapter_config.json in the folder; wanted whole"),
        ("clip", {"config__json": {"text_config": {"max_position_embeddings": "77"}}}, "max_position_embeddings: '77'"),
    ],
)  # fmt: skip
def test_unusable_folders_are_one_line(name: str, files: Any, message: str, folders: Any, tmp_path: Path) -> None:
    folder = copied(folders(name), tmp_path / "changed", **files)
    with pytest.raises(CocabenchError, match=message) as caught:
        sources(parse_model(f"transformers::{folder}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "not JSON"),
        ("config.json", "[]", "not a table"),
        ("model.safetensors", "x" * 40, "transformers cannot load it"),
        ("preprocessor_config.json", '{"image_processor_type": "NoSuch"}', "the image processor cannot be loaded"),
        (
            "preprocessor_config.json",
            '{"image_processor_type": "CLIPImageProcessor", "image_std": [1, 1]}',
            r"its image processor fails \(std must have 3 elements",
        ),
        (
            "preprocessor_config.json",
            '{"image_processor_type": "CLIPImageProcessor", "crop_size": 10}',
            r"its image processor makes images of 3 x 10 x 10; wanted 3 x \d+ x \d+, as the network",
        ),
        ("vocab.json", "{", "the tokenizer cannot be loaded"),
    ],
)
def test_broken_files_are_one_line(
    file: str, content: str, message: str, folders: Any, tmp_path: Path, load: Any
) -> None:
    folder = copied(folders("clip"), tmp_path / "broken")
    (folder / file).write_text(content)
    with pytest.raises(ModelError, match=message) as caught:
        source_of("x", folder).load(load.cpu)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_would_run_code_is_refused(folders: Any, tmp_path: Path, load: Any) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    folder = copied(folders("clip"), tmp_path / "pickled", model__safetensors=None)
    torch.save({"logit_scale": Code()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"would run code|transformers cannot load it"):
        source_of("x", folder).load(load.cpu)
    assert not (tmp_path / "ran").exists()


def test_the_signature_follows_every_file_that_is_read(folders: Any, tmp_path: Path) -> None:
    own = source_of("x", folders("clip")).signature()
    for part, file, table in (
        ("architecture", "config__json", {"projection_dim": 8}),
        ("preprocess", "preprocessor_config__json", {"resample": 2}),
        ("vocabulary", "tokenizer_config__json", {"model_max_length": 5}),
        ("vocabulary", "special_tokens_map__json", {"eos_token": "x"}),
    ):
        other = source_of("x", copied(folders("clip"), tmp_path / file, **{file: table})).signature()
        assert {key for key in own if own[key] != other[key]} == {part}
    assert source_of("y", folders("clip")).signature() == {**own, "id": "y"}
    assert source_of("x", folders("siglip")).signature()["texts"] == {"cleaning": "canonical", "length": 20}
    assert source_of("x", folders("siglip2")).signature()["texts"] == {"cleaning": "lower", "length": 20}
    assert source_of("x", folders("align")).signature()["texts"] == {"cleaning": "", "length": 64}
    assert source_of("x", folders("altclip")).signature()["texts"] == {"cleaning": "", "length": 38}
    assert source_of("x", folders("git")).signature()["generate"] == {"by": "transformers", "length": 40}


def test_shards_are_hashed_and_loaded_together(folders: Any, tmp_path: Path, load: Any) -> None:
    folder = copied(folders("clip"), tmp_path / "sharded", model__safetensors=None)
    transformers.CLIPModel.from_pretrained(folders("clip")).save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    whole, parts = load(folders("clip")), load(folder)
    np.testing.assert_allclose(whole.encode_texts(["a cat"]), parts.encode_texts(["a cat"]), atol=1e-6)
    last = sorted(folder.glob("*.safetensors"))[-1]
    last.unlink()
    with pytest.raises(ModelError, match=rf"shards are missing: {last.name}"):
        source_of("x", folder)


def test_what_the_running_versions_processor_saves_is_read(folders: Any, tmp_path: Path, load: Any) -> None:
    folder = copied(folders("clip"), tmp_path / "saved", preprocessor_config__json=None, vocab__json=None)
    transformers.AutoProcessor.from_pretrained(folders("clip")).save_pretrained(folder)
    assert load(folder).encode_texts(["a cat"]).tobytes() == load(folders("clip")).encode_texts(["a cat"]).tobytes()


# The hub


def test_a_hub_repository_is_downloaded_in_one_format(folders: Any, monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    asked: list[list[str]] = []
    listed = [
        *(path.name for path in folders("clip").iterdir()),
        "pytorch_model.bin",
        "flax_model.msgpack",
        "README.md",
    ]

    def snapshot_download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(folders("clip"))

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repository: listed)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    (source,) = sources(parse_model("transformers::openai/tiny"))
    assert (source.id, source.signature()["weights"]) == (
        "transformers::openai/tiny",
        source_of("x", folders("clip")).signature()["weights"],
    )
    assert set(asked[0]) == {
        "config.json", "merges.txt", "model.safetensors", "preprocessor_config.json", "tokenizer_config.json",
        "vocab.json",
    }  # fmt: skip
    assert len(load.loaded(source).encode_texts(["a cat"])) == 1


def test_without_network_the_cache_is_used_or_one_line_says_so(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", fail)
    with pytest.raises(ModelError, match=r"not cached and the download failed \(no route to host\); check the name"):
        sources(parse_model("transformers::openai/tiny"))
    with pytest.raises(ModelError, match="not downloaded yet; a run without --dry-run downloads it"):
        sources(parse_model("transformers::openai/tiny"), download=False)
    for name in ("/no/such/folder", "tiny", "a/b/c"):
        with pytest.raises(ModelError, match="no such folder; wanted a folder, or ORG/NAME on the hub"):
            sources(parse_model(f"transformers::{name}"))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repository, name: str(folders("clip") / name))
    for download in (True, False):
        (source,) = sources(parse_model("transformers::openai/tiny"), download=download)
        assert source.folder == folders("clip")


# Versions


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("4.49.0", ""), ("5.24.0", ""), ("4.48.3", "transformers 4.48.3; wanted 4.49 or"),
        ("6.0.0", "transformers 6.0.0;"), ("", "pip install 'cocabench"),
    ],
)  # fmt: skip
def test_versions_that_cannot_load_models_are_one_line(
    version: str, said: str, folders: Any, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr(families, "installed", lambda: version)
    printed = command("doctor", "--json")
    (check,) = (one for one in json.loads(printed.out) if one["name"] == "transformers")
    assert said in check["found"]
    assert (check["ok"] is None) == bool(said), "an extra: its absence breaks nothing"
    if said:
        with pytest.raises(ModelError, match=said.split("'")[0].split(";")[0]):
            source_of("x", folders("clip"))
    else:
        assert "work with 4.49 or later, below 6" in check["found"]
        source_of("x", folders("clip"))


# In memory


@pytest.mark.parametrize("name", ["clip", "siglip2", "git"])
def test_a_network_in_memory_equals_its_folder_and_is_left_as_it_was(
    name: str, folders: Callable[[str], Path], load: Any, images: list[ImageSource]
) -> None:
    model = load(folders(name))
    processor = type(
        "Both",
        (),
        {
            "image_processor": model.transform.args[0],
            "tokenizer": model.tokenizer if name == "git" else model.texts.tokenizer,
        },
    )
    net = model.net.train()
    net.vision_model.eval() if name != "git" else net.git.image_encoder.eval()
    modes, state = [module.training for module in net.modules()], state_digest(net)
    random = torch.random.get_rng_state()
    source = in_memory(torch.nn.DataParallel(net), processor, name="step 1")
    assert is_of_transformers(torch.nn.DataParallel(net))
    assert (source.id, source.abilities) == ("step 1", model.abilities)
    own = source.load(load.cpu)
    if name == "git":
        options = {"seq_len": 9, "generation_type": "top_k", "top_k": 9}
        assert own.caption(images, options).texts == model.caption(images, options).texts
    else:
        assert own.encode_images(images).rows.tobytes() == model.encode_images(images).rows.tobytes()
        assert own.encode_texts(["A cat."]).tobytes() == model.encode_texts(["A cat."]).tobytes()
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), random)
    assert state_digest(net) == state
    assert in_memory(net, processor, name="step 1").signature() == source.signature(), "also after its tokenizer ran"
    with torch.no_grad():
        next(net.parameters()).add_(1)
    changed = in_memory(net, processor).signature()
    assert {key for key, value in source.signature().items() if changed[key] != value} == {"id", "weights"}
    net.eval()


def test_a_half_precision_network_in_memory_runs_in_its_own_dtype(
    folders: Any, load: Any, images: list[ImageSource]
) -> None:
    for name in ("clip", "siglip"):
        model = load(folders(name))
        processor = type("Both", (), {"image_processor": model.transform.args[0], "tokenizer": model.texts.tokenizer})
        rows = model.encode_images(images).rows
        own = in_memory(model.net.bfloat16(), processor).load(load.cpu)
        assert np.abs(own.encode_images(images).rows - rows).max() < 0.05


def test_other_objects_and_processors_are_one_line(folders: Any) -> None:
    net = transformers.CLIPModel.from_pretrained(folders("clip"))
    for model, processor, message in (
        (torch.nn.Linear(1, 1), None, "model: a Linear; wanted one of CLIPModel, SiglipModel"),
        (net.vision_model, None, "model: a CLIPVision.*; wanted one of CLIPModel"),
        (net, None, "processor: NoneType without image_processor"),
        (net, transformers.AutoTokenizer.from_pretrained(folders("clip")), "without image_processor"),
    ):
        with pytest.raises(UsageError, match=message):
            in_memory(model, processor)
    assert not is_of_transformers(torch.nn.Linear(1, 1))


# The command line


@pytest.mark.slow
def test_a_run_over_transformers_models(command: Command, folders: Any, data: Path, tmp_path: Path) -> None:
    names = ",".join(f"transformers::{folders(name)}" for name in ("clip", "siglip2", "blip"))
    tasks = ",".join(str(data / f"{task}.toml") for task in ("find", "name", "tell", "prefer"))
    given = ("--tasks", tasks, "--data-root", data, "--output", tmp_path)
    result = command("run", "--model", names, *given, "--json")
    assert result.code == 0, result.err
    assert {(Path(record["model"]).name, record["task"]) for record in json.loads(result.out)} == {
        *(("clip", task) for task in ("find", "name")),
        *(("siglip2", task) for task in ("find", "name")),
        *(("blip", task) for task in ("tell", "prefer")),
    }
    (told,) = (record for record in json.loads(result.out) if record["task"] == "tell")
    assert told["signature"]["protocol"]["decoding"]["num_beams"] == 6
    assert told["signature"]["model"]["generate"] == {"by": "transformers", "length": 40}
    assert "num_beams=2" in " ".join(note["text"] for note in told["notes"])
    assert told["signature"]["model"]["packages"].keys() == {"pillow", "tokenizers", "torch", "transformers"}
    again = command("run", "--model", names, *given)
    assert again.code == 0
    assert "the model cannot caption" in again.err + again.out
    assert "already done" in again.err
