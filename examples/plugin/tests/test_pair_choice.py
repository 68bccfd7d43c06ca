"""How a plugin tests its kind: a model of known features, and check_kind."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from cocabench_pair_choice import ACCURACY, PairChoice

from cocabench.core.types import Context, Dataset, Example, Features, ImageFeatures
from cocabench.kinds.testing import check_kind
from cocabench.metrics.base import estimate, stack


class Letters:
    """Puts an image and a text that begin with the same letter at one place."""

    def encode_images(self, images: Sequence[Any], **_: Any) -> ImageFeatures:
        return ImageFeatures(self.encode_texts([str(image) for image in images]), np.arange(len(images)))

    def encode_texts(self, texts: Sequence[str], **_: Any) -> Features:
        return np.array([np.eye(26, dtype=np.float32)[ord(text[0]) - ord("a")] for text in texts])


DATA = Dataset(
    "letters",
    "test",
    [
        Example("ape", "ape", ("an ape",), negatives=(("my ape",),)),  # type: ignore[arg-type]
        Example("bee", "bee", ("a bee",), negatives=(("bees",),)),  # type: ignore[arg-type]
        Example("cat", "cat", ("a cat",), negatives=(("a dog",),)),  # type: ignore[arg-type]
    ],
)


def test_a_caption_is_right_where_it_scores_higher_and_a_tie_is_wrong() -> None:
    samples = stack(PairChoice().score(Letters(), DATA, Context()))  # type: ignore[arg-type]
    assert samples["right"].tolist() == [1, 0, 0]
    assert samples["chosen"].tolist() == ["an ape", "bees", "a dog"]
    assert estimate(ACCURACY, samples).value == 1 / 3
    check_kind(PairChoice(), samples)
