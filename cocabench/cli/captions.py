"""cocabench caption and score: write captions, score their likelihood, compute caption metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cocabench.cli import names
from cocabench.cli import options as o
from cocabench.cli.console import by_reason, err, labelled, out, print_json, print_table, say
from cocabench.core.errors import (
    MetricUnavailableError,
    MissingDataError,
    NotACaptionerError,
    UnknownNameError,
    UsageError,
)
from cocabench.core.formatting import plural
from cocabench.specs.decoding import DEFAULTS, OPTIONS, UNREAD

if TYPE_CHECKING:
    from cocabench.core.types import Ability, Note, Progress, Source
    from cocabench.core.types import Model as LoadedModel
    from cocabench.metrics.base import Samples
    from cocabench.results.caption_files import Pairs

SCORER = "CLIPScore"


class GenerationType(StrEnum):
    BEAM_SEARCH = "beam_search"
    GREEDY = "greedy"
    TOP_K = "top_k"
    TOP_P = "top_p"


Model = Annotated[
    str, o.option("MODEL", "A CoCa: NAME:TAG, NAME:FILE, a folder.", "--model", autocompletion=names.models)
]
Prompt = Annotated[str, o.option("TEXT", "First words of every caption.")]
Texts = Annotated[
    list[str] | None, o.option("TEXT", "Score the likelihood of this caption instead; may be repeated.", "--text")
]
Generation = Annotated[
    GenerationType, o.option("KIND", f"{', '.join(GenerationType)}.", "--generation-type", panel=o.CAPTIONS)
]
BEAM_SEARCH = GenerationType(DEFAULTS.generation_type)
Repetition = Annotated[
    float | None, o.decoder_option("repetition_penalty", "X", "Above 1 makes repeated words less likely.")
]
Diversity = Annotated[
    float | None,
    o.decoder_option("diversity_penalty", "X", "Penalty for tokens that other groups chose.", panel=o.LOGPROB),
]
Length = Annotated[
    float | None, o.decoder_option("length_penalty", "X", "Above 1 favours long captions.", panel=o.LOGPROB)
]
TopK = Annotated[
    int | None, o.decoder_option("top_k", "K", "Sample among this many most likely tokens.", panel=o.SAMPLING)
]
TopP = Annotated[
    float | None,
    o.decoder_option("top_p", "P", "Sample among the most likely tokens of this total probability.", panel=o.SAMPLING),
]
Temperature = Annotated[float | None, o.decoder_option("temperature", "X", "Sampling temperature.", panel=o.SAMPLING)]
Seed = Annotated[int | None, o.decoder_option("seed", "N", "Sampling seed.", panel=o.SAMPLING)]


def caption(
    context: typer.Context,
    images: Annotated[list[Path], typer.Argument(help="Image files or folders of them.", metavar="IMAGE")],
    model: Model,
    prompt: Prompt = "",
    text: Texts = None,
    device: o.Device = "auto",
    precision: o.PrecisionOption = o.Precision.AUTO,
    quick_gelu: o.QuickGelu = None,
    preprocess: o.Preprocess = "",
    skip_bad_images: o.SkipBadImages = False,
    generation_type: Generation = BEAM_SEARCH,
    num_beams: o.NumBeams = None,
    num_beam_groups: o.NumBeamGroups = None,
    seq_len: o.SeqLen = None,
    min_seq_len: o.MinSeqLen = None,
    decoding: o.DecodingOption = None,
    repetition_penalty: Repetition = None,
    diversity_penalty: Diversity = None,
    length_penalty: Length = None,
    top_k: TopK = None,
    top_p: TopP = None,
    temperature: Temperature = None,
    seed: Seed = None,
    as_json: o.Json = False,
) -> None:
    """Caption images with a CoCa, or score the likelihood of given captions.

    Example: cocabench caption --model coca_ViT-L-14 photo.jpg
    """
    from cocabench.cli.execution import bar
    from cocabench.core.types import silent
    from cocabench.models.hardware import hardware

    if text and prompt:
        raise UsageError("--prompt", "given with --text", wanted="one of the two")
    options = o.decoding(context.params, OPTIONS)
    _check_read(options)
    files = _image_files(images)
    source = _source(model, "score_captions" if text else "caption", quick_gelu, preprocess)
    machine = hardware(device=device, precision=precision.value, skip_bad_images=skip_bad_images)
    loaded = source.load(machine)
    with bar("caption") if err.is_terminal else nullcontext(silent) as progress:
        rows = (
            _likelihoods(loaded, files, text, progress) if text else _captions(loaded, files, options, prompt, progress)
        )
    _print_skipped(files, {row["image"] for row in rows})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        numbers = [f"{row[name]}" for name in ("score", "logprob", "perplexity") if name in row]
        cells = [row["image"], row.get("caption", row.get("text")), *(Text(number, "dim") for number in numbers)]
        say(Text("\t").join(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def _check_read(options: Mapping[str, Any]) -> None:
    """Raise UsageError for a given option that this type of generation ignores."""
    kind = options["generation_type"]
    for name in UNREAD[kind]:
        if name in options:
            flag = f"--{name.replace('_', '-')}"
            readers = " or ".join(other for other, unread in UNREAD.items() if name not in unread)
            raise UsageError(flag, f"given with --generation-type {kind}", wanted=f"--generation-type {readers}")


def _source(model: str, ability: Ability, quick_gelu: bool | None, preprocess: str) -> Source:
    from cocabench.specs.registry import model_sources
    from cocabench.specs.spec import check_preprocess, parse_models

    specs = parse_models(model, typed=True)
    check_preprocess(specs, preprocess)
    sources = model_sources(specs, quick_gelu=quick_gelu, preprocess=preprocess)
    if len(sources) != 1:
        raise UsageError(f"--model {model}", f"{len(sources)} models", wanted="one")
    for note in sources[0].notes:
        labelled("note", note.text)
    if ability not in sources[0].abilities:
        can = "caption" if ability == "caption" else "score captions"
        raise NotACaptionerError(f"--model {model}", f"a model that cannot {can}", wanted="a CoCa or other captioner")
    return sources[0]


def _captions(
    model: LoadedModel, files: Sequence[Path], options: Mapping[str, Any], prompt: str, progress: Progress
) -> list[dict[str, Any]]:
    from cocabench.data.images import FileImage

    written = model.caption([FileImage(path) for path in files], options, prompts=prompt, progress=progress)
    return [
        {"image": str(files[i]), "model": model.id, "caption": text, "score": round(score, 4)}
        for i, text, score in zip(written.kept, written.texts, written.scores, strict=True)
    ]


def _likelihoods(
    model: LoadedModel, files: Sequence[Path], texts: Sequence[str], progress: Progress
) -> list[dict[str, Any]]:
    """Return a row per image and text, an image's most likely text first."""
    from cocabench.data.images import FileImage

    found = model.score_captions([FileImage(path) for path in files], [texts] * len(files), progress=progress)
    rows = []
    for i, logprobs, n_tokens in zip(found.kept, found.logprobs.tolist(), found.n_tokens.tolist(), strict=True):
        several = sorted(zip(texts, logprobs, n_tokens, strict=True), key=lambda row: -row[1])
        for text, logprob, count in several:
            row = {"image": str(files[i]), "model": model.id, "text": text, "logprob": round(logprob, 4)}
            rows.append(row | {"n_tokens": count, "perplexity": round(math.exp(-logprob / count), 2)})
    return rows


