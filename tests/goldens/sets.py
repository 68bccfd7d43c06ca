"""Small sets of every loader's format, drawn from the demo's emoji: data files, and task files that read them.

Pictures are PNG whatever their names end with: a JPEG's pixels are not the same in every version of Pillow.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.drawing import write, write_json, write_tar
from tests.data.standard_sets import FORMATS
from tests.goldens.adapter import Emoji, emoji

SYNSETS = ("n01440764", "n01443537", "n01484850", "n02123045")
FACES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse",
)  # fmt: skip

CLASSIFY = {"evaluator": "classification", "primary": "acc1"}
RETRIEVE = {"evaluator": "retrieval", "primary": "t2i_recall@5"}
CAPTION = {"evaluator": "captioning", "primary": "CIDEr"}
SELECT = {"evaluator": "image_caption_selection", "primary": "acc"}
BEAMS = {"decoding": "logprob", "num_beam_groups": 1, "num_beams": 2, "min_seq_len": 2, "seq_len": 12}
FEW_WORDS = {"metrics": ["BLEU@1", "BLEU@4", "CIDEr", "ROUGE-L"], **BEAMS}


def chosen(count: int = 24) -> list[Emoji]:
    """Return emoji whose names have several words, a few of each subgroup."""
    several = [one for one in emoji() if " " in one.info["name"] and one.info["group"] != "flags"]
    return several[:: max(1, len(several) // count)][:count]


def png(one: Emoji) -> bytes:
    file = io.BytesIO()
    one.picture.save(file, "PNG")
    return file.getvalue()


def captions(one: Emoji, k: int) -> list[str]:
    """Return one to three captions; some images share one."""
    own = [*one.info["captions"], f"a drawing of {one.info['name']}"]
    return [*own[: 1 + k % 3], *(["a drawing"] if k % 4 == 0 else [])]


def wrong(one: Emoji) -> str:
    """Return a caption's words in another order."""
    first, *rest = one.info["name"].split()
    return " ".join([*rest, first])


def imagefolder(root: Path) -> None:
    """Four classes, two with one name; an image that is there twice."""
    for k, one in enumerate(chosen()):
        write(root / f"folder/val/{'abcd'[k % 4]}/{k:02}.png", png(one))
    write(root / "folder/val/c/twice.png", png(chosen()[1]))
    names = [one.info["name"] for one in chosen()[:4]]
    write_json(root / "folder/names.json", dict(zip("abcd", [*names[:3], names[0]], strict=True)))


def imagenet(root: Path) -> None:
    """By synset folders, and flat with Kaggle's file: one data set."""
    rows = []
    for k, one in enumerate(chosen(12), 1):
        name, synset = f"ILSVRC2012_val_{k:08d}", SYNSETS[k % 4]
        write(root / f"imagenet/val/{synset}/{name}.JPEG", png(one))
        write(root / f"imagenet_flat/val/{name}.JPEG", png(one))
        rows.append(f"{name},{synset} 1 2 3 4\n")
    write(root / "imagenet_flat/LOC_val_solution.csv", "ImageId,PredictionString\n" + "".join(rows))
    write(root / "template.txt", "{c}\na drawing of {c}\n")


def karpathy(root: Path) -> None:
    images: list[dict[str, Any]] = []
    for k, one in enumerate(chosen()):
        write(root / f"karpathy/pictures/{k:02}.jpg", png(one))
        texts = [{"raw": f" {text} "} for text in captions(one, k)]
        images.append({"filename": f"{k:02}.jpg", "split": "val" if k % 6 == 5 else "test", "sentences": texts})
    write_json(root / "karpathy/dataset_flickr30k.json", {"images": images})


def nocaps(root: Path) -> None:
    """COCO's format with NoCaps' domains."""
    images, annotations = [], []
    for k, one in enumerate(chosen()):
        write(root / f"nocaps/images/{k}.png", png(one))
        domain = ("in-domain", "near-domain", "out-domain")[k % 3]
        images.append({"id": 100 + k, "file_name": f"{k}.png", "domain": domain})
        annotations += [{"image_id": 100 + k, "caption": text} for text in captions(one, k)]
    write_json(root / "nocaps/annotations/val.json", {"images": images, "annotations": annotations})
    for image in images:
        del image["domain"]
    write_json(root / "nocaps/annotations/plain.json", {"images": images, "annotations": annotations})


