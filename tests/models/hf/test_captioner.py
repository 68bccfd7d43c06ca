"""Captions and likelihoods of BLIP and GIT: plain loops over the networks' own forward are the referees."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from cocabench.core.errors import CocabenchError, ModelError, UsageError
from cocabench.core.types import ImageSource
from cocabench.models.hf.captioner import generate_options
from cocabench.specs.decoding import DecodingOptions
from tests.models.hf import tiny

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
both = pytest.mark.parametrize("name", ["blip", "git"])
START, END = {"blip": 93, "git": 2}, 3


def next_logits(name: str, net: Any, pixels: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Return the logits (V,) of the token after ids, for one image, from a forward pass over all of them."""
    given = torch.tensor([ids])
    with torch.no_grad():
        if name == "git":
            return net(pixel_values=pixels, input_ids=given).logits[0, -1]
        states = net.vision_model(pixel_values=pixels)[0]
        return net.text_decoder(input_ids=given, encoder_hidden_states=states).logits[0, -1]


def greedy(name: str, net: Any, pixels: torch.Tensor, start: list[int], *, seq_len: int, least: int) -> list[int]:
    ids = list(start)
    while len(ids) < seq_len:
        logits = next_logits(name, net, pixels, ids)
        if len(ids) < least:
            logits[END] = -math.inf
        ids.append(int(logits.argmax()))
        if ids[-1] == END:
            break
    return ids


def words(model: Any, ids: list[int]) -> str:
    """Return the text of a row without its start and end token."""
    kept = [token for token in ids[1:] if token != END]
    return str(model.tokenizer.decode(kept, skip_special_tokens=True)).strip()


def spaceless(text: str) -> str:
    return text.replace(" ", "")


