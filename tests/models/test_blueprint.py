"""What model strings stand for, and that every kind of checkpoint loads to the same weights."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from cocabench.core.errors import ModelError, UnknownNameError, UsageError
from cocabench.models.open_clip import checkpoint
from cocabench.models.open_clip.adapter import sources
from cocabench.models.open_clip.blueprint import DEFAULT_TAGS, Blueprint, blueprint
from cocabench.models.open_clip.build import build_network, build_tokenizer, tower_parameters
from cocabench.specs import registry
from cocabench.specs.registry import FailedSource, model_sources
from cocabench.specs.spec import parse_model, parse_models
from tests.models.tiny import CLIP, COCA, random_network, write_architecture, write_folder, write_training_checkpoint


def planned(text: str, **options: Any) -> Blueprint:
    return blueprint(parse_model(text), download=False, **options)


def test_every_default_tag_is_published() -> None:
    assert all(open_clip.get_pretrained_cfg(name, tag) for name, tag in DEFAULT_TAGS.items())


def test_a_bare_name_gets_the_default_tag_and_says_so() -> None:
    plan = planned("coca_ViT-L-14")
    assert plan.id == "coca_ViT-L-14:laion2b_s13b_b90k"
    assert plan.notes == (("model", "coca_ViT-L-14: no tag given, using laion2b_s13b_b90k"),)
    assert plan.captions
    assert not plan.available


def test_quick_gelu_follows_the_tag_and_not_the_architecture() -> None:
    assert planned("ViT-L-14:openai").config["quick_gelu"] is True
    assert not planned("ViT-L-14:laion2b_s32b_b82k").config.get("quick_gelu", False)
    assert planned("ViT-B/32:openai").id == "ViT-B-32:openai"


def test_preprocessing_follows_the_tag() -> None:
    assert planned("ViT-L-14:laion2b_s32b_b82k").preprocess["mean"] == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("ViT-L-41", UnknownNameError, "did you mean .*ViT-L-14"),
        ("coca_ViT-L-14:laion2b_s13b_b90", UnknownNameError, "laion2b_s13b_b90k"),
        ("coca_base", UsageError, "no published weights"),
        ("coca_base:folder", UsageError, "no published weights, and no file 'folder'; use coca_base:FILE or"),
        ("convnext_xxlarge", UsageError, "laion2b_s34b_b82k_augreg"),
        ("ViT-B-32:/nowhere/e.pt", ModelError, "no such file"),
        ("demo/cocoa", UnknownNameError, "did you mean coca"),
    ],
)
def test_a_wrong_name_offers_the_right_ones(text: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        planned(text)


@pytest.mark.parametrize(
    "name", ["coca_base", "coca_ViT-B-32", "coca_ViT-L-14", "coca_roberta-ViT-B-32", "ViT-B-32", "RN50"]
)
def test_all_coca_configs_of_open_clip_are_known(name: str) -> None:
    assert planned(f"{name}:random@0").captions == name.startswith("coca")


def test_random_weights_are_complete_and_reproducible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """torch.empty poisoned with NaN shows whether every parameter was initialised (CoCa's projection is not)."""
    empty = torch.empty
    monkeypatch.setattr(
        torch, "empty", lambda *a, **k: empty(*a, **k).fill_(float("nan")) if not k.get("dtype") else empty(*a, **k)
    )
    first, again, other = (random_network(tmp_path, COCA, seed).state_dict() for seed in (1, 1, 2))
    assert all(bool(torch.isfinite(v).all()) for k, v in first.items() if "attn_mask" not in k)
    assert all(torch.equal(v, again[k]) for k, v in first.items() if "attn_mask" not in k)
    assert not torch.equal(first["text_decoder.text_projection"], other["text_decoder.text_projection"])


def test_all_kinds_of_checkpoint_give_the_same_weights(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a:b, c", COCA, seed=3)
    arch = write_architecture(tmp_path / "arch.json", COCA)
    net = build_network(planned(str(folder)))
    checkpoint = write_training_checkpoint(tmp_path / "epoch_5.pt", net)
    bare = tmp_path / "bare.pth"
    torch.save(net.state_dict(), bare)
    texts = (
        f"local-dir:{folder}",
        f"{arch}:{checkpoint}",
        f"{arch}:{bare}",
        f"{arch}:{folder}/open_clip_model.safetensors",
    )
    for text in texts:
        assert all(torch.equal(v, net.state_dict()[k]) for k, v in build_network(planned(text)).state_dict().items())


def test_a_merges_file_beside_the_config_is_found_and_used(tmp_path: Path) -> None:
    import gzip

    folder = write_folder(tmp_path / "m", COCA)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": "merges.txt.gz"}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with gzip.open(folder / "merges.txt.gz", "wt") as file:
        file.write("#version\na b</w>")
    tokenizer = build_tokenizer(planned(str(folder)))
    assert isinstance(tokenizer, SimpleTokenizer)
    assert tokenizer.vocab_size == 512 + 1 + 2
    assert tokenizer.context_length == 16


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("ran",))


class System:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("echo ran",))


