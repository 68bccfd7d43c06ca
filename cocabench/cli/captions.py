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

from cocabench.cli.console import err, out
from cocabench.cli.options import Decoding, Precision, SkipBadImages, beam_groups_of
from cocabench.errors import MissingDataError, UsageError
from cocabench.types import Progress, silent

if TYPE_CHECKING:
    from cocabench.models.open_clip import OpenClip

FLAGS = {"num_beams": "--beams", "num_beam_groups": "--beam-groups"}
"""Options of the decoder whose flag is not their name."""


class GenerationType(StrEnum):
    BEAM_SEARCH = "beam_search"
    GREEDY = "greedy"
    TOP_K = "top_k"
    TOP_P = "top_p"


def caption(
    images: Annotated[list[Path], typer.Argument(help="Image files or folders of them.", metavar="IMAGE…")],
    model: Annotated[str, typer.Option("--model", help="A CoCa: NAME:TAG, NAME:FILE, a folder, demo/coca.")],
    prompt: Annotated[str, typer.Option(help="The first words of every caption.")] = "",
    text: Annotated[
        list[str] | None,
        typer.Option(help="Write nothing; tell how likely this caption is. Several: the likeliest first."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    precision: Annotated[Precision, typer.Option(help="auto: fp32 on the CPU, fp16 on CUDA.")] = Precision.AUTO,
    generation_type: Annotated[GenerationType, typer.Option(help="How words are chosen.")] = GenerationType.BEAM_SEARCH,
    beams: Annotated[int | None, typer.Option(min=1, help="Beams in all; 1 is greedy.", show_default="6")] = None,
    beam_groups: Annotated[
        int | None,
        typer.Option(min=1, help="Groups that the beams are split into.", show_default="3 for 6 beams, else 1"),
    ] = None,
    max_length: Annotated[int, typer.Option(min=2, help="Longest caption in tokens, start and end included.")] = 30,
    min_length: Annotated[int, typer.Option(min=0, help="No end before this length.")] = 5,
    decoding: Annotated[
        Decoding | None, typer.Option(help="How beams are scored; legacy gives open_clip's.", show_default="legacy")
    ] = None,
    diversity_penalty: Annotated[
        float | None, typer.Option(help="Between groups of beams, in logprob decoding.", show_default="0")
    ] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="Above 1 favours long captions, in logprob decoding.", show_default="1")
    ] = None,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 makes repeated words less likely.")] = 1.0,
    top_k: Annotated[
        int | None, typer.Option(help="Sample among this many likeliest tokens.", show_default="1")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample among the likeliest of this probability.", show_default="0.1")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of sampling.", show_default="1")] = None,
    seed: Annotated[int | None, typer.Option(help="Of sampling.", show_default="0")] = None,
    skip_bad_images: SkipBadImages = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """Caption images with a CoCa."""
    from cocabench.cli.watch import stages

    options = {
        "generation_type": generation_type.value,
        "num_beams": beams,
        "num_beam_groups": beam_groups or (beam_groups_of(beams) if beams else None),
        "seq_len": max_length,
        "min_seq_len": min_length,
        "decoding": decoding.value if decoding else None,
        "diversity_penalty": diversity_penalty,
        "length_penalty": length_penalty,
        "repetition_penalty": repetition_penalty,
        "top_k": top_k,
        "top_p": top_p,
        "temperature": temperature,
        "seed": seed,
    }
    if text and prompt:
        raise UsageError("--prompt", "given with --text", wanted="one of the two: --text writes nothing")
    options = _read(options) | ({"prompt": prompt} if prompt else {})
    files = _image_files(images)
    loaded = _load(model, device, precision, skip_bad_images)
    with stages("caption") if err.is_terminal else nullcontext(silent) as progress:
        rows = _likelihoods(loaded, files, text, progress) if text else _written(loaded, files, options, progress)
    _tell_left_out(files, {row["image"] for row in rows})
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, allow_nan=False))
        return
    for row in rows:
        cells = [escape(str(row["image"])), escape(str(row.get("caption", row.get("text"))))]
        numbers = [f"[dim]{row[name]}[/dim]" for name in ("score", "logprob", "perplexity") if name in row]
        out.print("\t".join(cells + numbers), soft_wrap=True)


def _read(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given; UsageError for one that this kind of generation does not read."""
    from cocabench.evaluators.captioning import UNREAD

    given = {name: value for name, value in options.items() if value is not None}
    kind = given["generation_type"]
    for name in UNREAD[kind]:
        if name in given:
            flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
            readers = " or ".join(other for other, unread in UNREAD.items() if name not in unread)
            raise UsageError(flag, f"given with --generation-type {kind}", wanted=f"--generation-type {readers}")
    return given


def _load(model: str, device: str, precision: Precision, skip_bad_images: bool) -> OpenClip:
    from cocabench.models.hardware import hardware
    from cocabench.registry import model_plans
    from cocabench.spec import parse_models

    plans = model_plans(parse_models(model))
    if len(plans) != 1:
        raise UsageError(f"--model {model}", f"{len(plans)} models", wanted="one")
    for note in plans[0].notes:
        err.print(f"[yellow]note[/yellow] {escape(note)}")
    machine = hardware(device=device, precision=precision.value, skip_bad_images=skip_bad_images)
    return plans[0].load(machine)  # type: ignore[return-value]


def _written(
    model: OpenClip, files: Sequence[Path], options: Mapping[str, Any], progress: Progress
) -> list[dict[str, Any]]:
    from cocabench.data.images import FileImage

    written = model.caption([FileImage(path) for path in files], options, progress=progress)
    return [
        {"image": str(files[i]), "model": model.id, "caption": text, "score": round(score, 4)}
        for i, text, score in zip(written.kept, written.texts, written.scores, strict=True)
    ]


def _likelihoods(
    model: OpenClip, files: Sequence[Path], texts: Sequence[str], progress: Progress
) -> list[dict[str, Any]]:
    """Return a row per image and text, an image's likeliest text first."""
    from cocabench.data.images import FileImage

    found = model.likelihoods([FileImage(path) for path in files], [texts] * len(files), progress=progress)
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
    from cocabench.data.files import images_below

    files = []
    for path in paths:
        inside = [path / found for found in images_below(path)] if path.is_dir() else [path]
        if not inside or not inside[0].exists():
            raise MissingDataError(str(path), "no images" if path.is_dir() else "no such file")
        files += inside
    return files
