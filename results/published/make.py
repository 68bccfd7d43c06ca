"""Distil published results into published.csv, languages.csv and profile.csv: ``results/published/make.py FOLDER``.

FOLDER holds openclip_results.csv, openclip_retrieval_results.csv, openclip_multilingual_retrieval_results.csv and
model_profile.csv (open_clip, docs/),
clip_benchmark.csv (CLIP_benchmark, benchmark/benchmark.csv) and blog.json (the tables of the LAION blog and of the
CoCa paper, copied by hand), and mobileclip/*.jsonl (apple/ml-mobileclip, results/).
papers.csv, beside this script, has rows copied by hand from papers and READMEs. columns.csv names the task and the
metric of every published column: for open_clip's they are those of DataComp's tasklist.yml, and n is what was evaluated
there (for CLIP_benchmark: the n for which every acc1 is a whole number of images). A task whose test split VTAB took
whole has one name for both
(vtab/pets is pets), and a note where class names differ. Averages over data sets and languages are left out.
languages.csv is as published.csv, with a column for each language in place of the value: its task is task/language.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cocabench.results.interop import read
from cocabench.specs.groups import datacomp

HERE = Path(__file__).parent
OPEN_CLIP = {"source": "open_clip", "version": "89fb801", "date": "2026-06-27"}
CLIP_BENCHMARK = {"source": "CLIP_benchmark", "version": "48de38c", "date": "2025-06-17"}
BLOG = {"source": "LAION blog", "file": "Training Contrastive Captioners", "version": "1", "date": "2023-02-02"}
PAPER = {"source": "CoCa paper", "file": "arXiv:2205.01917", "version": "2", "date": "2022-06-14"}
MOBILECLIP = {"source": "MobileCLIP", "version": "e15d36e", "date": "2025-08-28"}
KEY = ["model", "pretrained"]
ORDER = ["source", "file", "version", "date", *KEY, "task", "evaluator", "metric", "value", "n", "column", "note"]
METRICS = {
    "image_retrieval_recall@5": "t2i_recall@5",
    "text_retrieval_recall@5": "i2t_recall@5",
    **{name: name for name in ("acc1", "acc5", "mean_per_class_recall", "mean_average_precision")},
}
LAION_2B = "laion2b_s13b_b90k"


MOBILECLIP_MODELS = {
    **{
        f"mobileclip_{name.lower()}": (f"MobileCLIP-{name}", "datacompdr")
        for name in ("S0", "S1", "S2", "S3", "S4", "B")
    },
    "mobileclip_l14": ("MobileCLIP-L-14", "datacompdr"),
    **{f"mobileclip2_{name.lower()}": (f"MobileCLIP2-{name}", "dfndr2b") for name in ("B", "S0", "S3", "S4")},
    "mobileclip2_l14": ("MobileCLIP2-L-14", "dfndr2b"),
}
"""Files of apple/ml-mobileclip, and open_clip's name and tag of the model where it has them."""


class Cell(NamedTuple):
    """Where a number of blog.json belongs."""

    model: str
    pretrained: str
    note: str = ""


BLOG_MODELS = {
    "coca_ViT-L-14": Cell("coca_ViT-L-14", LAION_2B),
    "ViT-L-14": Cell("ViT-L-14", "laion_blog", "CLIP trained on the same data; its weights have no open_clip tag"),
    "coca_ViT-L-14:mscoco_finetuned": Cell("coca_ViT-L-14", f"mscoco_finetuned_{LAION_2B}"),
    "CoCa (paper)": Cell("CoCa", "paper", "2.1 billion parameters; not the weights of open_clip"),
}
CAPTION_TASKS = {
    "karpathy_val": ("coco_karpathy_val", ""),
    "karpathy_test": ("coco_karpathy_test", "on the test split; the blog prints it beside its val row"),
    "nocaps": ("nocaps_val", ""),
}


