"""What the base class does for every model: blocks of texts, halves, checks, and what it says of what a model lacks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cocabench.core.errors import BadImageError, ModelError, NotACaptionerError, NumericsError, UsageError
from cocabench.models import base
from cocabench.models.base import CaptionBatch, Continuation, LogprobBatch, Model
from cocabench.models.hardware import hardware

CPU = hardware(device="cpu", batch_size=4, workers=0, skip_bad_images=True)


@dataclass(frozen=True)
class Grey:
    """An image of one shade; 13 cannot be read."""

    shade: int

    def open(self) -> Image.Image:
        if self.shade == 13:
            raise BadImageError(str(self), "not an image")
        return Image.new("L", (2, 2), self.shade)


def shade(image: Image.Image) -> torch.Tensor:
    red, _, blue = image.getpixel((0, 0))  # type: ignore[misc]
    return torch.tensor([float(red) if red == blue else float("nan"), 3.0])


class Toy(Model):
    """Features are the shade, or a text's length, beside 3; it notes the size of each batch."""

    abilities = frozenset({"encode", "caption", "score_captions"})

    def __init__(self, room: int = 99) -> None:
        super().__init__("toy", shade, CPU)
        self.sizes, self.room = list[int](), room

    def encode_image_batch(self, pixels: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(pixels))
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("too many")
        return pixels

    def encode_text_batch(self, texts: list[str]) -> torch.Tensor:
        self.sizes.append(len(texts))
        return torch.tensor([[float(len(text)), 3.0] for text in texts])

    def captioner(self, options: Mapping[str, Any], prompts: Sequence[str]) -> Callable[..., CaptionBatch]:
        def write(pixels: torch.Tensor, numbers: torch.Tensor) -> CaptionBatch:
            texts = [f"{prompts[n]}{int(s)}" for n, s in zip(numbers, pixels[:, 0], strict=True)]
            return CaptionBatch(texts, [0.5] * len(texts))

        return write

    def caption_scorer(self, continuations: Sequence[Continuation]) -> Callable[..., LogprobBatch]:
        values = torch.tensor([-len(c.prefix) - 10.0 * len(c.text) for c in continuations])
        return lambda pixels, numbers: LogprobBatch(values[numbers] - pixels[:, :1], torch.ones_like(numbers))


def test_unreadable_images_make_their_batch_smaller_and_positions_count_among_all() -> None:
    toy = Toy()
    steps: list[tuple[str, int, int]] = []
    found = toy.encode_images([Grey(s) for s in (1, 13, 3, 4, 13, 6)], progress=lambda *step: steps.append(step))
    assert found.kept.tolist() == [0, 2, 3, 5]
    assert toy.sizes == [3, 1]
    np.testing.assert_allclose(found.rows[0], np.array([1, 3]) / np.sqrt(10), rtol=1e-6)
    assert steps == [("images", 4, 6), ("images", 6, 6)]
    raw = toy.encode_images([Grey(4)], normalize=False).rows
    assert raw.tolist() == [[4, 3]]


