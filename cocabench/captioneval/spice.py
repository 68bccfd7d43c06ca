"""SPICE 1.0 (Anderson et al. 2016), through its own jar and Stanford CoreNLP 3.6.0.

Captions become tuples: objects, (object, attribute) and (subject, relation, object); all references of an image become
one set. A candidate's tuple is right if its words, or their WordNet synonyms, match one of the set. SPICE is the F1 of
precision and recall, a fraction, 0 to 1, higher is better; the corpus value is the mean over images. The sub-scores
look at one kind of tuple alone: objects, relations, attributes, and of these colour, count and size. Where the
references have no tuple, a sub-score is undefined (NaN, left out of its mean) and SPICE itself 0. Captions of more than
200 words are not parsed, and their image is undefined. (There, SPICE 1.0 runs out of memory.)

Parsing takes nearly all of the time. Tuples are cached by caption, so references are parsed once.

Where a word is equally similar to two objects of a scene graph, SPICE takes the first in a hash table ordered by object
addresses. No value of 400 Flickr8k images changed under any of the JVM's ways of choosing these.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cocabench.captioneval import corenlp, jvm
from cocabench.core.helpers import cores

VERSION = "SPICE 1.0"
CATEGORIES = ("all", "objects", "relations", "attributes", "colour", "count", "size")
COLUMNS = tuple(f"spice_{category}_{kind}" for category in CATEGORIES for kind in ("tp", "fp", "fn"))
SCORES = ("spice", *(f"spice_{category}" for category in CATEGORIES[1:]))

MAIN = "edu.anu.spice.Cocabench"
MODELS_MIB, THREAD_MIB = 1536, 768
"""Heap for CoreNLP's models, and for each thread that parses."""

MEMORY_SHARE = 0.6
UNPARSED = "null"
BATCH = 5000
"""Captions per Java process: the most that an interrupted run loses."""


def statistics(
    candidates: Sequence[str], references: Sequence[Sequence[str]], runner: jvm.Runner
) -> dict[str, NDArray[np.generic]]:
    """Return COLUMNS as integers and SCORES for every image. Texts are tokenised."""
    scorer = jvm.Process(runner, _score_job(len(candidates)))
    tuples = parse([*candidates, *(r for group in references for r in group)], runner)
    rest = iter(tuples[len(candidates) :])
    pairs = [(mine, [next(rest) for _ in group]) for mine, group in zip(tuples, references, strict=False)]
    defined = np.array([UNPARSED not in (mine, *theirs) for mine, theirs in pairs])
    lines = [f"[{mine},[{','.join(theirs)}]]" for (mine, theirs), ok in zip(pairs, defined, strict=True) if ok]
    counts = np.zeros((len(candidates), len(COLUMNS)), dtype=np.int64)
    if lines:
        counts[defined] = [json.loads(line) for line in scorer.communicate(lines)]
    columns: dict[str, NDArray[np.generic]] = dict(zip(COLUMNS, counts.T, strict=True))
    for i, name in enumerate(SCORES):
        score = f1(counts[:, 3 * i : 3 * i + 3], undefined=0.0 if name == "spice" else np.nan)
        columns[name] = np.where(defined, score, np.nan)
    return columns


def f1(counts: NDArray[np.int64], *, undefined: float) -> NDArray[np.float64]:
    """Return F1 of (n, 3) true positives, false positives and false negatives; undefined without a reference tuple.

    True positives are the candidate's tuples that match, and false negatives the references' tuples less these.
    """
    true, test, reference = counts[:, 0], counts[:, 0] + counts[:, 1], counts[:, 0] + counts[:, 2]
    precision = np.divide(true, test, out=np.zeros(len(counts)), where=(test > 0) & (reference > 0))
    recall = np.divide(true, reference, out=np.zeros(len(counts)), where=reference > 0)
    both = (precision > 0) & (recall > 0)
    score = np.divide(2.0 * (precision * recall), precision + recall, out=np.zeros(len(counts)), where=both)
    return np.where(reference > 0, score, undefined)


def parse(captions: Sequence[str], runner: jvm.Runner) -> list[str]:
    """Return each caption's tuples as JSON, from the cache or the parser."""

    def compute(unknown: list[str]) -> list[str]:
        return runner.run(_parse_job(len(unknown)), [json.dumps(caption) for caption in unknown])

    return runner.answers(VERSION, captions, compute, batch=BATCH)


def _parse_job(number: int) -> jvm.Job:
    threads = _threads()
    return jvm.Job(
        name="SPICE",
        main=MAIN,
        classpath=_classpath(),
        arguments=["parse"],
        memory_mib=MODELS_MIB + THREAD_MIB * threads,
        threads=threads,
        timeout_s=600 + 2.0 * number,
        options=["-Xss16m", "-XX:+UseParallelGC"],
    )


def _score_job(number: int) -> jvm.Job:
    return jvm.Job(
        name="SPICE",
        main=MAIN,
        classpath=_classpath(),
        arguments=["score"],
        timeout_s=600 + 0.1 * number,
        options=["-Xss16m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
    )


def _classpath() -> list[Path]:
    return [jvm.OWN_JAR, jvm.jar("spice", "spice-1.0.jar"), *corenlp.jars()]


def _threads() -> int:
    """Return the number of threads: one per core, as many as fit into MEMORY_SHARE of the free memory."""
    room = MEMORY_SHARE * _free_mib() - MODELS_MIB
    return int(max(1, min(cores(), room // THREAD_MIB)))


def _free_mib() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4096.0
