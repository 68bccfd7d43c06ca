"""Features of transformers' checkpoints: those of the networks themselves, and each known cause of wrong ones."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from cocabench.core.cache import MemoryCache
from cocabench.core.errors import CocabenchError, ModelError
from cocabench.core.types import ImageSource
from cocabench.kinds.classification import Classification
from cocabench.models.hardware import hardware
from cocabench.models.hf.contrastive import features_of
from cocabench.models.hf.families import FAMILIES, FIRST_WITH_NAFLEX
from cocabench.models.hf.source import source_of
from cocabench.run.prepare import Settings
from cocabench.run.workers import Described, Pool, Worker
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models
from tests.models.hf import tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
MASKED = ("clip", "align", "altclip", "chinese_clip")
VERSION = tuple(int(part) for part in transformers.__version__.split(".")[:2])
without_naflex = pytest.mark.skipif(tuple(map(int, FIRST_WITH_NAFLEX.split("."))) > VERSION, reason="no Siglip2Model")


def changed(folder: Path, to: Path, file: str, **settings: Any) -> Path:
    """Copy a checkpoint with other settings in one of its files; None removes one."""
    shutil.copytree(folder, to)
    table = json.loads((to / file).read_text()) | settings
    tiny.write_json(to / file, {key: value for key, value in table.items() if value is not None})
    return to


def own_inputs(model: Any, texts: list[str], **options: Any) -> dict[str, torch.Tensor]:
    """Return what the checkpoint's tokenizer itself gives."""
    return dict(
        model.texts.tokenizer(texts, return_tensors="pt", truncation=True, max_length=model.texts.use.length, **options)
    )


def unit(rows: Any) -> np.ndarray:
    found = features_of(rows).detach().numpy()
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("name", tiny.CONTRASTIVE)
def test_features_are_those_of_the_networks_forward(
    name: str, folders: Callable[[str], Path], load: Any, images: list[ImageSource]
) -> None:
    model = load(folders(name))
    pixels = torch.stack([model.transform(image.open()) for image in images])
    texts = [text.lower().replace(".", "") for text in tiny.WORDS[:4]]  # as clean as the strictest family wants them
    padding: dict[str, Any] = {"padding": True} if name in MASKED else {"padding": "max_length"}
    inputs = own_inputs(model, texts, **padding)
    if name not in MASKED:
        inputs.pop("attention_mask", None)
    with torch.no_grad():
        made = model.net(pixel_values=pixels, **inputs)
        pooled = model.net.vision_model(pixel_values=pixels).pooler_output
    np.testing.assert_allclose(model.encode_images(images).rows, made.image_embeds, atol=1e-6)
    np.testing.assert_allclose(model.encode_texts(texts), made.text_embeds, atol=1e-6)
    np.testing.assert_allclose(model.encode_images(images, output="pooled", normalize=False).rows, pooled, atol=1e-5)
    assert {
        len(set(map(tuple, rows.round(4)))) for rows in (model.encode_images(images).rows, model.encode_texts(texts))
    } == {4}
    assert set(model.parameters) == {"image_encoder", "text_encoder"}
    assert sum(model.parameters.values()) >= sum(p.numel() for p in model.net.parameters()) - 2


@without_naflex
def test_naflex_features_are_those_of_the_networks_forward(
    folders: Callable[[str], Path], load: Any, images: list[ImageSource]
) -> None:
    model = load(folders("naflex"))
    processor = model.transform.args[0]
    made = processor(images=[image.open() for image in images], return_tensors="pt", input_data_format="channels_last")
    inputs = own_inputs(model, ["a photo of a cat."], padding="max_length")
    with torch.no_grad():
        own = model.net(**made, input_ids=inputs["input_ids"])
    np.testing.assert_allclose(model.encode_images(images).rows, own.image_embeds, atol=1e-6)
    np.testing.assert_allclose(model.encode_texts(["a photo of a cat."]), own.text_embeds, atol=1e-6)
    shapes = {tuple(model.transform(image.open())["spatial_shapes"].tolist()) for image in images}
    assert len(shapes) > 1, "each image keeps its shape"


