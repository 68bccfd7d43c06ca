"""Upgrade Records of schema 1, whose warnings were sentences, to notes with codes."""

from __future__ import annotations

from typing import Any

SENTENCES = {
    "is near chance (": "near_chance",
    "captions are empty": "empty_captions",
    "distinct captions for": "few_distinct_captions",
    "repeat a phrase at once": "repeated_phrases",
    "are cut at max length": "truncated_captions",
    "not the standard protocol": "not_standard",
    "limited to": "limited",
    "classes without images": "classes_without_images",
    "classes have no images": "classes_without_images",
    "with equal captions: they tie": "equal_captions",
    "random weights": "random_weights",
    "text tower is not causal": "not_causal",
    "out of memory at": "halved_batch",
    "no training step measured": "not_profiled",
    "features are kept for this run only": "cache",
    "no caption scores are kept": "cache",
    "images that changed while they were read": "changed_images",
    "no pictures for reports": "no_pictures",
    "malformed key": "data",
    "the file does not say which epoch": "imported",
}
"""Part of a sentence of version 0.1, and its code."""


def upgraded(table: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON table of a schema 1 Record as schema 2. Only the warnings change."""
    warnings = table.get("warnings", ())
    rest = {key: value for key, value in table.items() if key != "warnings"}
    notes = [{"code": _code(str(text)), "text": str(text)} for text in warnings]
    return {**rest, "schema_version": 2, "notes": notes}


def _code(sentence: str) -> str:
    return next((code for part, code in SENTENCES.items() if part in sentence), "other")
