"""Every code of a note is declared, and the reader of old Records knows the sentences of its time."""

import ast
from pathlib import Path

import pytest

import cocabench
from cocabench.core.notes import CODES
from cocabench.results.schema1 import SENTENCES, upgraded

PACKAGE = Path(cocabench.__file__).parent


def codes(tree: ast.AST) -> set[str]:
    """Return the codes with which a module makes notes, and those that it compares one's code with."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    made = [c.args[0] for c in calls if isinstance(c.func, ast.Name | ast.Attribute) and _name(c.func).endswith("ote")]
    compared = [
        side
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == "code"
        for side in node.comparators
    ]
    return {n.value for n in (*made, *compared) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def _name(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def test_every_code_that_is_used_is_declared() -> None:
    used: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        found = codes(ast.parse(path.read_text(encoding="utf-8")))
        assert found <= CODES.keys(), path
        used |= found
    assert {"near_chance", "limited", "cache"} <= used


def test_every_code_has_a_meaning_and_an_advice() -> None:
    for name, code in CODES.items():
        assert name.replace("_", "").isalpha()
        assert code.meaning.endswith(".")
        assert code.advice.endswith(".")


@pytest.mark.parametrize(
    ("sentence", "code"),
    [
        ("acc1 of 0.1 % is near chance (0.1 %): check data, prompts, tokenizer and weights", "near_chance"),
        ("limited to 60 of 1906 images, chosen at random with seed 0", "limited"),
        ("not the standard protocol: 12 images, the standard protocol has 1000", "not_standard"),
        ("3 of 40 captions are cut at max length, for example 'a dog'", "truncated_captions"),
        ("1 distinct captions for 40 images, most often 'a dog'", "few_distinct_captions"),
        ("2 classes without images, the first 'bird': such a class counts as 0", "classes_without_images"),
        ("out of memory at 12 images a batch; went on with 6", "halved_batch"),
        ("something that nobody says any more", "other"),
    ],
)
def test_a_sentence_of_an_old_record_gets_its_code(sentence: str, code: str) -> None:
    table = upgraded({"schema_version": 1, "task": "t", "warnings": [sentence]})
    assert table == {"schema_version": 2, "task": "t", "notes": [{"code": code, "text": sentence}]}
    assert set(SENTENCES.values()) <= CODES.keys()
