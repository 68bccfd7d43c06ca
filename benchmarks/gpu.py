"""Everything that needs a GPU, in one command and within a budget of time.

python -m benchmarks gpu [--budget 8m] [--folder build/gpu] [--only PART,PART]    make gpu does the same
python -m benchmarks gpu --pack          on a machine with a network: wheels that the peers need, 64 MiB at most
python -m benchmarks gpu --stand-ins     every part on the CPU with small networks: that the code runs, no figures

Each part is a process of its own and leaves FOLDER/PART.json; a second call does the parts that have none, and a part
that the budget leaves no time for is "not run". Without a GPU it says what it would do. The GPU's machine needs torch
and torchvision alone: ``make gpu`` installs what else is missing from FOLDER/wheels, without a network.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.sides import ROOT

PACKED_MIB = 64
"""What travels to the GPU's machine beside the tree, in all."""

FEWEST_S = 20
"""A part is not begun with less time than this."""


@dataclass(frozen=True)
class Part:
    """A part. seconds: about how long it takes on a GPU. words, stand_in: the command there, and small on a CPU.

    figures: which keys of its last line the table shows, dotted; all else is in its JSON.
    """

    name: str
    what: str
    seconds: int
    words: str
    stand_in: str
    figures: tuple[str, ...] = ()


IMAGES = "-m benchmarks images --json --device cuda --precision {} --model {} --images {} --repeats 2"
SMALL_IMAGES = (
    "-m benchmarks images --json --device cpu --precision fp32 --model ViT-B-32 --images 3 --size 64 --repeats 1"
)
RATES = ("ours.images_per_s", "theirs.images_per_s", "bare.images_per_s", "of_bare")