def test_a_naflex_checkpoint_needs_a_version_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_json(tmp_path / "config.json", {"model_type": "siglip2", "architectures": ["Siglip2Model"]})
    monkeypatch.setattr("cocabench.models.hf.families.installed", lambda: "4.49.0")
    with pytest.raises(
        ModelError, match=r"a NaFlex checkpoint, and transformers 4\.49\.0 has no Siglip2Model; wanted 4"
    ):
        source_of("x", tmp_path)


@pytest.mark.parametrize("name", ["siglip", "siglip2"])
def test_siglip_pads_to_its_full_length_and_masks_nothing(name: str, folders: Callable[[str], Path], load: Any) -> None:
    model = load(folders(name))
    texts = ["a photo of a cat"]
    inputs = model.texts(texts)
    assert list(inputs) == ["input_ids"]
    assert inputs["input_ids"].shape == (1, 20)
    found = model.encode_texts(texts)
    with torch.no_grad():
        whole, short = (own_inputs(model, texts, padding=padding) for padding in ("max_length", True))
        masked = unit(model.net.get_text_features(**whole))
        unpadded = unit(model.net.get_text_features(input_ids=short["input_ids"]))
        trained = unit(model.net.get_text_features(input_ids=whole["input_ids"]))
    np.testing.assert_allclose(found, trained, atol=1e-6)
    for wrong in (unpadded, masked if "attention_mask" in whole and (whole["attention_mask"] == 0).any() else unpadded):
        assert np.abs(found - wrong).max() > 1e-3


def test_texts_are_padded_on_the_right_whatever_the_tokenizer_says(
    folders: Callable[[str], Path], load: Any, tmp_path: Path
) -> None:
    """Gemma's default is the left, where SigLIP2 reads its feature and every position is another one."""
    for name in ("siglip2", "clip", "align"):
        own, texts = load(folders(name)), ["a photo of a cat", "a dog"]
        other = load(changed(folders(name), tmp_path / name, "tokenizer_config.json", padding_side="left"))
        assert other.texts.tokenizer.padding_side == "left"
        assert own.encode_texts(texts).tobytes() == other.encode_texts(texts).tobytes()


@pytest.mark.slow
def test_workers_prepare_the_same_pixels(folders: Callable[[str], Path], images: list[ImageSource]) -> None:
    for name in ("clip", *(["naflex"] if transformers.__version__ >= "5" else [])):
        source = source_of("x", folders(name))
        rows = [source.load(hardware(device="cpu", workers=n, batch_size=2)).encode_images(images).rows for n in (0, 2)]
        assert rows[0].tobytes() == rows[1].tobytes()


def test_masked_families_give_a_text_the_same_feature_beside_a_longer_one(
    folders: Callable[[str], Path], load: Any
) -> None:
    for name in MASKED:
        model = load(folders(name))
        alone, beside = model.encode_texts(["a cat"]), model.encode_texts(["a cat", "a photo of two dogs in the snow"])
        np.testing.assert_allclose(alone[0], beside[0], atol=1e-6, err_msg=name)


def test_siglip2_lowercases_and_keeps_punctuation(folders: Callable[[str], Path], load: Any) -> None:
    """The fixed-resolution one is a SiglipModel with a Gemma tokenizer, which keeps capitals apart."""
    model = load(folders("siglip2"))
    upper, lower, bare = model.encode_texts(["A Photo of a Cat.", "a photo of a cat.", "a photo of a cat"])
    assert upper.tobytes() == lower.tobytes() != bare.tobytes()
    own = own_inputs(model, ["A Photo of a Cat.", "a photo of a cat."], padding="max_length")["input_ids"]
    assert not torch.equal(own[0], own[1]), "the tokenizer itself does not"


def test_siglip_texts_are_canonical(folders: Callable[[str], Path], load: Any) -> None:
    model = load(folders("siglip"))
    rows = model.encode_texts(["A photo: of a sleeping_cat!", "a photo of a sleeping cat", "a photo of a sleepingcat"])
    assert rows[0].tobytes() == rows[1].tobytes() != rows[2].tobytes()


