"""The caption metrics, declared: each is a function of the per-image columns that ``statistics`` returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocabench.captioneval import clipscore, health, meteor, overlap, spice, tokens, words
from cocabench.core.errors import UnknownNameError, UsageError
from cocabench.core.types import Note
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.statistics import Mean, Sums

Array = NDArray[np.float64]

NAMES = ("BLEU@1", "BLEU@2", "BLEU@3", "BLEU@4", "METEOR", "ROUGE-L", "CIDEr", "SPICE")
SUBSCORES = tuple(f"SPICE-{category}" for category in spice.CATEGORIES[1:])
MODEL_BASED = clipscore.NAMES
"""They need a contrastive model and the images; the others need Java."""

ALL = NAMES + SUBSCORES + MODEL_BASED
ENGLISH_ONLY = frozenset(("METEOR", "SPICE", *SUBSCORES, *MODEL_BASED))
"""Metrics whose dictionaries, parser or prompt are English."""

HEALTH = tuple(metric.name for metric in health.METRICS)


def undefined(samples: Samples) -> list[Note]:
    """Return a note if CIDEr was computed and has no value."""
    if "cider" not in samples or samples.empty or samples["cider"].notna().any():
        return []
    why = "undefined for one image: its weights count in how many images' references a phrase occurs"
    return [Note("undefined", f"CIDEr: {why}")]


VERSIONS = {
    "BLEU": "BLEU corpus, closest reference length (pycocoevalcap 1.2)",
    "METEOR": meteor.VERSION,
    "ROUGE-L": "ROUGE-L beta=1.2 (pycocoevalcap 1.2)",
    "CIDEr": "CIDEr-D n=4 sigma=6 df=references (pycocoevalcap 1.2)",
    "SPICE": f"{spice.VERSION}, CoreNLP 3.6.0",
    "CLIPScore": clipscore.VERSION,
}

MAX_UNSPACED = 0.01
"""Share of references read as English that may hold a letter of a script without spaces; beyond it a note says so."""


def families(names: Sequence[str]) -> tuple[str, ...]:
    """Return which of VERSIONS the named metrics belong to, in that order. A name that is none of ALL is an error."""
    for name in names:
        if name not in ALL:
            raise UnknownNameError("caption metric", name, ALL)
    return tuple(family for family in VERSIONS if any(_family(name) == family for name in names))


def _family(name: str) -> str:
    if name in SUBSCORES or name in MODEL_BASED:
        return "SPICE" if name in SUBSCORES else "CLIPScore"
    return name.partition("@")[0]


def names_in(language: str) -> tuple[str, ...]:
    """Return which of NAMES score captions of a language; UsageError for what is no code of one."""
    return NAMES if words.is_english(language) else tuple(name for name in NAMES if name not in ENGLISH_ONLY)


def check_language(names: Sequence[str], language: str) -> None:
    """Raise UsageError for named metrics that are of English alone, and another language."""
    if not words.is_english(language) and (wrong := [name for name in names if name in ENGLISH_ONLY]):
        wanted = ", ".join(names_in(language))
        raise UsageError(", ".join(wrong), f"of English alone, and the captions are in {language!r}", wanted=wanted)


def said_of_tokens(references: Iterable[Sequence[str]], language: str) -> list[Note]:
    """Return a note if references are in a script without spaces; read as English, if over 1 % of them are."""
    unspaced = [words.has_unspaced(text) for group in references for text in group]
    if words.is_english(language):
        if sum(unspaced) <= MAX_UNSPACED * len(unspaced):
            return []
        said = f"{sum(unspaced):,} of {len(unspaced):,} references are in a script without spaces"
        why = "and were read as English, so that whole clauses count as words"
        return [Note("tokenisation", f"{said} {why}; name their language (--language, or language in [params])")]
    if not any(unspaced):
        return []
    return [Note("tokenisation", f"of scripts without spaces each character is a token ({words.VERSION})")]


def protocol(names: Sequence[str], language: str = "en") -> dict[str, str]:
    """Return what defines the named metrics' numbers, for a signature."""
    version = tokens.VERSION if words.is_english(language) else words.VERSION
    tokenizer = {"tokenizer": version} if set(names) - set(MODEL_BASED) else {}
    return tokenizer | {family: VERSIONS[family] for family in families(names)}