PARTS = (
    Part(
        "agreement",
        "features and likelihoods in fp32, bf16, fp16 and captions against the CPU's",
        25,
        "-m benchmarks gpu-part agreement --device cuda",
        "-m benchmarks gpu-part agreement --device cpu --small",
        ("within",),
    ),
    Part(
        "tests",
        "pytest -m gpu: likelihoods, captions, CUDA graphs against eager steps, tokens equal",
        80,
        "-m benchmarks gpu-part tests",
        "-m benchmarks gpu-part tests --small",
        ("passed", "skipped"),
    ),
    Part("ViT-L-14", "images/s, bf16", 60, IMAGES.format("bf16", "ViT-L-14", 2048), SMALL_IMAGES, RATES),
    Part("ViT-B-32", "images/s, fp16", 50, IMAGES.format("fp16", "ViT-B-32", 4096), SMALL_IMAGES, RATES),
    Part(
        "captions",
        "captions/s of coca_ViT-L-14, bf16, against open_clip's generate and the floor of memory moved",
        70,
        "-m benchmarks captioning-cuda --json --repeats 3",
        "-m benchmarks captioning-cuda --json --device cpu --precision fp32 --model coca_ViT-B-32 --images 1"
        " --length 8 --repeats 1",
        ("ours.captions_per_s", "theirs.captions_per_s", "ratio", "equal_captions", "floor_s"),
    ),
    Part(
        "training",
        "a training step of CoCa against CLIP, L/14 (the paper: CoCa 20 % dearer; open_clip documents 1.4)",
        50,
        "-m benchmarks gpu-part training --device cuda",
        "-m benchmarks gpu-part training --device cpu --small",
        ("coca_over_clip",),
    ),
    Part(
        "feeding",
        "seconds with and without: features read back late, casts kept, channels_last; bf16, ViT-B-32, convnext_base",
        20,
        "-m benchmarks gpu-part feeding --device cuda",
        "-m benchmarks gpu-part feeding --device cpu --small",
        ("read_late", "casts_kept", "channels_last"),
    ),
    Part(
        "ranks",
        "ranks of 20,000 images x 100,000 texts equal the CPU's; seconds, also of 50,000 x 250,000",
        30,
        "-m benchmarks gpu-part ranks --device cuda",
        "-m benchmarks gpu-part ranks --device cpu --small",
        ("equal", "recomputed", "device_s", "cpu_s"),
    ),
    Part(
        "workers",
        "images/s of ViT-B-32 with 2 to 16 data workers, fp16",
        50,
        IMAGES.format("fp16", "ViT-B-32", 2048) + " --workers 2,4,8,16",
        SMALL_IMAGES + " --workers 1",
        ("by_workers",),
    ),
    Part(
        "ConvNeXt",
        "images/s of convnext_base, bf16",
        45,
        IMAGES.format("bf16", "convnext_base", 1024),
        SMALL_IMAGES,
        RATES,
    ),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts that are left, say what would be done, or pack the wheels."""
    parser = argparse.ArgumentParser(
        prog="benchmarks gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--budget", type=seconds, default=480.0, help="8m, 90s")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--only", type=_parts, default=PARTS, help=", ".join(part.name for part in PARTS))
    parser.add_argument("--pack", action="store_true", help="download the wheels and run nothing")
    parser.add_argument("--stand-ins", action="store_true", help="run the parts on the CPU, with small networks")
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.pack:
        from benchmarks.wheels import pack

        print(*pack(options.folder / "wheels", PACKED_MIB), sep="\n")
        return
    device = "CPU stand-ins, whose figures mean nothing" if options.stand_ins else gpu()
    if not device:
        print("\n".join(intentions(options.only, options.folder, options.budget)))
        return
    print(f"{device}; budget {options.budget:.0f} s; {options.folder}")
    bad = False
    for part, found in run(options.only, options.folder, options.budget, stand_ins=options.stand_ins):
        print(line(part, found), flush=True)
        bad |= "error" in found
    sys.exit(1 if bad else 0)


def seconds(text: str) -> float:
    """Return the seconds of "8m", "90s" or "90"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted 8m or 90s")
    return float(found[1]) * (60 if found[2] == "m" else 1)


def _parts(text: str) -> tuple[Part, ...]:
    known = {part.name: part for part in PARTS}
    if other := [name for name in text.split(",") if name not in known]:
        raise argparse.ArgumentTypeError(f"unknown part {other[0]!r}; known: {', '.join(known)}")
    return tuple(known[name] for name in text.split(","))


def gpu() -> str:
    """Return the name of the first GPU that torch can use, '' for none."""
    if importlib.util.find_spec("torch") is None:
        return ""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""


def intentions(parts: Sequence[Part], folder: Path, budget: float) -> Iterator[str]:
    """Yield what a run would do on a machine with a GPU."""
    left = [part for part in parts if not (folder / f"{part.name}.json").is_file()]
    fits: list[Part] = []
    for part in left:
        if _is_begun(part, budget - sum(one.seconds for one in fits)):
            fits.append(part)
    total = min(sum(part.seconds for part in fits), budget)
    yield f"No GPU here, so nothing is measured. With one, of a budget of {budget:.0f} s about {total:.0f} s would be:"
    yield from (f"  {part.name:10} {part.seconds:3} s  {part.what}" for part in fits)
    yield from (f"  {part.name:10}    –   not run: it takes {part.seconds} s" for part in left if part not in fits)
    yield from (f"  {part.name:10}    –   done: {folder / part.name}.json" for part in parts if part not in left)
    wheels = sorted((folder / "wheels").rglob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    packed = f"{len(wheels)} wheels, {size:.0f} MiB" if wheels else "none yet: python -m benchmarks gpu --pack"
    yield f"Wheels of the peers beside the tree: {packed}."


def _is_begun(part: Part, left: float) -> bool:
    """Return whether enough of the budget is left for a part: half of what it takes, as that is a guess."""
    return left >= max(FEWEST_S, part.seconds / 2)


def run(
    parts: Sequence[Part], folder: Path, budget: float, *, stand_ins: bool = False
) -> Iterator[tuple[Part, dict[str, Any]]]:
    """Yield what each part found: from an earlier call, now, or {"not run": reason}; an "error" is tried again."""
    ends = time.monotonic() + budget
    environment = _environment(folder / "wheels" / "peers")
    for part in parts:
        file = folder / f"{part.name}.json"
        if file.is_file():
            yield part, json.loads(file.read_text(encoding="utf-8"))
            continue
        left = ends - time.monotonic()
        if left < 0 if stand_ins else not _is_begun(part, left):
            yield part, {"not run": f"{max(0, left):.0f} s of the budget were left"}
            continue
        found = _measured(part.stand_in if stand_ins else part.words, left, environment)
        if "error" not in found:
            file.with_suffix(".new").write_text(json.dumps(found, indent=1), encoding="utf-8")
            file.with_suffix(".new").replace(file)
        yield part, found


def _environment(wheels: Path) -> dict[str, str]:
    """Return this process's variables, and pip's for wheels beside the tree, where there are some."""
    here = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)} if any(wheels.glob("*.whl")) else {}
    return {**os.environ, **here}


def _measured(words: str, left: float, environment: dict[str, str]) -> dict[str, Any]:
    started = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *words.split()],
            cwd=ROOT,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=left,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"stopped after {left:.0f} s, the end of the budget"}
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        found = None
    if done.returncode or not isinstance(found, dict):
        said = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        return {"error": f"exit code {done.returncode}: {said[-1][:200]}"}
    return {**found, "wall_s": round(time.monotonic() - started, 1)}


def line(part: Part, found: dict[str, Any]) -> str:
    """Return a part's row of the table."""
    if why := found.get("not run") or found.get("error"):
        return f"{part.name:10} {'not run' if 'not run' in found else 'FAILED'}: {why}"
    figures = ", ".join(f"{key} {_at(found, key)}" for key in part.figures)
    return f"{part.name:10} {found.get('wall_s', 0):5.1f} s  {figures}"


def _at(found: Any, key: str) -> Any:
    for name in key.split("."):
        found = found.get(name, "–") if isinstance(found, dict) else "–"
    return found


if __name__ == "__main__":
    main()
