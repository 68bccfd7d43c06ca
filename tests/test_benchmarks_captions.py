"""The benchmarks of how captions grow and how full their steps are: by hand, and with a clock that counts."""

import itertools
import json

import pytest
import torch

from benchmarks import captioning_batches, captioning_leaving
from benchmarks.captioning_batches import drawn_lengths, widths
from benchmarks.captioning_curves import per_token
from benchmarks.make_decoding_goldens import build, images
from cocabench.models.open_clip.decoding import generate
from cocabench.models.open_clip.decoding.generate import decoded
from cocabench.models.open_clip.decoding.options import DecodeOptions, SpecialTokens
from cocabench.models.open_clip.decoding.steps import prepare

GREEDY = DecodeOptions(generation_type="greedy", seq_len=77, min_seq_len=0)


def test_widths_are_the_images_of_each_step() -> None:
    """Of length n, the first step gives token 2 and step n - 2 after it the last one."""
    lengths = torch.tensor([3, 4, 4, 6])
    assert widths(lengths, GREEDY) == [4, 3, 1, 1]
    assert widths(lengths, GREEDY, graphs=True) == [4, 4, 1, 1]  # they leave when half are finished
    assert sum(widths(lengths, GREEDY, fraction=0)) == 4 + 3 + 1 + 1


def test_beams_leave_in_eighths_and_needed_is_the_least() -> None:
    lengths, options = torch.arange(10, 26), DecodeOptions(seq_len=77, min_seq_len=0)
    computed, needed = widths(lengths, options), widths(lengths, options, fraction=0)
    assert len(computed) == len(needed)
    assert sum(needed) < sum(computed) < 1.1 * sum(needed)
    assert needed == sorted(needed, reverse=True)
    assert needed[0] == 16


def test_an_image_that_never_ends_has_all_steps() -> None:
    assert widths(torch.tensor([1000]), GREEDY) == [1] * 75


def test_lengths_are_drawn_within_a_context_of_77() -> None:
    lengths = drawn_lengths(45, 15, 1000)
    assert torch.equal(lengths, drawn_lengths(45, 15, 1000))
    assert lengths.min() >= 6
    assert lengths.max() <= 76
    assert abs(float(lengths.double().mean()) - 45) < 2


def test_a_full_step_saves_nothing_and_a_thin_one_something(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand, if a step costs 1 ms whatever it holds: steps over those of full batches."""
    measured = {"first_ms": 0.0, "step_ms": {"beams": {1: 1.0, 1024: 1.0}, "greedy": {1: 1.0, 2048: 2048.0}}}
    monkeypatch.setattr(captioning_batches, "_measured", lambda options, counts: measured)
    monkeypatch.setattr(captioning_batches, "IMAGES", 128)
    monkeypatch.setattr(captioning_batches, "BATCHES", (32, 64))
    before = torch.get_num_threads()
    captioning_batches.main(["--json"])
    torch.set_num_threads(before)
    rows = json.loads(capsys.readouterr().out)["rows"]
    for row in rows:
        if row["search"] == "greedy":  # in proportion to its images
            assert (row["computed"], row["saved"]) == (1, 0)
        else:
            assert row["saved"] == pytest.approx(1 - row["images_per_step"] / row["computed"] / row["batch"], abs=2e-3)
            assert row["saved"] > 0.2


def test_a_token_takes_a_tick_between_all_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "special_tokens", lambda *_: SpecialTokens(48, 49, 0))
    model, ticks = build("pooled"), itertools.count()
    _, embs = model.visual(images("pooled", 4))
    found = per_token(model, embs, (5, 9, 16), "cpu", lambda: float(next(ticks)), repeats=2)
    assert found == {"5-9": 1000, "9-16": 1000}


@torch.no_grad()
@pytest.mark.parametrize("kind", captioning_leaving.SEARCHES)
def test_both_ways_of_leaving_give_the_same_captions(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    model, tokens = build("pooled"), SpecialTokens(48, 49, 0)
    _, embs = model.visual(images("pooled", 6))
    monkeypatch.setattr(captioning_leaving, "TOKENS", tokens)
    monkeypatch.setattr(captioning_leaving, "LONGEST", {6: 8})
    lengths, prompt = torch.tensor([3, 8, 5, 6, 6, 7]), torch.full((6, 1), tokens.start)
    steps = captioning_leaving.EndedSteps(prepare(model, embs, window=8, stepping="cached"), lengths)
    options = DecodeOptions(seq_len=9, min_seq_len=0, **captioning_leaving.SEARCHES[kind])
    found = decoded(steps, prompt, options, tokens).tokens
    assert ((found == tokens.end).int().argmax(1) + 1).tolist() == lengths.tolist(), "they end where they are told to"
    found = captioning_leaving.measured(model, embs, kind, 2)
    assert (found["tokens"], len(found["moved"]), len(found["copied"])) == ("5-8", 2, 2)
    monkeypatch.setitem(captioning_leaving.WAYS, "copied", lambda values, rows: values[:, rows] * 2)
    with pytest.raises(AssertionError, match=f"6 images, {kind}: other"):
        captioning_leaving.measured(model, embs, kind, 1)