@pytest.mark.parametrize("prompt", ["", "a photo of"])
@both
def test_greedy_captions_are_those_of_a_plain_loop(
    name: str, prompt: str, folders: Callable[[str], Path], load: Any, images: list[ImageSource]
) -> None:
    model = load(folders(name))
    start = [START[name], *model.tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    rows = [
        greedy(name, model.net, model.transform(image.open())[None], start, seq_len=14, least=6) for image in images
    ]
    made = model.caption(images, {"generation_type": "greedy", "seq_len": 14, "min_seq_len": 6}, prompts=prompt or None)
    assert list(map(spaceless, made.texts)) == [spaceless(words(model, row)) for row in rows]
    assert list(made.truncated) == [row[-1] != END for row in rows]
    assert len(set(made.texts)) > 1, "captions depend on the image"


@pytest.mark.slow
@both
def test_beams_score_no_lower_than_greedy_and_two_in_three_groups_are_two(
    name: str, folders: Callable[[str], Path], load: Any, images: list[ImageSource]
) -> None:
    model = load(folders(name))
    options = {"seq_len": 10, "min_seq_len": 10 - 1}
    greedily = model.caption(images, {"generation_type": "greedy", **options})
    searched = model.caption(images, {"num_beams": 4, "num_beam_groups": 1, **options})
    assert all(found >= plain - 1e-4 for found, plain in zip(searched.scores, greedily.scores, strict=True)) or (
        searched.texts != greedily.texts
    )
    grouped = model.caption(images, {"num_beams": 6, "num_beam_groups": 3, **options})
    assert grouped.texts == model.caption(images, {"num_beams": 2, "num_beam_groups": 1, **options}).texts


@pytest.mark.slow
@both
def test_images_with_prompts_of_other_lengths_keep_their_captions(
    name: str, folders: Callable[[str], Path], load: Any, images: list[ImageSource]
) -> None:
    model = load(folders(name))
    prompts, options = ["a photo of", "", "a cat", "a photo of"], {"generation_type": "greedy", "seq_len": 12}
    together = model.caption(images, options, prompts=prompts).texts
    assert together == [
        model.caption([image], options, prompts=one).texts[0] for image, one in zip(images, prompts, strict=True)
    ]


@both
def test_an_image_is_encoded_once_for_all_its_questions(
    name: str, folders: Callable[[str], Path], load: Any, images: list[ImageSource]
) -> None:
    """Prompts of three lengths; answers and likelihoods are those of each image alone."""
    model = load(folders(name))
    tower = model.net.vision_model if name == "blip" else model.net.git.image_encoder
    encoded: list[int] = []
    handle = tower.register_forward_hook(lambda _, args, kwargs, out: encoded.append(len(out[0])), with_kwargs=True)
    asked = [images[0]] * 3 + [images[1]] * 3
    prompts = ["a photo of", "a cat", "", "a photo of", "", "a cat"]
    for options in ({"generation_type": "greedy"}, {"num_beams": 2, "num_beam_groups": 1}):
        made = model.caption(asked, {**options, "seq_len": 12, "min_seq_len": 5}, prompts=prompts)
        assert encoded == [1, 1], "batches of three"
        alone = [
            model.caption([image], {**options, "seq_len": 12, "min_seq_len": 5}, prompts=[prompt])
            for image, prompt in zip(asked, prompts, strict=True)
        ]
        assert made.texts == [one.texts[0] for one in alone]
        assert made.scores == pytest.approx([one.scores[0] for one in alone], abs=1e-4)
        encoded.clear()
    texts = ["a cat", "two dogs"]
    found = model.score_captions(asked, [texts] * 6, prefixes=prompts).logprobs
    assert encoded == [1, 1]
    handle.remove()
    for image, prompt, row in zip(asked, prompts, found, strict=True):
        assert row == pytest.approx(model.score_captions([image], [texts], prefixes=[prompt]).logprobs[0], abs=1e-4)
    now = model.net.vision_model if name == "blip" else model.net.git.image_encoder
    assert now is tower, "it stands where it was"


@both
def test_likelihoods_are_those_of_a_plain_loop(
    name: str, folders: Callable[[str], Path], load: Any, images: list[ImageSource]
) -> None:
    model = load(folders(name))
    texts, prefix = ["a cat", "two dogs in the snow"], "a photo of"
    found = model.score_captions(images, [texts] * len(images), prefixes=[prefix] * len(images))
    for image, logprobs, counts in zip(images, found.logprobs, found.n_tokens, strict=True):
        pixels = model.transform(image.open())[None]
        for text, logprob, count in zip(texts, logprobs, counts, strict=True):
            before, own = (model.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prefix, text))
            ids, total = [START[name], *before], 0.0
            for token in [*own, END]:
                total += float(next_logits(name, model.net, pixels, ids).log_softmax(-1)[token])
                ids.append(token)
            assert logprob == pytest.approx(total, abs=1e-3)
            assert count == len(own) + 1


@both
def test_words_add_up_to_the_likelihood_of_their_caption(
    name: str, folders: Callable[[str], Path], load: Any, images: list[ImageSource]
) -> None:
    model = load(folders(name))
    texts = ["a cat", "two dogs in the snow, unlikely"]
    found = model.score_words(images[:1] * 2, texts)
    totals = model.score_captions(images[:1], [texts]).logprobs[0].tolist()
    assert [sum(word.logprob for word in words) for words in found] == pytest.approx(totals, rel=1e-4)
    assert [spaceless("".join(word.text for word in words)) for words in found] == [spaceless(t) for t in texts]
    assert all(words[-1].text == "" and len(words) > 2 for words in found)