def _print_skipped(files: Sequence[Path], read: set[str]) -> None:
    from cocabench.data.files import some

    if bad := [file for file in files if str(file) not in read]:
        labelled("skipped", f"{some(bad)}: not readable as images")


def _image_files(paths: list[Path]) -> list[Path]:
    from cocabench.data.files import files_below, left_out, only_images

    files = []
    for path in paths:
        below = files_below(path) if path.is_dir() else []
        for note in left_out(below):
            labelled("note", f"{path}: {note.text}")
        inside = [path / found for found in only_images(below)] if path.is_dir() else [path]
        if not inside or not inside[0].exists():
            raise MissingDataError(str(path), "no images" if path.is_dir() else "no such file")
        files += inside
    return files


def score(
    candidates: Annotated[Path, o.option("FILE", "{id: caption}, a COCO result file, or a captioning Record.")],
    references: Annotated[
        Path | None, o.option("FILE", "{id: [captions]} or a COCO annotation file.", show_default="the Record's own")
    ] = None,
    metrics: Annotated[
        str,
        o.option(
            "METRIC",
            "bleu, meteor, rouge, cider, spice; comma-separated.",
            autocompletion=names.caption_metrics,
            show_default="all that can run",
        ),
    ] = "",
    clipscore: Annotated[
        str,
        o.option(
            "MODEL",
            "Also compute CLIPScore and RefCLIPScore with this model.",
            panel=SCORER,
            autocompletion=names.models,
        ),
    ] = "",
    language: Annotated[
        str,
        o.option("CODE", "Language of the captions; other than English: BLEU, ROUGE-L, CIDEr."),
    ] = "en",
    images: Annotated[Path | None, o.option("DIR", "Folder of the images.", panel=SCORER)] = None,
    device: Annotated[str, o.option("DEVICE", "auto, cpu, cuda …", panel=SCORER)] = "auto",
    preprocess: o.ScorerPreprocess = "",
    skip_bad_images: o.SkipBadImages = False,
    java: o.Java = None,
    require_metrics: o.RequireMetrics = False,
    as_json: o.Json = False,
) -> None:
    """Compute caption metrics for captions in files or a Record. Only CLIPScore needs a model.

    Example: cocabench score --candidates captions.json --references references.json
    """
    from cocabench import captioneval
    from cocabench.results.caption_files import read_pairs

    if preprocess and not clipscore:
        raise UsageError("--preprocess", "given without --clipscore MODEL", fix="give both or neither")
    wanted, by_model = _chosen_metrics(metrics, clipscore, language)
    captioneval.check_language([*wanted, *by_model], language)
    if bool(clipscore) != (images is not None):
        given, lacking = ("--clipscore", "--images DIR") if clipscore else ("--images", "--clipscore MODEL")
        raise UsageError(given, f"given without {lacking}", fix="give both or neither")
    pairs = read_pairs(candidates, references)
    if pairs.replaced:
        labelled("note", f"� stands for what is no Unicode character in {plural(pairs.replaced, 'text')}")
    declared = [metric.name for metric in captioneval.declared(wanted)]
    skipped = captioneval.unavailable(declared, java=java, language=language)
    if skipped and require_metrics:
        raise MetricUnavailableError("--require-metrics", "; ".join(by_reason(skipped)))
    if metrics and skipped and not by_model and skipped.keys() >= set(wanted):
        raise MetricUnavailableError(f"--metrics {metrics}", "; ".join(by_reason(skipped)))
    wanted = [name for name in wanted if name not in skipped]
    scorer = partial(_clip_scores, pairs, clipscore, preprocess=preprocess)
    columns = scorer(images, references, device, skip_bad_images) if images else {}
    how: dict[str, Any] = {"java": java, "language": language}
    columns |= captioneval.statistics(pairs.candidates, pairs.references, wanted, **how) if wanted else {}
    samples = _samples(pairs, columns)
    notes = [*_missing(pairs), *captioneval.said_of_tokens(pairs.references, language)]
    notes += _notes([*wanted, *by_model], samples)
    (_print_scores_as_json if as_json else _print_scores)([*wanted, *by_model], samples, skipped, notes)


