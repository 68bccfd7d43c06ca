"""Tokens of captions in languages other than English: words, and single characters of scripts without spaces.

Chinese, Japanese, Thai, Lao, Khmer and Burmese do not mark where a word ends. There is no agreed way to cut them, so
each character is a token, with the marks above and below it, as sacreBLEU's ``zh`` has it; digits and Latin letters
among them stay words. All other scripts are cut at what is no letter, mark or digit (Tibetan into syllables).
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from cocabench.core.errors import UsageError

VERSION = "Unicode words, and characters of scripts without spaces 1"

LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
"""A code of a language, such as de, fil, zh-CN, deu_Latn."""

UNSPACED = (
    *("CJK ", "IDEOGRAPHIC ", "HIRAGANA ", "KATAKANA", "BOPOMOFO "),
    *("THAI ", "LAO ", "KHMER ", "MYANMAR "),
)
"""How the Unicode names of letters begin whose scripts have no spaces between words."""

INNER = frozenset("'’-")
JOINERS = frozenset("\u200c\u200d")


def is_english(language: str) -> bool:
    """Return whether a code is one of English: ``en``, ``EN``, ``en-GB``, ``eng_Latn``; UsageError for no code.

    >>> is_english("eng_Latn"), is_english("de")
    (True, False)
    """
    if not LANGUAGE.fullmatch(language):
        raise UsageError("language", repr(language), wanted="a code such as de, fil or deu_Latn")
    return re.split("[-_]", language.lower())[0] in ("en", "eng")


def tokens(caption: str) -> list[str]:
    """Return a caption's tokens in lower case, compatibility characters (NFKC) as their plain ones, no punctuation.

    >>> tokens("Ein Hund läuft, ganz schnell!"), tokens("2匹の犬"), tokens("l'eau c’est-à-dire")
    (['ein', 'hund', 'läuft', 'ganz', 'schnell'], ['2', '匹', 'の', '犬'], ["l'eau", 'c’est-à-dire'])
    """
    text = unicodedata.normalize("NFKC", caption).lower()
    found: list[str] = []
    last = ""
    for letter, following in zip(text, f"{text[1:]} ", strict=bool(text)):
        kind = _kind(letter)
        inner = letter in INNER and last == "letter" and _kind(following) == "letter"
        if found and (inner or (last and kind == "mark") or (last == kind == "letter")):
            found[-1] += letter
            continue  # a word continues after a mark or an apostrophe
        if kind in ("letter", "apart"):
            found.append(letter)
        last = kind if kind in ("letter", "apart") else ""
    return found


@cache
def _kind(letter: str) -> str:
    """Return what a character is: ``letter`` (or digit), ``apart`` (a letter that is a token), ``mark``, or ''."""
    category = unicodedata.category(letter)
    if category[0] == "M" or letter in JOINERS:
        return "mark"
    if category[0] not in "LN":
        return ""
    unspaced = category != "Nd" and unicodedata.name(letter, "").startswith(UNSPACED)
    return "apart" if unspaced else "letter"


def has_unspaced(caption: str) -> bool:
    """Return whether a caption has a letter of a script without spaces."""
    return not caption.isascii() and any(_kind(letter) == "apart" for letter in caption)


def plainly_spaced(caption: str) -> bool:
    """Return whether a caption has no letter of a script without spaces, and no marks."""
    return caption.isascii() or not any(_kind(letter) in ("apart", "mark") for letter in caption)
