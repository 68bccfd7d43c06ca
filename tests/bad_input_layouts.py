# ruff: noqa: E501 — tables of files
"""Good data sets as their authors lay them out, small, by the writers of the loaders' own tests."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from cocabench.data import eccv
from tests.bad_input_sets import RUN, _json, _npy, _table, _tar, image
from tests.bad_inputs import Target
from tests.conftest import task
from tests.data import (
    standard_sets,
    test_captions,
    test_imagenet,
    test_long_captions,
    test_questions,
    test_translations,
)
from tests.data.drawing import draw, write, write_json
from tests.data.test_captions import TOKENS
from tests.data.test_foils import FOIL, HEADER, RELATION, two_colours
from tests.data.test_imagenet import TRUE
from tests.data.test_questions import ten
from tests.data.test_translations import CAPTIONS, XTD
from tests.kinds import test_extended, test_groups_of_images


class Layout(NamedTuple):
    """A published set, small. write: writes it below a data root. part: keys of the task outside its tables."""

    kind: tuple[str, str]
    data: str
    write: Callable[[Path], object]
    params: str = ""
    coca: bool = False
    part: str = ""


def layouts(clip: str, coca: str) -> dict[str, Target]:
    """Sets as their authors lay them out, by the writers of the loaders' own tests."""
    eccv.package_data = lambda: Path("tables").resolve()
    found = {}
    for name, layout in (*_found(), *_chosen(), *_asked(), *_named(), *_spoken()):
        with tempfile.TemporaryDirectory() as top:
            layout.write(Path(top))
            files = {
                path.relative_to(top).as_posix(): path.read_bytes()
                for path in sorted(Path(top).rglob("*"))
                if path.is_file()
            }
        kind, primary = layout.kind
        text = (
            layout.part.encode()
            + task("x", kind, primary, layout.data, layout.params).replace('loader = "tsv"\n', "", 1).encode()
        )
        words = f"{RUN} {coca if layout.coca else clip}"
        others = tuple(path for path in files if not path.endswith((".jpg", ".png", ".JPEG")))
        images = tuple(path for path in files if path not in others)[:2]
        damaged = (*others, *others, "t.toml", *images)  # an image is one like another
        found[name] = Target({**files, "t.toml": text}, damaged, (words, f"{words} --dry-run"))
    return found


FIND, CHOOSE, NAME, TELL = ("retrieval", "t2i_recall@1"), ("image_caption_selection", "acc"), ("classification", "acc1"), ("captioning", "ROUGE-L")  # fmt: skip
KS = "ks = [1]"
SHORT = 'metrics = ["ROUGE-L"]\nseq_len = 6\nnum_beams = 2\nnum_beam_groups = 1'
ONE = 'templates = "./one.json"'


def _one(root: Path) -> None:
    write(root / "one.json", '["a {c}"]')


