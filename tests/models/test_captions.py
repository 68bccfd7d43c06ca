from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cocabench.core.errors import NumericsError, UsageError
from cocabench.core.types import ImageSource
from cocabench.models.hardware import hardware
from cocabench.models.open_clip import model as open_clip
from cocabench.models.open_clip.captions import SpecialIds, decode_options, truncated
from cocabench.models.open_clip.decoding.generate import DecodeOptions, caption_logprob, encoded_logprob
from cocabench.models.open_clip.model import OpenClip
from cocabench.specs.registry import find_tasks, model_sources
from cocabench.specs.spec import parse_models

IDS = SpecialIds(sot_token_id=8, eos_token_id=9, pad_token_id=0)
ROWS = torch.tensor([[8, 1, 2, 9, 0, 0], [8, 1, 2, 3, 4, 9], [8, 1, 2, 3, 4, 5], [8, 1, 0, 3, 4, 5]])


@pytest.mark.parametrize(
    ("kind", "cut"),
    [
        (
            "beam_search",
            [False, False, True, True],
        ),  # an end token in the last place is the model's own; a pad is a word
        ("greedy", [False, True, True, False]),  # there it is forced, and a pad ends the caption
    ],
)
def test_captions_at_the_length_limit_are_marked_truncated(kind: str, cut: list[bool]) -> None:
    options = DecodeOptions(generation_type=kind, seq_len=6, min_seq_len=1)  # type: ignore[arg-type]
    assert truncated(ROWS, IDS, options) == cut


def test_captions_that_ended_early_are_not_truncated() -> None:
    assert truncated(ROWS[2:], IDS, DecodeOptions(seq_len=7)) == [False, False]


def test_the_right_caption_is_more_likely_than_wrong_ones() -> None:
    """Classification by caption likelihood with the demo's CoCa; must-fail: images that are shuffled are at chance."""
    (task,) = find_tasks(["emoji_captions"])
    examples = task.loader.build(Path()).examples[::40]
    (source,) = model_sources(parse_models("demo/coca"))
    model = source.load(hardware(device="cpu"))
    assert isinstance(model, OpenClip)
    texts = [example.texts[0] for example in examples]
    found = model.score_captions([example.image for example in examples], [texts] * len(texts))
    scores, n = found.logprobs, len(texts)
    below = (scores < np.diag(scores)[:, None]).mean()  # 0.5 by chance
    shuffled = np.roll(scores, 1, axis=0)
    assert scores.shape == (n, n)
    assert below > 0.6
    assert (shuffled < np.diag(shuffled)[:, None]).mean() < below - 0.1


def test_likelihoods_are_those_of_the_decoder_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = find_tasks(["emoji_captions"])
    sources = [example.image for example in task.loader.build(Path()).examples[:5]]
    (source,) = model_sources(parse_models("demo/coca"))
    model = source.load(hardware(device="cpu"))
    assert isinstance(model, OpenClip)
    texts = ["a dog", "a grinning face", "bus"]
    found = model.score_captions(sources, [texts] * 5)
    pixels = torch.stack([model.transform(source.open()) for source in sources])
    tokens = model.tokenizer(texts)
    for column, row in enumerate(tokens):
        one = caption_logprob(model.net, pixels, row.expand(5, -1), eos_token_id=49407)
        np.testing.assert_allclose(found.logprobs[:, column], one.total, rtol=1e-4)
        assert set(found.n_tokens[:, column]) == {int(one.n_tokens[0])}
    own = [texts[i % 3 :] + texts[: i % 3] for i in range(5)]
    turned = np.array([np.roll(row, -(i % 3)) for i, row in enumerate(found.logprobs)])
    np.testing.assert_allclose(model.score_captions(sources, own).logprobs, turned, rtol=1e-4)
    assert not model.notes
    with monkeypatch.context() as small:
        small.setattr(open_clip, "encoded_logprob", _for_two)
        np.testing.assert_allclose(model.score_captions(sources, own).logprobs, turned, rtol=1e-4)
    assert model.notes == [("halved_batch", "out of memory with 5 likelihoods per batch; continued with 2")]
    monkeypatch.setattr(open_clip, "CAPTIONS_PER_PASS", 3)
    np.testing.assert_allclose(model.score_captions(sources, [texts] * 5).logprobs, found.logprobs, rtol=1e-4)


def _for_two(net: object, embs: torch.Tensor, texts: torch.Tensor, **ends: int) -> object:
    """Say how likely texts are, on a machine with memory for two images."""
    if len(embs) > 2:
        raise torch.OutOfMemoryError
    return encoded_logprob(net, embs, texts, **ends)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_captioning_and_likelihoods_give_the_features_of_encode_images_to_the_bit(precision: str) -> None:
    (task,) = find_tasks(["emoji_captions"])
    sources = [example.image for example in task.loader.build(Path()).examples[:10]]
    (source,) = model_sources(parse_models("demo/coca"))
    model = source.load(hardware(device="cpu", precision=precision, batch_size=4))
    assert isinstance(model, OpenClip)
    written, expected = model.caption(sources, {"seq_len": 6}).features, model.encode_images(sources).rows
    assert written is not None
    assert written.dtype == np.float32
    assert written.shape == expected.shape == (10, 96)
    assert written.tobytes() == expected.tobytes()
    likely = model.score_captions(sources, [["a dog"]] * 10).features
    assert likely is not None
    assert likely.tobytes() == expected.tobytes()
    model.compiled = model.net.encode_image
    assert model.score_captions(sources, [["a dog"]] * 10).features is None
    assert model.caption(sources, {"seq_len": 6}).features is None, "compiled ones would differ in their last bits"