def declared(names: Sequence[str]) -> tuple[Metric, ...]:
    """Return the named metrics, of ALL or HEALTH; SPICE comes with its sub-scores."""
    families([name for name in names if name not in HEALTH])
    wanted = [part for name in names for part in ((name, *SUBSCORES) if name == "SPICE" else (name,))]
    return tuple(_METRICS[name] for name in dict.fromkeys(wanted))


def _bleu(order: int) -> Metric:
    summary = (
        f"BLEU with n-grams up to {order}: clipped precision times brevity penalty, of summed counts, "
        "0-1 (Papineni et al. 2002)"
    )
    statistic = Sums(
        partial(_columns, overlap.BLEU_COLUMNS),
        partial(_bleu_value, order),
        root=order,
        unseen=partial(overlap.bleu_if_seen, order),
    )
    return Metric(f"BLEU@{order}", summary, statistic, overlap.BLEU_COLUMNS)


def _bleu_value(order: int, sums: Array) -> Array:
    return overlap.bleu_value(sums, order)


def _columns(columns: Sequence[str], samples: Samples) -> Array:
    return samples[list(columns)].to_numpy(dtype=np.float64)


def _meteor_segments(samples: Samples) -> Array:
    return meteor.counted(_columns(meteor.COLUMNS, samples))


def _mean(name: str, summary: str, column: str, *, score: bool = False, **more: Any) -> Metric:
    """The mean of a column over images; rows where it is undefined are left out."""
    return Metric(name, summary, Mean(column), (column,), unit="score" if score else "fraction", **more)


_CIDER = (
    "CIDEr-D: tf-idf weighted n-gram cosine with the references, 0-10, mean over images; "
    "undefined for one image (Vedantam et al. 2015)"
)
SCORER = "scorer"
"""The key of the extra model that MODEL_BASED metrics need."""

_METRICS = {
    metric.name: metric
    for metric in (
        *(_bleu(order) for order in range(1, 5)),
        Metric(
            "METEOR",
            "METEOR 1.5: words aligned by form, stem, synonym and paraphrase; F-mean less a penalty for order, "
            "of summed counts, 0-1; nothing aligned is 0 (Denkowski and Lavie 2014)",
            Sums(_meteor_segments, meteor.value),
            meteor.COLUMNS,
        ),
        _mean(
            "ROUGE-L",
            "F of the longest common subsequence with the references, 0-1, mean over images (Lin 2004)",
            "rouge_l",
        ),
        _mean("CIDEr", _CIDER, "cider", score=True, in_domain=_mean("CIDEr", _CIDER, "cider_in_domain", score=True)),
        _mean(
            "SPICE",
            "F1 of scene-graph tuples against all references', 0-1, mean over images; "
            "captions of more than 200 words are left out (Anderson et al. 2016)",
            "spice",
        ),
        *(
            _mean(f"SPICE-{kind}", f"SPICE of {kind} alone, over the images whose references have any", f"spice_{kind}")
            for kind in spice.CATEGORIES[1:]
        ),
        _mean(
            "CLIPScore",
            "2.5 x cosine of image and caption by the scorer model, not below 0, 0-2.5, mean over images "
            "(Hessel et al. 2021)",
            "clip_score",
            score=True,
            model=SCORER,
        ),
        _mean(
            "RefCLIPScore",
            "Harmonic mean of CLIPScore and the largest cosine of caption and reference, 0-1.43, mean over images "
            "(Hessel et al. 2021)",
            "ref_clip_score",
            score=True,
            model=SCORER,
        ),
        *health.METRICS,
    )
}
