# ruff: noqa: E501 — tables of files
"""Good files of every kind that cocabench reads, small, with the commands that read them (for tests.bad_inputs)."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from PIL import Image
from safetensors.torch import save

from cocabench.results.store import Store
from tests.bad_inputs import Target, Tree
from tests.conftest import task
from tests.models.tiny import CLIP, COCA, VISION, random_network, write_folder
from tests.samples import classified, right

RUN = "run --tasks {d}/t.toml --data-root {d} --output {o} --quiet --batch-size 4 --device cpu --workers 0"
DRY = f"{RUN} --dry-run"


def targets(shared: Path) -> dict[str, Target]:
    """Return every target by name. shared: a folder for the models that are not damaged."""
    for name, config in (("clip", CLIP), ("coca", COCA)):
        write_folder(shared / name, config)
    clip, coca = f"--model {shared / 'clip'}", f"--model {shared / 'coca'}"
    return {
        **captions(shared),
        **results(shared),
        **tables(clip),
        **sets(clip, coca),
        **checkpoints(shared),
        **trainings(),
        "image": _all({"a.png": image("PNG"), "b.jpg": image("JPEG"), "c.webp": image("WEBP")}, f"caption {coca} {{d}}",
                      f"caption {coca} --text a {{d}} --skip-bad-images"),
        "arguments": Target({}, (), (
            f"run {clip} --tasks emoji_flags --limit 2 --output {{o}} --device cpu --seed 1 --batch-size 4 --quiet",
            f"run {clip} --tasks emoji_flags --dry-run --limit 2 --output {{o}} --cache {{o}}/cache",
            "list tasks retrieval", "list metrics --json", "doctor --data-root {d}", "cache info --cache {d}",
            "cache clear --cache {o}", "setup spice --corenlp {d}", "data csv --from synthetic --output {o}/x.csv",
            "train coca-scratch --set lr=1 --dry-run --no-memory-check --device cpu --output {o}",
            "report --published ViT-B-32:openai --output {o}", "compare published:ViT-B-32:openai",
        )),
    }  # fmt: skip


def _all(files: Tree, *commands: str) -> Target:
    return Target(files, tuple(files), commands)


def image(form: str = "PNG", number: int = 0) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def captions(shared: Path) -> dict[str, Target]:
    table = {"1": "a dog", "2": "a cat on a mat"}
    rows = [{"image_id": int(k), "caption": text} for k, text in table.items()]
    references = {"annotations": rows, "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]}
    score = "score --candidates {d}/c.json --references {d}/r.json --metrics rouge"
    files = {"c.json": _json(table), "r.json": _json({k: [text] for k, text in table.items()})}
    images = {"i/a.png": image(), "i/b.png": image("PNG", 1)}
    scorer = f"{score} --clipscore {shared / 'clip'} --images {{d}}/i --device cpu"
    return {
        "captions": _all(files, score, f"{score} --json"),
        "COCO captions": _all({"c.json": _json(rows), "r.json": _json(references)}, score),
        "CLIPScore": _all({"c.json": _json(rows), "r.json": _json(references), **images}, scorer),
    }


def _tree(folder: Path) -> Tree:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def results(shared: Path) -> dict[str, Target]:
    folder = shared / "results"
    classified(folder / "old", "one", right(30, 60))
    classified(folder / "new", "one", right(20, 60))
    classified(folder / "new", "two", right(40, 60))
    classified(folder / "new", "two", right(40, 60), task="cars")
    record = next((folder / "new" / "two").glob("pets*.json"))
    Store(folder / "new").put_thumbnails("f", {"00001": image("JPEG")})
    rules = b"[defaults]\ntolerance = 0.5\n[tasks.pets.acc1]\ntolerance = 1.0\n"
    own = {**_tree(folder), "rules.toml": rules, "one.json": record.read_bytes()}
    gate = "gate --baseline {d}/old --current {d}/new --rules {d}/rules.toml"
    benchmark = {
        "dataset": "wds/imagenet1k", "model": "ViT-B-32", "pretrained": "openai", "task": "zeroshot_classification",
        "metrics": {"acc1": 0.6, "acc5": 0.9, "mean_per_class_recall": 0.6}, "language": "en",
    }  # fmt: skip
    line = json.dumps({"imagenet-zeroshot-val-top1": 0.5, "epoch": 1, "val_loss": 1.5}).encode()
    theirs = {
        "a.json": _json(benchmark),
        "b.csv": _csv(benchmark),
        "run/checkpoints/results.jsonl": line + b"\n" + line,
    }
    plots = "report {d}/new --baseline {d}/old --output {o}"
    return {
        "results": Target(own, tuple(own), (
            "compare {d}/new {d}/old", "compare {d}/new --json --all-metrics", "compare {d}/new --samples pets --json",
            "show {d}/new", "show {d}/one.json", "show {d}/new --json", "show {d}/new --model two --task pets", gate,
            "export {d}/new", "export {d}/one.json --output {o}/x.csv", plots, plots, f"{gate} --junit {{o}}/x.xml",
            "score --candidates {d}/one.json --metrics rouge",
        )),
        "other programs' results": _all(theirs, *(f"import {{d}}/{name} --output {{o}}" for name in theirs)),
    }  # fmt: skip


def _csv(table: dict[str, Any]) -> bytes:
    flat = {**{k: v for k, v in table.items() if k != "metrics"}, **table["metrics"], "model_fullname": "x"}
    return pd.DataFrame([flat]).to_csv(index=False).encode()


def _task(name: str, kind: str, primary: str, data: str, params: str = "") -> bytes:
    text = task(name, kind, primary, data, params).replace('loader = "tsv"\n', "")
    return (text + "[expect]\nimages = 3\n").encode()


RETRIEVAL = ("x", "retrieval", "t2i_recall@1")
CLASSIFICATION = ("x", "classification", "acc1")
FORMS = 'templates = "{d}/templates.json"'


def tables(clip: str) -> dict[str, Target]:
    images = {f"{k}.png": image("PNG", k) for k in range(3)}
    rows = [{"filepath": f"{k}.png", "title": f"a thing of {k}", "label": f"n{k}"} for k in range(3)]
    frame = pd.DataFrame(rows)
    found = {}
    for loader, content in {
        "csv": frame.to_csv(index=False).encode(),
        "tsv": frame.to_csv(index=False, sep="\t").encode(),
        "jsonl": "\n".join(map(json.dumps, rows)).encode(),
    }.items():
        data = f'loader = "{loader}"\npath = "x.{loader}"'
        own = {**images, f"x.{loader}": content, "t.toml": _task(*RETRIEVAL, data, "ks = [1, 2]")}
        found[loader] = Target(own, (f"x.{loader}", f"x.{loader}", "t.toml", "0.png"), (
            f"{RUN} {clip}", f"{DRY} {clip}", f"{DRY} --json {clip}",
            f"data csv --from {loader} --path x.{loader} --data-root {{d}} --output {{o}}/x.csv",
            f"data webdataset --from {loader} --path x.{loader} --data-root {{d}} --output {{o}}/x --samples 2",
        ))  # fmt: skip
    prompts = 'classnames = "names.txt"\ntemplates = "templates.json"'
    prompts = prompts.replace('"names', '"./names').replace('"temp', '"./temp')
    labels = 'loader = "csv"\npath = "x.csv"\nlabel_key = "label"'
    own = {**images, "x.csv": found["csv"].files["x.csv"], "names.txt": b"n0\nn1\nn2\n",
           "templates.json": _json(["a {c}.", "the {c}."]), "t.toml": _task(*CLASSIFICATION, labels, prompts)}  # fmt: skip
    damaged = ("x.csv", "names.txt", "templates.json", "t.toml")
    found["prompts"] = Target(own, damaged, (f"{RUN} {clip}", f"{DRY} {clip}"))
    return found


def _tar(files: Tree) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _npy(values: list[int]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(values))
    return file.getvalue()


def _table(rows: list[dict[str, Any]], form: str) -> bytes:
    file = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    if form == "parquet":
        table.to_pandas().to_parquet(file)
    else:
        with pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    return file.getvalue()


def sets(clip: str, coca: str) -> dict[str, Target]:
    """Data sets of several files."""
    images = {f"images/{k}.jpg": image("JPEG", k) for k in range(3)}
    coco = {
        "images": [{"id": k, "file_name": f"{k}.jpg"} for k in range(3)],
        "annotations": [{"id": k, "image_id": k, "caption": f"a thing {k}"} for k in range(3)],
    }
    karpathy = {"images": [
        {"filename": f"{k}.jpg", "split": "test", "imgid": k, "sentences": [{"raw": f"a thing {k}"}]} for k in range(3)
    ]}  # fmt: skip
    crepe = {str(k): {"filename": f"{k}.jpg", "caption": f"a {k}", "negative_caption": f"b {k}"} for k in range(3)}
    wds = {
        f"{k}.{end}": content
        for k in range(3)
        for end, content in (("jpg", images[f"images/{k}.jpg"]), ("cls", b"%d" % k))
    }
    multi = {
        f"{k}.{end}": content
        for k in range(3)
        for end, content in (("jpg", images[f"images/{k}.jpg"]), ("npy", _npy([1, 0, k % 2])))
    }
    wino = [{"id": k, "image_0": {"bytes": image("PNG", k)}, "image_1": {"bytes": image("PNG", k + 9)},
             "caption_0": f"a {k}", "caption_1": f"{k} a"} for k in range(2)]  # fmt: skip
    names = b"one\ntwo\nthree"
    choice = ("x", "image_caption_selection", "acc")

    def of(where: str, files: Tree, spec: bytes, model: str = clip) -> Target:
        tree = {**{f"x/{path}": content for path, content in files.items()}, "t.toml": spec}
        return Target(tree, tuple(tree), (f"{RUN} {model}", f"{DRY} {model}"))

    folder = 'path = "x"'
    shards = {"classnames.txt": names, "zeroshot_classification_templates.txt": b"a {c}", "test/nshards.txt": b"1"}
    tell = ("x", "captioning", "ROUGE-L")
    return {
        "coco": of("x", {**images, "c.json": _json(coco)},
                   _task(*RETRIEVAL, f'loader = "coco"\n{folder}\nannotations = "c.json"\nimages = "images"')),
        "captioning": of("x", {**images, "c.json": _json(coco)},
                         _task(*tell, f'loader = "coco"\n{folder}\nannotations = "c.json"\nimages = "images"',
                               'metrics = ["ROUGE-L"]\nseq_len = 6\nnum_beams = 2\nnum_beam_groups = 1'), coca),
        "karpathy": of("x", {**images, "d.json": _json(karpathy)},
                       _task(*RETRIEVAL, f'loader = "karpathy"\n{folder}\nannotations = "d.json"')),
        "sugar_crepe": of("x", {**images, "add_att.json": _json(crepe)},
                          _task(*choice, f'loader = "sugar_crepe"\n{folder}\nannotations = "add_att.json"')),
        "webdataset": of("x", {**shards, "test/0.tar": _tar(wds)}, _task(*CLASSIFICATION, f'loader = "webdataset"\n{folder}')),
        "multilabel": of("x", {**shards, "dataset_type.txt": b"multilabel", "test/0.tar": _tar(multi)},
                         _task("x", "classification", "mean_average_precision", f'loader = "webdataset"\n{folder}')),
        "imagefolder": of("x", {f"n{k}/{k}.jpg": images[f"images/{k}.jpg"] for k in range(3)},
                          _task(*CLASSIFICATION, f'loader = "imagefolder"\n{folder}', 'templates = "cifar10"')),
        "winoground parquet": of("x", {"data/a.parquet": _table(wino, "parquet")},
                                 _task(*choice, f'loader = "winoground"\n{folder}')),
        "winoground arrow": of("x", {"data/a.arrow": _table(wino, "arrow")},
                               _task(*choice, f'loader = "winoground"\n{folder}')),
    }  # fmt: skip


def checkpoints(shared: Path) -> dict[str, Target]:
    small = {**CLIP, "text_cfg": {**CLIP["text_cfg"], "width": 8}, "vision_cfg": {**VISION, "width": 16}}
    net = random_network(shared, small)
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    legacy, zipped = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, zipped)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    arrays = io.BytesIO()
    np.savez(arrays, **{"params/x": np.zeros(3)})
    spec = _task(*RETRIEVAL, 'loader = "synthetic"\nimages = 3\nsize = 32')
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(state, "s.safetensors")}
    files = {"arch.json": _json(small), "w.pt": zipped.getvalue(), "l.pt": legacy.getvalue(), "s.safetensors": save(state),
             "a.npz": arrays.getvalue(), "s.safetensors.index.json": _json(index)}  # fmt: skip
    weights = tuple(name for name in files if name != "arch.json")
    config = {"model_cfg": small, "preprocess_cfg": preprocess}
    model = {"m/open_clip_config.json": _json(config), "m/open_clip_model.safetensors": save(state)}
    return {
        "model folder": Target({**model, "t.toml": spec}, tuple(model), (f"{RUN} --model {{d}}/m", f"{DRY} --model {{d}}/m")),
        "architecture": Target({**files, "t.toml": spec}, ("arch.json",), (f"{RUN} --model {{d}}/arch.json:random@0",)),
        "weights": Target({**files, "t.toml": spec}, weights, tuple(f"{RUN} --model {{d}}/arch.json:{{d}}/{w}" for w in weights)),
        "cache": Target({"t.toml": spec}, ("t.toml",), (f"{RUN} --model {shared / 'clip'} --cache {{d}}/cache",)),
    }  # fmt: skip


RECIPE = """name = "mine"
summary = "s"
model = "ViT-B-32:random@0"
notes = ["n"]
[architecture]
embed_dim = 64
[architecture.text_cfg]
width = 64
heads = 2
layers = 1
[trainer]
train_data = "t.csv"
batch_size = 4
accum_freq = 1
epochs = 1
lr = 1e-3
workers = 0
warmup = 2
csv_separator = ","
"""


def trainings() -> dict[str, Target]:
    table = b"filepath,title\na.png,a dog\n"
    shard = _tar({"0.png": image(), "0.txt": b"a dog"})
    files = {
        "r.toml": RECIPE.encode(),
        "t.csv": table,
        "a.png": image(),
        "s/000.tar": shard,
        "s/sizes.json": b'{"000.tar": 1}',
    }
    train = "train {d}/r.toml --dry-run --no-memory-check --device cpu --output {o}"
    damaged = ("r.toml", "t.csv", "s/sizes.json", "s/000.tar")
    return {"recipe": Target(files, damaged, (train, f"{train} --set train_data={{d}}/s"))}
