"""Keys and values of captions: sweeps keep what is attended to, copy only what moves, and change no caption."""

import copy

import pytest
import torch

from benchmarks.make_decoding_goldens import MODELS, build, images
from cocabench.models.open_clip.decoding import steps, towers
from cocabench.models.open_clip.decoding.generate import DecodeOptions, generate_scored
from cocabench.models.open_clip.decoding.steps import CachedSteps
from cocabench.models.open_clip.decoding.towers import Cache, of_rows


def filled(values: torch.Tensor) -> Cache:
    """Return a cache of one layer with these keys (r, n), and their negatives as values."""
    cache = Cache(torch.arange(values.shape[1]))
    cache.write(0, values[:, :, None], -values[:, :, None])
    return cache


def written(cache: Cache, entries: list[list[float]]) -> torch.Tensor:
    """Write further entries (r, n); return all keys (r, c), after checking that values are their negatives."""
    new = torch.tensor(entries, dtype=torch.float)[:, :, None]
    keys, values = cache.write(0, new, -new)
    assert torch.equal(values, -keys)
    return keys[:, :, 0]


def test_a_sweep_keeps_entries_in_order_and_makes_room() -> None:
    cache = filled(torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]))
    cache.sweep(torch.tensor([[0, 1, 3], [0, 2, 3]]), first=1, room=3)
    cache.slots = torch.tensor([3, 4])
    assert written(cache, [[9, 10], [11, 12]]).tolist() == [[1, 2, 4, 9, 10, 0], [5, 7, 8, 11, 12, 0]]
    cache.keep(torch.tensor([1]))
    cache.slots = torch.tensor([5])
    assert written(cache, [[13]]).tolist() == [[5, 7, 8, 11, 12, 13]]
    cache.sweep(torch.tensor([[0, 1, 5]]), first=2, room=1)  # fits into the same memory
    cache.slots = torch.tensor([3])
    assert written(cache, [[14]]).tolist() == [[5, 7, 13, 14]]


def test_entries_that_a_sweep_drops_leave_no_nan_behind() -> None:
    """Attention multiplies the room by weights of 0, and 0 * NaN is NaN."""
    cache = filled(torch.tensor([[1.0, 2, float("nan"), float("nan")]]))
    cache.sweep(torch.tensor([[0, 1]]), first=2, room=2)
    cache.slots = torch.tensor([2])
    assert written(cache, [[3]]).tolist() == [[1, 2, 3, 0]]


def test_long_captions_are_rarely_copied_as_a_whole() -> None:
    """Captions of one beam: sweeps of the first 512 tokens find all in its place, and memory grows by halves."""
    cache, places = filled(torch.zeros(2, 1)), set()
    for kept in range(1, 512, 8):
        cache.sweep(torch.arange(kept).expand(2, -1), first=kept, room=8)
        for slot in range(kept, kept + 8):
            cache.slots = torch.tensor([slot])
            keys, _ = cache.write(0, *torch.full((2, 2, 1, 1), float(slot)))
        places.add(keys.data_ptr())
        assert torch.equal(keys[:, :, 0], torch.arange(float(kept + 8)).expand(2, -1))
    assert len(places) <= 12  # 64 if each sweep copied


@pytest.mark.parametrize("rows", [[], [0], [2], [0, 1, 2], [1, 3], [0, 2, 3]])
def test_rows_that_stay_move_to_the_front_of_the_same_memory(rows: list[int]) -> None:
    values = torch.arange(48.0).view(2, 4, 3, 2)
    wanted, kept = values[:, rows].clone(), of_rows(values, torch.tensor(rows, dtype=torch.long))
    assert torch.equal(kept, wanted)
    assert kept.data_ptr() == values.data_ptr() or not rows


@pytest.mark.parametrize(("name", "kind"), [("pooled", "top_k"), ("base", "beam_search")])
def test_images_that_leave_change_no_bit_of_the_others(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []

    def copied(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        left.append(len(rows))
        return values[:, rows]

    model, pixels, ids = build(name), images(name, 12), MODELS[name]["ids"]
    options = DecodeOptions(generation_type=kind, seq_len=16, min_seq_len=0)  # type: ignore[arg-type]
    moved = generate_scored(model, pixels, options=options, **ids)
    monkeypatch.setattr(towers, "of_rows", copied)
    plain = generate_scored(model, pixels, options=options, **ids)
    assert torch.equal(moved.tokens, plain.tokens)
    assert torch.equal(moved.scores, plain.scores)
    assert len(set(left)) > 3, "images leave at several steps"


@pytest.mark.parametrize("groups", [1, 2])
def test_sweeps_at_every_step_change_no_caption(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEPS_PER_SWEEP", 1)
    sweeps: list[tuple[int, int]] = []
    sweep = Cache.sweep

    def watched(self: Cache, entries: torch.Tensor, first: int, room: int) -> None:
        sweeps.append((first, entries.shape[1]))
        sweep(self, entries, first, room)

    monkeypatch.setattr(Cache, "sweep", watched)
    model, pixels = copy.deepcopy(build("base")).double(), images("base", 9).double()
    options = DecodeOptions(num_beams=4, num_beam_groups=groups, seq_len=24, min_seq_len=0)
    swept, plain = (
        generate_scored(model, pixels, options=options, stepping=kind, **MODELS["base"]["ids"])
        for kind in ("cached", "recomputed")
    )
    assert torch.equal(swept.tokens, plain.tokens)
    torch.testing.assert_close(swept.scores, plain.scores, rtol=1e-4, atol=1e-4)
    assert any(0 < first < kept for first, kept in sweeps), "some entries stay, others move"


def test_captions_that_were_dropped_are_not_attended_to() -> None:
    """Must-fail: with another entry kept in place of an ancestor, logits differ."""
    model, embs = build("base"), build("base").visual(images("base", 2))[1]
    found = []
    for wrong in (False, True):
        stepper = CachedSteps(model, embs, room=2)
        with torch.no_grad():
            stepper.start(torch.tensor([[1], [1]]))
            tokens = torch.tensor([[3, 4], [5, 6]])
            stepper.extend(tokens, torch.zeros_like(tokens))
            stepper.extend(tokens, torch.zeros_like(tokens))  # both continue the first caption
            if wrong:
                for cache in (stepper._text_cache, stepper._cache):
                    cache._pools = {layer: pool.roll(1, dims=2) for layer, pool in cache._pools.items()}
            found.append(stepper.extend(tokens, torch.zeros_like(tokens)))
    assert not torch.allclose(*found)