def broken(tmp_path: Path, kind: str) -> tuple[Path, str]:
    """Write a checkpoint of the tiny CLIP that is broken in one way, and return it with what must be said."""
    net, path = random_network(tmp_path, CLIP), tmp_path / "c.pt"
    match kind:
        case "code":
            torch.save({"state_dict": net.state_dict(), "extra": Evil()}, path)
            return path, "a pickle that would run .*print"
        case "system":
            torch.save({"state_dict": net.state_dict(), "extra": System()}, path)
            return path, "a pickle that would run .*system"
        case "wider":
            torch.save(
                random_network(tmp_path, {**CLIP, "text_cfg": {**CLIP["text_cfg"], "width": 64}}).state_dict(), path
            )
            return path, "another architecture.*is \\[.*the model's"
        case "plain pickle":
            path.write_bytes(pickle.dumps(Evil(), protocol=2))
            return path, "pickle that would run|not readable"
        case "truncated":
            torch.save(net.state_dict(), path)
            path.write_bytes(path.read_bytes()[:1000])
            return path, "not readable as a checkpoint.*truncated"
        case "nan":
            state = net.state_dict()
            state["visual.proj"][0, 0] = float("nan")
            torch.save(state, path)
            return path, "NaN or infinity in visual.proj"
        case "coca":
            torch.save(random_network(tmp_path, COCA).state_dict(), path)
            return path, "another architecture.*(missing|unexpected)"
        case "empty":
            path.touch()
            return path, "not readable"
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["code", "system", "wider", "plain pickle", "truncated", "nan", "coca", "empty"])
def test_a_broken_checkpoint_is_refused_in_one_line(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, said = broken(tmp_path, kind)
    net = random_network(tmp_path, CLIP)
    with pytest.raises(ModelError, match=said) as caught:
        checkpoint.load(net, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "ran" not in capsys.readouterr().out


def test_the_signature_follows_the_weights_and_not_the_path(tmp_path: Path) -> None:
    a, b, c = (write_folder(tmp_path / name, CLIP, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    parts = [{k: v for k, v in planned(str(f)).signature().items() if k != "id"} for f in (a, b, c)]
    assert parts[0] == parts[1]
    assert parts[0]["weights"] != parts[2]["weights"]


def test_quick_gelu_is_for_checkpoint_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", CLIP)
    spec = parse_model(str(folder))
    (plain,), (quick,) = sources(spec), sources(replace(spec, quick_gelu=True))
    assert plain.signature()["quick_gelu"] is False
    assert quick.signature()["quick_gelu"] is True
    assert "quick-GELU" in quick.notes[0].text


def test_a_fast_resize_is_each_checkpoints_or_refused() -> None:
    for text in ("demo", "avg(demo/clip,demo/clip)", "ViT-B-16-SigLIP:random@0"):
        for source in model_sources(parse_models(text), resize="fast"):
            assert source.signature()["resize"] == "fast", text
            assert "resize" not in model_sources([parse_model(source.id)])[0].signature()
    (refused,) = model_sources(parse_models("MobileCLIP-B:datacompdr"), resize="fast", download=False)
    assert isinstance(refused, FailedSource)
    assert "Resize (bilinear)" in str(refused.error)


def test_null_in_a_preprocess_cfg_is_the_default_for_a_fast_resize_too(tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    config = {"model_cfg": CLIP, "preprocess_cfg": {"size": None, "mean": None, "interpolation": None}}
    path.write_text(json.dumps(config), encoding="utf-8")
    (source,) = model_sources(parse_models(f"{path}:random@0"), resize="fast")
    assert not isinstance(source, FailedSource)
    assert source.signature()["resize"] == "fast"


def test_a_library_that_does_not_know_a_fast_resize_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry", lambda *_: lambda spec, download: [SimpleNamespace(id=spec.text)])
    spec = parse_model("theirs::model")
    (source,) = model_sources([spec])
    assert not isinstance(source, FailedSource)
    (source,) = model_sources([spec], resize="fast")
    assert isinstance(source, FailedSource)
    wanted = "--resize fast: a model whose library prepares images in its own way; wanted a checkpoint of open_clip"
    assert str(source.error).startswith(wanted)


@pytest.mark.slow
def test_parameters_per_tower_are_those_of_the_coca_blog() -> None:
    """Puccetti, Kilian, Beaumont 2023, table 3, in millions."""
    found = tower_parameters(build_network(planned("coca_ViT-B-32:random@0")))
    millions = {tower: n / 1e6 for tower, n in found.items()}
    assert millions == pytest.approx({"image_encoder": 89.16, "text_encoder": 63.42, "text_decoder": 100.96}, abs=0.01)