def test_class_prompts_are_canonical_for_siglip_and_siglip2_alone(folders: Callable[[str], Path], load: Any) -> None:
    asked: list[str] = []

    def encode_texts(texts: list[str], **_: Any) -> np.ndarray:
        asked.extend(texts)
        return np.eye(len(texts), dtype=np.float32)

    for name, wanted in (
        ("clip", "a photo of a T-shirt."),
        ("siglip", "a photo of a tshirt"),
        ("siglip2", "a photo of a tshirt"),
    ):
        asked.clear()
        model = SimpleNamespace(encode_texts=encode_texts, class_prompts=load(folders(name)).class_prompts)
        prompts = [("a photo of a T-shirt.",), ("a cat",)]
        Classification()._classifier(model, prompts, lambda *_: None)
        assert asked == [wanted, "a cat"], name


def test_a_model_on_several_workers_says_of_texts_what_it_says_on_one(
    folders: Callable[[str], Path], load: Any
) -> None:
    (source,) = model_sources(parse_models(f"transformers::{folders('siglip')}"))
    worker, model = Worker(Settings(device="cpu", workers=0), 1, 0), source.load(load.cpu)
    described = worker.describe(source, None)
    assert isinstance(described, Described)

    def hand(method: str, calls: Iterator[tuple[Any, ...]]) -> Iterator[Any]:
        return (getattr(worker, method)(*call) for call in calls)

    pool = Pool(source, described, hand, load.cpu, worker.greet()[1], MemoryCache())
    assert (
        pool.class_prompts(["A T-shirt.", "a cat"])
        == model.class_prompts(["A T-shirt.", "a cat"])
        == ["a tshirt", "a cat"]
    )
    texts = ["a cat", "a cat " * 200]
    assert pool.count_tokens(texts) == model.count_tokens(texts)
    assert pool.count_tokens(texts).cut == [False, True]