def open_clip(folder: Path, columns: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the rows of open_clip's two tables; a column is a task and a metric."""
    for name in ("openclip_results.csv", "openclip_retrieval_results.csv"):
        table = pd.read_csv(folder / name).rename(columns={"name": "model"})
        tidy = table.melt(KEY, var_name="column", value_name="value")
        yield tidy.merge(columns[columns["file"] == f"docs/{name}"], on="column").assign(**OPEN_CLIP)


def in_languages(folder: Path, columns: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of open_clip's table of languages: a column there is ``SET METRIC LANGUAGE``."""
    name = "openclip_multilingual_retrieval_results.csv"
    table = pd.read_csv(folder / name).rename(columns={"version": "pretrained"})
    tidy = table.drop(columns="avg").melt(KEY, var_name="column", value_name="value")
    tidy[["column", "language"]] = tidy["column"].str.rsplit(" ", n=1, expand=True)
    tidy = tidy[tidy["language"] != "avg"]
    rows = tidy.pivot(index=["column", *KEY], columns="language", values="value")
    languages = list(rows.columns)
    rows = rows.reset_index().merge(columns[columns["file"] == f"docs/{name}"], on="column").assign(**OPEN_CLIP)
    return rows[[*(column for column in ORDER if column != "value"), *languages]]


def clip_benchmark(folder: Path, columns: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of CLIP_benchmark's table; a row is a task, a column a metric."""
    table = pd.read_csv(folder / "clip_benchmark.csv").rename(columns={"dataset": "column", **METRICS})
    tidy = table.melt([*KEY, "column"], list(METRICS.values()), "metric", "value").dropna(subset="value")
    where = columns[columns["file"] == "benchmark/benchmark.csv"].drop(columns="metric")
    return tidy.merge(where, on="column").assign(**CLIP_BENCHMARK)


def blog(tables: dict[str, Any]) -> Iterator[dict[str, object]]:
    """Yield the rows of the blog and of the paper that it quotes."""
    for model, value in tables["same_data_imagenet1k_top1"].items():
        yield _row(model, "imagenet1k", "acc1", value, "classification", 50000)
    retrieval = tables["retrieval_recall@5"]
    images = {"flickr30k": 1000, "mscoco_captions": 5000}
    for direction in ("t2i", "i2t"):
        for model, values in retrieval[direction].items():
            for task, value in values.items():
                note = retrieval["note"] if task == "flickr8k" else ""
                yield _row(model, task, f"{direction}_recall@5", value, "retrieval", images.get(task), note)
    for model, captioned in tables["captioning"].items():
        for key, values in captioned.items():
            task, note = CAPTION_TASKS[key.split()[0]]
            for metric, value in values.items():
                yield _row(model, task, metric, value, "captioning", {"nocaps_val": 4500}.get(task, 5000), note)


def mobileclip(folder: Path) -> Iterator[dict[str, object]]:
    """Yield the rows of Apple's evaluations: DataComp's sets, SugarCrepe and long captions; one file is a model.

    Values of single groups of images are left out. n is what DataComp's task list says.
    """
    sizes = {member.task: member.size for member in datacomp()}
    known = set(pd.read_csv(HERE / "metrics.csv")["metric"])
    for file in sorted((folder / "mobileclip").glob("*.jsonl")):
        for record in read(file):
            for metric, estimate in record.metrics.items():
                if metric in known and estimate.value is not None:
                    model, pretrained = MOBILECLIP_MODELS[file.stem]
                    yield {"file": f"results/{file.name}", "model": model, "pretrained": pretrained} | {
                        "task": record.task,
                        "evaluator": record.evaluator,
                        "metric": metric,
                        "value": estimate.value,
                        "n": sizes.get(record.task),
                        "note": "",
                        **MOBILECLIP,
                    }


def _row(
    model: str, task: str, metric: str, percent: float, evaluator: str, n: int | None, note: str = ""
) -> dict[str, object]:
    cell = BLOG_MODELS[model]
    source = PAPER if cell.model == "CoCa" else BLOG
    note = "; ".join(part for part in (cell.note, note) if part)
    what = {"task": task, "metric": metric, "value": round(percent / 100, 5), "evaluator": evaluator, "n": n}
    return {"model": cell.model, "pretrained": cell.pretrained, **what, "note": note, **source}


def profile(folder: Path, tables: dict[str, Any]) -> pd.DataFrame:
    """Return parameters (millions) and GFLOPs per tower: model, tower, quantity, value, source."""
    table = pd.read_csv(folder / "model_profile.csv")
    parts = {"": "total", "image_": "image_encoder", "text_": "text_encoder"}
    names = {
        f"{part}{column}": (tower, quantity)
        for part, tower in parts.items()
        for column, quantity in (("mparams", "params_millions"), ("gflops", "gflops"))
    }
    tidy = table.melt("model", list(names), "column", "value")
    tidy[["tower", "quantity"]] = [names[column] for column in tidy["column"]]
    tidy = tidy.assign(**OPEN_CLIP, file="docs/model_profile.csv")
    printed = [
        {"model": "CoCa" if model == "CoCa (paper)" else model, "tower": tower, "value": value}
        | {"quantity": "params_millions", **BLOG}
        for model, towers in tables["params_millions"].items()
        for tower, value in towers.items()
    ]
    both = pd.concat([tidy, pd.DataFrame(printed)])
    return both[["source", "file", "version", "date", "model", "tower", "quantity", "value"]]


def main(folder: Path) -> None:
    columns = pd.read_csv(HERE / "columns.csv", dtype={"n": "Int64"}).fillna({"note": ""})
    tables = json.loads((folder / "blog.json").read_text(encoding="utf-8"))
    printed = pd.DataFrame(blog(tables)).astype({"n": "Int64"})
    apples = pd.DataFrame(mobileclip(folder)).astype({"n": "Int64"})
    papers = pd.read_csv(HERE / "papers.csv", dtype={"n": "Int64"}).fillna({"note": ""})
    rows = pd.concat([*open_clip(folder, columns), clip_benchmark(folder, columns), printed, apples, papers])
    rows = rows[ORDER].round({"value": 6})
    rows.to_csv(HERE / "published.csv", index=False, lineterminator="\n")
    in_languages(folder, columns).to_csv(HERE / "languages.csv", index=False, lineterminator="\n")
    profile(folder, tables).to_csv(HERE / "profile.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
