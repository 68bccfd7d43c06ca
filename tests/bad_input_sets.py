# ruff: noqa: E501 — tables of files
"""Good data sets in the layouts of loaders that others share, each with a task of a kind that reads it."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tests.bad_inputs import Target, Tree
from tests.conftest import task

RUN = "run --tasks {d}/t.toml --data-root {d} --output {o} --quiet --batch-size 4 --device cpu --workers 0"
DRY = f"{RUN} --dry-run"


def image(form: str = "PNG", number: int = 0) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _task(name: str, kind: str, primary: str, data: str, params: str = "") -> bytes:
    text = task(name, kind, primary, data, params).replace('loader = "tsv"\n', "", 1)
    return (text + "[expect]\nimages = 3\n").encode()


RETRIEVAL = ("x", "retrieval", "t2i_recall@1")
CLASSIFICATION = ("x", "classification", "acc1")
FORMS = 'templates = "{d}/templates.json"'


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
                          _task(*choice, f'loader = "sugar_crepe"\n{folder}\nsubset = "add_att"\nimages = "images"')),
        "webdataset": of("x", {**shards, "test/0.tar": _tar(wds)}, _task(*CLASSIFICATION, f'loader = "webdataset"\n{folder}')),
        "multilabel": of("x", {**shards, "dataset_type.txt": b"multilabel", "test/0.tar": _tar(multi)},
                         _task("x", "classification", "mean_average_precision", f'loader = "webdataset"\n{folder}', "multilabel = true")),
        "imagefolder": of("x", {f"n{k}/{k}.jpg": images[f"images/{k}.jpg"] for k in range(3)},
                          _task(*CLASSIFICATION, f'loader = "imagefolder"\n{folder}', 'templates = "cifar10"')),
        "winoground parquet": of("x", {"data/a.parquet": _table(wino, "parquet")},
                                 _task(*choice, f'loader = "winoground"\n{folder}')),
        "winoground arrow": of("x", {"data/a.arrow": _table(wino, "arrow")},
                               _task(*choice, f'loader = "winoground"\n{folder}')),
    }  # fmt: skip