def flickr8k(root: Path) -> None:
    tokens, names = [], []
    for k, one in enumerate(chosen(12)):
        names.append(f"{k:04}_a.jpg")
        write(root / f"flickr8k/Flicker8k_Dataset/{names[-1]}", png(one))
        tokens += [f"{names[-1]}#{i}\t{text}" for i, text in enumerate(captions(one, k))]
    write(root / "flickr8k/Flickr8k.token.txt", "\n".join(tokens) + "\n")
    write(root / "flickr8k/Flickr_8k.testImages.txt", "\n".join(names[:10]) + "\n")


def webdataset(root: Path) -> None:
    """Labels, captions, and several labels."""
    some = chosen()
    for shard in range(2):
        own = list(enumerate(some))[shard * 12 : shard * 12 + 12]
        labelled, captioned, several = {}, {}, {}
        for k, one in own:
            vector = io.BytesIO()
            np.save(vector, np.array([int(k % 3 == c or k % 4 == c) for c in range(4)]))
            labelled |= {f"s{k:02}.png": png(one), f"s{k:02}.cls": str(k % 4)}
            captioned |= {f"s{k:02}.png": png(one), f"s{k:02}.txt": "\n".join(captions(one, k))}
            several |= {f"s{k:02}.png": png(one), f"s{k:02}.npy": vector.getvalue()}
        for name, members in (("labels", labelled), ("captions", captioned), ("several", several)):
            write_tar(root / f"wds_{name}/test/{shard}.tar", members)
    for name in ("labels", "several"):
        write(root / f"wds_{name}/classnames.txt", "".join(f"{one.info['name']}\n" for one in some[:4]))
        write(root / f"wds_{name}/zeroshot_classification_templates.txt", "{c}\na {c}\n")


def sugar_crepe(root: Path) -> None:
    rows = {}
    for k, one in enumerate(chosen()):
        name = f"{k // 2 * 2:012}.jpg" if k % 5 == 1 else f"{k:012}.jpg"
        write(root / f"sugar_crepe/val2017/{k:012}.jpg", png(one))
        rows[str(k)] = {"filename": name, "caption": one.info["name"], "negative_caption": wrong(one)}
    write_json(root / "sugar_crepe/swap_obj.json", rows)


def winoground(root: Path) -> None:
    rows, some = [], chosen()
    for k in range(12):
        pair = some[2 * k : 2 * k + 2]
        for i, one in enumerate(pair):
            write(root / f"winoground/images/ex_{k}_img_{i}.png", png(one))
        images = {f"image_{i}": f"ex_{k}_img_{i}" for i in range(2)}
        rows.append({"id": k, **images, **{f"caption_{i}": one.info["name"] for i, one in enumerate(pair)}})
    write(root / "winoground/examples.jsonl", "\n".join(map(json.dumps, rows)) + "\n")


def tables(root: Path) -> None:
    """CSV with labels, TSV with captions, JSON lines with several captions and with negatives; an unreadable image."""
    some = list(enumerate(chosen()))
    for k, one in some:
        write(root / f"tables/img/{k:02}.png", png(one))
    write(root / "tables/img/bad.png", b"no picture")
    labels = [f"img/{k:02}.png,{('animal', 'thing', 'person')[k % 3]}\n" for k, _ in some]
    write(root / "tables/labels.csv", "filepath,kind\n" + "".join(labels) + "img/bad.png,thing\n")
    rows = [f"img/{k:02}.png\t{text}\n" for k, one in some for text in captions(one, k)]
    write(root / "tables/captions.tsv", "filepath\ttitle\n" + "".join(rows) + "img/bad.png\tno picture\n")
    lists = [json.dumps({"filepath": f"img/{k:02}.png", "title": captions(one, k)}) for k, one in some]
    write(root / "tables/captions.jsonl", "\n".join(lists) + "\n")
    negatives = [
        {"filepath": f"img/{k:02}.png", "title": one.info["name"], "not": [wrong(one), some[k - 1][1].info["name"]]}
        for k, one in some
    ]
    write(root / "tables/negatives.jsonl", "\n".join(map(json.dumps, negatives)) + "\n")
    negatives[3]["filepath"] = "img/bad.png"
    write(root / "tables/negatives_bad.jsonl", "\n".join(map(json.dumps, negatives)) + "\n")


