"""Time and memory of captioning against open_clip's own generate, on this machine's CPU.

    python -m benchmarks.captioning [--json] [--images 8] [--threads 2] [--repeats 3] [--model coca_ViT-B-32]

Both sides caption the same images with the same seeded weights, in turns, each in a process of its own; the peer
(open_clip_torch 3.3.0 with transformers 4.49.0) runs under pinned packages that are installed into a cache folder.
Tokens must be identical. The last line is JSON; times are medians in seconds, memory is peak resident MiB. Beside
wall-clock time stands processor time, which a busy machine disturbs less.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SETTINGS: dict[str, dict[str, int]] = {"default": {}, "one_group": {"num_beam_groups": 1}}
BATCHES = (8, 16, 32, 64)
LENGTHS = (10, 20, 30, 50, 70)


def main(argv: list[str] | None = None) -> None:
    """Run the comparison and the scaling curves; with --worker, one side of it."""
    options = _parser().parse_args(argv)
    if options.worker:
        return _work(options)
    report = {"name": "captioning", "model": options.model, "images": options.images, "threads": options.threads}
    rows = {name: _compare(name, options) for name in SETTINGS}
    report |= {"ratio": rows["default"]["ratio"], "ratio_one_group": rows["one_group"]["ratio"], "rows": rows}
    if not options.no_scaling:
        report["scaling"] = _run_side("scaling", "default", options, _own_environment())
    if not options.json:
        _print_table(report)
    print(json.dumps(report))
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks captioning", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--model", default="coca_ViT-B-32")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each side")
    parser.add_argument("--no-scaling", action="store_true", help="skip the cost per image and per token")
    parser.add_argument("--worker", choices=("cocabench", "upstream", "scaling"), help=argparse.SUPPRESS)
    parser.add_argument("--setting", choices=tuple(SETTINGS), default="default", help=argparse.SUPPRESS)
    return parser


def _compare(setting: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run both sides alternately, `repeats` processes each, and compare medians."""
    from benchmarks.make_decoding_goldens import peer_environment

    environments = {"cocabench": _own_environment(), "upstream": peer_environment()}
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in environments}
    for _ in range(options.repeats):
        for side, environment in environments.items():
            runs[side].append(_run_side(side, setting, options, environment))
    row: dict[str, Any] = {
        side: {
            "seconds": statistics.median(run["seconds"] for run in found),
            "cpu_seconds": statistics.median(run["cpu_seconds"] for run in found),
            "peak_mib": max(run["peak_mib"] for run in found),
            "all_seconds": [round(run["seconds"], 3) for run in found],
        }
        for side, found in runs.items()
    }
    row["ratio"] = round(row["upstream"]["seconds"] / row["cocabench"]["seconds"], 2)
    row["identical"] = len({json.dumps(run["tokens"]) for found in runs.values() for run in found}) == 1
    return row


def _own_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def _run_side(side: str, setting: str, options: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-P", __file__, "--worker", side, "--setting", setting, "--model", options.model]
    command += ["--images", str(options.images), "--threads", str(options.threads)]
    environment = environment | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _work(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    model = _random_model(options.model)
    generate = _generator(options.worker, model)
    size = model.visual.image_size
    size = size if isinstance(size, tuple) else (size, size)
    images = torch.randn(max(BATCHES), 3, *size, generator=torch.Generator().manual_seed(1))
    generate(images[:1], seq_len=3, min_seq_len=1)
    if options.worker == "scaling":
        print(json.dumps(_scaling(generate, images)))
        return
    _reset_peak()
    started, cpu_started = time.perf_counter(), time.process_time()
    tokens = generate(images[: options.images], **SETTINGS[options.setting])
    result = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
    print(json.dumps(result | {"peak_mib": _peak_mib(), "tokens": tokens.tolist()}))


def _generator(worker: str, model: Any) -> Callable[..., torch.Tensor]:
    if worker == "upstream":
        return lambda images, **settings: model.generate(images, **settings)
    from cocabench.models.decode import generate

    return lambda images, **settings: generate(model, images, **settings)


def _random_model(name: str) -> Any:
    """Build the model with every parameter seeded: upstream leaves `text_decoder.text_projection` as torch.empty."""
    import logging

    import open_clip

    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    model = open_clip.create_model(name).eval()
    projection = model.text_decoder.text_projection
    torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)
    return model


def _scaling(generate: Callable[..., torch.Tensor], images: torch.Tensor) -> dict[str, Any]:
    """Milliseconds per image at each batch size, and per token of 8 images between lengths, ends forbidden."""

    def seconds(batch: int, length: int) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            generate(images[:batch], seq_len=length, min_seq_len=length - 1)
            times.append(time.perf_counter() - started)
        return min(times)

    by_length = [seconds(8, length) for length in LENGTHS]
    steps = list(zip(LENGTHS[1:], LENGTHS, by_length[1:], by_length, strict=False))
    return {
        "ms_per_image": {batch: round(1e3 * seconds(batch, 30) / batch, 1) for batch in BATCHES},
        "ms_per_token": {f"{b}-{a}": round(1e3 * (t - s) / (a - b), 2) for a, b, t, s in steps},
    }


def _reset_peak() -> None:
    """Forget the peak of building the model, where the kernel allows it (Linux)."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 2**10, 1)


def _print_table(report: dict[str, Any]) -> None:
    print(f"{report['model']}, {report['images']} images, {report['threads']} threads")
    for name, row in report["rows"].items():
        ours, peer = row["cocabench"], row["upstream"]
        print(
            f"{name:>10}: {ours['seconds']:.2f} s against {peer['seconds']:.2f} s, {row['ratio']} times faster; "
            f"peak {ours['peak_mib']:.0f} against {peer['peak_mib']:.0f} MiB; identical tokens: {row['identical']}"
        )
    for curve, values in report.get("scaling", {}).items():
        print(f"{curve:>13}: " + ", ".join(f"{key}: {value}" for key, value in values.items()))


if __name__ == "__main__":
    main()
