"""Captions and their references to per-image statistics; Java runs beside Python, not after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cocabench.errors import DataError, MetricUnavailableError
from cocabench.metrics.captions import bleu, cider, corenlp, jvm, meteor, rouge, spice, tokens
from cocabench.metrics.captions.declared import families

Columns = dict[str, NDArray[np.generic]]


def statistics(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    names: Sequence[str],
    *,
    java: Path | None = None,
    corpus: Sequence[Sequence[str]] | None = None,
    threads: int = 2,
) -> Columns:
    """Return the columns that the named metrics read, one entry per image.

    candidates: (n) captions as generated. references: (n) groups of at least one caption. Both raw, not tokenised.
    corpus: the references that give CIDEr its document frequencies, where they are more than those of these images.
    """
    _check(candidates, references)
    wanted = families(names)
    runtime = jvm.find(java)
    with _meteor(wanted, references, runtime, threads) as process, ThreadPoolExecutor() as pool:
        tokenised, groups, documents = _tokenise(candidates, references, corpus if "CIDEr" in wanted else None, runtime)
        later: list[Future[Columns]] = []
        if process is not None:
            later.append(pool.submit(meteor.statistics, process, tokenised, groups))
        if "SPICE" in wanted:
            later.append(pool.submit(spice.statistics, tokenised, groups, runtime))
        columns: Columns = {}
        if "BLEU" in wanted:
            columns |= bleu.statistics(tokenised, groups)
        if "ROUGE-L" in wanted:
            columns["rouge_l"] = rouge.scores(tokenised, groups)
        if "CIDEr" in wanted:
            columns["cider"] = cider.scores(tokenised, groups, documents)
        for future in later:
            columns |= future.result()
    return columns


def _check(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(candidates) != len(references):
        raise DataError("captions", f"{len(candidates)} candidates for {len(references)} images")
    if not candidates:
        raise DataError("captions", "none")
    if bare := [i for i, group in enumerate(references) if not group]:
        raise DataError("captions", f"{len(bare)} images without a reference, the first is number {bare[0]}")


@contextmanager
def _meteor(
    wanted: Sequence[str], references: Sequence[Sequence[str]], runtime: jvm.Java, threads: int
) -> Iterator[jvm.Process | None]:
    if "METEOR" not in wanted:
        yield None
    else:
        with meteor.start(references, runtime, threads=threads) as process:
            yield process


def _tokenise(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    corpus: Sequence[Sequence[str]] | None,
    runtime: jvm.Java,
) -> tuple[list[str], list[list[str]], list[list[str]] | None]:
    """Tokenise everything in one go."""
    groups = [*references, *(corpus or ())]
    flat = iter(tokens.tokenise([*candidates, *(c for group in groups for c in group)], runtime.path))
    tokenised = [next(flat) for _ in candidates]
    split = [[next(flat) for _ in group] for group in groups]
    return tokenised, split[: len(references)], split[len(references) :] if corpus is not None else None


def unavailable(names: Sequence[str], *, java: Path | None = None) -> dict[str, str]:
    """Return which of the named metrics cannot run on this machine, and why, with the remedy. Starts no long job."""
    try:
        jvm.find(java)
    except MetricUnavailableError as error:
        return {name: str(error) for name in names}
    if corenlp.find() is None and "SPICE" in families(names):
        reason = f"Stanford CoreNLP 3.6.0 is not here; {corenlp.REMEDY}"
        return {name: reason for name in names if name.startswith("SPICE")}
    return {}