def objectnet(root: Path) -> None:
    top, names = root / "objectnet/objectnet-1.0", ["Air freshener", "TV", "Backpack"]
    for k, one in enumerate(chosen(12)):
        write(top / f"images/{names[k % 3].replace(' ', '_').lower()}/{k:02}.png", png(one))
    write_json(top / "mappings/folder_to_objectnet_label.json", {n.replace(" ", "_").lower(): n for n in names})
    write_json(top / "mappings/objectnet_to_imagenet_1k.json", {"TV": "television", "Backpack": "backpack"})


def clip_benchmark(root: Path) -> None:
    """Class folders by FER2013's names, and VOC's annotations with several labels an image."""
    for k, one in enumerate(chosen(14)):
        write(root / f"fer2013/test/{k % 7}_{FACES[k % 7]}/{k:02}.jpg", png(one))
    top, lines = root / "voc2007/VOCdevkit/VOC2007", []
    for k, one in enumerate(chosen(12), 1):
        write(top / f"JPEGImages/{k:06}.jpg", png(one))
        lines.append(f"{k:06} {'1' if k % 13 == 0 else '-1'}\n")
        box = "<bndbox><a>1</a><b>1</b><c>40</c><d>50</d></bndbox>"
        kinds = (VOC[k % 13], VOC[k * 3 % 13])
        objects = "".join(f"<object><name>{kind}</name>{box}</object>" for kind in kinds)
        write(top / f"Annotations/{k:06}.xml", f"<annotation>{objects}</annotation>")
    write(top / "ImageSets/Main/aeroplane_test.txt", "".join(lines))


WRITERS = (
    imagefolder, imagenet, karpathy, nocaps, flickr8k, webdataset, sugar_crepe, winoground, tables, objectnet,
    clip_benchmark,
)  # fmt: skip


def _imagenet(path: str) -> dict[str, Any]:
    params = {"classnames": "imagenet1k", "templates": "data/template.txt"}
    return {**CLASSIFY, "data": {"loader": "imagenet", "path": path}, "params": params}


def task(kind: dict[str, Any], loader: str, params: dict[str, Any] | None = None, **data: Any) -> dict[str, Any]:
    return {**kind, "data": {"loader": loader, **data}, "params": params or {}}


