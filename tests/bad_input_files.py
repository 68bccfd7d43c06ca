# ruff: noqa: E501 — tables of files
"""Good files of every kind that cocabench reads, small, with the commands that read them (for tests.bad_inputs)."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from cocabench.captioneval.corenlp import JARS
from cocabench.results.store import Store
from tests.bad_input_commands import commands
from tests.bad_input_layouts import layouts
from tests.bad_input_models import models
from tests.bad_input_sets import CLASSIFICATION, DRY, RETRIEVAL, RUN, _json, _tar, _task, image, sets
from tests.bad_inputs import Target, Tree, run, stored
from tests.models.test_checkpoint import write_torchscript
from tests.models.tiny import CLIP, COCA, VISION, random_network, write_folder
from tests.samples import classified, right


def targets(shared: Path, part: str = "") -> dict[str, Target]:
    """Return the targets whose names hold a part. shared: a folder for the models that are not damaged."""
    return {name: target for name, target in every(shared).items() if part in name}


def every(shared: Path) -> dict[str, Target]:
    for name, config in (("clip", CLIP), ("coca", COCA)):
        write_folder(shared / name, config)
    clip, coca = f"--model {shared / 'clip'}", f"--model {shared / 'coca'}"
    return {
        **captions(shared),
        **results(shared),
        **tables(clip),
        **sets(clip, coca),
        **layouts(clip, coca),
        **commands(shared, clip),
        **models(shared, clip),
        **checkpoints(shared),
        **trainings(),
        **baselines(shared),
        **served(),
        **plugins(),
        **caches(shared, clip, coca),
        "CoreNLP": corenlp(),
        "image": _all({"a.png": image("PNG"), "b.jpg": image("JPEG"), "c.webp": image("WEBP")}, f"caption {coca} {{d}}",
                      f"caption {coca} --text a {{d}} --skip-bad-images"),
        "arguments": Target({}, (), (
            f"run {clip} --tasks emoji_flags --limit 2 --output {{o}} --device cpu --seed 1 --batch-size 4 --quiet",
            f"run {clip} --tasks emoji_flags --dry-run --limit 2 --output {{o}} --cache {{o}}/cache",
            f"run --model avg({shared / 'clip'},{shared / 'clip'}) --tasks emoji_flags --dry-run --limit 2 --output {{o}}",
            f"run --model mix({shared / 'clip'},{shared / 'clip'},0:1:0.5) --tasks emoji_flags --dry-run --output {{o}}",
            f"caption {coca} --num-beams 2 --num-beam-groups 1 --seq-len 6 --temperature 1 --top-k 2 --top-p 0.5 x.png",
            "list models coca", "list weights {d}/x.pt", "cache info --json", "setup spice --corenlp {d}", "serve {o} --port 0",
            "data webdataset --from synthetic --output {o}/x --samples 2", "export {d} --output {o}/x.csv",
            "import {d} --output {o}", "show {d} --model x --task y", "gate --baseline {d} --current {d} --update",
            "list tasks retrieval", "list metrics --json", "doctor --data-root {d}", "cache info --cache {d}",
            "cache clear --cache {o}", "setup spice --corenlp {d}", "data csv --from synthetic --output {o}/x.csv",
            "train coca-scratch --set lr=1 --dry-run --no-memory-check --device cpu --output {o}",
            "report --published ViT-B-32:openai --output {o}", "compare published:ViT-B-32:openai",
        )),
    }  # fmt: skip


def _all(files: Tree, *commands: str) -> Target:
    return Target(files, tuple(files), commands)


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
    rules = b'[defaults]\ntolerance = 0.5\n[[rule]]\ntask = "pets"\nmodel = "*"\nmetric = "acc1"\ntolerance = 1.0\nrequired = true\n'
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
        ), fails={"gate": "Gate failed: 1 regressed"}),
        "other programs' results": _all(theirs, *(f"import {{d}}/{name} --output {{o}}" for name in theirs)),
    }  # fmt: skip


def baselines(shared: Path) -> dict[str, Target]:
    """gate --update, which may change the baseline, and nothing else in its folder."""
    folder = shared / "results"
    own = {**_tree(folder), "old/README.md": b"why", "rules.toml": b"[defaults]\ntolerance = 1.0\n"}
    gate = "gate --baseline {d}/old --current {d}/new --update"
    damaged = tuple(name for name in own if name != "old/README.md")
    return {"gate --update": Target(own, damaged, (gate, f"{gate} --rules {{d}}/rules.toml"))}


def served() -> dict[str, Target]:
    """A folder of reports and requests of its server."""
    data = {"title": "mine", "headline": {"sentence": "A is best."}}
    get = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    paths = (b"/", b"/mine/", b"/mine", b"/mine/data.json", b"/mine/%2e%2e/x", b"/\xff?a#b", b"//mine", b"/mine/%00%ff")
    requests = {f"requests/{k}": get % path for k, path in enumerate(paths)}
    long = {
        "requests/x": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        "requests/y": b"POST / HTTP/9.9\r\nHost: [\r\n\r\n",
    }
    files = {"r/mine/index.html": b"<title>mine</title>", "r/mine/data.json": _json(data), **requests, **long}
    return {"serve": _all(files, "serve {d}/r --port 0")}


PLUGIN = b"""
import json
from pathlib import Path
from cocabench.core.types import Dataset, Example, ImageFeatures, SampleScore
from cocabench.kinds.base import Kind
from cocabench.kinds.shown import Column
from cocabench.metrics.base import Metric
from cocabench.metrics.statistics import Mean
from cocabench.specs.spec import Spec
import numpy as np
from PIL import Image