@pytest.mark.skipif(transformers.__version__ < "5", reason="4.49 shifts the labels of this loss twice")
def test_gits_likelihoods_are_its_own_loss(
    folders: Callable[[str], Path], load: Any, images: list[ImageSource]
) -> None:
    """BLIP's loss smooths its labels: no referee."""
    model = load(folders("git"))
    found = model.score_captions(images[:1], [["a photo of a dog"]])
    ids = model.tokenizer("a photo of a dog", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = model.net(pixel_values=model.transform(images[0].open())[None], input_ids=ids, labels=ids).loss
    assert found.logprobs[0, 0] / found.n_tokens[0, 0] == pytest.approx(-float(loss), abs=1e-5)


@pytest.mark.slow
@both
def test_sampled_captions_repeat_with_their_seed_and_leave_torchs_random_state(
    name: str, folders: Callable[[str], Path], load: Any, images: list[ImageSource]
) -> None:
    model, state = load(folders(name)), torch.random.get_rng_state()
    for options in ({"generation_type": "top_k", "top_k": 20}, {"generation_type": "top_p", "top_p": 0.9}):
        texts = [model.caption(images, {**options, "seq_len": 12, "seed": seed}).texts for seed in (1, 1, 2)]
        assert texts[0] == texts[1] != texts[2]
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.slow
@both
def test_the_checkpoints_generation_config_changes_nothing(
    name: str, folders: Callable[[str], Path], load: Any, images: list[ImageSource], tmp_path: Path
) -> None:
    """Our options are all that count, and they are in the signature; max_new_tokens would overrule seq_len."""
    other = tmp_path / "other"
    shutil.copytree(folders(name), other)
    path = other / "generation_config.json"
    table = json.loads(path.read_text()) if path.is_file() else {}
    tiny.write_json(path, {**table, "max_new_tokens": 2, "no_repeat_ngram_size": 1})
    options = {"seq_len": 12, "generation_type": "greedy"}
    assert load(other).caption(images, options).texts == load(folders(name)).caption(images, options).texts


@both
def test_bad_options_and_models_are_one_line(name: str, folders: Callable[[str], Path], load: Any, images: Any) -> None:
    model = load(folders(name))
    for options, message in (
        ({"diversity_penalty": 0.5, "decoding": "logprob"}, "transformers has no diverse beams"),
        ({"num_beams": 5, "num_beam_groups": 3}, "num_beam_groups: 3; wanted a divisor of 5 beams"),
        ({"seq_len": 4}, "seq_len: 4; wanted more than min_seq_len"),
    ):
        with pytest.raises(UsageError, match=message):
            model.caption(images, options)
    with pytest.raises(UsageError, match="prompt 'a long"):
        model.caption(images, {"seq_len": 9}, prompts="a long long long long prompt")
    with pytest.raises(ModelError, match="cannot encode images"):
        model.encode_images(images)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.fill_(torch.nan)
    for options in ({"seq_len": 8}, {"seq_len": 8, "generation_type": "top_k", "top_k": 5}):
        with pytest.raises(CocabenchError, match="NaN or infinity"):
            model.caption(images, options)


@both
def test_a_note_names_the_arguments_of_generate(
    name: str, folders: Callable[[str], Path], load: Any, images: Any
) -> None:
    model = load(folders(name))
    for _ in range(2):
        model.caption(images, {"seq_len": 9})
    (note,) = model.notes
    assert "generate(max_length=9, min_length=5, repetition_penalty=1.0, num_beams=2, length_penalty=1.0)" in note.text


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"generation_type": "greedy"}, {"num_beams": 1}),
        ({"generation_type": "top_p", "top_p": 0.5}, {"num_beams": 1, "do_sample": True, "top_k": 0, "top_p": 0.5}),
        ({"generation_type": "top_k", "top_k": 7, "temperature": 2.0}, {"top_k": 7, "temperature": 2}),
        ({"num_beams": 3, "num_beam_groups": 1, "seq_len": 99}, {"num_beams": 3, "max_length": 40}),
    ],
)  # fmt: skip
@both
def test_decoding_options_become_arguments_of_generate(name: str, options: Any, wanted: Any) -> None:
    assert wanted.items() <= generate_options(DecodingOptions(**options), 40).items()
