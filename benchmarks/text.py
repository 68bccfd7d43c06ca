"""Features of captions, against clip_benchmark's way: batch by batch, padded.

python -m benchmarks text [--json] [--flickr8k DIR] [--captions 5000]

The captions are Flickr8k's test split where DIR holds Flickr8k.token.txt and Flickr_8k.testImages.txt, else those of
a grammar. clip_benchmark encodes the captions of an image batch (64 images, 5 captions each) together, inside its
evaluate function; the loop here is that one, without the images.
"""

from __future__ import annotations

from typing import Any

from benchmarks import sentences
from benchmarks.peers import peer, random_model, unit_features
from benchmarks.sides import Options, Row, Work

IMAGES = 64


def _captions(options: Options) -> list[str]:
    groups = sentences.groups(options.flickr8k, options.captions // sentences.REFERENCES)
    return [caption for group in groups for caption in group][: options.captions]


def ours(options: Options) -> Work:
    """All captions at once."""
    model, texts = random_model(options), _captions(options)
    return lambda: unit_features(model, texts).numpy()


def theirs(options: Options) -> Work:
    """The text half of clip_benchmark.metrics.zeroshot_retrieval.evaluate."""
    import torch

    (net, tokenizer), texts = peer(options), _captions(options)

    def work() -> Any:
        parts = []
        for start in range(0, len(texts), IMAGES * 5):
            tokens = tokenizer(texts[start : start + IMAGES * 5])
            with torch.no_grad():
                parts.append(torch.nn.functional.normalize(net.encode_text(tokens), dim=-1))
        return torch.cat(parts).numpy()

    return work


ROW = Row(
    name="text",
    what="features of {captions} captions, {model}:random, fp32",
    against="the text half of clip_benchmark.metrics.zeroshot_retrieval.evaluate",
    target=5,
    ours=ours,
    theirs=theirs,
    tolerance=2e-5,
    arguments={"--model": "ViT-B-32", "--captions": 5000, "--flickr8k": ""},
)

if __name__ == "__main__":
    ROW.main()
