"""A kind of task: for each image, which of two captions is its own?"""

from collections.abc import Iterator, Mapping

import numpy as np

from cocabench.core.types import Chance, Context, Dataset, Model, SampleScore
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Choices, Column, Presentation, View
from cocabench.metrics.base import Metric
from cocabench.metrics.statistics import Hits

SAID = "Share of images whose own caption scores higher than the wrong one; a tie is wrong."
ACCURACY = Metric("pair_accuracy", SAID, Hits("right"), ("right",))
PAIR = Choices("texts", "scores", right=lambda row: (True, False))


class PairChoice(Kind):
    """Tell an image's caption from a wrong one by their cosines. Each example has one caption and one negative."""

    name = "pair_choice"
    declared = (ACCURACY,)
    samples = (
        Column("right", "int", "1 where the image's own caption scores higher"),
        Column("texts", "texts", "Its own caption, then the wrong one"),
        Column("scores", "floats", "Cosines of both"),
        Column("chosen", "text", "The caption that scores higher"),
    )
    shown = Presentation(views=(View("pairs", "Images and two captions", ("pair_accuracy",), PAIR, answer="chosen"),))

    def chance(self, data: Dataset) -> Mapping[str, Chance]:
        return {"pair_accuracy": Chance(1 / 2)}

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        images = model.encode_images([example.image for example in data.examples], progress=context.progress)
        examples = [data.examples[i] for i in images.kept]
        pairs = [(example.texts[0], example.negatives[0][0]) for example in examples]
        texts = model.encode_texts([text for pair in pairs for text in pair], progress=context.progress)
        scores = np.einsum("nd,ncd->nc", images.rows, texts.reshape(len(pairs), 2, -1)).astype(float)
        for example, pair, (own, wrong) in zip(examples, pairs, scores, strict=True):
            right = int(own > wrong)
            stats = {"right": right, "texts": list(pair), "scores": [own, wrong], "chosen": pair[1 - right]}
            yield SampleScore(example.id, example.id, stats)
