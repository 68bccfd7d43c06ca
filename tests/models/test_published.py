"""What is read from open_clip's files is what open_clip says."""

import inspect
from dataclasses import asdict, fields

import open_clip
import pytest
from open_clip.coca_model import CoCa, MultimodalCfg
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from open_clip.transform import PreprocessCfg

from cocabench.models.open_clip import published


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the files, as a process does that has not imported open_clip."""
    monkeypatch.setattr(published, "_imported", lambda: None)


def test_architectures_and_their_configs_are_open_clips() -> None:
    assert published.architectures() == open_clip.list_models()
    for name in open_clip.list_models():
        assert published.architecture(name) == open_clip.get_model_config(name)
    with pytest.raises(KeyError):
        published.architecture("ViT-B-33")


def test_a_config_may_be_changed() -> None:
    published.architecture("ViT-B-32")["vision_cfg"]["layers"] = 0
    assert published.architecture("ViT-B-32")["vision_cfg"]["layers"] == 12


def test_tags_are_open_clips() -> None:
    for name in [*open_clip.list_models(), "ViT-B-33"]:
        assert published.tags(name) == open_clip.list_pretrained_tags_by_model(name)
        for tag in [*published.tags(name), "laion2b-s34b-B79K", "none"]:
            assert published.tag(name, tag) == open_clip.get_pretrained_cfg(name, tag)


@pytest.mark.parametrize(
    ("module", "cls"), [("model", CLIPVisionCfg), ("model", CLIPTextCfg), ("coca_model", MultimodalCfg)]
)
def test_keys_are_the_fields_of_open_clips_classes(module: str, cls: type) -> None:
    assert list(published.declared(module, cls.__name__)) == [field.name for field in fields(cls)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("module", "cls"), [("model", CLIP), ("model", CustomTextCLIP), ("coca_model", CoCa)])
def test_keys_are_the_parameters_of_open_clips_networks(module: str, cls: type) -> None:
    assert list(published.declared(module, cls.__name__)) == list(inspect.signature(cls).parameters)


def test_the_default_preprocessing_is_open_clips() -> None:
    assert published.preprocessing() == asdict(PreprocessCfg())


def test_what_a_program_added_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "mine", {"embed_dim": 1})
    assert "mine" in published.architectures()
    assert published.architecture("mine") == {"embed_dim": 1}
