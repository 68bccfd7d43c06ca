from pathlib import Path

import pytest

from cocabench.metrics.captions import cache


def test_every_text_is_asked_once(empty_cache: Path) -> None:
    asked: list[str] = []

    def upper(texts: list[str]) -> list[str]:
        asked.extend(texts)
        return [text.upper() for text in texts]

    assert cache.through("upper 1", ["a", "b", "a"], upper) == ["A", "B", "A"]
    assert cache.through("upper 1", ["b", "c"], upper) == ["B", "C"]
    assert asked == ["a", "b", "c"]
    assert cache.through("upper 2", ["a"], upper) == ["A"]
    assert asked == ["a", "b", "c", "a"]


def test_finished_batches_outlive_a_failure(empty_cache: Path) -> None:
    def fails_at_c(texts: list[str]) -> list[str]:
        if "c" in texts:
            raise KeyboardInterrupt
        return texts

    with pytest.raises(KeyboardInterrupt):
        cache.through("same", ["a", "b", "c", "d"], fails_at_c, batch=2)
    assert cache.through("same", ["a", "b"], lambda _: pytest.fail("asked again")) == ["a", "b"]


def test_different_sequences_have_different_keys() -> None:
    assert len({cache.key("a", "bc"), cache.key("ab", "c"), cache.key("abc"), cache.key("a\ud800", "")}) == 4
