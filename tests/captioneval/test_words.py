"""Captions in other languages than English: tokens by hand, metrics of them, and what is refused."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest

from cocabench import captioneval
from cocabench.captioneval import health, overlap, words
from cocabench.core.errors import UsageError
from cocabench.core.types import Machine
from cocabench.kinds.captioning import Captioning
from cocabench.specs.registry import find_tasks, read_tasks
from tests.conftest import Command


def test_examples() -> None:
    assert doctest.testmod(words).failed == 0


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("一只狗，在跑。", "一 只 狗 在 跑"),
        ("iPhone 15を持つ犬", "iphone 15 を 持 つ 犬"),
        ("カメラ", "カ メ ラ"),
        ("ｶﾒﾗ２台", "カ メ ラ 2 台"),  # NFKC
        ("ที่นี่", "ที่ นี่"),  # vowels and tones stay with their consonant
        ("कुत्ता दौड़ रहा है।", "कुत्ता दौड़ रहा है"),
        ("می‌روم", "می‌روم"),  # a joiner is no end
        ("강아지가 뛴다", "강아지가 뛴다"),
        ("Der Hund's-Knochen -- 'alt'", "der hund's-knochen alt"),
        ("L'été, c’est-à-dire…", "l'été c’est-à-dire"),
        ("ЩЕНОК №5", "щенок no5"),
        ("བོད་ཡིག", "བོད ཡིག"),  # Tibetan syllables
        ("🐕!?", ""),
        ("", ""),
    ],
)
def test_tokens_by_hand(caption: str, tokens: str) -> None:
    assert " ".join(words.tokens(caption)) == tokens


@pytest.mark.parametrize(("code", "found"), [("en", True), ("EN", True), ("eng_Latn", True), ("fil", False)])
def test_codes_of_english(code: str, found: bool) -> None:
    assert words.is_english(code) == found


@pytest.mark.parametrize("code", ["", "e", "中文", "de de", "../de", "german"])
def test_what_is_no_code_is_one_line(code: str) -> None:
    with pytest.raises(UsageError, match=r"language: .*wanted a code"):
        words.is_english(code)


def test_metrics_are_of_the_tokens_and_need_no_java(tmp_path: Path) -> None:
    """Five of six characters are the reference's; as one word each, nothing would match."""
    found = captioneval.statistics(["狗在草地上跑"], [["狗在草地上睡"]], ["BLEU@1"], java=tmp_path, language="zh")
    assert [found[name].tolist() for name in ("bleu_match_1", "bleu_guess_1")] == [[5], [6]]
    spaced = overlap.bleu_statistics(["狗 在 草 地 上 跑"], [["狗 在 草 地 上 睡"]])
    assert all((found[name] == spaced[name]).all() for name in spaced)
    assert captioneval.unavailable(captioneval.names_in("zh"), java=tmp_path / "none", language="zh") == {}
    several = captioneval.statistics(["ein hund", "eine katze"], [["Ein Hund."], ["Ein Zug"]], ["CIDEr"], language="de")
    assert several["cider"][0] > several["cider"][1] == 0


def test_the_signature_names_the_tokens_and_english_stays() -> None:
    assert captioneval.protocol(["CIDEr"])["tokenizer"] == captioneval.protocol(["CIDEr"], "en-GB")["tokenizer"]
    assert captioneval.protocol(["CIDEr"], "ja")["tokenizer"] == words.VERSION
    (german, english) = find_tasks(["crossmodal3600_captions/de", "crossmodal3600_captions/en"])
    assert isinstance(german.kind, Captioning)
    assert isinstance(english.kind, Captioning)
    assert (german.kind.language, english.kind.metric_names) == ("de", captioneval.NAMES)
    assert german.kind.metric_names == ("BLEU@1", "BLEU@2", "BLEU@3", "BLEU@4", "ROUGE-L", "CIDEr")
    assert german.kind.unavailable(Machine(java=Path("/none"))) == {}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ('metrics = ["METEOR"]', "METEOR: of English alone, and the captions are in 'de'"),
        ('metrics = ["CLIPScore"]\nclipscore_model = "ViT-B-32:openai"', "CLIPScore: of English alone"),
        ('language = "Deutsch"', "language: 'Deutsch'; wanted a code"),
    ],
)
def test_a_task_that_asks_for_english_metrics_is_one_line(tmp_path: Path, params: str, said: str) -> None:
    head = 'name = "x"\nversion = 1\nevaluator = "captioning"\nsummary = "s"\nprimary = "CIDEr"\nlanguage = "de"\n'
    data = '[data]\nloader = "crossmodal3600"\npath = "x"\nlanguage = "de"\n'
    (tmp_path / "t.toml").write_text(f"{head}{data}[params]\n{params}\n")
    with pytest.raises(Exception, match=said) as caught:
        read_tasks(tmp_path / "t.toml")
    assert len(str(caught.value).strip().splitlines()) <= 2


def test_health_counts_characters_and_knows_words_of_two_equal_ones() -> None:
    found = health.statistics(["人人看狗", "看狗看狗", "a dog a dog", "dog dog"])
    assert found["caption_words"].tolist() == [4, 4, 4, 2]
    assert found["caption_repeats"].tolist() == [False, True, True, True]


def test_score_in_a_language(command: Command, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"1": "狗在跑", "2": "猫"}))
    (tmp_path / "r.json").write_text(json.dumps({"1": ["狗在跑"], "2": ["一只猫"]}))
    where = ("--candidates", tmp_path / "c.json", "--references", tmp_path / "r.json")
    found = command("score", *where, "--language", "zh", "--json")
    assert found.code == 0
    said = json.loads(found.out)
    assert said["metrics"]["BLEU@1"]["value"] == pytest.approx(1 * 2.718281828 ** (1 - 6 / 4))
    assert any("each character is a token" in note for note in said["notes"])
    refused = command("score", *where, "--language", "zh", "--metrics", "spice")
    assert refused.code == 2
    assert refused.err.startswith("error SPICE")


def test_captions_without_spaces_that_are_read_as_english_are_noted() -> None:
    """Unless they are strays among many; BLEU@4 of such captions is near 0 even where they are right."""
    chinese, english = ["草地上的一只狗", "一只狗"], ["a dog", "日本 is a country"]
    (note,) = captioneval.said_of_tokens([chinese, english], "en")
    assert note.code == "tokenisation"
    assert note.text.startswith("3 of 4 references are in a script without spaces and were read as English")
    assert captioneval.said_of_tokens([english, *([["a dog"]] * 98)], "en") == []
    assert captioneval.said_of_tokens([], "en") == []
