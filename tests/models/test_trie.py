"""The trie of prefixes: a hand-worked case, and what every node sees against the definition."""

import numpy as np
import pytest

from cocabench.models.open_clip import tree

TEXTS = np.array([[1, 2, 3, 0], [1, 2, 4, 0], [1, 5, 0, 0], [1, 5, 0, 7], [9, 0, 0, 0]])
LENGTHS = np.array([3, 3, 2, 4, 1])


def test_a_hand_worked_trie() -> None:
    found = tree.build_trie(TEXTS, LENGTHS, cls=False, pad_id=0)
    assert found.tokens.tolist() == [1, 2, 3, 4, 5, 0, 7, 9]
    assert found.positions.tolist() == [0, 1, 2, 2, 1, 2, 3, 0]
    assert found.read.tolist() == [2, 3, 4, 6, 7]
    assert tree.new_nodes(TEXTS, LENGTHS).tolist() == [3, 1, 1, 2, 1]
    assert seen(found)[6] == [0, 4, 5, 6]
    assert seen(found)[3] == [0, 1, 3]


def test_cls_tokens_and_keys_behind_padding() -> None:
    """Each text's CLS stands at position 4; a token behind a 0 is hidden, and the CLS too behind a padded text."""
    found = tree.build_trie(TEXTS[2:4], np.array([3, 4]), cls=True, pad_id=0)
    assert found.tokens.tolist() == [1, 5, 0, -1, 7, -1]
    assert found.positions.tolist() == [0, 1, 2, 4, 3, 4]
    assert found.read.tolist() == [3, 5]
    assert seen(found) == {0: [0], 1: [0, 1], 2: [0, 1, 2], 3: [0, 1, 2], 4: [0, 1, 2], 5: [0, 1, 2, 5]}


@pytest.mark.parametrize("block", [1, 3, 64])
@pytest.mark.parametrize("cls", [False, True])
def test_every_read_node_sees_its_own_text(monkeypatch: pytest.MonkeyPatch, block: int, cls: bool) -> None:
    monkeypatch.setattr(tree, "QUERIES_PER_BLOCK", block)
    rng = np.random.default_rng(block)
    texts = np.unique(rng.integers(1, 3, (60, 12)), axis=0)
    lengths = rng.integers(1, 13, len(texts))
    found = tree.build_trie(texts, lengths, cls=cls, pad_id=0)
    for text, length, node in zip(texts, lengths, found.read, strict=True):
        path = seen(found)[int(node)]
        assert found.tokens[path].tolist() == [*text[:length], -1][: length + cls]
        assert found.positions[path].tolist() == [*range(length), 12][: length + cls]
    assert len(found.tokens) < lengths.sum() + cls * len(texts)


def seen(found: tree.Trie) -> dict[int, list[int]]:
    """Return node -> the nodes it sees, ascending."""
    flat = found.visible.reshape(-1, found.keys.shape[1])
    rows = found.keys.repeat(found.visible.shape[1], axis=0)
    return {i: sorted(rows[i][flat[i]].tolist()) for i in range(len(found.tokens))}
