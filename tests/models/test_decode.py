"""Captions against open_clip with transformers 4.49 (goldens), and against plain loops over open_clip's forward."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.make_decoding_goldens import GOLDENS, MODELS, build, images, initialise, prompt, settings_of
from cocabench.models.open_clip.decoding import towers
from cocabench.models.open_clip.decoding.generate import DecodeOptions, caption_logprob, generate, generate_scored

CASES = [(name, case) for name, cases in json.loads(GOLDENS.read_text()).items() for case in cases]
CAUSAL = [name for name in MODELS if name != "bidirectional"]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {name: build(name) for name in MODELS}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, before))
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case['settings']}" for name, case in CASES])
def test_generate_equals_open_clip_token_for_token(models: dict[str, Any], name: str, case: dict[str, Any]) -> None:
    tokens = generate(models[name], images(name), **settings_of(name, case["settings"]))
    assert tokens.tolist() == case["tokens"]


def test_goldens_cover_what_they_are_for() -> None:
    """Early and late ends, pads inside captions, more than one caption per setting."""
    for name in MODELS:
        end, pad = MODELS[name]["ids"]["eos_token_id"], MODELS[name]["config"]["text_cfg"].get("pad_id", 0)
        rows = [row for found, case in CASES if found == name for row in case["tokens"]]
        bodies = [row[: row.index(end)] if end in row else row for row in rows]
        assert len({len(body) for body in bodies}) >= 8
        assert sum(pad in body[1:-1] for body in bodies) >= 5
        assert len({tuple(body) for body in bodies}) >= 20


OPTIONS = [
    DecodeOptions(seq_len=16),
    DecodeOptions(seq_len=18, num_beam_groups=1, repetition_penalty=1.3),
    DecodeOptions(seq_len=14, decoding="logprob", diversity_penalty=0.5),
    DecodeOptions(seq_len=18, generation_type="greedy"),
    DecodeOptions(seq_len=18, generation_type="top_k", top_k=5, seed=3),
    DecodeOptions(seq_len=18, generation_type="top_p", top_p=0.9, temperature=1.5, seed=3),
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: f"{o.generation_type}-{o.decoding}-{o.num_beam_groups}")
@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("prompted", [False, True])
def test_cached_equals_uncached(models: dict[str, Any], name: str, options: DecodeOptions, prompted: bool) -> None:
    text = prompt(name)[:-1] if prompted else None
    _assert_cache_changes_nothing(models[name], images(name, 5), options=options, text=text, **MODELS[name]["ids"])


@pytest.mark.parametrize("seed", [30, *(pytest.param(s, marks=pytest.mark.slow) for s in range(31, 36))])
def test_cached_equals_uncached_on_random_models_and_prompts(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    name = CAUSAL[seed % len(CAUSAL)]
    ids, pixels, model = MODELS[name]["ids"], images(name, 1 + seed % 5), build(name)
    initialise(model, seed, gain=2.0)
    text = torch.randint(0, 40, (len(pixels), 2 + seed % 6), generator=random)  # ids of pads among them
    text[:, -1] = 20
    for options in OPTIONS:
        _assert_cache_changes_nothing(model, pixels, options=options, text=text, **ids)


def _assert_cache_changes_nothing(model: Any, pixels: torch.Tensor, **arguments: Any) -> None:
    """In float64, so that no choice hangs on rounding."""
    model, pixels = copy.deepcopy(model).double(), pixels.double()
    cached = generate_scored(model, pixels, **arguments)
    plain = generate_scored(model, pixels, stepping="recomputed", **arguments)
    assert torch.equal(cached.tokens, plain.tokens)
    torch.testing.assert_close(cached.scores, plain.scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", OPTIONS[:4], ids=lambda o: f"{o.generation_type}-{o.decoding}-{o.num_beam_groups}")
@pytest.mark.parametrize("name", list(MODELS))
def test_batch_size_and_order_change_nothing(models: dict[str, Any], name: str, options: DecodeOptions) -> None:
    model, pixels = copy.deepcopy(models[name]).double(), images(name, 20).double()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    arguments = {"options": options, "fixed_output_length": True, **MODELS[name]["ids"]}
    together = generate_scored(model, pixels, **arguments)
    shuffled = generate_scored(model, pixels[order], **arguments)
    parts = [generate_scored(model, part, **arguments).tokens for part in pixels.split([1, 2, 3, 14])]
    assert torch.equal(shuffled.tokens, together.tokens[order])
    assert torch.equal(torch.cat(parts), together.tokens)
    torch.testing.assert_close(shuffled.scores, together.scores[order], rtol=1e-4, atol=1e-4)


def test_a_generated_pad_hides_the_next_key(models: dict[str, Any]) -> None:
    """Must fail where the legacy CLS mask is not carried by the cache."""
    model = models["pooled"]
    tokens = generate(model, images("pooled"), seq_len=20, **MODELS["pooled"]["ids"])
    pads = model.text.pad_id
    try:
        model.text.pad_id = -1  # no token is a pad now, so nothing is hidden
        unmasked = generate(model, images("pooled"), seq_len=20, **MODELS["pooled"]["ids"])
    finally:
        model.text.pad_id = pads
    assert tokens.tolist() != unmasked.tolist()


def _plain_sampling(model: Any, pixels: torch.Tensor, top_k: int, seed: int, ids: dict[str, int]) -> torch.Tensor:
    """Upstream's top-k loop on its own forward pass, for captions without an end (min_seq_len > length)."""
    torch.manual_seed(seed)
    out = torch.full((len(pixels), 1), ids["sot_token_id"])
    with torch.no_grad():
        for _ in range(8):
            logits = model(pixels, out, output_labels=False)["logits"][:, -1]
            logits[:, [ids["eos_token_id"], ids["pad_token_id"]]] = -torch.inf
            logits[logits < logits.topk(top_k).values[:, -1:]] = -torch.inf
            out = torch.cat([out, torch.multinomial((logits / 0.8).softmax(-1), 1)], dim=1)
    return out