def _chosen_metrics(metrics: str, clipscore: str, language: str) -> tuple[list[str], list[str]]:
    """Return the metrics that need only texts, and those that need the model."""
    from cocabench.captioneval import MODEL_BASED, NAMES, names_in

    asked = _metric_names(metrics, NAMES + MODEL_BASED) if metrics else list(names_in(language))
    by_model = list(MODEL_BASED) if clipscore else [name for name in asked if name in MODEL_BASED]
    if by_model and not clipscore:
        raise UsageError("--metrics", by_model[0], wanted="--clipscore MODEL and --images DIR with it")
    return [name for name in asked if name not in by_model], by_model


def _clip_scores(
    pairs: Pairs,
    name: str,
    folder: Path,
    references: Path | None,
    device: str,
    skip_bad_images: bool,
    *,
    preprocess: str,
) -> dict[str, Any]:
    from cocabench.data.files import file_names, images_of
    from cocabench.kinds.captioning import clip_scores
    from cocabench.models.hardware import hardware
    from cocabench.specs.registry import one_model

    pictures = images_of(pairs.ids, folder, names=file_names(references) if references else None)
    source = one_model(name, download=True, preprocess=preprocess, typed=True)
    for note in source.notes:
        labelled("note", note.text)
    scorer = source.load(hardware(device=device, skip_bad_images=skip_bad_images))
    return clip_scores(scorer, pictures, pairs.candidates, pairs.references)