def test_after_running_out_of_memory_this_kind_of_work_stays_halved() -> None:
    toy = Toy(room=1)
    toy.encode_images([Grey(s) for s in range(8)])
    assert toy.sizes == [4, 2, *[1] * 8]
    assert [note.code for note in toy.notes] == ["halved_batch", "halved_batch"]
    with pytest.raises(ModelError, match="out of memory with one sample"):
        Toy(room=0).encode_images([Grey(1)])


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is asked of a device and read back from it, in order, by a stand-in for one."""
    seen: list[str] = []

    class Seen(base.OnTheWay):
        def __init__(self, rows: torch.Tensor) -> None:
            super().__init__(rows)
            seen.append(f"ask {len(rows)}")

        def arrived(self) -> torch.Tensor:
            seen.append(f"read {len(self.rows)}")
            return super().arrived()

    monkeypatch.setattr(base, "OnTheWay", Seen)
    return seen


def test_features_are_read_back_once_the_next_batch_is_asked_for(order: list[str]) -> None:
    found = Toy().encode_images([Grey(s) for s in range(1, 11)])
    assert order == ["ask 4", "ask 4", "read 4", "ask 2", "read 4", "read 2"]
    assert found.kept.tolist() == list(range(10))
    wanted = [torch.nn.functional.normalize(torch.tensor([s, 3.0]), dim=-1) for s in range(1, 11)]
    assert found.rows.tobytes() == torch.stack(wanted).numpy().tobytes()


def test_a_lack_of_memory_is_resolved_before_the_next_batch(order: list[str]) -> None:
    toy = Toy(room=4)
    stream = toy.stream_images([Grey(s) for s in range(12)])
    toy.sizes.clear()
    assert next(stream).kept.tolist() == [0, 1, 2, 3]
    toy.room = 2
    assert [part.kept.tolist() for part in stream] == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert toy.sizes == [4, 4, 4, 2, 2], "the third batch ran out of memory, and was computed in halves"
    assert order == ["ask 4", "ask 4", "read 4", "ask 2", "ask 2", "read 4", "read 2", "read 2"]


def test_what_was_computed_before_an_error_is_read_back(order: list[str]) -> None:
    class Interrupted(Toy):
        def encode_image_batch(self, pixels: torch.Tensor) -> torch.Tensor:
            if len(self.sizes) == 2:
                raise KeyboardInterrupt
            return super().encode_image_batch(pixels)

    stream = Interrupted().stream_images([Grey(s) for s in range(12)])
    assert [next(stream).kept.tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert order == ["ask 4", "ask 4", "read 4", "read 4"]
    with pytest.raises(KeyboardInterrupt):
        next(stream)


def test_a_model_may_return_the_same_tensor_for_each_batch() -> None:
    class Reusing(Toy):
        def encode_image_batch(self, pixels: torch.Tensor) -> torch.Tensor:
            self.output = getattr(self, "output", torch.empty(4, 2))
            return self.output[: len(pixels)].copy_(pixels)

    shades = [Grey(s) for s in range(1, 11)]
    for normalize in (True, False):
        found, wanted = (model.encode_images(shades, normalize=normalize) for model in (Reusing(), Toy()))
        assert found.rows.tolist() == wanted.rows.tolist(), normalize


def test_texts_are_encoded_once_in_blocks_by_first_appearance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "TEXTS_PER_BLOCK", 5)
    monkeypatch.setattr(base, "TEXTS_PER_BATCH", 3)
    toy = Toy()
    texts = ["x" * (i % 7) for i in range(20)]
    rows = toy.encode_texts(texts)
    assert toy.sizes == [3, 2, 2]
    assert (rows[0] == rows[7]).all()
    np.testing.assert_allclose(rows[3], np.array([3, 3]) / np.sqrt(18), rtol=1e-6)
    assert toy.encode_texts([]).shape == (0, 0)


def test_prompts_and_prefixes_reach_their_own_images() -> None:
    toy, images = Toy(), [Grey(s) for s in (1, 13, 3, 4, 5, 6)]
    assert toy.caption(images, {}, prompts="a ").texts == ["a 1", "a 3", "a 4", "a 5", "a 6"]
    assert toy.caption(images, {}, prompts=list("abcdef")).texts == ["a1", "c3", "d4", "e5", "f6"]
    plain = toy.score_captions(images, [["x", "yy"]] * 6)
    assert plain.logprobs[1].tolist() == [-13, -23]
    given = toy.score_captions(images, [["x", "yy"]] * 6, prefixes=["", "", "ab", "", "", "abc"])
    assert (plain.logprobs - given.logprobs).tolist() == [[0, 0], [2, 2], [0, 0], [0, 0], [3, 3]]
    with pytest.raises(UsageError, match="prompts: 2 of them; wanted one for each of 6 images"):
        toy.caption(images, {}, prompts=["a", "b"])
    with pytest.raises(UsageError, match="prefixes: 1 of them"):
        toy.score_captions(images, [["x"]] * 6, prefixes=["a"])


def test_unreadable_images_only_give_empty_arrays() -> None:
    toy = Toy()
    assert toy.encode_images([Grey(13)]).rows.shape == (0, 0)
    assert toy.score_captions([Grey(13)], [["a", "b"]]).logprobs.shape == (0, 2)
    assert toy.caption([], {}).texts == []


def test_a_missing_ability_is_a_one_line_error(tmp_path: Path) -> None:
    bare = Model("bare", shade, CPU)
    with pytest.raises(NotACaptionerError, match="bare: a model that cannot caption"):
        bare.caption([Grey(1)], {})
    with pytest.raises(NotACaptionerError, match="cannot score captions"):
        bare.score_captions([Grey(1)], [["a"]])
    with pytest.raises(ModelError, match="a model without features before the projection"):
        bare.encode_images([Grey(1)], output="pooled")
    with pytest.raises(NumericsError, match="NaN or infinity in the features of 1 of 2"):
        Toy().encode_images([Grey(0), _Dark()], normalize=False)


class _Dark(Grey):
    def __init__(self) -> None:
        super().__init__(2)

    def open(self) -> Image.Image:
        return Image.new("RGB", (2, 2), "blue")


def test_encoding_does_not_change_global_random_state() -> None:
    before = torch.random.get_rng_state()
    Toy().encode_images([Grey(1)])
    assert torch.equal(torch.random.get_rng_state(), before)