def test_seeded_sampling_draws_as_upstream_does(models: dict[str, Any]) -> None:
    model, pixels, ids = models["base"], images("base"), MODELS["base"]["ids"]
    model.text_decoder.text_projection.data[:, ids["pad_token_id"]] *= 0  # a pad would end a caption
    plain = _plain_sampling(model, pixels, 6, 11, ids)
    if (plain == ids["pad_token_id"]).any():
        pytest.fail("the reference must not sample pads")
    options = DecodeOptions(generation_type="top_k", top_k=6, temperature=0.8, seed=11, seq_len=12, min_seq_len=11)
    tokens = generate_scored(model, pixels, options=options, **ids).tokens
    models["base"] = build("base")
    assert torch.equal(tokens[:, :9], plain)


def test_sampling_is_reproducible_and_varies(models: dict[str, Any]) -> None:
    base = DecodeOptions(generation_type="top_p", top_p=0.95, seq_len=16)
    first, again, other = (
        generate(models["base"], images("base"), **_arguments(replace(base, seed=seed)), **MODELS["base"]["ids"])
        for seed in (1, 1, 2)
    )
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def _arguments(options: DecodeOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__dataclass_fields__}


def test_top_1_equals_greedy(models: dict[str, Any]) -> None:
    ids = MODELS["pooled"]["ids"]
    greedy = generate(models["pooled"], images("pooled"), generation_type="greedy", seq_len=20, **ids)
    assert torch.equal(greedy, generate(models["pooled"], images("pooled"), generation_type="top_k", seq_len=20, **ids))


def test_greedy_score_is_the_mean_log_probability(models: dict[str, Any]) -> None:
    ids, pixels = MODELS["pooled"]["ids"], images("pooled")
    options = DecodeOptions(generation_type="greedy", seq_len=20)
    tokens, scores = generate_scored(models["pooled"], pixels, options=options, **ids)
    found = caption_logprob(models["pooled"], pixels, tokens, eos_token_id=49, pad_token_id=0)
    ended = (tokens == 49).any(1)
    torch.testing.assert_close(scores[ended], (found.total / (found.n_tokens + 1))[ended], rtol=1e-4, atol=1e-4)
    assert ended.any()


