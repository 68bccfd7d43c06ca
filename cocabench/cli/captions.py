"""cocabench caption: captions for one's own images, or how likely given captions are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cocabench.cli import decoder, names
from cocabench.cli import options as o
from cocabench.cli.console import err, out
from cocabench.core.errors import MissingDataError, NotACaptionerError, UsageError
from cocabench.core.types import Ability, Progress, silent
from cocabench.specs.decoding import DEFAULTS

if TYPE_CHECKING:
    from cocabench.core.types import Model as LoadedModel


LOGPROB, SAMPLING = "Captions: --decoding logprob", "Captions: top_k and top_p sampling"


def _option(name: str, metavar: str, panel: str, told: str) -> Any:
    """Return an option of the decoder that is None where it is not given; its default is shown."""
    return o.option(metavar=metavar, panel=panel, help=told, show_default=f"{getattr(DEFAULTS, name):g}")


class GenerationType(StrEnum):
    BEAM_SEARCH = "beam_search"
    GREEDY = "greedy"
    TOP_K = "top_k"
    TOP_P = "top_p"


Model = Annotated[
    str,
    o.option("--model", metavar="MODEL", autocompletion=names.models, help="A CoCa: NAME:TAG, NAME:FILE, a folder."),
]
Prompt = Annotated[str, o.option(metavar="TEXT", help="The first words of every caption.")]
Texts = Annotated[
    list[str] | None,
    o.option(
        "--text", metavar="TEXT", help="Write nothing; tell how likely this caption is. Several: the likeliest first."
    ),
]
Generation = Annotated[
    GenerationType,
    o.option("--generation-type", metavar="KIND", panel=o.CAPTIONS, help=f"{', '.join(GenerationType)}."),
]
BEAM_SEARCH = GenerationType(DEFAULTS.generation_type)

Diversity = Annotated[float | None, _option("diversity_penalty", "X", LOGPROB, "Between groups of beams.")]
Length = Annotated[float | None, _option("length_penalty", "X", LOGPROB, "Above 1 favours long captions.")]
Repetition = Annotated[
    float | None, _option("repetition_penalty", "X", o.CAPTIONS, "Above 1 makes repeated words less likely.")
]
TopK = Annotated[int | None, _option("top_k", "K", SAMPLING, "Among this many likeliest tokens.")]
TopP = Annotated[float | None, _option("top_p", "P", SAMPLING, "Among the likeliest of this probability.")]
Temperature = Annotated[float | None, _option("temperature", "X", SAMPLING, "Of sampling.")]
Seed = Annotated[int | None, _option("seed", "N", SAMPLING, "Of sampling.")]


def caption(
    images: Annotated[list[Path], typer.Argument(help="Image files or folders of them.", metavar="IMAGE…")],
    model: Model,
    prompt: Prompt = "",
    text: Texts = None,
    device: o.Device = "auto",
    precision: o.PrecisionOption = o.Precision.AUTO,
    skip_bad_images: o.SkipBadImages = False,
    generation_type: Generation = BEAM_SEARCH,
    num_beams: decoder.NumBeams = None,
    num_beam_groups: decoder.NumBeamGroups = None,
    seq_len: decoder.SeqLen = None,
    min_seq_len: decoder.MinSeqLen = None,
    decoding: decoder.DecodingOption = None,
    repetition_penalty: Repetition = None,
    diversity_penalty: Diversity = None,
    length_penalty: Length = None,
    top_k: TopK = None,
    top_p: TopP = None,
    temperature: Temperature = None,
    seed: Seed = None,
    as_json: o.Json = False,
) -> None:
    """Caption images with a CoCa."""
    if text and prompt:
        raise UsageError("--prompt", "given with --text", wanted="one of the two: --text writes nothing")
    options = decoder.options(
        num_beams=num_beams,
        num_beam_groups=num_beam_groups,
        seq_len=seq_len,
        min_seq_len=min_seq_len,
        decoding=decoding,
        generation_type=generation_type.value,
        repetition_penalty=repetition_penalty,
        diversity_penalty=diversity_penalty,
        length_penalty=length_penalty,
        top_k=top_k,
        top_p=top_p,
        temperature=temperature,
        seed=seed,
    )
    _check_read(options)
    files = _image_files(images)
    loaded = _load(model, "score_captions" if text else "caption", device, precision, skip_bad_images)
    rows = _rows(loaded, files, text, options, prompt)
    _tell_left_out(files, {row["image"] for row in rows})
    _print_rows(rows, as_json)


def _rows(
    model: LoadedModel, files: Sequence[Path], texts: Sequence[str] | None, options: Mapping[str, Any], prompt: str
) -> list[dict[str, Any]]:
    from cocabench.cli.watch import stages

    with stages("caption") if err.is_terminal else nullcontext(silent) as progress:
        if texts:
            return _likelihoods(model, files, texts, progress)
        return _written(model, files, options, prompt, progress)


def _print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, allow_nan=False))
        return
    for row in rows:
        cells = [escape(str(row["image"])), escape(str(row.get("caption", row.get("text"))))]
        numbers = [f"[dim]{row[name]}[/dim]" for name in ("score", "logprob", "perplexity") if name in row]
        out.print("\t".join(cells + numbers), soft_wrap=True)


def _check_read(options: Mapping[str, Any]) -> None:
    """UsageError for an option that was given and that this kind of generation does not read."""
    from cocabench.specs.decoding import UNREAD

    kind = options["generation_type"]
    for name in UNREAD[kind]:
        if name in options:
            flag = f"--{name.replace('_', '-')}"
            readers = " or ".join(other for other, unread in UNREAD.items() if name not in unread)
            raise UsageError(flag, f"given with --generation-type {kind}", wanted=f"--generation-type {readers}")


def _load(model: str, ability: Ability, device: str, precision: o.Precision, skip_bad_images: bool) -> LoadedModel:
    from cocabench.models.hardware import hardware
    from cocabench.specs.registry import model_sources
    from cocabench.specs.spec import parse_models

    sources = model_sources(parse_models(model))
    if len(sources) != 1:
        raise UsageError(f"--model {model}", f"{len(sources)} models", wanted="one")
    for note in sources[0].notes:
        err.print(f"[yellow]note[/yellow] {escape(note.text)}", soft_wrap=True)
    if ability not in sources[0].abilities:
        can = "caption" if ability == "caption" else "say how likely a caption is"
        raise NotACaptionerError(f"--model {model}", f"a model that cannot {can}", wanted="a CoCa")
    machine = hardware(device=device, precision=precision.value, skip_bad_images=skip_bad_images)
    return sources[0].load(machine)


def _written(
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
    """Return a row per image and text, an image's likeliest text first."""
    from cocabench.data.images import FileImage

    found = model.score_captions([FileImage(path) for path in files], [texts] * len(files), progress=progress)
    rows = []
    for i, logprobs, n_tokens in zip(found.kept, found.logprobs.tolist(), found.n_tokens.tolist(), strict=True):
        several = sorted(zip(texts, logprobs, n_tokens, strict=True), key=lambda row: -row[1])
        for text, logprob, count in several:
            row = {"image": str(files[i]), "model": model.id, "text": text, "logprob": round(logprob, 4)}
            rows.append(row | {"n_tokens": count, "perplexity": round(math.exp(-logprob / count), 2)})
    return rows


def _tell_left_out(files: Sequence[Path], read: set[str]) -> None:
    from cocabench.data.files import some

    if bad := [file for file in files if str(file) not in read]:
        err.print(f"[yellow]left out[/yellow] {escape(some(bad))}: not readable as images")


def _image_files(paths: list[Path]) -> list[Path]:
    from cocabench.data.files import files_below, left_out, only_images

    files = []
    for path in paths:
        below = files_below(path) if path.is_dir() else []
        for note in left_out(below):
            err.print(f"[yellow]note[/yellow] {escape(f'{path}: {note.text}')}", soft_wrap=True)
        inside = [path / found for found in only_images(below)] if path.is_dir() else [path]
        if not inside or not inside[0].exists():
            raise MissingDataError(str(path), "no images" if path.is_dir() else "no such file")
        files += inside
    return files
