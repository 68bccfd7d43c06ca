"""cocabench caption: captions for one's own images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cocabench.cli.console import err, out
from cocabench.cli.options import Decoding, SkipBadImages, beam_groups_of
from cocabench.errors import MissingDataError, UsageError


def caption(
    images: Annotated[list[Path], typer.Argument(help="Image files or folders of them.", metavar="IMAGE…")],
    model: Annotated[str, typer.Option("--model", help="A CoCa: NAME:TAG, NAME:FILE, a folder, demo/coca.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    beams: Annotated[int, typer.Option(min=1, help="Beams in all; 1 is greedy.")] = 6,
    beam_groups: Annotated[
        int | None,
        typer.Option(min=1, help="Groups that the beams are split into.", show_default="3 for 6 beams, else 1"),
    ] = None,
    max_length: Annotated[int, typer.Option(min=2, help="Longest caption in tokens, start and end included.")] = 30,
    min_length: Annotated[int, typer.Option(min=0, help="No end before this length.")] = 5,
    decoding: Annotated[Decoding, typer.Option(help="legacy gives open_clip's captions.")] = Decoding.LEGACY,
    skip_bad_images: SkipBadImages = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """Caption images with a CoCa."""
    from cocabench.data.images import FileImage
    from cocabench.models.hardware import hardware
    from cocabench.registry import model_plans
    from cocabench.spec import parse_models

    files = _image_files(images)
    plans = model_plans(parse_models(model))
    if len(plans) != 1:
        raise UsageError(f"--model {model}", f"{len(plans)} models", wanted="one")
    for note in plans[0].notes:
        err.print(f"[yellow]note[/yellow] {escape(note)}")
    loaded = plans[0].load(hardware(device=device, skip_bad_images=skip_bad_images))
    options = {
        "decoding": decoding.value,
        "num_beams": beams,
        "num_beam_groups": beam_groups or beam_groups_of(beams),
        "seq_len": max_length,
        "min_seq_len": min_length,
    }
    written = loaded.caption([FileImage(path) for path in files], options)  # type: ignore[attr-defined]
    rows = [
        {"image": str(files[i]), "model": plans[0].id, "caption": text, "score": round(score, 4)}
        for i, text, score in zip(written.kept, written.texts, written.scores, strict=True)
    ]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        out.print(
            f"{escape(str(row['image']))}\t{escape(str(row['caption']))}\t[dim]{row['score']}[/dim]", soft_wrap=True
        )


def _image_files(paths: list[Path]) -> list[Path]:
    from cocabench.data.files import images_below

    files = []
    for path in paths:
        inside = [path / found for found in images_below(path)] if path.is_dir() else [path]
        if not inside or not inside[0].exists():
            raise MissingDataError(str(path), "no images" if path.is_dir() else "no such file")
        files += inside
    return files