HERE = Path(__file__).parent
SAID = json.loads((HERE / "said.json").read_text())


class Plain:
    def __init__(self, colour):
        self.colour = colour

    def open(self):
        if SAID["image"] != "image":
            return SAID["image"]
        return Image.new("RGB", (8, 8), self.colour)


class Loader(Spec):
    def build(self, root, *, download=False):
        rows = [Example(i, Plain(own) if isinstance(own, int) else own, tuple(t) if isinstance(t, list) else t, label)
                for i, own, t, label in SAID["examples"]]
        return Dataset(SAID["name"], SAID["split"], rows, SAID["classes"], SAID["templates"])


class BadKind(Kind):
    name = "bad"
    declared = (Metric("x", "Mean x.", Mean("x"), ("x",)),)
    samples = (Column("x", "float", "A number"),)

    def score(self, model, data, context):
        rows = model.encode_images([e.image for e in data.examples], progress=context.progress)
        for (key, image, stats), _ in zip(SAID["scores"], rows.rows):
            yield SampleScore(key, image, stats)


class Model:
    notes, abilities, available, packages, features_version = (), frozenset({"encode"}), True, ("numpy",), 1
    parameters = {}

    def __init__(self):
        self.id = SAID["id"]

    def signature(self):
        return SAID["signature"]

    def load(self, hardware):
        return self

    def encode_images(self, images, *, progress):
        return ImageFeatures(np.array(SAID["images"]), np.array(SAID["kept"])[: len(images)])

    def encode_texts(self, texts, *, progress):
        return np.array(SAID["texts"])


def sources(spec, *, download):
    return [Model()] * SAID["n"]
