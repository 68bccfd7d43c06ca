"""METEOR 1.5, English, normalised (``-l en -norm``; Denkowski and Lavie 2014), with its own jar's words and tables.

Words are aligned with the reference that scores best: by form, stem, WordNet synonym or paraphrase, with weights
1, 0.6, 0.8 and 0.6; content words count δ = 0.75 and function words 0.25. From weighted precision P and recall R:
F = 1 / ((1 - α)/P + α/R) with α = 0.85, and METEOR = F · (1 - γ · (chunks / matched words)^β), γ = 0.6, β = 0.2.
A fraction, 0 to 1, higher is better. Nothing aligned, or nothing to align, is 0.

The corpus value is the same function of the segments' summed statistics, which Java prints, so that resampling
never runs Java. A segment that is aligned completely and in order adds none to the sum of chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cocabench.captioneval import jvm
from cocabench.core.cache import key_of
from cocabench.core.errors import MetricUnavailableError

Array = NDArray[np.float64]

VERSION = "METEOR 1.5 en norm"
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGES = {"exact": 1.0, "stem": 0.6, "synonym": 0.8, "paraphrase": 0.6}
KINDS = ("test_content", "reference_content", "test_function", "reference_function")
COLUMNS = (
    "meteor_test_length",
    "meteor_reference_length",
    "meteor_test_function",
    "meteor_reference_function",
    *(f"meteor_{stage}_{kind}" for stage in STAGES for kind in KINDS),
    "meteor_chunks",
    "meteor_test_matches",
    "meteor_reference_matches",
)
"""METEOR's line for a segment, in its order. All are whole numbers."""

CHUNKS = COLUMNS.index("meteor_chunks")
MEMORY_MIB = 2048
TABLES = "METEOR 1.5 paraphrases"
"""The cache's space of tables: one for each set of references, a few MB."""


def value(sums: Array) -> Array:
    """Return METEOR of summed statistics: (..., 23) in the order of COLUMNS, chunks by ``counted`` -> (...)."""
    lengths, words = sums[..., 0:2], sums[..., 2:4]
    stages = sums[..., 4:CHUNKS].reshape(*sums.shape[:-1], len(STAGES), 2, 2)
    weighted = np.einsum("...scr,s,c->...r", stages, list(STAGES.values()), [DELTA, 1 - DELTA])
    with np.errstate(divide="ignore", invalid="ignore"):
        precision_recall = weighted / (DELTA * (lengths - words) + (1 - DELTA) * words)
        mean = 1 / ((1 - ALPHA) / precision_recall[..., 0] + ALPHA / precision_recall[..., 1])
        fragments = sums[..., CHUNKS] / (sums[..., CHUNKS + 1 :].sum(axis=-1) / 2)
        score = mean * (1 - GAMMA * np.where(_is_complete(sums), 0.0, fragments) ** BETA)
    return np.where(np.isnan(score), 0.0, np.maximum(score, 0.0))


def counted(segments: Array) -> Array:
    """Return segments' statistics (n, 23) as the corpus value sums them: no chunks where the alignment is complete."""
    summed = segments.astype(np.float64, copy=True)
    summed[_is_complete(segments), CHUNKS] = 0
    return summed


def _is_complete(sums: Array) -> NDArray[np.bool_]:
    """Whether all words are matched, in one chunk."""
    matched = sums[..., 4:CHUNKS].reshape(*sums.shape[:-1], -1, 2).sum(axis=-2)
    return np.asarray(np.all(matched == sums[..., 0:2], axis=-1) & (sums[..., CHUNKS] == 1))


class Scorer(NamedTuple):
    """A running METEOR. table: the paraphrases that its references can use; is_cached: whether it was there before."""

    process: jvm.Process
    table: Path
    key: bytes
    is_cached: bool


def start(references: Sequence[Sequence[str]], runner: jvm.Runner, *, threads: int = 2) -> Scorer:
    """Start METEOR, which loads while captions are tokenised. References may be raw: they name the cached table."""
    key = key_of(VERSION, *sorted({reference for group in references for reference in group}))
    table = runner.folder() / "paraphrases.gz"
    cached = runner.cache.get(TABLES, [key])
    if key in cached:
        table.write_bytes(cached[key])
    job = jvm.Job(
        name="METEOR",
        main="cocabench.Meteor",
        classpath=[jvm.OWN_JAR, jvm.jar("meteor", "meteor-1.5.jar")],
        arguments=[str(jvm.jar("meteor", "data", "paraphrase-en.gz")), str(table)],
        memory_mib=MEMORY_MIB,
        threads=threads,
        timeout_s=300 + 0.1 * len(references),
        options=["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss16m"],
    )
    return Scorer(jvm.Process(runner, job), table, key, key in cached)


def statistics(
    scorer: Scorer, candidates: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, NDArray[np.generic]]:
    """Return COLUMNS as integers and ``meteor``, the segment's score, for every image. Texts are tokenised."""
    lines = [_line(c, group) for c, group in zip(candidates, references, strict=True)]
    output = scorer.process.communicate(lines)
    if len(output) != len(lines):
        raise MetricUnavailableError("METEOR", f"{len(output)} lines of output for {len(lines)} captions")
    if not scorer.is_cached and scorer.table.is_file():  # else Java could not write it: no disk space left
        scorer.process.runner.cache.put(TABLES, {scorer.key: scorer.table.read_bytes()}, label=TABLES)
    segments = np.array([line.split() for line in output], dtype=np.float64).reshape(len(lines), len(COLUMNS))
    columns: dict[str, NDArray[np.generic]] = dict(zip(COLUMNS, segments.T.astype(np.int64), strict=True))
    return columns | {"meteor": value(segments)}


def _line(candidate: str, references: Sequence[str]) -> str:
    """Return METEOR's input as pycocoevalcap writes it: the separator is removed from the candidate alone."""
    return " ||| ".join([*references, candidate.replace("|||", "").replace("  ", " ")])
