"""ImageNet's zero-shot classifier from its prompts, against clip_benchmark's zero_shot_classifier.

python -m benchmarks classifier [--json] [--model ViT-B-32] [--classes 50]
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmarks.peers import peer, random_model, unit_features
from benchmarks.sides import Options, Row, Work


def _prompts(options: Options) -> tuple[list[str], list[str]]:
    from cocabench.data.prompts import class_names, templates

    return list(class_names("imagenet1k")[: options.classes]), list(templates("imagenet1k"))


def ours(options: Options) -> Work:
    """Encode every prompt in a few batches, then average per class."""
    from cocabench.metrics.classification import class_weights

    model, (names, prompts) = random_model(options), _prompts(options)
    texts = [prompt.replace("{c}", name) for name in names for prompt in prompts]
    owner = np.repeat(np.arange(len(names)), len(prompts))
    return lambda: class_weights(unit_features(model, texts).numpy(), owner, len(names))


def theirs(options: Options) -> Work:
    """clip_benchmark's function as it is, in fp32."""
    from clip_benchmark.metrics.zeroshot_classification import zero_shot_classifier

    (net, tokenizer), (names, prompts) = peer(options), _prompts(options)

    def work() -> Any:
        return zero_shot_classifier(net, tokenizer, names, prompts, "cpu", amp=False).T.numpy()

    return work


def main(argv: list[str] | None = None) -> None:
    """Run the row for the architecture that --model names."""
    given = sys.argv[1:] if argv is None else argv
    coca = any("coca" in argument for argument in given)
    Row(
        name="classifier-coca" if coca else "classifier",
        what="ImageNet classifier, {model}:random, {classes} classes x 80 templates, fp32",
        against="clip_benchmark.metrics.zeroshot_classification.zero_shot_classifier",
        target=6 if coca else 8,
        ours=ours,
        theirs=theirs,
        tolerance=2e-5,
        arguments={"--model": "ViT-B-32", "--classes": 50},
    ).main(given)


if __name__ == "__main__":
    main()
