"""Time and memory of the caption metrics against pycocoevalcap's own sequence, on this machine.

    python -m benchmarks.metrics [--json] [--flickr8k DIR] [--images 1000] [--repeats 3] [--spice 0]

1,000 images with 5 references each: Flickr8k's test split where DIR holds Flickr8k.token.txt and
Flickr_8k.testImages.txt, else captions written by a grammar. Three runs in turns, each in a process of its own, on the
same Java: pycocoevalcap (tokeniser, BLEU, METEOR, ROUGE-L, CIDEr, one after the other), cocabench on an empty cache (a
first model), and cocabench with other captions for the same references (a second model). Values must agree to 1e-9.

--spice N adds SPICE on the first N images: its jar on an empty cache against cocabench's second model. On Java 15 and
later the jar fails when all is computed and only its output is left to format; the time until then is its time.

The last line is JSON: times are medians in seconds, cpu_seconds are of all processes and less disturbed by a busy
machine, peak_mib is the resident memory of the largest process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("BLEU@1", "BLEU@2", "BLEU@3", "BLEU@4", "METEOR", "ROUGE-L", "CIDEr")
REFERENCES = 5
OPENED = ("java.lang", "java.util", "java.math", "java.net", "java.text", "java.io", "java.util.concurrent")
"""Packages that the serializer of SPICE's cache reaches into."""


