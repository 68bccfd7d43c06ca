"""The caption metrics, against pycocoevalcap's own sequence on the same Java.

python -m benchmarks metrics [--json] [--model first|second] [--spice] [--flickr8k DIR] [--images 1000] [--repeats 3]

1,000 images with 5 references each. Without SPICE: tokeniser, BLEU, METEOR, ROUGE-L and CIDEr; pycocoevalcap runs one
after the other. The first model meets an empty cache, the second one other captions for the same references. Every run
is a process of its own, the sides take turns, and values must agree to 1e-9.

--spice: SPICE alone, its jar on an empty cache. On Java 15 and later the jar fails when all is computed and only its
output is left to format; the time until then is its time, and there are no values to compare.

peak_mib is the resident memory of the largest process, Java's among them; cpu_s is of all processes, and less
disturbed by a busy machine than the time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import sentences
from benchmarks.sides import in_words, row, summary, worker

NAMES = ("BLEU@1", "BLEU@2", "BLEU@3", "BLEU@4", "METEOR", "ROUGE-L", "CIDEr")
OPENED = ("java.lang", "java.util", "java.math", "java.net", "java.text", "java.io", "java.util.concurrent")
"""Packages that the serializer of SPICE's cache reaches into."""

TARGETS = {("first", False): 3.0, ("second", False): 8.0, ("first", True): 1.0, ("second", True): 4.0}
TOLERANCE = 1e-9


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison; with --worker, one side of it."""
    given = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(given)
    if options.worker:
        print(json.dumps(_worked(options)))
        return
    report = _compare(options, given)
    if not options.json:
        print(in_words(report))
    print(json.dumps(report))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks metrics", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--model", choices=("first", "second"), default="second")
    parser.add_argument("--spice", action="store_true", help="SPICE alone, instead of the others")
    parser.add_argument("--flickr8k", metavar="DIR", default="", help="folder with Flickr8k's captions and split")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each side")
    parser.add_argument("--worker", choices=("ours", "theirs", "before"), help=argparse.SUPPRESS)
    return parser


def _compare(options: argparse.Namespace, given: list[str]) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for _ in range(options.repeats):
        with _cache(options.spice) as environment:
            if options.model == "second":
                worker("benchmarks.metrics", [*given, "--worker", "before"], 2, environment)
            for side, found in runs.items():
                found.append(worker("benchmarks.metrics", [*given, "--worker", side], 2, environment))
    what = "SPICE" if options.spice else "tokeniser, BLEU, METEOR, ROUGE-L, CIDEr"
    data = "Flickr8k's" if options.flickr8k else "a grammar's"
    report = row(
        f"metrics{'-spice' * options.spice}{'-first' * (options.model == 'first')}",
        f"{what}: the {options.model} model on {data} captions, {options.images} images x {sentences.REFERENCES}",
        "pycocoevalcap 1.2",
        TARGETS[options.model, options.spice],
        *(summary(found) for found in runs.values()),
    )
    ours, theirs = runs["ours"][0]["values"], runs["theirs"][0]["values"]
    if theirs:
        report["largest_difference"] = max(abs(theirs[name] - ours[name]) for name in theirs)
        if not report["largest_difference"] <= TOLERANCE:
            raise SystemExit(f"metrics: the sides differ by {report['largest_difference']}, more than {TOLERANCE}")
    return report


@contextmanager
def _cache(spice: bool) -> Iterator[dict[str, str]]:
    """An empty cache, with the user's CoreNLP linked into it where SPICE is asked for; the same Java for both."""
    from cocabench.captioneval import corenlp, jvm

    with tempfile.TemporaryDirectory() as folder:
        if spice:
            Path(folder, corenlp.folder().name).symlink_to(corenlp.setup())
        yield {"COCABENCH_CACHE": folder, "PATH": f"{jvm.find().path.parent}{os.pathsep}{os.environ['PATH']}"}


def _worked(options: argparse.Namespace) -> dict[str, Any]:
    references = sentences.groups(options.flickr8k, options.images)
    candidates = sentences.candidates(references, 0 if options.worker == "before" or options.model == "first" else 1)
    names = ("SPICE",) if options.spice else NAMES
    if options.worker != "theirs":
        values, seconds = _cocabench(candidates, references, names)
    else:
        values, seconds = (_spice_jar if options.spice else _pycocoevalcap)(candidates, references, names)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    peak = round(max(u.ru_maxrss for u in used) / 2**10)
    cpu = sum(u.ru_utime + u.ru_stime for u in used)
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak, "values": values}


def _cocabench(candidates: list[str], references: list[list[str]], names: Sequence[str]) -> Any:
    import pandas as pd

    from cocabench.captioneval import declared, statistics

    started = time.perf_counter()
    columns = statistics(candidates, references, names)
    samples = pd.DataFrame(columns)
    values = {metric.name: metric.statistic.value(samples) for metric in declared(names)}
    return values, time.perf_counter() - started


def _pycocoevalcap(candidates: list[str], references: list[list[str]], names: Sequence[str]) -> Any:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    started = time.perf_counter()
    theirs = PTBTokenizer().tokenize({i: [{"caption": c} for c in group] for i, group in enumerate(references)})
    mine = PTBTokenizer().tokenize({i: [{"caption": c}] for i, c in enumerate(candidates)})
    meteor = Meteor()
    scores = [*Bleu(4).compute_score(theirs, mine, verbose=0)[0]]
    scores += [scorer.compute_score(theirs, mine)[0] for scorer in (meteor, Rouge(), Cider())]
    seconds = time.perf_counter() - started
    meteor.meteor_p.kill()
    meteor.meteor_p.wait()
    return dict(zip(names, map(float, scores), strict=True)), seconds


def _spice_jar(candidates: list[str], references: list[list[str]], _names: Sequence[str]) -> Any:
    """SPICE 1.0 as pycocoevalcap calls it, its cache in a folder of ours and the packages opened that it needs."""
    from cocabench.captioneval import corenlp, jvm, tokens
    from cocabench.core.cache import MemoryCache

    with jvm.Runner(jvm.find(), MemoryCache()) as runner, tempfile.TemporaryDirectory() as folder:
        flat = iter(tokens.tokenise([*candidates, *(c for group in references for c in group)], runner))
        rows: list[dict[str, Any]] = [{"image_id": i, "test": next(flat)} for i in range(len(candidates))]
        for image, group in zip(rows, references, strict=True):
            image["refs"] = [next(flat) for _ in group]
        Path(folder, "in.json").write_text(json.dumps(rows))
        classpath = [jvm.jar("spice", "spice-1.0.jar"), *corenlp.jars()]
        order = [str(runner.java.path), "-Xmx8G", *(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in OPENED)]
        order += ["-cp", os.pathsep.join(map(str, classpath)), "edu.anu.spice.SpiceScorer", f"{folder}/in.json"]
        order += ["-cache", folder, "-out", f"{folder}/out.json", "-subset", "-silent"]
        started = time.perf_counter()
        done = subprocess.run(order, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode != 0 and "scriptEngine" not in done.stderr:
            raise RuntimeError(done.stderr[-2000:])
    return {}, seconds


if __name__ == "__main__":
    main()