def test_logprob_beam_score_is_the_likelihood(models: dict[str, Any]) -> None:
    ids, pixels = MODELS["pad_7"]["ids"], images("pad_7")
    options = DecodeOptions(decoding="logprob", seq_len=20)
    tokens, scores = generate_scored(models["pad_7"], pixels, options=options, **ids)
    found = caption_logprob(models["pad_7"], pixels, tokens, eos_token_id=6, pad_token_id=7)
    torch.testing.assert_close(scores, found.total / (found.n_tokens + 1), rtol=1e-4, atol=1e-4)


def test_logprob_search_finds_likelier_captions_than_greedy(models: dict[str, Any]) -> None:
    ids, pixels = MODELS["base"]["ids"], images("base")
    common = {"seq_len": 20, "min_seq_len": 0}
    beams = DecodeOptions(decoding="logprob", num_beams=12, num_beam_groups=1, **common)
    greedy = DecodeOptions(generation_type="greedy", **common)
    found, single = (generate_scored(models["base"], pixels, options=o, **ids).scores for o in (beams, greedy))
    assert found.mean() > single.mean()


def test_one_prompt_row_continues_for_every_image(models: dict[str, Any]) -> None:
    ids, pixels = MODELS["pooled"]["ids"], images("pooled")
    tokens = generate(models["pooled"], pixels, text=torch.tensor([48, 5, 9]), seq_len=12, **ids)
    assert tokens[:, :3].tolist() == [[48, 5, 9]] * len(pixels)
    single = generate(models["pooled"], pixels[:1], text=torch.tensor([48, 5, 9]), seq_len=12, **ids)
    assert single.ndim == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", list(MODELS))
def test_half_precision_scores_are_close_to_fp32(name: str, dtype: torch.dtype) -> None:
    """The first tokens are those of fp32 for most images; later ones may part ways at near ties."""
    ids, pixels = MODELS[name]["ids"], images(name)
    full = generate(build(name), pixels, seq_len=12, fixed_output_length=True, num_beams=2, num_beam_groups=1, **ids)
    half = build(name).to(dtype)
    found = generate(
        half, pixels.to(dtype), seq_len=12, fixed_output_length=True, num_beams=2, num_beam_groups=1, **ids
    )
    assert (found[:, 1] == full[:, 1]).float().mean() >= 0.5


def test_training_mode_is_restored(models: dict[str, Any]) -> None:
    model = build("pooled").train()
    generate(model, images("pooled", 1), seq_len=8, **MODELS["pooled"]["ids"])
    assert model.training
    assert model.text.training