@pytest.mark.parametrize("generation_type", ["beam_search", "greedy"])
def test_a_logit_that_is_no_number_is_an_error_that_names_the_image(generation_type: str) -> None:
    """As in half precision that overflows. Unchecked, a NaN would be every beam's best candidate."""
    (task,) = find_tasks(["emoji_captions"])
    sources = [example.image for example in task.loader.build(Path()).examples[:2]]
    (source,) = model_sources(parse_models("demo/coca"))
    model = source.load(hardware(device="cpu"))
    assert isinstance(model, OpenClip)
    model.net.text_decoder.text_projection.data[0, 5] = torch.nan
    with pytest.raises(NumericsError, match=r"score of 2 of 2.*--precision fp32") as caught:
        model.caption(sources, {"seq_len": 6, "generation_type": generation_type})
    assert str(sources[0]) in str(caught.value)
    with pytest.raises(NumericsError, match="log-probabilities of 2 of 2"):
        model.score_captions(sources, [["a dog"]] * len(sources))
    model.net.visual.proj = torch.nn.Parameter(torch.full_like(model.net.visual.proj, torch.inf))
    with pytest.raises(NumericsError, match="features of 2 of 2"):
        model.encode_images(sources)


@pytest.fixture(scope="module")
def coca() -> OpenClip:
    (source,) = model_sources(parse_models("demo/coca"))
    model = source.load(hardware(device="cpu", batch_size=8))
    assert isinstance(model, OpenClip)
    return model


@pytest.fixture(scope="module")
def pictures() -> list[ImageSource]:
    (task,) = find_tasks(["emoji_captions"])
    return [example.image for example in task.loader.build(Path()).examples[:6]]


@pytest.mark.parametrize("options", [{"seq_len": 12}, {"seq_len": 12, "generation_type": "greedy"}])
def test_a_prompt_for_each_image_gives_what_it_gives_alone(
    coca: OpenClip, pictures: list[ImageSource], options: dict[str, Any]
) -> None:
    prompts = ["a", "", "a red", "the dog", "", "a"]
    together = coca.caption(pictures, options, prompts=prompts)
    for i, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        alone = coca.caption([picture], options, prompts=prompt)
        assert together.texts[i] == alone.texts[0]
        assert together.texts[i].startswith(prompt)
        assert together.scores[i] == pytest.approx(alone.scores[0], rel=1e-5)
    assert together.features is not None
    assert together.features.tobytes() == coca.encode_images(pictures).rows.tobytes()


def test_a_prefix_is_given_and_its_tokens_do_not_count(coca: OpenClip, pictures: list[ImageSource]) -> None:
    """log p(text | image, prefix) = log p(prefix text | image) less the prefix's own part, by the chain rule."""
    prefixes = ["a red", "", "the dog on", "a", "a red", ""]
    texts = ["heart", "face with a hat"]
    found = coca.score_captions(pictures, [texts] * 6, prefixes=prefixes)
    pixels = torch.stack([coca.transform(picture.open()) for picture in pictures])
    for i, prefix in enumerate(prefixes):
        n_prefix = int((coca.tokenizer([prefix])[0] != 0).sum()) - 2
        for j, text in enumerate(texts):
            (row,) = coca.tokenizer([f"{prefix} {text}".strip()])
            joint = caption_logprob(coca.net, pixels[i : i + 1], row[None], eos_token_id=int(row.max()))
            wanted = joint.per_token[0, n_prefix : int(joint.n_tokens[0])].sum()
            assert found.logprobs[i, j] == pytest.approx(float(wanted), rel=1e-4)
            assert found.n_tokens[i, j] == int(joint.n_tokens[0]) - n_prefix
    plain = coca.score_captions(pictures, [texts] * 6)
    empty = coca.score_captions(pictures, [texts] * 6, prefixes=[""] * 6)
    assert plain.logprobs.tobytes() == empty.logprobs.tobytes()
    with pytest.raises(UsageError, match="room for a text"):
        coca.score_captions(pictures[:1], [texts], prefixes=["dog " * 99])


def test_a_shortest_length_beyond_the_context_names_the_context() -> None:
    with pytest.raises(UsageError, match=r"^min_seq_len: 75; wanted less than the model's context \(12\)$"):
        decode_options({"seq_len": 76, "min_seq_len": 75}, 12)
    assert decode_options({"seq_len": 76, "min_seq_len": 11}, 12).seq_len == 12
