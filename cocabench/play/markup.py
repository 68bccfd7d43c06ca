"""Results as HTML for the page, readable in both colour schemes and on a phone. All that is said is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from cocabench.core.errors import BadImageError, CocabenchError
from cocabench.models.interactive import Word
from cocabench.play.session import Named, Scored, Written

MAX_CLASSES = 20

CSS = """
.coca .model { margin: 0 0 .4rem; font-weight: 600; overflow-wrap: anywhere; }
.coca .text { margin: 0; min-height: 1.7em; font-size: 1.05rem; overflow-wrap: anywhere; }
.coca .small { margin: .4rem 0 0; font-size: .85rem; opacity: .8; }
.coca .error { margin: 0; border-left: 3px solid #d03b3b; padding-left: .6rem; overflow-wrap: anywhere; }
.coca ruby { display: inline-flex; flex-direction: column-reverse; align-items: center; margin-top: .2rem; }
.coca ruby span { border-radius: .3em; padding: .05em .25em; background: rgba(214, 69, 65, var(--doubt)); }
.coca rt { font-size: .65em; line-height: 1.3; opacity: .85; }
.coca table, .coca tr, .coca th, .coca td { border: 0 !important; }
.coca table { width: 100%; border-collapse: collapse; }
.coca th, .coca td { padding: .35rem 0 .35rem .6rem; }
.coca :is(th, td):first-child { padding-left: 0; }
.coca th { font-size: .8rem; text-align: left; font-weight: 500; opacity: .8; }
.coca td { overflow-wrap: anywhere; border-top: 1px solid var(--border-color-primary) !important; }
.coca .n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; width: 1%; }
.matches .grid-container { grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)) !important; }
.coca .bar { display: block; height: .45rem; margin-top: .2rem; border-radius: .2rem; background: #2f7fc1; }
"""


def empty(model: str, said: str = "") -> str:
    """Return a model's result before there is one."""
    return _of_model(model, f'<p class="small">{escape(said)}</p>')


def growing(model: str, text: str) -> str:
    """Return a caption while it is written."""
    return _of_model(model, f'<p class="text" aria-busy="true">{escape(text)} …</p>')


def written(model: str, made: Written) -> str:
    """Return a finished caption, its words coloured by their likelihood."""
    numbers = [f"score {_signed(made.score, 3)}"]
    if not made.words:
        return _of_model(
            model, f'<p class="text">{escape(made.text)}</p>' + _small([*numbers, "no likelihood of single words"])
        )
    total = sum(word.logprob for word in made.words)
    numbers += [f"log-likelihood {_signed(total, 2)}", f"{math.exp(total / len(made.words)):.0%} per word"]
    return _of_model(model, f'<p class="text">{" ".join(map(_word, made.words))}</p>' + _small(numbers))


def ranked(model: str, found: Sequence[Scored]) -> str:
    """Return own captions as a table with both ranks."""
    by_cosine = sorted(found, key=lambda one: -one.cosine)
    rows = []
    for rank, one in enumerate(found, 1):
        likely = "–" if one.logprob is None else f"{_signed(one.logprob, 2)} (#{rank})"
        rows.append((escape(one.text), likely, f"{_signed(one.cosine, 3)} (#{by_cosine.index(one) + 1})"))
    return _of_model(model, _table(("caption", "log-likelihood", "cosine"), rows))


def classified(model: str, found: Sequence[Named]) -> str:
    """Return classes as a table with bars."""
    rows = [
        (
            f'{escape(one.name)}<span class="bar" style="width: {100 * one.probability:.1f}%"></span>',
            f"{one.probability:.1%}",
            _signed(one.cosine, 3),
        )
        for one in found[:MAX_CLASSES]
    ]
    rest = [f"and {len(found) - MAX_CLASSES} less probable classes"] if len(found) > MAX_CLASSES else []
    return _of_model(model, _table(("class", "probability", "cosine"), rows) + _small(rest))


def failed(model: str, error: CocabenchError) -> str:
    """Return an error in one line, without advice on flags of the command line."""
    said = error.got if isinstance(error, BadImageError) else str(error)
    where = f"{error.where}: " if isinstance(error, BadImageError) else ""
    return _of_model(model, f'<p class="error" role="alert">{escape(where + said)}</p>')


def _signed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def _word(word: Word) -> str:
    p = math.exp(word.logprob)
    title = f"log p = {_signed(word.logprob, 2)}" + ("" if word.text else ", the end of the caption")
    percent = f"{100 * p:.0f}" if p >= 0.005 else "&lt;1"
    doubt = f"{0.65 * (1 - p):.2f}"
    said = f'<span style="--doubt: {doubt}">{escape(word.text) or "⏎"}</span>'
    return f'<ruby title="{title}">{said}<rt>{percent}</rt></ruby>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    first, *others = heads
    head = f"<th>{first}</th>" + "".join(f'<th class="n">{name}</th>' for name in others)
    body = "".join(
        f"<tr><td>{row[0]}</td>" + "".join(f'<td class="n">{cell}</td>' for cell in row[1:]) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _small(parts: Sequence[str]) -> str:
    return f'<p class="small">{escape(" · ".join(parts))}</p>' if parts else ""


def _of_model(model: str, inside: str) -> str:
    return f'<div class="coca"><p class="model">{escape(model)}</p>{inside}</div>'