def _samples(pairs: Pairs, columns: Mapping[str, Any]) -> Samples:
    import pandas as pd

    from cocabench.captioneval import health

    texts = {"id": pairs.ids, "image_id": pairs.ids, "caption": pairs.candidates, "references": pairs.references}
    return pd.DataFrame({**texts, **health.statistics(pairs.candidates), **columns})


def _missing(pairs: Pairs) -> list[Note]:
    from cocabench.core.types import Note
    from cocabench.data.files import some

    if not pairs.missing:
        return []
    total = len(pairs.ids) + len(pairs.missing)
    text = f"captions for {len(pairs.ids)} of the {total} images with references; missing: {some(pairs.missing)}"
    return [Note("missing_captions", text)]


def _print_scores_as_json(
    names: Sequence[str], samples: Samples, skipped: Mapping[str, str], notes: Sequence[Note]
) -> None:
    from cocabench import captioneval
    from cocabench.metrics.base import estimate

    def values(wanted: Sequence[str]) -> dict[str, Any]:
        return {m.name: estimate(m, samples).model_dump() for m in captioneval.declared(wanted)}

    scores = {"metrics": values(names), "health": values(captioneval.HEALTH)}
    print_json({**scores, "skipped": skipped, "notes": [note.text for note in notes]})


def _print_scores(names: Sequence[str], samples: Samples, skipped: Mapping[str, str], notes: Sequence[Note]) -> None:
    from cocabench import captioneval
    from cocabench.core.formatting import number
    from cocabench.metrics.base import estimate

    for title, wanted in (("metric", names), ("caption health", captioneval.HEALTH)):
        rows = [
            [metric.name, number(found, metric.info)]
            for metric in captioneval.declared(wanted)
            if (found := estimate(metric, samples)).n or metric.role == "quality"
        ]
        print_table([title, "value"], rows, numbers_from=1)
    for note in notes:
        labelled("note", note.text, console=out)
    for phrase in by_reason(skipped):
        labelled("skipped", phrase, console=out)


def _notes(names: Sequence[str], samples: Samples) -> list[Note]:
    from cocabench import captioneval
    from cocabench.captioneval import health
    from cocabench.kinds.base import withheld

    found = [*captioneval.undefined(samples), *health.notes(samples)]
    return [*withheld(captioneval.declared(names), samples), *found]


def _metric_names(text: str, known: Sequence[str]) -> list[str]:
    """Parse metric names: case is ignored, a family (bleu) means all its members."""
    chosen: list[str] = []
    for word in o.names_of(text.lower()):
        members = [
            name
            for name in known
            if word in (name.lower(), name.lower().partition("@")[0], name.lower().partition("-")[0])
        ]
        if not members:
            raise UnknownNameError("metric", word, known, fix="known are bleu, meteor, rouge, cider, spice …")
        chosen += [name for name in members if name not in chosen]
    return chosen
