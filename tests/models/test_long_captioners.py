"""CoCas of 2025: Apple's captioners by name or folder, and captions at contexts of 77, 128 and 256 tokens."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError

from cocabench.core.errors import ModelError
from cocabench.core.types import ImageSource
from cocabench.data.images import FileImage
from cocabench.models.hardware import hardware
from cocabench.models.open_clip.decoding.generate import DecodeOptions, generate_encoded
from cocabench.specs.aliases import CAPTIONERS
from cocabench.specs.registry import FailedSource, model_sources
from cocabench.specs.spec import parse_models
from tests.conftest import Command
from tests.models.tiny import COCA, random_network, write_folder

CPU = hardware(device="cpu", workers=0, batch_size=4)
NAME = "mobileclip2_coca_dfn2b_s13b_gbc1m-long_context256"
CONTEXTS = (77, 128, 256)


def long(context: int, vocabulary: int = 49408) -> dict[str, Any]:
    """Return a tiny CoCa with the text lengths of a captioner: its CLS token takes one position."""
    more = {"context_length": context - 1, "vocab_size": vocabulary}
    return {**COCA, **{table: {**COCA[table], **more} for table in ("text_cfg", "multimodal_cfg")}}


def apples_folder(folder: Path, context: int = 256) -> Path:
    """Write a repository as Apple's are: config.json is a bare model config, the weights have a name of their own."""
    write_folder(folder, long(context))
    (folder / "open_clip_config.json").unlink()
    (folder / "config.json").write_text(json.dumps(long(context)))
    (folder / "open_clip_model.safetensors").rename(folder / "mobileclip2_coca.safetensors")
    return folder


def source(text: str, *, download: bool = True) -> Any:
    (found,) = model_sources(parse_models(text), download=download)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return apples_folder(tmp_path_factory.mktemp("apple") / "captioner")


@pytest.fixture(scope="module")
def images(data: Path) -> list[ImageSource]:
    return [FileImage(path) for path in sorted((data / "images").iterdir())[:4]]


def test_a_folder_with_a_bare_config_loads(folder: Path, images: list[ImageSource]) -> None:
    found = source(str(folder))
    assert found.weights == folder / "mobileclip2_coca.safetensors"
    model = found.load(CPU)
    assert "caption" in model.abilities
    assert model.tokenizer.context_length == 255
    assert model.encode_texts(["a cat " * 150, "a cat " * 60]).shape == (2, 32)
    long_one, cut = model.encode_texts(["a cat " * 100, "a cat " * 38])
    assert (long_one != cut).any(), "a long text is not cut at 77 tokens"


def test_a_config_of_transformers_names_the_right_library(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    found = source(str(tmp_path))
    assert isinstance(found, FailedSource)
    assert "a config of transformers; wanted one of open_clip; write transformers::" in str(found.error)


def test_every_captioner_of_apple_loads_by_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AbsentError(EntryNotFoundError):
        def __init__(self) -> None:
            Exception.__init__(self, "404: open_clip_config.json")

    asked: list[tuple[str, Any]] = []

    def hf_hub_download(repository: str, name: str) -> str:
        asked.append((repository, name))
        if not (folder / name).is_file():
            raise AbsentError
        return str(folder / name)

    def snapshot_download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        return str(folder)

    listed = [*(path.name for path in folder.iterdir()), "README.md", "optimizer.pt", "logs/epoch_1.pt"]
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repository: listed)
    for text in (NAME, f"apple/{NAME}", f"hf-hub:apple/{NAME}"):
        asked.clear()
        found = source(text)
        assert (found.id, found.captions, found.weights) == (text, True, folder / "mobileclip2_coca.safetensors")
        assert asked[-1] == (f"apple/{NAME}", ["config.json", "mobileclip2_coca.safetensors"])
        assert found.load(CPU).tokenizer.context_length == 255
    assert source(NAME).signature() == {**source(f"apple/{NAME}").signature(), "id": NAME}
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache",
        lambda repository, name: str(folder / name) if (folder / name).is_file() else None,
    )  # fmt: skip
    assert source(NAME, download=False).available
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache",
        lambda repository, name: str(bare / name) if (bare / name).is_file() else None,
    )  # fmt: skip
    assert not source(NAME, download=False).available


def test_without_network_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    found = source(NAME)
    assert isinstance(found, FailedSource)
    with pytest.raises(ModelError, match=rf"hf-hub:apple/{NAME}: download failed \(no route to host\)"):
        found.load(CPU)


