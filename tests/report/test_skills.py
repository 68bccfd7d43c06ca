"""Contrastive and generative skill: cards of models with both, and models that have no decoder."""

from __future__ import annotations

from typing import Any

from cocabench.core.types import Note, Record
from cocabench.report import headline, notes
from cocabench.report.content import Report, gather
from cocabench.report.differences import differences
from cocabench.report.skills import cards
from tests.report.records import estimate, record

TOWERS = {"image_encoder": 10, "text_encoder": 5}
DATA = {"images": 1000, "hash": "0"}


def captioned(model: str, **fields: Any) -> Record:
    return record(model, "caps", {"CIDEr": estimate(0.5, 0.1)}, evaluator="captioning", primary="CIDEr", **fields)


def report() -> Report:
    """coca embeds and decodes; clip has no decoder; of other it is unknown."""
    coca = {**TOWERS, "text_decoder": 7}
    selected = [
        record(
            "coca",
            f"pairs_{way}",
            {"acc": estimate(value, 0.02)},
            evaluator="image_caption_selection",
            primary="acc",
            protocol={"data": DATA, "scoring": way},
            parameters=coca,
        )
        for way, value in (("cosine", 0.812), ("likelihood", 0.761))
    ]
    classified = [
        record("coca", "cars", 0.3, parameters=coca, notes=(Note("near_chance", "near chance"),)),
        record("clip", "cars", 0.4, parameters=TOWERS),
        record("other", "cars", 0.5),
    ]
    return gather([*classified, captioned("coca", parameters=coca), *selected])


def test_a_model_with_both_skills_has_a_card() -> None:
    made = report()
    (card,) = cards(made, differences(made))
    assert card.model == "coca"
    assert [(s.title, s.point.text, s.place, s.near_chance) for s in card.contrastive] == [
        ("Classification", "30.0", "no. 3 of 3", True),
        ("Caption selection, pairs cosine", "81.2", "", False),
    ]
    assert [s.title for s in card.generative] == ["Caption selection, pairs likelihood", "Captioning"]
    same = [headline.plain_text(text, made.names) for text in card.same]
    assert same == ["coca on the same items of caption selection: 81.2 by cosine against 76.1 by likelihood."]


def test_a_model_without_a_decoder_is_not_called_a_missing_result() -> None:
    made = report()
    assert notes.undecoded(made) == ["clip, on pairs likelihood and caps"]
    assert notes.absent(made) == ["clip on pairs cosine", "other on pairs cosine, pairs likelihood and caps"]
    said = {f.kind: headline.plain_text(f.text, made.names) for f in headline.findings(made, differences(made))}
    assert said["captioning"].endswith(" clip has no decoder. No result: other.")


def test_a_model_that_decoded_has_a_decoder_whatever_its_parameters_say() -> None:
    made = gather(
        [captioned("a", parameters=TOWERS), record("a", "cars", 0.3, parameters=TOWERS), record("b", "cars", 0.2)]
    )
    assert notes.undecoded(made) == []
    assert notes.absent(made) == ["b on caps"]