def _found() -> Iterator[tuple[str, Layout]]:
    """Sets of captions."""

    def flickr8k(root: Path) -> None:
        write(root / "f/Flickr8k.token.txt", TOKENS)
        write(root / "f/Flickr_8k.testImages.txt", "1_a.jpg\n2_b.jpg\n")
        draw(root / "f/1_a.jpg", root / "f/2_b.jpg")

    def urban1k(root: Path) -> None:
        for k in (1, 2):
            write(root / f"u/caption/{k}.txt", f"A street {k}.\n")
            draw(root / f"u/image/{k}.jpg")

    def docci(root: Path) -> None:
        rows = [
            {"example_id": f"t{k}", "split": "test", "image_file": f"{k}.jpg", "description": f"d {k}"}
            for k in range(2)
        ]
        write(root / "d/docci_descriptions.jsonlines", "\n".join(map(json.dumps, rows)))
        draw(*(root / f"d/images/{k}.jpg" for k in range(2)))

    def textcaps(root: Path) -> None:
        rows = [{"image_id": k, "caption_str": "a stop sign"} for k in ("0a", "1b")]
        write_json(root / "t/TextCaps_0.1_val.json", {"data": rows})
        draw(root / "t/train_images/0a.jpg", root / "t/train_images/1b.jpg")

    def exported(root: Path) -> None:
        test_translations.xtd10(root)
        (root / "xtd10/MIC/test_1kcaptions_de.txt").unlink()
        content = {
            "image_paths": [f"images/{name}" for name in XTD],
            "annotations": CAPTIONS["de"],
            "indicies": [0, 1, 2],
        }
        write_json(root / "xtd10-de.json", content)

    def positives(root: Path) -> None:
        test_extended.tables(root / "tables")
        test_extended.coco(root)

    lines = 'loader = "caption_lines"\npath = "{}"\nindex = "{}"\ncaptions = "{}"'
    xtd = (
        lines.format("xtd10", "test_image_names.txt", "test_1kcaptions_{language}.txt")
        + '\nexported = "xtd10-{language}.json"'
    )
    german = 'languages = ["de"]\n'
    yield "Flickr8k", Layout(FIND, 'loader = "flickr8k"\npath = "f"\nimages = "."', flickr8k, KS)
    yield "Urban1k", Layout(FIND, 'loader = "urban1k"\npath = "u"', urban1k, f"{KS}\nlengths = true")
    yield "DCI", Layout(FIND, 'loader = "dci"\npath = "dci"', test_long_captions.dci, KS)
    yield "sDCI", Layout(FIND, 'loader = "dci"\npath = "dci"\ntext = "summary"', test_long_captions.dci, KS)
    yield "DOCCI", Layout(FIND, 'loader = "docci"\npath = "d"', docci, KS)
    yield "TextCaps", Layout(FIND, 'loader = "textcaps"\npath = "t"', textcaps, KS)
    yield "XTD10", Layout(FIND, xtd, test_translations.xtd10, KS, part=german)
    yield "exported captions", Layout(FIND, xtd, exported, KS, part=german)
    yield (
        "Flickr30k-200",
        Layout(FIND, lines.format("xtd200", "test_image_names.txt", "deu_Latn.txt"), test_translations.lines_200, KS),
    )
    yield (
        "Crossmodal-3600",
        Layout(
            FIND,
            'loader = "crossmodal3600"\npath = "xm3600"\nlanguage = "{language}"',
            test_translations.crossmodal,
            KS,
            part=german,
        ),
    )
    table = 'loader = "flickr_table"\npath = "flickr30k"\nannotations = "flickr30k_test_zh.txt"'
    yield "Flickr30k in Chinese", Layout(FIND, table, test_translations.flickr_zh, KS)
    yield (
        "ECCV Caption",
        Layout(("extended_retrieval", "t2i_map@r"), 'loader = "eccv_caption"\npath = "coco"', positives, KS),
    )


def _chosen() -> Iterator[tuple[str, Layout]]:
    """Sets of captions with foils, and of cues with candidates."""

    def aro(root: Path) -> None:
        write_json(
            root / "aro/visual_genome_relation.json", [RELATION, RELATION | {"true_caption": "a", "false_caption": "b"}]
        )
        two_colours(root / "aro/images/2413371.jpg")

    def order(root: Path) -> None:
        options = ["a b c", "b a c", "a c b", "c a b", "c b a"]
        write_json(root / "aro/coco_order.json", [{"image": "v/1.jpg", "caption_options": options}])
        draw(root / "aro/images/v/1.jpg")

    def negbench(root: Path) -> None:
        draw(root / "negbench/val2017/000000000139.jpg")
        rows = f'{HEADER}data/val2017/000000000139.jpg,2,"a, b",no b,right,c,negative'
        write(root / "negbench/images/COCO_val_mcq_llama3.1_rephrased.csv", rows)

    def valse(root: Path) -> None:
        write_json(root / "valse/data/existence.json", dict.fromkeys("ab", FOIL))
        draw(root / "valse/visual7w/v7w_2335339.jpg")

    def cola(root: Path) -> None:
        row = ["https://x.edu/vg/1.jpg", "red cup", "https://x.edu/vg/2.jpg", "blue cup"]
        write_json(root / "cola/data/COLA_multiobjects_matching_benchmark.json", [row, row])
        draw(root / "cola/images/1.jpg", root / "cola/images/2.jpg")

    def single(root: Path) -> None:
        entries = [[f"vg/{k}.jpg", {}, [k - 1, 1], [1, k - 1]] for k in (1, 2)]
        write_json(root / "cola/a.json", {"labels": ["red cup", "blue cup"], "data": entries})
        draw(root / "cola/images/1.jpg", root / "cola/images/2.jpg")

    def mmvp(root: Path) -> None:
        write(root / "mmvp/Questions.csv", 'Question ID,Type,Statement\n1,Texts,"a cup, full"\n2,Texts,a cup\n')
        draw(*(root / "mmvp/MLLM_VLM Images/Texts" / f"{k}.jpg" for k in (1, 2)))

    def colorswap(root: Path) -> None:
        row = {
            "id": 0,
            "caption_1": "a red cat",
            "caption_2": "a blue cat",
            **{f"image_{k}": f"i/{k}.png" for k in (1, 2)},
        }
        write_json(root / "c/test.json", [row])
        draw(root / "c/i/1.png", root / "c/i/2.png")

    def winogavil(root: Path) -> None:
        names = list("abcdefghij")
        cells = [{"bytes": image("PNG", k), "path": None} for k in range(10)]
        rows = [
            {"candidates": names, "associations": ["b", "c"], "cue": cue, "candidate_images": cells}
            for cue in ("Tree", "bee")
        ]
        write(root / "w/test.parquet", _table(rows, "parquet"))

    negatives = 'scoring = "likelihood"'
    yield "ARO relation", Layout(CHOOSE, 'loader = "aro"\npath = "aro"\nsubset = "relation"', aro)
    yield "ARO order", Layout(CHOOSE, 'loader = "aro_order"\npath = "aro"\nannotations = "coco_order.json"', order)
    yield (
        "NegBench",
        Layout(CHOOSE, 'loader = "negbench"\npath = "negbench"\nsubset = "coco"', negbench, negatives, coca=True),
    )
    yield "VALSE", Layout(CHOOSE, 'loader = "valse"\npath = "valse"\nsubset = "existence"', valse)
    yield "COLA", Layout(CHOOSE, 'loader = "cola"\npath = "cola"', cola)
    hard = 'multilabel = true\ncounted_for = "hard"'
    sought = ("classification", "mean_average_precision_counted")
    yield (
        "COLA's single objects",
        Layout(sought, 'loader = "cola_single"\npath = "cola"\nannotations = "a.json"', single, hard),
    )
    yield "MMVP", Layout(CHOOSE, 'loader = "mmvp"\npath = "mmvp"', mmvp)
    yield (
        "ColorSwap",
        Layout(CHOOSE, 'loader = "winoground"\npath = "c"\nannotations = "test.json"\nimages = "."', colorswap),
    )
    yield "WinoGAViL", Layout(("association", "jaccard_10-12"), 'loader = "winogavil"\npath = "w"', winogavil)