def test_list_models_filters_by_a_part_of_the_name(command: Command) -> None:
    names = [row["model"] for row in json.loads(command("list", "models", "CoCa", "--json").out)]
    assert {"demo/coca", "coca_ViT-L-14", "coca_ViT-B-32", *CAPTIONERS} <= set(names)
    assert all("coca" in name.lower() for name in names)
    assert len(CAPTIONERS) == 21
    unknown = command("list", "models", "cocoa")
    assert unknown.code == 2
    assert "unknown 'cocoa'" in unknown.err


# Contexts


def plain_loop(net: Any, embs: torch.Tensor, *, seq_len: int) -> list[list[int]]:
    """Return greedy captions by open_clip's own forward over whole prefixes, end tokens forbidden."""
    rows = torch.full((len(embs), 1), 1)
    while rows.shape[1] < seq_len:
        with torch.no_grad():
            _, hidden = net.text(rows)
            logits = net.text_decoder(embs, hidden)[:, -1]
        logits[:, 2] = -math.inf
        rows = torch.cat([rows, logits.argmax(-1, keepdim=True)], dim=1)
    return rows.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("context", CONTEXTS)
def test_caches_are_exact_to_the_last_position_of_a_long_context(context: int, tmp_path: Path) -> None:
    net = random_network(tmp_path, long(context, vocabulary=60)).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        net.text.token_embedding.weight.normal_(), net.text_decoder.text_projection.normal_()
        net.text.positional_embedding.normal_(std=0.5)
        net.text_decoder.text_projection[:, [0, 2]] = 0  # pad and end are never the most likely
        embs = net.visual(torch.rand(2, 3, 32, 32))[1]
    ids = {"sot_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    limits = {"seq_len": context - 1, "max_seq_len": context - 1, "min_seq_len": context - 2}
    greedy = DecodeOptions(generation_type="greedy", **limits)
    expected = plain_loop(net, embs, seq_len=context - 1)
    made = generate_encoded(net, embs, options=greedy, **ids).tokens.tolist()
    assert [row[: context - 2] for row in made] == [row[: context - 2] for row in expected]
    assert len({tuple(row) for row in expected}) == 2
    for options in (
        DecodeOptions(num_beams=4, num_beam_groups=2, **limits),
        DecodeOptions(generation_type="top_p", top_p=0.9, **limits),
    ):
        cached, whole = (
            generate_encoded(net, embs, options=options, stepping=stepping, **ids).tokens.tolist()
            for stepping in ("cached", "recomputed")
        )
        assert cached == whole
    assert len(expected[0]) == context - 1


@pytest.mark.slow
@pytest.mark.parametrize("context", CONTEXTS)
def test_captions_are_as_long_as_the_models_context_allows(
    context: int, tmp_path: Path, images: list[ImageSource]
) -> None:
    model = source(str(apples_folder(tmp_path / "captioner", context))).load(CPU)
    options = {"generation_type": "greedy", "seq_len": 1000, "min_seq_len": context - 2}
    assert all(len(model.tokenizer([text])[0].nonzero()) > 70 for text in model.caption(images, options).texts)
    with pytest.raises(Exception, match="min_seq_len"):
        model.caption(images, {**options, "min_seq_len": context - 1})


@pytest.mark.slow
def test_caption_health_shows_the_repetition_of_long_captions(
    command: Command, folder: Path, data: Path, tmp_path: Path
) -> None:
    """Random weights repeat themselves as greedy captioners at long contexts do; the Record says so."""
    task = (data / "tell.toml").read_text().replace('path = "', f'path = "{data}/')
    long_task = task.replace("seq_len = 12", 'seq_len = 255\nmin_seq_len = 200\ngeneration_type = "greedy"')
    (tmp_path / "long.toml").write_text(long_task.replace('"tell"', '"long"'))
    given = (
        "--model",
        folder,
        "--tasks",
        tmp_path / "long.toml",
        "--data-root",
        data,
        "--output",
        tmp_path / "o",
        "--json",
    )
    result = command("run", *given)
    assert result.code == 0, result.err
    (record,) = json.loads(result.out)
    assert "repeated_phrases" in {note["code"] for note in record["notes"]}
    (name,) = (name for name in record["metrics"] if "repet" in name)
    assert record["metrics"][name]["value"] > 0.5