TASKS: dict[str, dict[str, Any]] = {
    "folder": task(CLASSIFY, "imagefolder", {"templates": "data/template.txt"}, path="folder", split="val"),
    "folder_names": task(
        CLASSIFY, "imagefolder", {"templates": "data/template.txt"}, path="folder", split="val", classes="names.json"
    ),
    "imagenet": _imagenet("imagenet"),
    "imagenet_flat": _imagenet("imagenet_flat"),
    "karpathy": task(RETRIEVE, "karpathy", {"ks": [1, 5]}, path="karpathy"),
    "karpathy_captions": task(CAPTION, "karpathy", FEW_WORDS, path="karpathy", split="test"),
    "coco": task(RETRIEVE, "coco", path="nocaps", annotations="plain.json", max_captions=2),
    "nocaps": task(CAPTION, "coco", FEW_WORDS, path="nocaps", annotations="val.json"),
    "nocaps_cider": task(CAPTION, "coco", {"metrics": ["CIDEr"], **BEAMS}, path="nocaps", annotations="val.json"),
    "flickr8k": task(RETRIEVE, "flickr8k", path="flickr8k"),
    "flickr8k_all": task(RETRIEVE, "flickr8k", path="flickr8k", split="all"),
    "wds_labels": task(CLASSIFY, "webdataset", path="wds_labels"),
    "wds_captions": task(RETRIEVE, "webdataset", path="wds_captions"),
    "wds_several": {
        **task(CLASSIFY, "webdataset", {"multilabel": True}, path="wds_several"),
        "primary": "mean_average_precision",
    },
    "sugar_crepe": task(SELECT, "sugar_crepe", path="sugar_crepe", subset="swap_obj"),
    "sugar_crepe_likelihood": task(
        SELECT, "sugar_crepe", {"scoring": "likelihood"}, path="sugar_crepe", subset="swap_obj"
    ),
    "winoground": task(SELECT, "winoground", path="winoground"),
    "winoground_likelihood": task(SELECT, "winoground", {"scoring": "likelihood"}, path="winoground"),
    "negatives": task(SELECT, "jsonl", path="tables/negatives.jsonl", negative_key="not"),
    "jsonl": task(RETRIEVE, "jsonl", {"ks": [1, 3, 5, 20]}, path="tables/captions.jsonl"),
    "objectnet": task(CLASSIFY, "objectnet", path="objectnet", crop_border=2),
    "fer2013": task(CLASSIFY, "clip_benchmark", path="fer2013", dataset="fer2013"),
    "voc2007": task(CLASSIFY, "clip_benchmark", path="voc2007", dataset="voc2007"),
    "voc2007_multilabel": {
        **task(CLASSIFY, "clip_benchmark", {"multilabel": True}, path="voc2007", dataset="voc2007_multilabel"),
        "primary": "mean_average_precision",
    },
    "noise": task(RETRIEVE, "synthetic", images=8, size=40, words=6),
    "noise_captions": {
        **task(CAPTION, "synthetic", {"metrics": ["BLEU@4"], **BEAMS}, images=4, size=40, words=6),
        "primary": "BLEU@4",
    },
    "weather": task(CLASSIFY, "emoji", target="subgroup", group="travel-places"),
    "csv_labels": task(
        CLASSIFY, "csv", {"templates": "data/template.txt"}, path="tables/labels.csv", label_key="kind", caption_key=""
    ),
    "tsv": task(RETRIEVE, "tsv", path="tables/captions.tsv"),
    "negatives_bad": task(SELECT, "jsonl", path="tables/negatives_bad.jsonl", negative_key="not"),
    "negatives_bad_likelihood": task(
        SELECT,
        "jsonl",
        {"scoring": "likelihood_per_token"},
        path="tables/negatives_bad.jsonl",
        negative_key="not",
    ),
    "tsv_captions": task(CAPTION, "tsv", FEW_WORDS, path="tables/captions.tsv"),
}
BROKEN = ("csv_labels", "tsv", "tsv_captions", "negatives_bad", "negatives_bad_likelihood")
"""Tasks that hold an image that cannot be read."""

QUICK = ("folder_names", "karpathy", "nocaps_cider", "wds_several", "sugar_crepe", "winoground_likelihood")
"""A task of each kind for the fast tests."""


TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
"""An architecture whose weights are drawn at random."""

STANDARD = (
    "sun397", "cars", "fgvc_aircraft", "dtd", "pets", "eurosat", "gtsrb", "mnist", "renderedsst2", "fer2013",
    "resisc45",
)  # fmt: skip
"""Shipped tasks with files as they are published, small ones (of those without a check of MD5 sums)."""


def write_standard(root: Path) -> list[str]:
    """Write the files of STANDARD, and return the tasks' names."""
    for name in STANDARD:
        FORMATS[name].write(root / name if name in ("fer2013", "resisc45") else root)
    return list(STANDARD)


def write_sets(root: Path) -> None:
    """Write all data sets below a folder."""
    for writer in WRITERS:
        writer(root)


def write_task(name: str, table: dict[str, Any], folder: Path = Path("tasks")) -> str:
    """Write a task file and return its path. Its name is no shipped task's."""
    name = f"g_{name}"
    lines = [f"name = {json.dumps(name)}", "version = 1", f'summary = "the golden {name}"']
    lines += [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key in ("data", "params"):
        if table.get(key):
            lines += [f"[{key}]", *(f"{field} = {json.dumps(value)}" for field, value in table[key].items())]
    return str(write(folder / f"{name}.toml", "\n".join(lines) + "\n"))
