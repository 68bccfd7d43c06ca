"""Random samples of two models for every declared metric, made from a seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cocabench import captioneval as captions
from cocabench.captioneval import meteor, overlap
from cocabench.kinds import find
from cocabench.metrics.base import Metric
from cocabench.metrics.calibration import all_classes, placements

IMAGES = 60


def _ids(copies: int) -> dict[str, list[str]]:
    images = [f"{i:03}" for i in range(IMAGES) for _ in range(copies)]
    return {"id": [f"{image}#{k % copies}" for k, image in enumerate(images)], "image_id": images}


def _ranks(rng: np.random.Generator, rows: int, prefix: str = "") -> dict[str, np.ndarray]:
    constant = {"tied_negatives": 0, "identical": 0, "tied_positives": 1}
    counts = {"n_above": rng.poisson(1.5, rows), **{name: np.full(rows, value) for name, value in constant.items()}}
    return {f"{prefix}{name}": values for name, values in counts.items()}


def labelled(seed: int) -> pd.DataFrame:
    rng, label = np.random.default_rng(seed), np.arange(IMAGES) % 7
    scores = list(np.random.default_rng(seed + 100).random((IMAGES, 3)))
    labels = [[i % 3] for i in range(IMAGES)]
    table = {**_ids(1), "label": label, **_ranks(rng, IMAGES), "class_scores": scores, "labels": labels}
    table["counted_for"] = [[i % 3, (i // 3) % 3] for i in range(IMAGES)]
    groups = np.arange(IMAGES) % 2
    table |= {"predicted": rng.integers(0, 7, IMAGES), "group": groups, "named_group": groups, "half": groups}
    return pd.DataFrame({**table, **_sure(np.random.default_rng(seed + 200), label)})


def _sure(rng: np.random.Generator, labels: np.ndarray) -> dict[str, object]:
    """Return what calibration keeps of random cosines with seven classes, beside 30 images of none."""
    own, others = (rng.normal(0.2, 0.02, (n, 7)).astype(np.float32) for n in (IMAGES, 30))
    kept, outside = all_classes(own, labels, 100.0), all_classes(others, np.zeros(30, int), 100.0)
    share, above = placements(kept.top_logprobs[:, 11], outside.top_logprobs[:, 11])
    columns = {"label_logit": kept.label_logit, "top_logprobs": list(kept.top_logprobs)}
    return {**columns, "ood_placement": share, "ood_above": above}


def retrieved(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    texts = pd.DataFrame({**_ids(5), **_ranks(rng, 5 * IMAGES, "t2i_")})
    images = pd.DataFrame({"id": _ids(1)["image_id"], "image_id": _ids(1)["image_id"], **_ranks(rng, IMAGES, "i2t_")})
    texts, images = (
        frame.assign(**_ranks(rng, len(frame), f"{way}_dual_")) for way, frame in (("t2i", texts), ("i2t", images))
    )
    return pd.concat([texts, images], ignore_index=True)


def selected(seed: int) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), 2 * IMAGES
    right = {f"{kind}_right": rng.integers(0, 2, rows) for kind in ("text", "image")}
    return pd.DataFrame({**_ids(2), "group": np.arange(rows) % 3, **right})


def captioned(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    counts = {name: rng.integers(3, 9, IMAGES) for name in (*overlap.BLEU_COLUMNS, *meteor.COLUMNS)}
    read = (m.columns[0] for m in captions.declared(captions.ALL))
    means = {name: rng.random(IMAGES) for name in read if name not in counts}
    return pd.DataFrame({**_ids(1), **counts, **means})


def _pairs() -> dict[str, tuple[Metric, pd.DataFrame, pd.DataFrame]]:
    kinds = {
        labelled: [m for m in find("classification").listed() if not getattr(m.statistic, "untested", "")],
        retrieved: [m for m in find("retrieval").listed() if m.name.partition("@")[2] in ("", "5")],
        selected: find("image_caption_selection").listed(),
        captioned: captions.declared(captions.ALL),
    }
    return {m.name: (m, make(1), make(2)) for make, metrics in kinds.items() for m in metrics}


EVERY = _pairs()
"""{metric: (its declaration, samples of one model, samples of another)}"""
