"""An open_clip network in memory: the features of its checkpoint, and it is left as it was."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cocabench.core.errors import ModelError, UsageError
from cocabench.core.types import ImageSource
from cocabench.data.images import FileImage
from cocabench.models.hardware import hardware
from cocabench.models.identity import preprocess_digest, state_digest, tokenizer_digest
from cocabench.models.objects import in_memory, unwrapped
from cocabench.models.open_clip.model import OpenClip
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models
from tests.models.tiny import COCA, random_network

CPU = hardware(device="cpu", batch_size=5, workers=0)
TEXTS = ["a picture of thing 1", "thing"]


@pytest.fixture(scope="module")
def loaded(models: Path) -> OpenClip:
    (source,) = model_sources(parse_models(str(models / "coca")))
    model = source.load(CPU)
    assert isinstance(model, OpenClip)
    return model


@pytest.fixture(scope="module")
def images(data: Path) -> list[ImageSource]:
    return [FileImage(path) for path in sorted((data / "images").iterdir())]


def memory(loaded: OpenClip, net: Any) -> Any:
    return in_memory(net, loaded.transform, loaded.tokenizer)


def test_a_network_in_memory_equals_its_checkpoint_to_the_bit(loaded: OpenClip, images: list[ImageSource]) -> None:
    source = memory(loaded, loaded.net)
    model = source.load(CPU)
    assert (source.id, source.abilities, source.available) == ("CoCa", loaded.abilities, True)
    assert model.encode_images(images).rows.tobytes() == loaded.encode_images(images).rows.tobytes()
    assert model.encode_texts(TEXTS).tobytes() == loaded.encode_texts(TEXTS).tobytes()
    assert model.caption(images, {"seq_len": 8}).texts == loaded.caption(images, {"seq_len": 8}).texts


def test_evaluation_does_not_change_a_running_training(
    loaded: OpenClip, images: list[ImageSource], tmp_path: Path
) -> None:
    net = random_network(tmp_path, COCA)
    net.train()
    net.visual.eval()  # a frozen tower
    own = net.text.transformer.resblocks[0].mlp.c_fc
    called: list[int] = []
    original = own.forward
    own.forward = lambda x: called.append(1) or original(x)
    modes = {name: module.training for name, module in net.named_modules()}
    state, random = state_digest(net), torch.random.get_rng_state()
    model = memory(loaded, net).load(CPU)
    model.caption(images, {"seq_len": 6, "generation_type": "top_k", "top_k": 5})
    for part in model.stream_images(images):
        assert len(part.rows)
        assert {name: module.training for name, module in net.named_modules()} == modes, "between two batches"
    model.score_captions(images, [["thing 1"]] * len(images))
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert own.forward.__name__ == "<lambda>"
    assert torch.equal(torch.random.get_rng_state(), random)
    assert state_digest(net) == state
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_half_precision_network_runs_in_its_own_dtype(
    loaded: OpenClip, images: list[ImageSource], tmp_path: Path
) -> None:
    net = random_network(tmp_path, COCA)
    whole = memory(loaded, net).load(CPU)
    rows, texts = whole.encode_images(images).rows, whole.encode_texts(TEXTS)
    half = memory(loaded, net.bfloat16()).load(CPU)
    assert np.abs(half.encode_images(images).rows - rows).max() < 0.05
    assert np.abs(half.encode_texts(TEXTS) - texts).max() < 0.05
    assert len(half.caption(images, {"seq_len": 6}).texts) == len(images)
    assert half.score_captions(images, [TEXTS] * len(images)).logprobs.shape == (len(images), 2)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.bfloat16}


def test_state_digest_changes_with_one_bit_or_a_swap(tmp_path: Path) -> None:
    net = random_network(tmp_path, COCA)
    before = state_digest(net)
    weight = net.text_decoder.text_projection.data
    weight.view(torch.int32)[0, 0] ^= 1
    changed = state_digest(net)
    weight.view(torch.int32)[0, 0] ^= 1
    assert state_digest(net) == before != changed
    weight[[0, 1]] = weight[[1, 0]]
    assert state_digest(net) not in (before, changed)


def test_ddp_and_compile_wrappers_are_removed(loaded: OpenClip) -> None:
    class Compiled(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self._orig_mod = inner

    assert unwrapped(torch.nn.DataParallel(Compiled(loaded.net))) is loaded.net


def test_missing_arguments_are_one_line_errors(loaded: OpenClip) -> None:
    with pytest.raises(UsageError, match="model: an object of type Linear; wanted a network of open_clip"):
        in_memory(torch.nn.Linear(1, 1), None, None)
    with pytest.raises(UsageError, match="tokenizer: not given"):
        in_memory(loaded.net, loaded.transform, None)
    meta = torch.nn.Module()
    with pytest.raises(UsageError, match=r"a network on cpu; wanted one on meta"):
        memory(loaded, loaded.net).load(type(CPU)("meta", "fp32"))
    assert not list(meta.parameters())


def test_a_tokenizer_of_another_vocabulary_is_one_line(
    loaded: OpenClip, images: list[ImageSource], tmp_path: Path
) -> None:
    small = {**COCA, "text_cfg": {**COCA["text_cfg"], "vocab_size": 40000}}
    model = memory(loaded, random_network(tmp_path, small)).load(CPU)
    message = (
        "token id 49407, and the network's vocabulary has 40000; wanted the tokenizer that the network was trained"
    )
    for verb in (
        lambda: model.encode_texts(["a cat"]),
        lambda: model.caption(images, {"seq_len": 8}),
        lambda: model.score_captions(images, [["a cat"]] * len(images)),
    ):
        with pytest.raises(ModelError, match=message.replace("49407", r"4940\d")):
            verb()


def test_a_sharded_network_is_one_line_that_says_how_to_gather_it(loaded: OpenClip) -> None:
    wrapped = type("FullyShardedDataParallel", (torch.nn.Module,), {})()
    net = type("Net", (torch.nn.Module,), {"visual": None, "encode_image": None, "encode_text": None})()
    net.inner = wrapped
    with pytest.raises(
        UsageError, match=r"model: a sharded network \(FSDP\); wanted one with all .*get_model_state_dict"
    ):
        memory(loaded, net)
    with pytest.raises(UsageError, match="model: a network without weights in memory"):
        memory(loaded, copy.deepcopy(loaded.net).to("meta"))


def test_the_identity_of_a_network_tells_settings_transforms_and_tokenizers_apart(
    loaded: OpenClip, tmp_path: Path
) -> None:
    net = random_network(tmp_path, COCA)
    before = memory(loaded, net).signature()
    net.train()
    assert memory(loaded, net).signature() == before
    net.visual.pool_type = "avg"
    changed = memory(loaded, net).signature()
    assert [key for key in before if before[key] != changed[key]] == ["architecture"]

    def scaled(by: float) -> Any:
        return lambda image: loaded.transform(image) * by

    digests = [preprocess_digest(one) for one in (loaded.transform, scaled(1), scaled(2), scaled(2))]
    assert len(set(digests[:3])) == 3
    assert digests[2] == digests[3]
    lower = type("Lower", (), {"__call__": lambda self, texts: loaded.tokenizer([t.lower() for t in texts])})()
    same = type("Lower", (), {"__call__": lambda self, texts: loaded.tokenizer(texts)})()
    assert tokenizer_digest(loaded.tokenizer) == tokenizer_digest(copy.deepcopy(loaded.tokenizer))
    assert tokenizer_digest(lower) == tokenizer_digest(same), "the tokenizer lowercases"
    cut = type("Lower", (), {"__call__": lambda self, texts: loaded.tokenizer([t[:9] for t in texts])})()
    assert tokenizer_digest(cut) != tokenizer_digest(same)


def test_a_transform_or_tokenizer_that_cannot_be_the_networks_is_one_line(loaded: OpenClip) -> None:
    def flipped(image: Any) -> torch.Tensor:
        return torch.rand(3, 32, 32)

    refused = (
        (flipped, loaded.tokenizer, "preprocess: other tensors each time, of one image: a training transform"),
        (lambda image: image, loaded.tokenizer, r"preprocess: returns a Image; wanted a tensor \(3, h, w\)"),
        (lambda image: torch.zeros(1, 3, 32, 32), loaded.tokenizer, r"returns a tensor \(1, 3, 32, 32\); wanted"),
        (lambda image: torch.zeros(3, 40, 32), loaded.tokenizer, "returns images of 40 x 32, and the network takes 32"),
        (lambda image: image.nothing, loaded.tokenizer, "preprocess: fails on an RGB image of 37 x 53"),
        (loaded.transform, lambda texts: texts, "tokenizer: a list; wanted token ids"),
        (loaded.transform, lambda text: loaded.tokenizer(text.lower()), "tokenizer: fails on a list of texts"),
    )
    for preprocess, tokenizer, message in refused:
        with pytest.raises(UsageError, match=message):
            in_memory(loaded.net, preprocess, tokenizer)
