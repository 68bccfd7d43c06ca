import pytest
import torch

from cocabench.models.captions import SpecialIds, truncated
from cocabench.models.decode import DecodeOptions

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
def test_a_caption_that_ran_into_the_limit_is_told(kind: str, cut: list[bool]) -> None:
    options = DecodeOptions(generation_type=kind, seq_len=6, min_seq_len=1)  # type: ignore[arg-type]
    assert truncated(ROWS, IDS, options) == cut


def test_a_batch_that_ended_early_was_not_cut() -> None:
    assert truncated(ROWS[2:], IDS, DecodeOptions(seq_len=7)) == [False, False]
