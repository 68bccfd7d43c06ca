"""Model folders, JSON architectures and recipes are data: none of them runs code, and each that tries is named."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest

from cocabench.core.errors import ModelError
from cocabench.models.open_clip.blueprint import blueprint
from cocabench.models.open_clip.build import build_transform
from cocabench.models.open_clip.config import checked
from cocabench.specs.spec import parse_model
from cocabench.train.start import changed
from tests.conftest import Command
from tests.models.tiny import CLIP, write_architecture, write_folder

TOKENIZER = """
import pathlib
from transformers import PreTrainedTokenizerFast
pathlib.Path(__file__).with_name("ran").touch()
pathlib.Path({ran!r}).touch()
class Mine(PreTrainedTokenizerFast):
    pass
"""


def with_text(**text: Any) -> dict[str, Any]:
    return {**CLIP, "text_cfg": {**CLIP["text_cfg"], **text}}


def write_hostile(folder: Path, ran: Path, text: dict[str, Any]) -> Path:
    """Write a model folder whose tokenizer is a module of its own, which makes the file ran when it is imported."""
    write_folder(folder, CLIP)
    content = {"model_cfg": with_text(hf_tokenizer_name=".", **text), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    (folder / "mine.py").write_text(TOKENIZER.format(ran=str(ran)))
    named = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    (folder / "config.json").write_text(json.dumps({"model_type": "new"}))
    return folder


def test_preprocessing_that_cannot_work_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"^preprocessing \{'size': \(0, 0\).*: it fails \("):
        build_transform({"size": (0, 0), "mean": (0.5,) * 3, "std": (0.5,) * 3})


@pytest.mark.parametrize("text", [{"tokenizer_kwargs": {"trust_remote_code": True}}, {}])
def test_a_folders_own_python_never_runs(
    command: Command, data: Path, tmp_path: Path, text: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    ran = tmp_path / "ran"
    folder = write_hostile(tmp_path / "model", ran, text)
    given = ("--tasks", data / "find.toml", "--data-root", data, "--output", tmp_path / "results")
    told = command("run", "--model", folder, *given)
    assert told.code == 2
    assert "trust_remote_code would run code" in told.err if text else "auto_map would run code" in told.err
    assert told.err.count("would run code") == 1
    assert "Traceback" not in told.err
    assert not ran.exists()


@pytest.mark.filterwarnings("ignore")
def test_transformers_itself_runs_that_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above proves would be nothing if the module were not found."""
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    ran = tmp_path / "ran"
    folder = write_hostile(tmp_path / "model", ran, {})
    with pytest.raises(Exception):  # noqa: B017, PT011 — it has no vocabulary; by then the module has run
        transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    assert ran.exists()


HOSTILE = [
    (with_text(tokenizer_kwargs={"trust_remote_code": True}), "tokenizer_kwargs.trust_remote_code would run code"),
    (with_text(tokenizer_kwargs={"config": {"auto_map": {"AutoTokenizer": "x.Y"}}}), "auto_map would run code"),
    (with_text(tokenizer_kwargs={"tokenizer_file": "/etc/passwd"}), "tokenizer_file: unknown key"),
    (with_text(tokenizer_kwargs={"proxies": {"https": "evil"}}), "proxies: unknown key"),
    (with_text(tokenizer_kwargs={"reduction_mask": "syntax"}), "pickled models of nltk"),
    (with_text(act_kwargs={"device": "cuda"}), "text_cfg.act_kwargs.device: unknown key"),
    (with_text(norm_kwargs={"attn_implementation": "evil/kernels"}), "attn_implementation would run code"),
    (with_text(hf_model_name=["a"]), "hf_model_name: got"),
    (with_text(auto_map={"AutoModel": "x.Y"}), "text_cfg.auto_map would run code"),
    ({**CLIP, "vision_cfg": {**CLIP["vision_cfg"], "timm_model_name": "hf-hub:evil/net"}}, "timm_model_name"),
    ({**CLIP, "vision_cfg": {**CLIP["vision_cfg"], "timm_model_name": "local-dir:/evil"}}, "timm_model_name"),
    ({**CLIP, "multimodal_cfg": {"use_kernels": True}}, "multimodal_cfg.use_kernels would run code"),
    ({**CLIP, "cast_dtype": "float16"}, "cast_dtype: unknown key"),
    ({**CLIP, "custom_txt": True}, "did you mean 'custom_text'"),
    ({**CLIP, "text_cfg": None}, "text_cfg: got null; wanted a table"),
    ({**CLIP, "vision_cfg": [1]}, "vision_cfg: got"),
]


@pytest.mark.parametrize(("config", "said"), HOSTILE)
def test_a_config_that_could_load_code_is_refused_by_name(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    path = write_architecture(tmp_path / "arch.json", config)
    with pytest.raises(ModelError, match=said) as caught:
        blueprint(parse_model(f"{path}:random@0"))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_beside_the_model_config_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    path.write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ModelError, match="auto_map would run code"):
        blueprint(parse_model(f"{path}:random@0"))


def test_a_text_tower_that_names_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "new", "auto_map": {"AutoConfig": "x.Y"}}))
    path = write_architecture(tmp_path / "arch.json", with_text(hf_model_name="."))
    with pytest.raises(ModelError, match=r"config\.json: auto_map would run code"):
        blueprint(parse_model(f"{path}:random@0"))


def test_a_recipes_changes_are_held_to_the_same(tmp_path: Path) -> None:
    plan = blueprint(parse_model("ViT-B-32:random@0"))
    with pytest.raises(ModelError, match="trust_remote_code would run code"):
        changed(plan, {"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": True}}})


def test_all_architectures_of_open_clip_pass() -> None:
    for name in open_clip.list_models():
        checked(open_clip.get_model_config(name), name)