def _asked() -> Iterator[tuple[str, Layout]]:
    """Sets of questions."""

    def pope(root: Path) -> None:
        rows = [
            {"question_id": k, "image": "1.jpg", "text": f"Is there a thing {k}?", "label": label}
            for k, label in enumerate(("yes", "no"))
        ]
        write(root / "pope/random.json", "\n".join(map(json.dumps, rows)))
        draw(root / "pope/val2014/1.jpg")

    def scienceqa(root: Path) -> None:
        row = {
            "question": "Which?",
            "choices": ["A", "B"],
            "answer": 1,
            "image": "image.png",
            "split": "test",
            "subject": "x",
        }
        write_json(root / "s/problems.json", {"7": row, "9": row})
        draw(root / "s/test/7/image.png", root / "s/test/9/image.png")

    def vizwiz(root: Path) -> None:
        row = {
            "image": "a.jpg",
            "question": "What?",
            "answers": ten("red", "dark red"),
            "answer_type": "other",
            "answerable": 1,
        }
        write_json(root / "v/val.json", [row])
        draw(root / "v/val/a.jpg")

    def own(root: Path) -> None:
        write(root / "q.csv", "image,question,answers\na.png,Which colour?,red|dark red\nb.png,Why?,so\n")
        draw(root / "a.png", root / "b.png")

    opened = ("vqa", "vqa_accuracy")
    v2 = "\n".join(f'{key} = "{name}"' for key, name in test_questions.V2.items())
    yield (
        "VQAv2",
        Layout(
            opened, f'loader = "vqa"\npath = "vqav2"\n{v2}', test_questions.vqav2, 'template = "{question}"', coca=True
        ),
    )
    yield "GQA", Layout(opened, 'loader = "gqa"\npath = "gqa"', test_questions.gqa, 'agreement = "any"', coca=True)
    keys = 'images = "val2014"\nquestion_key = "text"\nanswer_key = "label"'
    yield (
        "POPE",
        Layout(
            ("vqa", "yes_no_accuracy"),
            f'loader = "questions"\npath = "pope/random.json"\n{keys}',
            pope,
            'form = "yes_no"\nscoring = "likelihood"',
            coca=True,
        ),
    )
    keys = 'image_path = "{split}/{id}/{image}"\nid_key = "id"\ntype_key = "subject"\nwhere = ["split", "test"]'
    yield (
        "ScienceQA",
        Layout(
            ("vqa", "choice_accuracy"),
            f'loader = "questions"\npath = "s/problems.json"\n{keys}',
            scienceqa,
            'form = "choices"\nscoring = "likelihood"',
            coca=True,
        ),
    )
    yield "VizWiz", Layout(opened, 'loader = "questions"\npath = "v/val.json"\nimages = "val"', vizwiz, coca=True)
    yield (
        "questions of a table",
        Layout(opened, 'loader = "questions"\npath = "q.csv"', own, 'agreement = "any"', coca=True),
    )


