"""Plans of unchanged data make no Example; whatever a data set was read from is noticed when it changes."""

import ast
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from pydantic import JsonValue

import cocabench
from cocabench.core.cache import MemoryCache
from cocabench.core.errors import CocabenchError, DataError
from cocabench.core.types import Machine
from cocabench.data import inputs
from cocabench.data.folders import ImageFolder
from cocabench.data.images import file_of
from cocabench.kinds.classification import Classification
from cocabench.run import outline, prepare
from cocabench.run.prepare import Data, Settings
from cocabench.specs.registry import read_tasks
from tests.data import standard_sets
from tests.data.drawing import draw, encoded, write, write_json, write_tar

DATA = Path(cocabench.__file__).parent / "data"


def task_file(folder: Path, loader: str, params: str = 'templates = "cifar10"', kind: str = "classification") -> Path:
    one = "mean_average_precision_counted" if "counted_for" in params else "acc1"
    primary = {"classification": one, "retrieval": "t2i_recall@5", "image_caption_selection": "acc"}[kind]
    return write(
        folder / "t.toml",
        f'name = "t"\nversion = 1\nevaluator = "{kind}"\nsummary = "s"\nprimary = "{primary}"\ngroups = ["mine"]\n'
        f"[data]\n{loader}\n[params]\n{params}\n",
    )


@dataclass
class Planned:
    """Prepares a task again and again with one cache."""

    root: Path
    cache: MemoryCache

    def prepared(self, machine: Machine = prepare.HERE, **settings: object) -> Data:
        (task,) = read_tasks(self.root / "t.toml")
        return prepare.prepare(
            task,
            Settings(data_root=self.root, **settings),
            machine=machine,
            cache=self.cache,  # type: ignore[arg-type]
        )

    def is_kept(self, data: Data) -> bool:
        return "loaded" not in vars(data) and len(self.cache.spaces.get(outline.OUTLINES, {})) > 0


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each data set that is read."""
    names: list[str] = []
    original = prepare._built

    def counted(task, loader, settings):
        names.append(task.name)
        return original(task, loader, settings)

    monkeypatch.setattr(prepare, "_built", counted)
    return names


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    monkeypatch.setattr(inputs, "SETTLED_S", -10.0)  # files are not old enough else
    monkeypatch.setattr("cocabench.core.signature.SETTLED_S", -10.0)
    return Planned(tmp_path, MemoryCache())


def folders(root: Path) -> None:
    """Write an image folder: a class list, a nested folder, a folder that is a link."""
    for name in ("cat/1.png", "cat/deep/2.png", "dog/1.png", "cat/notes.txt"):
        draw(root / "set" / "val" / name)
    draw(root / "elsewhere" / "x.png")
    (root / "set" / "val" / "cow").symlink_to(root / "elsewhere")
    write_json(root / "set" / "names.json", {"cat": "a cat", "dog": "a dog", "cow": "a cow", "ant": "an ant"})
    write(root / "words.txt", "{}, a photo\n")
    loader = 'loader = "imagefolder"\npath = "set"\nsplit = "val"\nclasses = "names.json"'
    task_file(root, loader, f'templates = "{root / "words.txt"}"')


def test_unchanged_data_are_not_read_again_and_planned_alike(planned: Planned, built: list[str]) -> None:
    folders(planned.root)
    cold = planned.prepared()
    warm = planned.prepared()
    assert built == ["t"]
    assert planned.is_kept(warm)
    assert warm.outline == cold.outline
    assert (warm.protocol, warm.notes, warm.versions) == (cold.protocol, cold.notes, cold.versions)
    assert warm.outline.work == {"images": 4, "texts": 4, "captions": 0}
    assert "3 classes" not in str(warm.outline.said)
    assert any("without images, such as 'an ant'" in note.text for note in warm.outline.said)
    assert [example.id for example in warm.dataset.examples] == [example.id for example in cold.dataset.examples]
    assert built == ["t", "t"], "only now"
    assert warm.pictures(planned.cache) == cold.pictures(None)
    assert warm.metrics == cold.metrics


def replaced(path: Path, colour: str) -> None:
    """Replace a file by another of the same size, with an older time."""
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(encoded(colour, kind="BMP")[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(other, (1, 1))
    other.replace(path)
    assert path.stat().st_size == before.st_size


def rewritten(path: Path) -> None:
    """Change a byte in place and set the time back."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def retargeted(link: Path, to: Path) -> None:
    link.unlink()
    link.symlink_to(to)


