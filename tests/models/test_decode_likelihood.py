"""Caption likelihoods against open_clip's full forward pass."""

from typing import Any

import pytest
import torch

from benchmarks.make_decoding_goldens import MODELS, build, images
from cocabench.models.open_clip.decoding import likelihood
from cocabench.models.open_clip.decoding.generate import (
    DecodeOptions,
    caption_logprob,
    encoded_logprob_of_all,
    generate_scored,
)
from cocabench.models.open_clip.decoding.likelihood import counted_tokens

LENGTH = 24


def _texts(name: str, count: int) -> torch.Tensor:
    """Captions of every length, with words that are pads, padded after the end token."""
    ids, random = MODELS[name]["ids"], torch.Generator().manual_seed(5)
    texts = torch.randint(8, 40, (count, LENGTH), generator=random)
    texts[:, 0] = ids["sot_token_id"]
    texts[::2, 2] = MODELS[name]["config"]["text_cfg"].get("pad_id", 0)
    for row, text in enumerate(texts):
        text[3 + row] = ids["eos_token_id"]
        text[4 + row :] = ids["pad_token_id"]
    return texts


def _ends(name: str) -> dict[str, int]:
    return {key: MODELS[name]["ids"][key] for key in ("eos_token_id", "pad_token_id")}


@pytest.mark.parametrize("name", [name for name in MODELS if name != "bidirectional"])
def test_equals_the_full_forward_pass(name: str) -> None:
    model, pixels, texts = build(name), images(name), _texts(name, 6)
    found = caption_logprob(model, pixels, texts, **_ends(name))
    with torch.no_grad():
        out = model(pixels, texts)
    full = out["logits"].log_softmax(-1).gather(-1, out["labels"][..., None])[..., 0]
    counted = ~found.per_token.isnan()
    assert counted.sum(1).tolist() == found.n_tokens.tolist() == [3, 4, 5, 6, 7, 8]
    torch.testing.assert_close(found.per_token[counted], full[counted], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.total, full.masked_fill(~counted, 0).sum(1), rtol=1e-4, atol=1e-4)


def test_bidirectional_tower_is_asked_prefix_by_prefix() -> None:
    """Its full forward pass would let each token see the next: the likelihood must be that of generation."""
    name = "bidirectional"
    model, pixels, texts = build(name), images(name, 3), _texts(name, 3)
    found = caption_logprob(model, pixels, texts, **_ends(name))
    with torch.no_grad():
        for row, text in enumerate(texts):
            for length in range(1, 4 + row):
                logits = model(pixels[row : row + 1], text[None, :length], output_labels=False)["logits"][0, -1]
                want = logits.log_softmax(-1)[text[length]]
                torch.testing.assert_close(found.per_token[row, length - 1], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(MODELS))
def test_several_texts_per_image(name: str) -> None:
    model, pixels, texts = build(name), images(name, 2), _texts(name, 6).view(2, 3, LENGTH)
    together = caption_logprob(model, pixels, texts, **_ends(name))
    one_by_one = [caption_logprob(model, pixels, texts[:, i], **_ends(name)).total for i in range(3)]
    assert together.per_token.shape == (2, 3, LENGTH - 1)
    torch.testing.assert_close(together.total, torch.stack(one_by_one, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("alike", [1, 3, 5, LENGTH])
def test_texts_of_all_images_share_what_they_begin_with(name: str, alike: int) -> None:
    model, pixels, texts = build(name), images(name, 3), _texts(name, 6)
    texts[:, 1:alike] = texts[-1:, 1:alike]
    _, embs = model.visual(pixels)
    apart = caption_logprob(model, pixels, texts.expand(3, -1, -1), **_ends(name))
    together = encoded_logprob_of_all(model, embs, texts, **_ends(name))
    assert together.n_tokens.tolist() == apart.n_tokens.tolist()
    torch.testing.assert_close(together.per_token, apart.per_token, rtol=1e-4, atol=1e-4, equal_nan=True)
    torch.testing.assert_close(together.total, apart.total, rtol=1e-4, atol=1e-4)


def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pixels, texts = build("base"), images("base"), _texts("base", 6)
    whole = caption_logprob(model, pixels, texts, **_ends("base"))
    monkeypatch.setattr(likelihood, "LOGITS_PER_CHUNK", 1)
    torch.testing.assert_close(caption_logprob(model, pixels, texts, **_ends("base")).total, whole.total)
    with torch.no_grad():
        _, embs = model.visual(pixels[:2])
    shared = encoded_logprob_of_all(model, embs, texts, **_ends("base"))
    torch.testing.assert_close(shared.total.diagonal(), whole.total[:2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ([8, 5, 0, 6, 9, 0, 0], [1, 1, 1, 1, 1, 0, 0]),  # a pad inside is a word, the end token counts
        ([8, 5, 0, 6, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0]),  # no end: trailing pads do not count
        ([8, 5, 9, 9, 4, 9, 0], [1, 1, 1, 0, 0, 0, 0]),  # only the first end counts
    ],
)
def test_counted_tokens(text: list[int], counted: list[int]) -> None:
    assert counted_tokens(torch.tensor([text]), end=9, pad=0).int().tolist() == [counted]


def test_a_text_without_counted_tokens_has_n_tokens_zero() -> None:
    found = caption_logprob(build("pooled"), images("pooled", 1), torch.tensor([[48, 0, 0]]), **_ends("pooled"))
    assert found.n_tokens.tolist() == [0]
    assert found.per_token.isnan().all()


def test_generated_captions_are_likelier_than_shuffled_ones() -> None:
    """Must-fail case: the right caption for the wrong image."""
    model: Any = build("base")
    pixels, ids = images("base"), MODELS["base"]["ids"]
    options = DecodeOptions(decoding="logprob", seq_len=20)
    tokens = generate_scored(model, pixels, options=options, **ids).tokens
    right = caption_logprob(model, pixels, tokens, **_ends("base")).total
    wrong = caption_logprob(model, pixels.roll(1, 0), tokens, **_ends("base")).total
    assert right.mean() > wrong.mean()


def test_texts_beyond_the_context_say_so() -> None:
    with pytest.raises(ValueError, match="texts: got 30 tokens, wanted at most 25"):
        caption_logprob(build("pooled"), images("pooled", 1), torch.full((1, 30), 5), **_ends("pooled"))


def test_wrong_shapes_say_got_and_wanted() -> None:
    with pytest.raises(ValueError, match=r"texts: got shape \(3, 5\), wanted \(2, length >= 2\)"):
        caption_logprob(build("pooled"), images("pooled", 2), torch.zeros(3, 5, dtype=torch.long))