def _named() -> Iterator[tuple[str, Layout]]:
    """Sets of classes."""

    def objectnet(root: Path) -> None:
        _one(root)
        top = root / "o/objectnet-1.0"
        draw(*(top / "images" / name for name in ("tv/a.png", "backpack/c.png", "backpack/d.png")))
        write_json(top / "mappings/folder_to_objectnet_label.json", {"tv": "TV", "backpack": "Backpack"})
        write_json(top / "mappings/objectnet_to_imagenet_1k.json", {"TV": "television", "Backpack": "backpack"})

    def solution(root: Path) -> None:
        _one(root)
        rows = "".join(f'{stem},"{synset} 85 1 499 272 "\r\n' for stem, synset in TRUE.items())
        write(test_imagenet.flat(root) / "LOC_val_solution.csv", "ImageId,PredictionString\r\n" + rows)

    def kit(root: Path) -> None:
        _one(root)
        test_imagenet.devkit(test_imagenet.flat(root), test_imagenet.SHUFFLED)

    def hub(root: Path) -> None:
        _one(root)
        rows = [
            {"image": {"bytes": image("PNG", k), "path": None}, "label": k % 2, "text": f"a thing {k}"}
            for k in range(4)
        ]
        write(root / "h/data/test-00000-of-00001.parquet", _table(rows, "parquet"))
        write(root / "names.txt", "cat\ndog\n")

    def probed(root: Path) -> None:
        _one(root)
        for split in ("train", "test"):
            for k in range(4):
                write(root / f"p/{split}/{'ab'[k % 2]}/{split}{k}.png", image("PNG", k + 10 * (split == "test")))

    def faces(root: Path) -> None:
        write(root / "f/classnames.txt", "\n".join(test_groups_of_images.CLASSES))
        write(root / "f/zeroshot_classification_templates.txt", "race:a {c} face\ngender:a {c}\nage:a {c}\ntoxic:a {c}")
        write(root / "f/test/nshards.txt", "1")
        rows = [{"age": 0, "gender": k % 2, "race": k % 2, "race_binary": k % 2} for k in range(2)]
        members = {
            f"{k}.{end}": content
            for k, row in enumerate(rows)
            for end, content in (("jpg", image("JPEG", k)), ("npy", _npy(list(row.values()))), ("json", _json(row)))
        }
        write(root / "f/test/0.tar", _tar(members))

    for name in (
        "food101",
        "sun397",
        "cars",
        "fgvc_aircraft",
        "dtd",
        "pets",
        "flowers",
        "mnist",
        "stl10",
        "gtsrb",
        "pcam",
        "fer2013 as a table",
    ):
        form = standard_sets.FORMATS[name]
        if form.checked:
            import_module(form.checked).check_integrity = lambda *_, **__: True  # type: ignore[attr-defined]
        data = f'loader = "clip_benchmark"\npath = "x"\ndataset = "{name.partition(" ")[0]}"\nsplit = "test"'
        yield name, Layout(NAME, data, lambda root, write=form.write: (_one(root), write(root / "x")), ONE)  # type: ignore[misc]
    yield "ObjectNet", Layout(NAME, 'loader = "objectnet"\npath = "o"', objectnet, ONE)
    yield "ImageNet of Kaggle", Layout(NAME, 'loader = "imagenet"\npath = "in"', solution, ONE)
    yield "ImageNet with the devkit", Layout(NAME, 'loader = "imagenet"\npath = "in"', kit, ONE)
    yield (
        "table of the hub",
        Layout(NAME, 'loader = "hub"\npath = "h"\nlabel_key = "label"\nclasses = "./names.txt"', hub, ONE),
    )
    yield "captions of the hub", Layout(FIND, 'loader = "hub"\npath = "h"\ncaption_key = "text"', hub, KS)
    probing = 'shots = [1, "all"]\nseeds = [0]\nclassnames = ""\n'
    yield (
        "probe",
        Layout(("probe", "acc1"), 'loader = "imagefolder"\npath = "p"\nsplit = "test"', probed, probing + ONE),
    )
    keys = 'metadata = ["age", "gender", "race", "race_binary"]'
    yield "faces", Layout(("faces", "acc_race_avg"), f'loader = "webdataset"\npath = "f"\n{keys}', faces)


def _spoken() -> Iterator[tuple[str, Layout]]:
    """Captioning with objects, and measurements of speed."""
    chair = (
        'loader = "karpathy"\npath = "coco"\nannotations = "dataset_coco.json"\ninstances = "instances_val2014.json"'
    )
    yield "CHAIR", Layout(TELL, chair, lambda root: test_captions.TestInstances().write(root), SHORT, coca=True)
    synthetic = 'loader = "synthetic"\nimages = 2\nsize = 32'
    yield (
        "efficiency",
        Layout(("efficiency", "gflops"), synthetic, lambda root: None, "batch_size = 1\ntrain_batch_size = 1"),
    )
