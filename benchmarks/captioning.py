"""Captions of images, against open_clip's own generate: time, memory, and tokens that must be identical.

python -m benchmarks captioning [--json] [--images 8] [--groups 3] [--repeats 2] [--threads 2] [--model coca_ViT-B-32]

Both sides caption the same images with the same seeded weights; the peer (open_clip_torch 3.3.0 with transformers
4.49.0) runs under pinned packages that are installed into a cache folder. A call of the peer takes 90 s on two cores.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import pinned
from benchmarks.sides import Options, Row, Work


def ours(options: Options) -> Work:
    """cocabench's decoder."""
    from cocabench.models.open_clip import generate

    return _work(partial(generate, random_model(options.model)), options)


def theirs(options: Options) -> Work:
    """CoCa.generate."""
    return _work(random_model(options.model).generate, options)


def _work(generate: Callable[..., Any], options: Options) -> Work:
    """Return the captioning, after one image and two steps that are not timed."""
    images = random_images(options.images)
    generate(images[:1], seq_len=3, min_seq_len=1)
    return lambda: generate(images, num_beam_groups=options.groups, seq_len=options.length).numpy()


def random_model(name: str, context: int | None = None) -> Any:
    """Build the model with every parameter seeded: upstream leaves `text_decoder.text_projection` as torch.empty.

    context: the length of its captions, instead of its own.
    """
    import logging

    import open_clip
    import torch

    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    own = open_clip.get_model_config(name)
    parts = ("text_cfg", "multimodal_cfg") if context else ()
    longer = {part: {**own[part], "context_length": context} for part in parts}
    model = open_clip.create_model(name, **longer).eval()
    projection = model.text_decoder.text_projection
    torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)
    return model


def random_images(count: int, size: int = 224) -> Any:
    """Return random images (count, 3, size, size)."""
    import torch

    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


ROW = Row(
    name="captioning",
    what="captions of {images} images, 6 beams in {groups} groups, {length} tokens, {model}:random, fp32",
    against="open_clip_torch 3.3.0's CoCa.generate with transformers 4.49.0; tokens identical",
    target=15,
    ours=ours,
    theirs=theirs,
    tolerance=0,
    arguments={"--model": "coca_ViT-B-32", "--images": 8, "--groups": 3, "--length": 30},
    environment=pinned.environment,
    repeats=2,
)

if __name__ == "__main__":
    ROW.main()
