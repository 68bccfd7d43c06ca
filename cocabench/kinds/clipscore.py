"""CLIPScore with a model of this suite as the scorer: it encodes images, captions and references."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from cocabench.captioneval import clipscore
from cocabench.core.errors import CocabenchError, UsageError
from cocabench.core.types import ImageSource, Model, Progress, Source, silent
from cocabench.specs.registry import FailedSource, model_sources
from cocabench.specs.spec import parse_models

if TYPE_CHECKING:
    from cocabench.models.hardware import Hardware


def scorer_plan(name: str, *, download: bool = False) -> Source:
    """Return what a model string stands for; UsageError where it is not one model. Nothing is loaded."""
    plans = model_sources(parse_models(name), download=download)
    if len(plans) != 1:
        raise UsageError(f"scorer {name}", f"{len(plans)} models", wanted="one")
    return plans[0]


def problem(name: str) -> str:
    """Return why the model cannot score on this machine now, with the remedy; empty where it can."""
    try:
        plan = scorer_plan(name)
    except CocabenchError as error:
        return str(error)
    if isinstance(plan, FailedSource):
        return str(plan.error)
    return "" if plan.available else f"the weights of {name} are not here; run `cocabench setup clipscore {name}`"


def identity(name: str) -> dict[str, JsonValue]:
    """Return what of the scorer can move a number, for a signature; its name (a path) cannot."""
    if problem(name):
        return {"weights": "not at hand"}
    return {key: value for key, value in scorer_plan(name).signature().items() if key != "id"}


@lru_cache(maxsize=1)
def scorer(name: str, where: Hardware) -> Model:
    """Return the loaded scorer. It is kept for the next captioner, with the image features that it remembers."""
    return scorer_plan(name, download=True).load(where)


def beside(model: Any) -> Hardware:
    """Return the Hardware that a captioner runs on; the machine's own for a plugin's model that has none."""
    from cocabench.models.hardware import Hardware, hardware

    found = getattr(model, "hardware", None)
    return found if isinstance(found, Hardware) else hardware()


def statistics(
    model: Model,
    images: Sequence[ImageSource],
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    progress: Progress = silent,
) -> dict[str, NDArray[np.generic]]:
    """Return ``clip_score`` and ``ref_clip_score`` of n captions; NaN for an image that the scorer could not read."""
    pictures = model.encode_images(images, progress=progress)
    owner = [i for i, group in enumerate(references) for _ in group]
    texts = [*captions, *(reference for group in references for reference in group)]
    features = model.encode_texts([clipscore.PROMPT + text for text in texts], progress=progress)
    mine, theirs = features[: len(captions)], features[len(captions) :]
    clip_scores = np.full(len(captions), np.nan)
    clip_scores[pictures.kept] = clipscore.image_scores(pictures.rows, mine[pictures.kept])
    return {
        "clip_score": clip_scores,
        "ref_clip_score": clipscore.reference_scores(clip_scores, mine, theirs, owner),
    }
