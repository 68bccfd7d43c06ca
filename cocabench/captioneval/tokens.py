"""PTB tokenisation: Stanford's PTBTokenizer 3.4.1, lower-cased, without punctuation, as COCO's evaluation does.

Equal to pycocoevalcap's ``PTBTokenizer`` for every caption on a line of its own, with its quirk: brackets become
-lrb- and -rrb- and stay, because its list of punctuation has them in capitals. Characters that Java takes for an
end of line (a carriage return, U+2028 …) become spaces: there, they shift all following captions by one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from cocabench.captioneval import jvm
from cocabench.core.errors import MetricUnavailableError

VERSION = "PTB 3.4.1"
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")

_WORD = r"""(?:[A-Za-z]+(?:-[A-Za-z]+)*(?:'s)?,?|'s|[,;:"']|(?<!\d )\d\d?(?! \d))"""
PLAIN = re.compile(rf"{_WORD}(?: {_WORD})*(?: [.!?])?")
"""Between single spaces: words of ASCII letters and hyphens, 's, commas and quotes at their end or apart, numbers below
100 that no other follows, and at most one mark at the end."""

SPLIT_WORDS = frozenset(["cannot", "dunno", "gimme", "gonna", "gotta", "lemme", "wanna"])
"""The only words of letters that the tokeniser splits."""

PARTS = re.compile("'s|[a-z0-9]+(?:-[a-z]+)*")


def tokenise(captions: Sequence[str], runner: jvm.Runner) -> list[str]:
    """Return every caption's tokens, joined by spaces.

    A plain caption's are found without Java; Java tokenises the others, once. (Checked against the jar with
    every word of METEOR's dictionaries, 109,200 of them, in six places of a caption, and with 600,000 sentences of
    these words and of all that PLAIN allows.)
    """
    known = {caption: tokens for caption in set(captions) if (tokens := _plain(caption)) is not None}
    others = [caption for caption in captions if caption not in known]
    answers = runner.answers(VERSION, [LINE_ENDS.sub(" ", caption) for caption in others], partial(_run, runner))
    known.update(zip(others, answers, strict=True))
    return [known[caption] for caption in captions]


def _plain(caption: str) -> str | None:
    if PLAIN.fullmatch(caption) is None:
        return None
    words = PARTS.findall(caption.lower())
    return " ".join(words) if SPLIT_WORDS.isdisjoint(part for word in words for part in word.split("-")) else None


def _run(runner: jvm.Runner, lines: list[str]) -> list[str]:
    job = jvm.Job(
        name="PTB tokenisation",
        main="edu.stanford.nlp.process.PTBTokenizer",
        classpath=[jvm.jar("tokenizer", "stanford-corenlp-3.4.1.jar")],
        arguments=["-preserveLines", "-lowerCase", "-encoding", "UTF-8"],
        options=["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
        timeout_s=120 + 0.01 * len(lines),
    )
    output = runner.run(job, lines)
    if len(output) != len(lines):
        raise MetricUnavailableError(job.name, f"{len(output)} lines for {len(lines)} captions")
    return [" ".join(w for w in line.rstrip().split(" ") if w not in PUNCTUATION) for line in output]