def test_feature_methods_may_return_a_tensor_or_an_object(
    folders: Callable[[str], Path], load: Any, images: list[ImageSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(folders("clip"))
    rows, texts = model.encode_images(images).rows, model.encode_texts(["a cat"])
    for method in ("get_image_features", "get_text_features"):
        own = getattr(model.net, method)
        for wrap in (
            features_of,
            lambda made: SimpleNamespace(pooler_output=features_of(made), last_hidden_state=None),
        ):
            monkeypatch.setattr(model.net, method, lambda own=own, wrap=wrap, **inputs: wrap(own(**inputs)))
            assert model.encode_images(images).rows.tobytes() == rows.tobytes()
            assert model.encode_texts(["a cat"]).tobytes() == texts.tobytes()
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_logit_scale_and_bias_move_no_feature(
    name: str, folders: Callable[[str], Path], load: Any, images: list[ImageSource], tmp_path: Path
) -> None:
    other = tmp_path / name
    shutil.copytree(folders(name), other)
    weights = load_file(other / "model.safetensors")
    scaled = {key: value - 7 if key.startswith("logit_") else value for key, value in weights.items()}
    assert any(not torch.equal(scaled[key], weights[key]) for key in weights)
    save_file(scaled, other / "model.safetensors", metadata={"format": "pt"})
    for encode, given in (("encode_images", images), ("encode_texts", ["a cat", "a dog"])):
        first, second = (getattr(load(folder), encode)(given) for folder in (folders(name), other))
        first, second = (getattr(found, "rows", found) for found in (first, second))
        assert first.tobytes() == second.tobytes()


def by_pillow(image: Image.Image, resample: Image.Resampling, *, crop: bool, mean: Any, std: Any) -> np.ndarray:
    """Return the pixels (3, 32, 32) of the shorter side resized and cropped, or of the whole image squashed."""
    scale = 32 / min(image.size)
    size = tuple(int(side * scale + 1e-9) for side in image.size) if crop else (32, 32)
    resized = image.resize(size, resample)
    left, top = ((side - 32) // 2 for side in size)
    pixels = np.asarray(resized.crop((left, top, left + 32, top + 32)), np.float64) / 255
    return ((pixels - mean) / std).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("name", "settings", "resample", "crop"),
    [
        ("clip", {}, Image.Resampling.BICUBIC, True),
        ("clip", {"resample": 2}, Image.Resampling.BILINEAR, True),
        ("clip", {"size": {"height": 32, "width": 32}}, Image.Resampling.BICUBIC, False),
        ("siglip", {}, Image.Resampling.BICUBIC, False),
    ],
)
def test_resize_crop_and_interpolation_are_the_checkpoints(
    name: str, settings: dict[str, Any], resample: Any, crop: bool, folders: Any, load: Any, images: Any, tmp_path: Path
) -> None:
    folder = changed(folders(name), tmp_path / "other", "preprocessor_config.json", **settings)
    model, half = load(folder), np.full(3, 0.5)
    mean, std = (half, half) if name == "siglip" else (np.array(tiny.CLIP_MEAN), np.array(tiny.CLIP_STD))
    for image in images[:3]:
        expected = by_pillow(image.open(), resample, crop=crop, mean=mean, std=std)
        np.testing.assert_allclose(model.transform(image.open()), expected, atol=2e-6)
    own, other = (source_of("x", one).signature() for one in (folders(name), folder))
    assert (own["preprocess"] == other["preprocess"]) == (not settings)


def test_weights_are_not_rounded_to_the_dtype_that_the_config_names(
    folders: Callable[[str], Path], load: Any, tmp_path: Path
) -> None:
    folder = changed(folders("clip"), tmp_path / "half", "config.json", dtype="float16", torch_dtype="float16")
    net, stored = load(folder).net, load_file(folder / "model.safetensors")
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert torch.equal(net.visual_projection.weight, stored["visual_projection.weight"])


def test_missing_weights_are_an_error_not_random(folders: Callable[[str], Path], load: Any, tmp_path: Path) -> None:
    shutil.copytree(folders("clip"), tmp_path / "part")
    weights = load_file(tmp_path / "part" / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "part" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing in the checkpoint, text_projection\.weight first"):
        load(tmp_path / "part")
    weights["text_projection.weight"] = torch.full((16, 32), torch.nan)
    save_file(weights, tmp_path / "part" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"NaN or infinity in text_projection\.weight"):
        load(tmp_path / "part")
    save_file(
        {**weights, "text_projection.weight": torch.ones(8, 32)},
        tmp_path / "part" / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelError, match=r"weights are of another shape|transformers cannot load it"):
        load(tmp_path / "part")


def test_token_ids_out_of_range_name_the_tokenizer(folders: Callable[[str], Path], load: Any, tmp_path: Path) -> None:
    model = load(tiny.clip(tmp_path / "small", vocab_size=80, eos_token_id=2))
    with pytest.raises(ModelError, match="token id 85, and the network's vocabulary has 80; wanted the tokenizer that"):
        model.encode_texts(["a cat"])


def test_a_clip_whose_tokenizer_never_writes_its_end_token_is_an_error(
    folders: Callable[[str], Path], load: Any, tmp_path: Path
) -> None:
    """transformers would read the feature at the first position, whatever the text says."""
    model = load(tiny.clip(tmp_path / "other", eos_token_id=84))
    with pytest.raises(ModelError, match="no token 84 at the end of a text, where the network reads its feature"):
        model.encode_texts(["a cat"])
    legacy = load(tiny.clip(tmp_path / "legacy", eos_token_id=2))  # configs of before 2023: the largest id is the end
    assert np.abs(legacy.encode_texts(["a cat"]) - load(folders("clip")).encode_texts(["a cat"])).max() < 1e-6


@pytest.mark.parametrize(
    ("hook", "given", "message"),
    [
        ("encode_image_batch", lambda n: torch.full((n, 4), torch.nan), "NaN or infinity in the features of 3 of 3"),
        ("encode_image_batch", lambda n: torch.ones(n, 4, 2), r"shape \(3, 4, 2\) of 3 images; wanted .*\(3, d\)"),
        ("encode_image_batch", lambda n: torch.ones(n + 1, 4), r"features of shape \(4, 4\) of 3 images"),
        ("encode_image_batch", lambda n: None, "features of type NoneType of 3 images"),
        ("encode_text_batch", lambda n: torch.ones(n), r"features of shape \(2,\) of 2 texts"),
    ],
)  # fmt: skip
def test_nan_and_wrong_shapes_are_one_line(
    hook: str, given: Any, message: str, folders: Any, load: Any, images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(folders("clip"))
    monkeypatch.setattr(model, hook, lambda inputs: given(len(inputs)))
    with pytest.raises(CocabenchError, match=message) as caught:
        model.encode_images(images[:3]) if "image" in hook else model.encode_texts(["a", "b"])
    assert "\n" not in str(caught.value)


def test_every_family_is_tested() -> None:
    assert {*tiny.FAMILIES} == {*FAMILIES} - {"siglip2"} | {"siglip2", "naflex"}
