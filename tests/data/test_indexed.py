"""Targets of indexed data sets."""

from cocabench.data.indexed import target_of, targets


class Items:
    """Two items whose true labels are 1 and 0, and a list that claims otherwise."""

    samples = (("a", 5), ("b", 6))
    targets = (0, 1)
    reads = 0

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[str, int]:
        self.reads += 1
        return "image", 1 - index


def test_stored_targets_are_taken_only_if_they_agree_with_the_items() -> None:
    items = Items()
    assert targets(items) == [1, 0]
    items.targets = (1, 0)
    items.reads = 0
    assert (targets(items), items.reads) == ([1, 0], 2)


def test_target_of_labels_captions_and_multi_label_vectors() -> None:
    assert [target_of(v) for v in (3, ["a"], ("a", "b"), [0, 1, 1], None)] == [3, ["a"], ["a", "b"], (1, 2), None]
