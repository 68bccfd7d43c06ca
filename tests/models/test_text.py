"""Text features against open_clip's own encode_text, on texts that each break one way of cutting them short."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer

from cocabench.models.open_clip import text as cut
from cocabench.models.open_clip import tree
from cocabench.models.open_clip.text import Cut, Whole, encode_texts, encode_tokens, text_encoder
from cocabench.models.open_clip.tree import Tree, tower
from tests.models.tiny import CLIP, COCA, TEXT, random_network

LONG = {**TEXT, "context_length": 77, "layers": 2}
COCA_LONG = {**COCA, "text_cfg": {**COCA["text_cfg"], "context_length": 76, "layers": 2}}
TOWERS: dict[str, dict[str, Any]] = {
    "clip": {**CLIP, "text_cfg": LONG},
    "coca": COCA_LONG,
    "custom": {**CLIP, "custom_text": True, "text_cfg": {**LONG, "proj_bias": True, "ls_init_value": 0.5}},
    "eos": {**CLIP, "custom_text": True, "text_cfg": {**LONG, "pool_type": "eos", "eos_id": 49407}},
    "first": {**CLIP, "custom_text": True, "text_cfg": {**LONG, "pool_type": "first"}},
    "custom blocks": {**CLIP, "custom_text": True, "text_cfg": {**LONG, "qk_norm": True, "scale_fc": True}},
    "cls, not a CoCa": {**CLIP, "custom_text": True, "text_cfg": {**LONG, "embed_cls": True}},
    "last": {**CLIP, "custom_text": True, "text_cfg": {**LONG, "pool_type": "last"}},
    "bidirectional": {**CLIP, "custom_text": True, "text_cfg": {**LONG, "no_causal_mask": True}},
}


@pytest.fixture(scope="module", params=TOWERS)
def net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    found = random_network(tmp_path_factory.mktemp("net"), TOWERS[request.param])
    found.name = request.param
    return found


def tokens_of_every_length(context: int) -> torch.Tensor:
    """Return rows of every length, with and without shared prefixes, pads inside, no EOT, EOT first, all pads."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for length in range(context - 1):
        words = torch.randint(1, 49406, (length,), generator=generator)
        if length % 3 == 0 and rows:
            words = torch.cat([rows[-1][1 : length // 2], words])[:length]
        if length > 5:
            words[length // 2 : length // 2 + length % 4] = 0
        rows.append(torch.cat([torch.tensor([49406]), words, torch.tensor([49407])]))
    odd = [[49406, 5, 6, 0, 0, 7], [49407, 5, 49407], [0], [7] * context, [49406, 0, 49407], [5] * (context - 1)]
    rows += [torch.tensor(row) for row in odd]
    return torch.stack([F.pad(row, (0, context - len(row))) for row in rows])


def reference(net: Any, token_ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return F.normalize(net.encode_text(token_ids), dim=-1)


def ours(net: Any, token_ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return F.normalize(encode_tokens(net, token_ids), dim=-1)


def test_length_buckets_are_exact_too(net: Any) -> None:
    if (parts := tower(net)) is not None:
        token_ids = tokens_of_every_length(context_of(net))
        with torch.inference_mode():
            found = F.normalize(Cut(parts)(token_ids), dim=-1)
        assert (found - reference(net, token_ids)).abs().max() <= 2e-5


def context_of(net: Any) -> int:
    return int(net.context_length if hasattr(net, "context_length") else net.text.context_length)


def test_features_are_open_clips_own_at_every_length(net: Any) -> None:
    token_ids = tokens_of_every_length(context_of(net))
    assert (ours(net, token_ids) - reference(net, token_ids)).abs().max() <= 2e-5


def test_encode_tokens_equals_open_clip_for_arbitrary_texts(net: Any) -> None:
    tokenizer = SimpleTokenizer(context_length=context_of(net))
    texts = ["", "a", "a dog!", "a dog", "!", "<end_of_text> then more", "word " * 200, "Ünï çödé 犬", "a dog"]
    with torch.inference_mode():
        found = F.normalize(encode_texts(net, tokenizer, texts), dim=-1)
    assert (found - reference(net, tokenizer(texts))).abs().max() <= 2e-5
    assert torch.equal(found[3], found[-1])


def test_small_batches_give_the_same(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    token_ids = tokens_of_every_length(context_of(net))
    whole = ours(net, token_ids)
    monkeypatch.setattr(cut, "TOKENS_PER_BATCH", 60)
    monkeypatch.setattr(tree, "NODES_PER_BATCH_ON_CPU", 20)
    assert (ours(net, token_ids) - whole).abs().max() <= 2e-6


def test_which_text_towers_can_be_truncated(net: Any) -> None:
    kind = {"custom blocks": Cut, "last": Whole, "bidirectional": Whole}.get(net.name, Tree)
    assert type(text_encoder(net)) is kind
    parts, ids = tower(net), SimpleTokenizer(context_length=context_of(net))(["a dog", "a dog and a cat"])
    assert (parts is None) == (kind is Whole)
    expected = {"first": [1, 1], "coca": [5, 8], "cls, not a CoCa": [5, 8]}
    assert parts is None or parts.lengths(ids).tolist() == expected.get(net.name, [4, 7])


def test_truncated_texts_do_not_depend_on_later_tokens(net: Any) -> None:
    """The must-fail case: what is cut off may change nothing, and what is kept must matter."""
    ids = SimpleTokenizer(context_length=context_of(net))(["a dog and a cat"])
    other = ids.clone()
    other[0, 0 if net.name == "first" else 5] -= 1
    assert (reference(net, other) - reference(net, ids)).abs().max() > 1e-4
    assert (ours(net, other) - ours(net, ids)).abs().max() > 1e-4


def test_which_texts_are_cut_and_their_end_token_stays() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    from cocabench.models.open_clip.counts import count_tokens

    tokenizer = SimpleTokenizer(context_length=8)
    texts = ["a dog " * 3, "a dog a dog a dog a", "a", ""]
    found = count_tokens(tokenizer, texts)
    assert found is not None
    assert (found.context, found.cut) == (8, [False, True, False, False]), "start and end leave room for 6 words"
    assert tokenizer(texts)[:, :8].max(dim=1).values.tolist() == [tokenizer.eot_token_id] * 4
    assert tokenizer(texts)[1, -1] == tokenizer.eot_token_id
    assert (found.tokens, found.unknown) == ([8, 9, 3, 2], None), "a vocabulary of bytes knows every text"
    assert count_tokens(lambda texts: texts, texts) is None
