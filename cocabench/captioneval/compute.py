"""Compute per-image statistics of captions and their references. Java runs in parallel with Python."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cocabench.captioneval import corenlp, jvm, meteor, overlap, spice, tokens, words
from cocabench.captioneval.declared import MODEL_BASED, check_language, families
from cocabench.core.cache import Cache, DiskCache, size_limit, spaces_folder
from cocabench.core.errors import DataError, MetricUnavailableError
from cocabench.core.formatting import plural

Columns = dict[str, NDArray[np.generic]]
Groups = Sequence[Sequence[str]]


def statistics(
    candidates: Sequence[str],
    references: Groups,
    names: Sequence[str],
    *,
    java: Path | None = None,
    cache: Cache | None = None,
    corpus: Groups | None = None,
    language: str = "en",
) -> Columns:
    """Return the columns that the named metrics read, one entry per image; not those of MODEL_BASED.

    candidates: (n) captions as generated. references: (n) groups of at least one caption. Both raw, not tokenised.
    java: the Java to use; by default the first suitable one. cache: stores Java's results; by default the user's
    cache. corpus: the references that give CIDEr its document frequencies, where they are more than those of these
    images. language: of the captions; UsageError for a metric that is of English alone.
    """
    _check(candidates, references)
    check_language(names, language)
    wanted = families(names)
    if not words.is_english(language):
        documents = corpus if corpus is not None and "CIDEr" in wanted else references
        texts, *groups = ([_split(text) for text in some] for some in (candidates, *references, *documents))
        return _without_java(texts, groups[: len(references)], groups[len(references) :], wanted)
    with ThreadPoolExecutor() as pool, jvm.Runner(jvm.find(java), cache or _user_cache()) as runner:
        scorer = meteor.start(references, runner) if "METEOR" in wanted else None
        documents = corpus if corpus is not None and "CIDEr" in wanted else ()
        texts, groups, documents = _tokenise(candidates, references, documents, runner)
        later: list[Future[Columns]] = []
        if scorer is not None:
            later.append(pool.submit(meteor.statistics, scorer, texts, groups))
        if "SPICE" in wanted:
            later.append(pool.submit(spice.statistics, texts, groups, runner))
        columns = _without_java(texts, groups, documents or groups, wanted)
        for future in later:
            columns |= future.result()
    return columns


def _split(caption: str) -> str:
    return " ".join(words.tokens(caption))


def _user_cache() -> DiskCache:
    return DiskCache(spaces_folder(), size_limit())


def _check(candidates: Sequence[str], references: Groups) -> None:
    if len(candidates) != len(references):
        raise DataError("captions", f"{len(candidates)} candidates for {len(references)} images")
    if not candidates:
        raise DataError("captions", "none")
    if bare := [i for i, group in enumerate(references) if not group]:
        raise DataError("captions", f"{plural(len(bare), 'image')} without a reference, the first is number {bare[0]}")


def _tokenise(
    candidates: Sequence[str], references: Groups, documents: Groups, runner: jvm.Runner
) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Tokenise everything in one batch."""
    groups = [*references, *documents]
    flat = iter(tokens.tokenise([*candidates, *(caption for group in groups for caption in group)], runner))
    texts = [next(flat) for _ in candidates]
    split = [[next(flat) for _ in group] for group in groups]
    return texts, split[: len(references)], split[len(references) :]


def _without_java(texts: Sequence[str], groups: Groups, documents: Groups, wanted: Sequence[str]) -> Columns:
    columns: Columns = {}
    if "BLEU" in wanted:
        columns |= overlap.bleu_statistics(texts, groups)
    if "ROUGE-L" in wanted:
        columns["rouge_l"] = overlap.rouge_l(texts, groups)
    if "CIDEr" in wanted:
        columns["cider"] = overlap.cider_d(texts, groups, documents)
    return columns


@contextmanager
def preparing(
    references: Groups,
    names: Sequence[str],
    *,
    java: Path | None = None,
    cache: Cache | None = None,
    language: str = "en",
) -> Iterator[None]:
    """Process the references while the body generates captions, so that ``statistics`` finds the results in the cache.

    If the body raises, the work stops; finished batches stay in the cache. ``statistics`` reports failures. In other
    languages than English there is nothing to prepare.
    """
    if not words.is_english(language):
        yield
        return
    with jvm.Runner(jvm.find(java), cache or _user_cache()) as runner:
        thread = threading.Thread(target=_prepare, args=(references, families(names), runner), name="references")
        thread.start()
        try:
            yield
            thread.join()
        finally:
            runner.close()
            thread.join()


def _prepare(references: Groups, wanted: Sequence[str], runner: jvm.Runner) -> None:
    try:
        scorer = meteor.start(references, runner) if "METEOR" in wanted else None
        _, groups, _ = _tokenise([], references, (), runner)
        if scorer is not None:
            meteor.statistics(scorer, [""] * len(groups), groups)
        if "SPICE" in wanted:
            spice.parse([caption for group in groups for caption in group], runner)
    except MetricUnavailableError:
        return


def unavailable(names: Sequence[str], *, java: Path | None = None, language: str = "en") -> dict[str, str]:
    """Return which of the named metrics cannot run on this machine, and why, with the remedy. Fast: runs no metric.

    Metrics of MODEL_BASED are not checked.
    """
    names = [name for name in names if name not in MODEL_BASED] if words.is_english(language) else []
    try:
        jvm.find(java)
    except MetricUnavailableError as error:
        return {name: str(error) for name in names}
    try:
        jvm.jar("tokenizer", "stanford-corenlp-3.4.1.jar")
    except MetricUnavailableError as error:
        return {name: str(error) for name in names}
    if corenlp.find() is None and "SPICE" in families(names):
        reason = f"Stanford CoreNLP 3.6.0 is not installed; {corenlp.REMEDY}"
        return {name: reason for name in names if name.startswith("SPICE")}
    return {}