"""


def plugins() -> dict[str, Target]:
    """A plugin of every kind of part, which returns what a file of JSON says."""
    said = {
        "examples": [["a", 1, ["one"], 0], ["b", 2, ["two"], 1]], "name": "bad", "split": "test", "classes": ["p", "q"],
        "templates": ["a {c}"], "image": "image", "id": "bad::x", "n": 1,
        "signature": {"id": "x", "weights": "y", "preprocess": "", "vocabulary": ""},
        "images": [[1.0, 0.0], [0.0, 1.0]], "kept": [0, 1], "texts": [[1.0, 0.0], [0.0, 1.0]],
        "scores": [["a", "a", {"x": 0.5}], ["b", "b", {"x": 1.0}]],
    }  # fmt: skip
    info = "plugin/bad_plugin-1.0.dist-info"
    points = "[cocabench.kinds]\nbad = bad_plugin:BadKind\n[cocabench.datasets]\nbad = bad_plugin:Loader\n[cocabench.models]\nbad = bad_plugin:sources\n"
    data = 'loader = "bad"'
    files = {
        "plugin/bad_plugin.py": PLUGIN, f"{info}/METADATA": b"Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n",
        f"{info}/entry_points.txt": points.encode(), "plugin/said.json": _json(said),
        "t.toml": _task("x", "bad", "x", data).replace(b"images = 3", b"images = 2"),
        "u.toml": _task("y", "classification", "acc1", data).replace(b"images = 3", b"images = 2"),
        "v.toml": _task("z", "retrieval", "t2i_recall@1", data).replace(b"images = 3", b"images = 2"),
    }  # fmt: skip
    runs = (RUN.replace("t.toml", f"{name}.toml") + " --model bad::x" for name in "tuv")
    return {"plugin": Target(files, ("plugin/said.json",), tuple(runs))}


def caches(shared: Path, clip: str, coca: str) -> dict[str, Target]:
    """A cache whose content is damaged: what is computed stays the same."""
    images = {f"x/images/{k}.jpg": image("JPEG", k) for k in range(3)}
    rows = [{"id": k, "image_id": k, "caption": f"a thing {k}"} for k in range(3)]
    coco = {"images": [{"id": k, "file_name": f"{k}.jpg"} for k in range(3)], "annotations": rows}
    data = 'loader = "coco"\npath = "x"\nannotations = "c.json"\nimages = "images"'
    kinds = {
        "features": (_task(*RETRIEVAL, data), clip),
        "captions": (_task("x", "captioning", "ROUGE-L", data, 'metrics = ["ROUGE-L", "METEOR"]\nseq_len = 6\nnum_beams = 2\nnum_beam_groups = 1'), coca),
    }  # fmt: skip
    found = {}
    for name, (spec, model) in kinds.items():
        files = {**images, "x/c.json": _json(coco), "t.toml": spec}
        words = f"{RUN} {model} --cache {{d}}/own_cache"
        place = shared / "cached" / name
        for path, content in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(content)
        code, said, fault, _ = run(words.format(d=place, o=place / "out").split(), place)
        assert (code, fault) == (0, ""), said
        kept = {path: content for path, content in _tree(place).items() if path.startswith("own_cache/spaces/")}
        pictures = {path: content for path, content in _tree(place / "out").items() if path.startswith("thumbnails/")}
        pictures = {f"out/{path}": content for path, content in pictures.items()}
        assert kept, "something is cached"
        damaged = (*kept, *kept, *pictures)
        commands = (
            words,
            words,
            f"{words} --fresh",
            "cache info --cache {d}/own_cache",
            "cache clear --cache {d}/own_cache",
        )
        if name == "captions":
            own = {f"r/{path}": content for path, content in _tree(place / "out").items()}
            (record,) = (path for path in own if re.fullmatch(r".*-[0-9a-f]{12}\.json", path))
            score = f"score --candidates {{d}}/{record} --metrics rouge,bleu"
            more = ("report {d}/r --output {o}", "show {d}/r", "compare {d}/r --json", "export {d}/r")
            found["captioning Record"] = _all(own, score, *more)
        found[f"cache of {name}"] = Target({**files, **kept, **pictures}, damaged, commands, stored(place / "out"))
    return found


def corenlp() -> Target:
    """Jars of CoreNLP that are none, beside captions that SPICE scores."""
    jar = io.BytesIO()
    with zipfile.ZipFile(jar, "w") as packed:
        packed.writestr("edu/stanford/nlp/x.class", b"\xca\xfe\xba\xbe" * 20)
    names = [one.name for one in JARS]
    installed = {f"own_cache/corenlp-3.6.0/{name}": jar.getvalue() for name in names}
    mine = {f"jars/{name}": jar.getvalue() for name in names}
    texts = {"c.json": b'{"1": "a dog"}', "r.json": b'{"1": ["a dog"]}'}
    score = "score --candidates {d}/c.json --references {d}/r.json --metrics spice"
    commands = ("setup spice --corenlp {d}/jars", score, "doctor --data-root {d}")
    fails = {"setup": "SHA-256", "score": "SPICE: Java exited with 1"}  # the real ones are of 370 MB
    return Target({**installed, **mine, **texts}, (*installed, *mine), commands, fails=fails)


def _csv(table: dict[str, Any]) -> bytes:
    flat = {**{k: v for k, v in table.items() if k != "metrics"}, **table["metrics"], "model_fullname": "x"}
    return pd.DataFrame([flat]).to_csv(index=False).encode()


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


def checkpoints(shared: Path) -> dict[str, Target]:
    small = {**CLIP, "text_cfg": {**CLIP["text_cfg"], "width": 8}, "vision_cfg": {**VISION, "width": 16}}
    net = random_network(shared, small)
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    legacy, zipped = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, zipped)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    scripted = write_torchscript(shared / "jit.pt", state).read_bytes()
    arrays = io.BytesIO()
    np.savez(arrays, **{"params/x": np.zeros(3)})
    spec = _task(*RETRIEVAL, 'loader = "synthetic"\nimages = 3\nsize = 32')
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(state, "s.safetensors")}
    files = {"arch.json": _json(small), "w.pt": zipped.getvalue(), "l.pt": legacy.getvalue(), "j.pt": scripted, "s.safetensors": save(state),
             "a.npz": arrays.getvalue(), "s.safetensors.index.json": _json(index)}  # fmt: skip
    weights = tuple(name for name in files if name != "arch.json")
    config = {"model_cfg": small, "preprocess_cfg": preprocess}
    model = {"m/open_clip_config.json": _json(config), "m/open_clip_model.safetensors": save(state)}
    return {
        "model folder": Target({**model, "t.toml": spec}, tuple(model), (f"{RUN} --model {{d}}/m", f"{DRY} --model {{d}}/m")),
        "architecture": Target({**files, "t.toml": spec}, ("arch.json",), (f"{RUN} --model {{d}}/arch.json:random@0",)),
        "weights": Target({**files, "t.toml": spec}, weights, tuple(f"{RUN} --model {{d}}/arch.json:{{d}}/{w}" for w in weights),
                          fails={"a.npz": "weights in big_vision's format"}),
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
    table = b"filepath,title\n" + b"a.png,a dog\n" * 8
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