def test_plain_linear_layers_give_the_same_captions(models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on machines without oneDNN."""
    ids, pixels = MODELS["pooled"]["ids"], images("pooled")
    fast = generate(models["pooled"], pixels, seq_len=20, **ids)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert torch.equal(generate(models["pooled"], pixels, seq_len=20, **ids), fast)


def test_autocast_runs_and_stays_close(models: dict[str, Any]) -> None:
    ids, pixels = MODELS["pooled"]["ids"], images("pooled")
    full = generate(models["pooled"], pixels, seq_len=12, fixed_output_length=True, **ids)
    with torch.autocast("cpu", torch.bfloat16):
        found = generate(models["pooled"], pixels, seq_len=12, fixed_output_length=True, **ids)
    assert (found[:, 1] == full[:, 1]).float().mean() >= 0.5


def test_autocast_casts_a_weight_once() -> None:
    """At every step it would read fp32 weights and write half-precision ones before it reads these."""
    weight, x = torch.randn(6, 4), torch.randn(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        layer, plain = towers.linear(weight, None), torch.nn.functional.linear(x, weight)
        weight.zero_()
        assert torch.equal(layer(x), plain)


@pytest.mark.slow
def test_importing_the_decoder_does_not_import_transformers_by_itself() -> None:
    """open_clip may import it where it is installed; with the import blocked, captions come out all the same."""
    script = (
        "import sys; sys.modules['transformers'] = None\n"
        "from benchmarks.make_decoding_goldens import build, images, MODELS\n"
        "from cocabench.models.open_clip.decoding.generate import generate\n"
        "print(generate(build('pooled'), images('pooled'), seq_len=9, **MODELS['pooled']['ids']).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    expected = generate(build("pooled"), images("pooled"), seq_len=9, **MODELS["pooled"]["ids"])
    assert json.loads(done.stdout.splitlines()[-1]) == expected.tolist()


BAD = [
    ({"seq_len": 5, "min_seq_len": 5}, "seq_len: got 5, wanted more than min_seq_len"),
    ({"seq_len": 1, "min_seq_len": 0}, "seq_len: got 1, wanted 2 or more"),
    ({"num_beams": 1, "num_beam_groups": 1}, "num_beams: got 1, wanted 2 or more"),
    ({"num_beams": 6, "num_beam_groups": 4}, "num_beam_groups: got 4, wanted a divisor of 6"),
    ({"generation_type": "beam"}, "generation_type: got 'beam', wanted one of beam_search, greedy"),
    ({"decoding": "exact"}, "decoding: got 'exact', wanted one of legacy, logprob"),
    ({"diversity_penalty": 0.5}, "diversity_penalty: got 0.5, wanted 0 in legacy"),
    ({"length_penalty": 2.0}, "length_penalty: got 2.0, wanted 1 in legacy"),
    ({"decoding": "logprob", "diversity_penalty": 0.5, "num_beam_groups": 1}, "num_beam_groups: got 1, wanted 2"),
    ({"generation_type": "top_k", "top_k": 0}, "top_k: got 0"),
    ({"generation_type": "top_p", "top_p": 1.5}, "top_p: got 1.5"),
    ({"generation_type": "top_p", "temperature": 0}, "temperature: got 0"),
    ({"generation_type": "top_p", "temperature": 1e-320}, "temperature: got 1e-320"),
    ({"generation_type": "top_p", "temperature": float("inf")}, "temperature: got inf"),
    ({"generation_type": "top_k", "seed": 2**63}, "seed: got 9223372036854775808, wanted a number of 64 bits"),
    ({"num_beams": 10**40}, "num_beams: got 1"),
    ({"decoding": "logprob", "length_penalty": 1e308}, "length_penalty: got 1e.308"),
    ({"decoding": "logprob", "length_penalty": float("nan")}, "length_penalty: got nan"),
    ({"repetition_penalty": float("inf")}, "repetition_penalty: got inf"),
    ({"repetition_penalty": 0}, "repetition_penalty: got 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_say_got_and_wanted(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecodeOptions(**options)


BAD_INPUTS = [
    ({}, "eos_token_id: got 49407, wanted an id that the decoder can write"),
    ({"seq_len": 26, "eos_token_id": 49}, "seq_len: got 26, wanted at most 25"),
    ({"text": torch.ones(1, 0, dtype=torch.long), "eos_token_id": 49}, "text: got torch.int64 of shape"),
    ({"text": torch.tensor([[48, 49]]), "eos_token_id": 49}, "text: got a prompt that ends with the end"),
    ({"text": torch.ones(2, 3, dtype=torch.long), "eos_token_id": 49}, "text: got torch.int64 of shape"),
    ({"text": torch.ones(1, 9, dtype=torch.long), "eos_token_id": 49, "seq_len": 9}, "text: got 9 tokens"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUTS)
def test_inputs_that_do_not_fit_say_so(models: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(models["pooled"], images("pooled", 1), **arguments)


def test_an_empty_batch_is_an_error(models: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="images: got shape"):
        generate(models["pooled"], images("pooled", 0), **MODELS["pooled"]["ids"])


def test_collapsed_model_gives_every_image_the_same_caption() -> None:
    """Must-fail: a model that ignores the image cannot tell images apart, and the decoder must not invent a way."""
    model = build("pooled")
    initialise(model.visual, 0, gain=0.0)
    tokens = generate(model, images("pooled"), seq_len=12, **MODELS["pooled"]["ids"])
    assert len({tuple(row) for row in tokens.tolist()}) == 1