def main(argv: list[str] | None = None) -> None:
    """Run the comparison; with --worker, one side of it."""
    options = _parser().parse_args(argv)
    if options.worker:
        return _work(options)
    report: dict[str, Any] = {"name": "metrics", "images": options.images, "data": options.flickr8k or "grammar"}
    report |= _compare(options, NAMES)
    if options.spice:
        options.images = options.spice
        report["spice"] = {"images": options.spice} | _compare(options, ("SPICE",))
    if not options.json:
        _print_table(report)
    print(json.dumps(report))
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks metrics", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--flickr8k", metavar="DIR", help="folder with Flickr8k's captions and split")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each side")
    parser.add_argument("--spice", type=int, default=0, metavar="N", help="also SPICE, on N images")
    parser.add_argument("--worker", choices=("pycocoevalcap", "cocabench"), help=argparse.SUPPRESS)
    parser.add_argument("--model", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--metrics", nargs="*", help=argparse.SUPPRESS)
    return parser


def _compare(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {"pycocoevalcap": [], "first": [], "second": []}
    for _ in range(options.repeats if names == NAMES else 1):
        with _cache(names) as cache:
            runs["pycocoevalcap"].append(_run_side("pycocoevalcap", 1, options, names, cache))
            runs["first"].append(_run_side("cocabench", 0, options, names, cache))
            runs["second"].append(_run_side("cocabench", 1, options, names, cache))
    seconds = {side: statistics.median(run["seconds"] for run in found) for side, found in runs.items()}
    row: dict[str, Any] = {
        "ratio_first": round(seconds["pycocoevalcap"] / seconds["first"], 2),
        "ratio": round(seconds["pycocoevalcap"] / seconds["second"], 2),
    }
    for side, found in runs.items():
        cpu = statistics.median(run["cpu_seconds"] for run in found)
        peak = max(run["peak_mib"] for run in found)
        row[side] = {"seconds": round(seconds[side], 3), "cpu_seconds": round(cpu, 3), "peak_mib": peak}
    theirs, mine = runs["pycocoevalcap"][0]["values"], runs["second"][0]["values"]
    row["largest_difference"] = max((abs(theirs[name] - mine[name]) for name in theirs), default=None)
    return row


@contextlib.contextmanager
def _cache(names: tuple[str, ...]) -> Any:
    """An empty cache, with the user's CoreNLP linked into it where SPICE is asked for."""
    from cocabench.metrics.captions import corenlp

    with tempfile.TemporaryDirectory() as folder:
        if "SPICE" in names:
            Path(folder, corenlp.folder().name).symlink_to(corenlp.setup())
        yield folder


def _run_side(side: str, model: int, options: argparse.Namespace, names: tuple[str, ...], cache: str) -> dict[str, Any]:
    from cocabench.metrics.captions import jvm

    order = [sys.executable, "-m", "benchmarks.metrics", "--worker", side, "--model", str(model)]
    order += ["--images", str(options.images), "--metrics", *names]
    order += ["--flickr8k", options.flickr8k] if options.flickr8k else []
    path = f"{jvm.find().path.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"COCABENCH_CACHE": cache, "PATH": path}
    done = subprocess.run(order, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _work(options: argparse.Namespace) -> None:
    candidates, references = _sentences(options)
    score = {"cocabench": _cocabench, "pycocoevalcap": _pycocoevalcap}[options.worker]
    if options.worker == "pycocoevalcap" and options.metrics == ["SPICE"]:
        score = _spice_jar
    values, seconds = score(candidates, references, options.metrics)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    result = {"seconds": seconds, "cpu_seconds": sum(u.ru_utime + u.ru_stime for u in used), "values": values}
    print(json.dumps(result | {"peak_mib": round(max(u.ru_maxrss for u in used) / 2**10)}))


def _cocabench(candidates: list[str], references: list[list[str]], names: list[str]) -> Any:
    import pandas as pd

    from cocabench.metrics.captions import declared, statistics

    started = time.perf_counter()
    columns = statistics(candidates, references, names)
    samples = pd.DataFrame(columns)
    values = {metric.name: metric.value(samples) for metric in declared(names)}
    return values, time.perf_counter() - started


def _pycocoevalcap(candidates: list[str], references: list[list[str]], names: list[str]) -> Any:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    started = time.perf_counter()
    theirs = PTBTokenizer().tokenize({i: [{"caption": c} for c in group] for i, group in enumerate(references)})
    mine = PTBTokenizer().tokenize({i: [{"caption": c}] for i, c in enumerate(candidates)})
    meteor = Meteor()
    scores = [*Bleu(4).compute_score(theirs, mine)[0]]
    scores += [scorer.compute_score(theirs, mine)[0] for scorer in (meteor, Rouge(), Cider())]
    seconds = time.perf_counter() - started
    meteor.meteor_p.kill()
    meteor.meteor_p.wait()
    return dict(zip(names, map(float, scores), strict=True)), seconds


def _spice_jar(candidates: list[str], references: list[list[str]], _names: list[str]) -> Any:
    """SPICE 1.0 as pycocoevalcap calls it, its cache in a folder of ours and the packages opened that it needs."""
    from cocabench.metrics.captions import corenlp, jars, jvm, tokens

    with jvm.Runner(jvm.find()) as runner, tempfile.TemporaryDirectory() as folder:
        flat = iter(tokens.tokenise([*candidates, *(c for group in references for c in group)], runner))
        rows: list[dict[str, Any]] = [{"image_id": i, "test": next(flat)} for i in range(len(candidates))]
        for row, group in zip(rows, references, strict=True):
            row["refs"] = [next(flat) for _ in group]
        Path(folder, "in.json").write_text(json.dumps(rows))
        classpath = [jars.find("spice", "spice-1.0.jar"), *corenlp.jars()]
        order = [str(runner.java.path), "-Xmx8G", *(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in OPENED)]
        order += ["-cp", os.pathsep.join(map(str, classpath)), "edu.anu.spice.SpiceScorer", f"{folder}/in.json"]
        order += ["-cache", folder, "-out", f"{folder}/out.json", "-subset", "-silent"]
        started = time.perf_counter()
        done = subprocess.run(order, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode != 0 and "scriptEngine" not in done.stderr:
            raise RuntimeError(done.stderr[-2000:])
    return {}, seconds


def _sentences(options: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """Return candidates and references. A model's candidate is one of the references with a word left out."""
    groups = _flickr8k(Path(options.flickr8k)) if options.flickr8k else _grammar(options.images)
    rng = random.Random(options.model)
    candidates = []
    for group in groups[: options.images]:
        words = group[options.model].split()
        words.pop(rng.randrange(len(words)))
        candidates.append(" ".join(words))
    return candidates, groups[: options.images]


def _flickr8k(folder: Path) -> list[list[str]]:
    captions: dict[str, list[str]] = {}
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        key, caption = line.split("\t")
        captions.setdefault(key.split("#")[0], []).append(caption)
    return [captions[name] for name in (folder / "Flickr_8k.testImages.txt").read_text().split()]


def _grammar(images: int) -> list[list[str]]:
    rng = random.Random(8)
    nouns = [
        "dog",
        "man",
        "woman",
        "boy",
        "girl",
        "ball",
        "beach",
        "street",
        "river",
        "car",
        "bicycle",
        "field",
        "tree",
    ]
    verbs = ["runs", "walks", "jumps", "stands", "sits", "plays", "looks", "rides", "holds", "throws", "climbs"]
    kinds = ["red", "blue", "small", "large", "young", "old", "black", "white", "brown", "green", "happy", "tall"]
    links = ["in", "on", "near", "behind", "with", "beside", "under", "across"]

    def phrase(noun: str) -> str:
        return f"{rng.choice(('a', 'the', 'one', 'two'))} {rng.choice(kinds)} {noun}"

    groups = []
    for _ in range(images):
        who, what, where = rng.sample(nouns, 3)
        verb = rng.choice(verbs)
        groups.append(
            [
                f"{phrase(who)} {rng.choice((verb, rng.choice(verbs)))} {rng.choice(links)} {phrase(what)} "
                f"{rng.choice(links)} {phrase(where)} ."
                for _ in range(REFERENCES)
            ]
        )
    return groups


def _print_table(report: dict[str, Any]) -> None:
    for title, row in (("without SPICE", report), ("SPICE", report.get("spice"))):
        if row:
            print(f"{title}, {row['images']} images:")
            for side in ("pycocoevalcap", "first", "second"):
                print(f"{side:>15}: {row[side]['seconds']:.2f} s, {row[side]['peak_mib']} MiB")
            print(f"{'':>15}  first {row['ratio_first']}, second {row['ratio']} times faster")


if __name__ == "__main__":
    main()