CHANGES: dict[str, Callable[[Path], object]] = {
    "replaced, same size, older": lambda root: replaced(root / "set/val/cat/1.png", "blue"),
    "rewritten, same size and time": lambda root: rewritten(root / "set/val/cat/1.png"),
    "added": lambda root: draw(root / "set/val/dog/2.png"),
    "removed": lambda root: (root / "set/val/cat/1.png").unlink(),
    "renamed": lambda root: (root / "set/val/cat/1.png").rename(root / "set/val/cat/3.png"),
    "swapped": lambda root: [
        (root / "set/val" / one).rename(root / "set/val" / two)
        for one, two in (("cat/1.png", "x"), ("dog/1.png", "cat/1.png"), ("x", "dog/1.png"))
    ],
    "nested folder": lambda root: draw(root / "set/val/cat/deep/3.png"),
    "nested folder renamed": lambda root: (root / "set/val/cat/deep").rename(root / "set/val/dog/deep"),
    "in the link's folder": lambda root: draw(root / "elsewhere/y.png"),
    "link's target": lambda root: [
        draw(root / "third/x.png"),
        retargeted(root / "set/val/cow", root / "third"),
    ],
    "class list": lambda root: write_json(
        root / "set/names.json", {"cat": "a cat", "dog": "a dog", "cow": "a bull", "ant": "an ant"}
    ),
    "templates": lambda root: write(root / "words.txt", "{}, a paint\n"),
    "file that may be an image": lambda root: write(root / "set/val/dog/4.avif", "x"),
    "task file": lambda root: write(
        root / "t.toml", (root / "t.toml").read_text().replace("version = 1", "version = 2")
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(change: str, planned: Planned, built: list[str]) -> None:
    folders(planned.root)
    before = planned.prepared()
    CHANGES[change](planned.root)
    after = planned.prepared()
    assert built == ["t", "t"]
    fresh = Planned(planned.root, MemoryCache()).prepared()
    assert after.outline == fresh.outline != before.outline


@pytest.mark.parametrize("change", ["version", "code", "packages", "limit", "machine", "root", "max pixels"])
def test_what_else_can_move_an_outline_is_in_its_key(
    change: str, planned: Planned, built: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders(planned.root)
    planned.prepared()
    settings: dict[str, object] = {"limit": 2} if change == "limit" else {}
    machine = Machine(device="cuda") if change == "machine" else prepare.HERE
    if change == "version":
        monkeypatch.setattr(outline, "__version__", "99")
    elif change in ("code", "packages"):
        monkeypatch.setattr(outline, f"_{change}", lambda: "other")
    elif change == "max pixels":
        monkeypatch.setenv("COCABENCH_MAX_PIXELS", "5")
    elif change == "root":
        shutil.copytree(tmp_path / "set", tmp_path / "more" / "set", symlinks=True)
        settings = {}
        (task,) = read_tasks(tmp_path / "t.toml")
        prepare.prepare(task, Settings(data_root=tmp_path / "more"), cache=planned.cache)
        assert built == ["t", "t"]
        return
    planned.prepared(machine, **settings)
    assert built == ["t", "t"]


def test_the_code_stamp_changes_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "package" / "__init__.py", "")
    monkeypatch.setattr(outline, "PACKAGE", file.parent)
    seen = [outline._code.__wrapped__()]
    write(tmp_path / "package" / "__pycache__" / "x.pyc", "compiled")
    assert outline._code.__wrapped__() == seen[0]
    write(tmp_path / "package" / "data" / "classnames.json", "{}")
    assert outline._code.__wrapped__() != seen[0]


def test_files_too_recent_to_be_sure_of_are_not_kept(
    planned: Planned, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders(planned.root)
    monkeypatch.setattr(inputs, "SETTLED_S", 2.0)
    planned.prepared()
    planned.prepared()
    assert built == ["t", "t"]
    assert outline.OUTLINES not in planned.cache.spaces


@pytest.mark.parametrize("what", ["names.json", "val/cat/1.png"])
def test_what_vanishes_while_it_is_read_is_not_kept(
    what: str, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its absence would else be stamped as what was read."""
    folders(planned.root)
    time.sleep(0.1)
    monkeypatch.setattr(inputs, "SETTLED_S", 0.05)  # file systems round times down to the clock's tick
    original = ImageFolder.build

    def build(self, root, *, download=False):
        found = original(self, root, download=download)
        (root / "set" / what).unlink()
        return found

    monkeypatch.setattr(ImageFolder, "build", build)
    with suppress(CocabenchError):
        planned.prepared()
    assert outline.OUTLINES not in planned.cache.spaces


def test_data_that_change_after_the_plan_do_not_run_under_its_signature(planned: Planned) -> None:
    folders(planned.root)
    planned.prepared()
    warm = planned.prepared()
    replaced(planned.root / "set/val/cat/1.png", "blue")
    with pytest.raises(DataError, match="its files changed since the run was planned; run it again"):
        len(warm.dataset)
    assert len(planned.prepared().dataset) == 4, "and then it runs"


def test_data_of_plugins_are_read_each_time(
    planned: Planned, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders(planned.root)
    monkeypatch.setattr(ImageFolder, "__module__", "my_bench.data")
    planned.prepared()
    planned.prepared()
    assert built == ["t", "t"]


@pytest.mark.parametrize(
    ("protocol", "wanted"),
    [
        (lambda machine: {"half": machine.threads // 2}, {"half": 2}),
        (lambda machine: {"bits": math.log2(machine.threads)}, {"bits": 2}),
        (lambda machine: {"most": min(machine.threads, 8)}, {"most": 4}),
        (lambda machine: {"threads": machine.threads} if machine.threads > 1 else {}, {"threads": 4}),
        (lambda machine: {"alone": True} if machine.threads == 1 else {}, {}),
    ],
)
def test_a_kind_computes_with_the_number_of_threads(
    protocol: Callable[[Machine], dict[str, JsonValue]],
    wanted: dict[str, JsonValue],
    planned: Planned,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders(planned.root)
    monkeypatch.setattr(Classification, "protocol", lambda _, data, machine: protocol(machine))
    monkeypatch.setattr(prepare, "threads", lambda: 4)
    for threads in (None, 4):
        data = planned.prepared(Machine("here", threads))
        assert wanted.items() <= data.protocol.items()
        assert data.outline.varying, "no outline is kept, which would be another machine's"
    assert outline.OUTLINES not in planned.cache.spaces


def test_a_damaged_or_old_value_is_not_an_answer(planned: Planned, built: list[str]) -> None:
    folders(planned.root)
    planned.prepared()
    ((key, value),) = planned.cache.spaces[outline.OUTLINES].items()
    planned.cache.spaces[outline.OUTLINES][key] = value.replace(b'"stamp": "', b'"stamp": "0')
    planned.prepared()
    assert built == ["t", "t"]


# Every file of every loader: what changes a data set changes its stamp.


def table(root: Path) -> Path:
    draw(root / "images" / "a.png", root / "images" / "b.png")
    write(root / "rows.csv", "filepath,label\nimages/a.png,one\nimages/b.png,two\n")
    write(root / "list.txt", "one\ntwo\nthree\n")
    return task_file(root, 'loader = "csv"\npath = "rows.csv"\nlabel_key = "label"\nclasses = "list.txt"')


def lines(root: Path) -> Path:
    draw(root / "images" / "a.png", root / "images" / "b.png")
    write(
        root / "rows.jsonl", '{"filepath": "images/a.png", "title": "x"}\n{"filepath": "images/b.png", "title": "y"}\n'
    )
    return task_file(root, 'loader = "jsonl"\npath = "rows.jsonl"', "", "retrieval")


def shards(root: Path) -> Path:
    for k in range(2):
        write_tar(root / f"w/test/{k}.tar", {f"s{k}.png": encoded(), f"s{k}.cls": str(k)})
    write(root / "w/test/nshards.txt", "2\n")
    write(root / "w/classnames.txt", "one\ntwo\n")
    write(root / "w/zeroshot_classification_templates.txt", "a {c}\n")
    write(root / "w/dataset_type.txt", "classification\n")
    return task_file(root, 'loader = "webdataset"\npath = "w"', "")


def coco(root: Path) -> Path:
    draw(root / "coco/val/1.jpg", root / "coco/val/2.jpg", root / "coco/val/unused.jpg")
    images = [{"id": k, "file_name": f"{k}.jpg"} for k in (1, 2)]
    write_json(
        root / "coco/annotations/c.json",
        {"images": images, "annotations": [{"image_id": k, "caption": f"c {k}"} for k in (1, 2)]},
    )
    return task_file(root, 'loader = "coco"\npath = "coco"\nannotations = "c.json"', "", "retrieval")


def karpathy(root: Path) -> Path:
    draw(root / "f/images/1.jpg", root / "f/images/2.jpg")
    items = [{"filename": f"{k}.jpg", "split": "test", "sentences": [{"raw": f"c {k}"}]} for k in (1, 2)]
    write_json(root / "karpathy/dataset_f.json", {"images": items})
    return task_file(root, 'loader = "karpathy"\npath = "f"\nannotations = "dataset_f.json"', "", "retrieval")


def flickr8k(root: Path) -> Path:
    draw(root / "f8/Images/a_1.jpg", root / "f8/Images/b_2.jpg")
    write(root / "f8/text/Flickr8k.token.txt", "".join(f"{n}.jpg#0\tc {n}\n" for n in ("a_1", "b_2", "c_3")))
    write(root / "f8/text/Flickr_8k.testImages.txt", "a_1.jpg\nb_2.jpg\n")
    return task_file(root, 'loader = "flickr8k"\npath = "f8"', "", "retrieval")


def sugar_crepe(root: Path) -> Path:
    draw(root / "coco/val2017/1.jpg")
    rows = {"0": {"filename": "1.jpg", "caption": "x", "negative_caption": "y"}}
    write_json(root / "sugar/data/add_att.json", rows)
    loader = 'loader = "sugar_crepe"\npath = "sugar"\nsubset = "add_att"'
    return task_file(root, loader, "", "image_caption_selection")


def winoground(root: Path) -> Path:
    draw(root / "wino/images/a.png", root / "wino/images/b.png")
    write(
        root / "wino/examples.jsonl", '{"id": 1, "image_0": "a", "image_1": "b", "caption_0": "x", "caption_1": "y"}\n'
    )
    return task_file(root, 'loader = "winoground"\npath = "wino"', "", "image_caption_selection")


def aro(root: Path) -> Path:
    draw(root / "aro/images/1.jpg")
    row = {"image_path": "1.jpg", "relation_name": "on", "true_caption": "x", "false_caption": "y"}
    write_json(root / "aro/visual_genome_relation.json", [row | {f"bbox_{side}": 2 for side in "xywh"}])
    return task_file(root, 'loader = "aro"\npath = "aro"\nsubset = "relation"', "", "image_caption_selection")


def valse(root: Path) -> Path:
    draw(root / "valse/images/1.jpg")
    row = {"image_file": "1.jpg", "caption": "x", "foil": "y", "mturk": {"caption": 2}}
    write_json(root / "valse/data/foil-it.json", {"0": row})
    return task_file(root, 'loader = "valse"\npath = "valse"\nsubset = "foil-it"', "", "image_caption_selection")


def negbench(root: Path) -> Path:
    draw(root / "neg/voc2007/1.jpg")
    header = "image_path,correct_answer,caption_0,caption_1,caption_2,caption_3\n"
    write(root / "neg/VOC2007_mcq_llama3.1_rephrased.csv", f"{header}1.jpg,0,a,b,c,d\n")
    return task_file(root, 'loader = "negbench"\npath = "neg"\nsubset = "voc2007"', "", "image_caption_selection")


def cola(root: Path) -> Path:
    draw(root / "cola/images/1.jpg", root / "cola/images/2.jpg")
    write_json(root / "cola/data/COLA_multiobjects_matching_benchmark.json", [["u/1.jpg", "x", "u/2.jpg", "y"]])
    return task_file(root, 'loader = "cola"\npath = "cola"', "", "image_caption_selection")


def cola_single(root: Path) -> Path:
    draw(root / "cola/images/1.jpg")
    write_json(root / "cola/data/COLA_singleobjects_benchmark_GQA.json", [["x", "y"], [["u/1.jpg", [1, 0], [1, 1]]]])
    return task_file(root, 'loader = "cola_single"\npath = "cola"', 'multilabel = true\ncounted_for = "hard"')


def mmvp(root: Path) -> Path:
    draw(root / "mmvp/MLLM_VLM Images/T/1.jpg", root / "mmvp/MLLM_VLM Images/T/2.jpg")
    write(root / "mmvp/Questions.csv", "q,t,s\n1,T,x\n2,T,y\n")
    return task_file(root, 'loader = "mmvp"\npath = "mmvp"', "", "image_caption_selection")


def aro_order(root: Path) -> Path:
    draw(root / "aro/images/1.jpg")
    write_json(root / "aro/order.json", [{"image": "1.jpg", "caption_options": ["x", "b", "c", "d", "e"]}])
    loader = 'loader = "aro_order"\npath = "aro"\nannotations = "order.json"'
    return task_file(root, loader, "", "image_caption_selection")


def urban1k(root: Path) -> Path:
    for k in (1, 2):
        draw(root / f"u/image/{k}.jpg")
        write(root / f"u/caption/{k}.txt", f"x {k}\nmore\n")
    return task_file(root, 'loader = "urban1k"\npath = "u"', "", "retrieval")


def dci(root: Path) -> Path:
    write_json(root / "dci/splits.json", {"train": [], "valid": [], "test": ["a.json", "b.json"]})
    for name in "ab":
        entry = {"image": f"{name}.jpg", "short_caption": f"x {name}", "extra_caption": "y", "summaries": None}
        write_json(root / f"dci/complete/{name}.json", entry)
        draw(root / f"dci/photos/{name}.jpg")
    return task_file(root, 'loader = "dci"\npath = "dci"\nsplit = "test"', "", "retrieval")


def docci(root: Path) -> Path:
    rows = [{"example_id": k, "split": "test", "image_file": f"{k}.jpg", "description": f"x {k}"} for k in "ab"]
    write(root / "docci/docci_descriptions.jsonlines", "".join(f"{json.dumps(row)}\n" for row in rows))
    draw(root / "docci/images/a.jpg", root / "docci/images/b.jpg")
    return task_file(root, 'loader = "docci"\npath = "docci"\nsplit = "test"', "", "retrieval")


def textcaps(root: Path) -> Path:
    rows = [{"image_id": k, "caption_str": f"x {k}"} for k in "ab"]
    write_json(root / "t/TextCaps_0.1_val.json", {"data": rows})
    draw(root / "t/train_images/a.jpg", root / "t/train_images/b.jpg")
    return task_file(root, 'loader = "textcaps"\npath = "t"', "", "retrieval")


def chair(root: Path) -> Path:
    draw(root / "f/images/1.jpg")
    items = [{"filename": "1.jpg", "cocoid": 1, "split": "test", "sentences": [{"raw": "a x"}]}]
    write_json(root / "f/dataset_f.json", {"images": items})
    write(root / "f/synonyms.txt", "dog, puppy\n")
    objects = {"categories": [{"id": 3, "name": "dog"}], "annotations": [{"image_id": 1, "category_id": 3}]}
    write_json(root / "f/annotations/i.json", {"images": [{"id": 1}], **objects})
    loader = 'loader = "karpathy"\npath = "f"\nannotations = "dataset_f.json"\ninstances = "i.json"'
    return task_file(root, loader, "", "retrieval")


def imagenet_o(root: Path) -> Path:
    standard_sets.imagenet_o(root / "o")
    return task_file(
        root, 'loader = "imagenet"\npath = "o"\nsplit = "."\nsynsets = "imagenet-o"', 'classnames = "imagenet-o"'
    )


WRITERS = (
    table,
    lines,
    shards,
    coco,
    karpathy,
    flickr8k,
    sugar_crepe,
    winoground,
    imagenet_o,
    aro,
    valse,
    negbench,
    cola,
    cola_single,
    mmvp,
    aro_order,
    urban1k,
    dci,
    docci,
    textcaps,
    chair,
)


def outcome(root: Path, cache: MemoryCache) -> str:
    try:
        return Planned(root, cache).prepared().outline.to_json()
    except CocabenchError as error:
        return str(error)


@pytest.mark.parametrize("write_set", WRITERS)
def test_every_file_that_matters_is_an_input(write_set: Callable[[Path], Path], planned: Planned) -> None:
    """With each file changed, removed or given company, a plan says what one without a cache says."""
    root, kept = planned.root, planned.cache
    write_set(root)
    first = outcome(root, kept)
    assert first.startswith("{"), first
    assert kept.spaces[outline.OUTLINES], "kept"
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "t.toml"]
    chosen = files[:6] + files[-2:]
    for path in dict.fromkeys(chosen):
        content = path.read_bytes()
        for change in ("remove", "bytes", "beside", "text"):
            beside = path.with_name(f"zz{path.suffix}")
            if change == "remove":
                path.unlink()
            elif change == "bytes":
                path.write_bytes(content[:-1] + b"\n\n")
            elif change == "beside":
                beside.write_bytes(content)
            else:
                path.write_bytes(content.replace(b"x", b"q").replace(b"one", b"ten"))
            assert outcome(root, kept) == outcome(root, MemoryCache()), f"{path.name}: {change}"
            beside.unlink(missing_ok=True)
            path.write_bytes(content)
            assert outcome(root, kept) == outcome(root, MemoryCache()), f"{path.name}: {change} undone"


FINDS = {"is_file", "is_dir", "exists", "glob", "rglob", "iterdir", "scandir", "walk", "listdir"}
READS = {"open_regular", "loadmat"}
EXEMPT = {
    "inputs.py": "stamps",
    "images.py": "images are added by their files",
    "builtin.py": "the package's own files: the code's stamp",
    "indexed.py": "clip-benchmark's: beyond",
    "fetch.py": "before a plan: what it fetches is read, and noted, by the loaders",
    "remote.py": "the files of its cache, as above",
    "overlap.py": "training shards, which no plan reads",
}
KNOWN = {
    "entry.is_dir()": "in a folder that is noted",
    "path.is_file()": "folders._listed noted the path before",
    "os.scandir(folder or '.')": "files.absent: names that are not there are noted one by one, the others are images",
    "folder.is_dir()": "files.absent, as above",
    "folder.rglob(f'{pattern}.arrow')": "composition._tables: beyond",
    "folder.rglob(f'*.{ending}')": "hub: beyond",
    "open_regular(self.file)": "tfds: the whole folder is noted",
    "open_regular(file)": "hub._schema: the file is noted where it is read",
    **dict.fromkeys(
        (
            "path.is_dir()",
            "os.scandir(path)",
            "path.exists()",
            "entry.is_dir(follow_symlinks=False)",
            "entry.is_file()",
        ),
        "clip_benchmark._refuse_pipes: before another package reads the folder, beyond",
    ),
    "self.location(root).exists()": "base.there: before a download",
}


def test_loaders_look_at_nothing_that_is_not_noted() -> None:
    """Each call that looks at a path has a note_… in it, or a reason above."""
    unnoted = []
    for path in sorted(DATA.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())) if path.name not in EXEMPT else ():
            if isinstance(node, ast.Call):
                name, call = getattr(node.func, "attr", getattr(node.func, "id", "")), ast.unparse(node)
                if name in FINDS | READS and "note_" not in call and call not in KNOWN:
                    unnoted.append(f"{path.name}:{node.lineno}: {call}")
    assert not unnoted, "note it (data.inputs), or say here why not"


def test_images_without_a_file_are_known_or_not(tmp_path: Path) -> None:
    from cocabench.data.builtin import NoiseImage
    from cocabench.data.images import BytesImage, CroppedImage, FileImage, OnWhiteImage, TarImage

    file = FileImage(tmp_path / "a.png")
    assert file_of(CroppedImage(OnWhiteImage(file), 2)) == str(tmp_path / "a.png")
    assert file_of(TarImage(tmp_path / "b.tar", "x", 0, 1)) == str(tmp_path / "b.tar")
    assert (file_of(BytesImage(b"", "x")), file_of(NoiseImage(1, 2))) == ("", None)


def test_captions_come_first_where_images_are_shared_only(planned: Planned) -> None:
    """The folders tell most pairs of tasks apart; then no data set is read for it."""
    folders(planned.root)
    planned.prepared()
    warm = planned.prepared()
    assert warm.outline.folders == tuple(
        sorted(str(planned.root / "set/val" / name) for name in ("cat", "cat/deep", "cow", "dog"))
    )
    assert planned.is_kept(warm)


def test_a_picture_is_read_only_if_its_file_changed(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(planned.root)
    planned.prepared().pictures(planned.cache)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("read"))
    warm = planned.prepared()
    assert warm.pictures(planned.cache).by_id
    assert warm.known_contents(planned.cache)
    assert planned.prepared().known_contents(planned.cache) == warm.known_contents(planned.cache)
