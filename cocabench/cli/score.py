"""cocabench score: metrics and health of captions in files. Only CLIPScore needs a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.markup import escape

from cocabench.cli import names
from cocabench.cli.console import by_reason, out, print_table
from cocabench.cli.options import Java, Json, RequireMetrics, SkipBadImages, names_of, option
from cocabench.core.errors import MetricUnavailableError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from cocabench.metrics.base import Samples
    from cocabench.results.caption_files import Pairs

MODEL = "CLIPScore"


def score(
    candidates: Annotated[
        Path, option(metavar="FILE", help="{id: caption}, a COCO result file, or a captioning Record.")
    ],
    references: Annotated[
        Path | None,
        option(metavar="FILE", help="{id: \\[captions]} or a COCO annotation file.", show_default="the Record's own"),
    ] = None,
    metrics: Annotated[
        str,
        option(
            metavar="METRIC",
            autocompletion=names.caption_metrics,
            help="bleu, meteor, rouge, cider, spice; comma-separated.",
            show_default="all that can run",
        ),
    ] = "",
    clipscore: Annotated[
        str,
        option(
            metavar="MODEL",
            panel=MODEL,
            autocompletion=names.models,
            help="Also CLIPScore and RefCLIPScore, with this model.",
        ),
    ] = "",
    images: Annotated[Path | None, option(metavar="DIR", panel=MODEL, help="The folder of the images.")] = None,
    device: Annotated[str, option(metavar="DEVICE", panel=MODEL, help="auto, cpu, cuda …")] = "auto",
    skip_bad_images: SkipBadImages = False,
    java: Java = None,
    require_metrics: RequireMetrics = False,
    as_json: Json = False,
) -> None:
    """Score captions against references. A model is needed for CLIPScore alone."""
    from cocabench import captioneval as captions
    from cocabench.captioneval import health
    from cocabench.results.caption_files import read_pairs

    asked = _metric_names(metrics, captions.NAMES + captions.MODEL_BASED) if metrics else list(captions.NAMES)
    by_model = captions.MODEL_BASED if clipscore else tuple(name for name in asked if name in captions.MODEL_BASED)
    wanted = [name for name in asked if name not in by_model]
    if by_model and not clipscore:
        raise UsageError("--metrics", by_model[0], wanted="--clipscore MODEL and --images DIR with it")
    if bool(clipscore) != (images is not None):
        given, lacking = ("--clipscore", "--images DIR") if clipscore else ("--images", "--clipscore MODEL")
        raise UsageError(given, f"without {lacking}", fix="give both or neither")
    pairs = read_pairs(candidates, references)
    skipped = captions.unavailable([metric.name for metric in captions.declared(wanted)], java=java)
    if skipped and require_metrics:
        raise MetricUnavailableError("--require-metrics", "; ".join(by_reason(skipped)))
    wanted = [name for name in wanted if name not in skipped]
    columns: dict[str, Any] = dict(health.statistics(pairs.candidates))
    columns |= _by_model(pairs, clipscore, images, references, device, skip_bad_images) if images else {}
    columns |= captions.statistics(pairs.candidates, pairs.references, wanted, java=java) if wanted else {}
    samples = _samples(pairs, columns)
    wanted += by_model
    if as_json:
        _print_json(wanted, samples, skipped)
    else:
        _print_tables(wanted, samples, skipped)


def _by_model(
    pairs: Pairs, name: str, folder: Path, references: Path | None, device: str, skip_bad_images: bool
) -> dict[str, Any]:
    from cocabench.data.files import file_names, images_of
    from cocabench.kinds.captioning import clip_scores
    from cocabench.models.hardware import hardware
    from cocabench.specs.registry import one_model

    pictures = images_of(pairs.ids, folder, names=file_names(references) if references else None)
    scorer = one_model(name, download=True).load(hardware(device=device, skip_bad_images=skip_bad_images))
    return clip_scores(scorer, pictures, pairs.candidates, pairs.references)


def _samples(pairs: Pairs, columns: dict[str, Any]) -> Samples:
    import pandas as pd

    rows = {"id": pairs.ids, "image_id": pairs.ids, "caption": pairs.candidates, "references": pairs.references}
    return pd.DataFrame(rows | columns)


def _print_json(names: Sequence[str], samples: Samples, skipped: dict[str, str]) -> None:
    from cocabench import captioneval as captions
    from cocabench.captioneval import health
    from cocabench.metrics.base import estimate

    def values(wanted: Sequence[str]) -> dict[str, Any]:
        return {m.name: estimate(m, samples).model_dump() for m in captions.declared(wanted)}

    report = {"metrics": values(names), "health": values(captions.HEALTH), "skipped": skipped}
    remarks = [note.text for note in health.notes(samples)]
    print(json.dumps(report | {"remarks": remarks}, ensure_ascii=False, allow_nan=False))


def _print_tables(names: Sequence[str], samples: Samples, skipped: dict[str, str]) -> None:
    from cocabench import captioneval as captions
    from cocabench.captioneval import health
    from cocabench.core.formatting import number
    from cocabench.metrics.base import estimate

    for title, wanted in (("metric", names), ("caption health", captions.HEALTH)):
        rows = [
            [metric.name, number(found, metric.info)]
            for metric in captions.declared(wanted)
            if (found := estimate(metric, samples)).n or metric.role == "quality"
        ]
        print_table([title, "value"], rows, numbers_from=1)
    for note in health.notes(samples):
        out.print(f"[yellow]note[/yellow] {escape(note.text)}", soft_wrap=True)
    for phrase in by_reason(skipped):
        out.print(f"[yellow]skipped[/yellow] {escape(phrase)}", soft_wrap=True)


def _metric_names(text: str, known: tuple[str, ...]) -> list[str]:
    """Return the metrics that names, in any case and with families (bleu) for their members, mean."""
    if not text:
        return list(known)
    chosen: list[str] = []
    for word in names_of(text.lower()):
        members = [
            name
            for name in known
            if word in (name.lower(), name.lower().partition("@")[0], name.lower().partition("-")[0])
        ]
        if not members:
            raise UnknownNameError("metric", word, known, fix="bleu, meteor, rouge, cider, spice … are known")
        chosen += [name for name in members if name not in chosen]
    return chosen
