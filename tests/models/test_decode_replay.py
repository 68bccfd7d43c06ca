"""Captured steps, on the CPU with a tape in place of a CUDA graph: the same captions, whatever the shapes do."""

import copy
from typing import Any

import pytest
import torch

from benchmarks.make_decoding_goldens import MODELS, build, images, prompt
from cocabench.models.open_clip.decoding import steps
from cocabench.models.open_clip.decoding.generate import DecodeOptions, generate_scored
from cocabench.models.open_clip.decoding.steps import CachedSteps
from tests.models import tape
from tests.models.test_decode import CAUSAL, OPTIONS


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Replace CUDA graphs by tapes; one entry per capture."""
    made: list[None] = []

    def capture(step: steps.Step) -> steps.Step:
        made.append(None)
        return tape.capture(step)

    monkeypatch.setattr(steps, "capture_cuda_graph", capture)
    return made


def _both(model: Any, pixels: torch.Tensor, **arguments: Any) -> tuple[Any, Any]:
    """In float64, so that no choice hangs on rounding."""
    model, pixels = copy.deepcopy(model).double(), pixels.double()
    kinds: tuple[steps.Stepping, ...] = ("cuda_graphs", "recomputed")
    replayed, plain = (generate_scored(model, pixels, stepping=kind, **arguments) for kind in kinds)
    return replayed, plain


@pytest.mark.parametrize("number", range(len(OPTIONS)))
@pytest.mark.parametrize("name", CAUSAL)
def test_replayed_equals_recomputed(captures: list[None], name: str, number: int) -> None:
    options, prompted = OPTIONS[number], (number + CAUSAL.index(name)) % 2
    count = 5  # the last prompt is finished from the start, which beam search refuses
    text = prompt(name)[:count] if prompted else None
    replayed, plain = _both(build(name), images(name, count), options=options, text=text, **MODELS[name]["ids"])
    assert torch.equal(replayed.tokens, plain.tokens)
    torch.testing.assert_close(replayed.scores, plain.scores, rtol=1e-4, atol=1e-4)
    assert captures


def test_finished_images_leave_and_steps_are_recaptured(captures: list[None]) -> None:
    options = DecodeOptions(generation_type="top_k", top_k=9, temperature=2.0, seq_len=24, min_seq_len=0)
    pixels = images("pooled", 16)
    replayed, plain = _both(build("pooled"), pixels, options=options, **MODELS["pooled"]["ids"])
    assert torch.equal(replayed.tokens, plain.tokens)
    assert len(captures) >= 2


def test_a_sweep_between_replays(captures: list[None], monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for three steps the buffers are renewed every three steps."""
    small = lambda model, embs, room: CachedSteps(model, embs, room=3)  # noqa: E731
    monkeypatch.setattr(steps, "CachedSteps", small)
    options = DecodeOptions(seq_len=24, min_seq_len=20, num_beam_groups=1)
    replayed, plain = _both(build("base"), images("base"), options=options, **MODELS["base"]["ids"])
    assert torch.equal(replayed.tokens, plain.tokens)
    assert len(captures) >= 6


def test_a_step_with_state_outside_tensors_fails_replay() -> None:
    """Must-fail: a number that Python counts is frozen at its capture, and a value that Python reads is refused."""
    count, total = [0], torch.zeros(1)

    def counts_in_python() -> torch.Tensor:
        count[0] += 1
        return total.add_(count[0]).clone()

    replayed = tape.capture(counts_in_python)
    assert total.item() == 0  # capturing has no effect
    assert [replayed().item() for _ in range(3)] == [1, 2, 3]  # 1, 3, 6 if it were run
    with pytest.raises(RuntimeError, match="cannot be captured"):
        tape.capture(lambda: torch.ones(1) * total.item())
