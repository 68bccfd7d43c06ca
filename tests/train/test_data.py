"""Training files: a row or a sample per caption, as open_clip_train reads them."""

import json
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from cocabench.core.errors import BadImageError, DataError, UsageError
from cocabench.core.types import Dataset, Example
from cocabench.data.images import BytesImage, FileImage, OnWhiteImage
from cocabench.data.tables import Csv, Tsv
from cocabench.data.webdataset import WebDataset
from cocabench.train.data import build, check_sources, inputs, write_shards, write_table
from tests.conftest import Command
from tests.data.drawing import draw, encoded, write


def dataset(folder: Path, texts: list[tuple[str, ...]]) -> Dataset:
    files = [folder / f"{i}.{'png' if i % 2 else 'jpg'}" for i in range(len(texts))]
    draw(*files)
    return Dataset("d", "train", [Example(f.stem, FileImage(f), t) for f, t in zip(files, texts, strict=True)])


@pytest.mark.parametrize(("name", "reader"), [("t.csv", Csv), ("t.tsv", Tsv)])
def test_a_table_has_a_row_per_caption_and_loads_again(tmp_path: Path, name: str, reader: type[Csv]) -> None:
    found = dataset(tmp_path, [("a dog, brown", 'she said "hi"'), ("tab\there",)])
    assert write_table(found, tmp_path / name) == (2, 3, 0)
    again = reader(path=name).build(tmp_path)
    assert [(e.id, e.texts) for e in again.examples] == [(e.id, e.texts) for e in found.examples]


def test_the_trainer_reads_every_caption_as_it_stands(tmp_path: Path) -> None:
    """CsvDataset reads with pandas and tokenises str(value): a caption "None" would be trained on as "nan"."""
    captions = (*sorted(pd._libs.parsers.STR_NA_VALUES - {""}), "a\nb")
    write_table(dataset(tmp_path, [captions]), tmp_path / "t.csv")
    read = [str(value) for value in pd.read_csv(tmp_path / "t.csv", sep=",")["title"]]
    assert [text.strip() for text in read] == list(captions)


def test_packed_images_are_extracted_or_refused_with_advice(tmp_path: Path) -> None:
    jpeg = encoded(kind="JPEG")
    packed = BytesImage(jpeg, "x.tar:1")
    white = OnWhiteImage(BytesImage(encoded("#00000000", mode="RGBA"), "x.tar:2"))
    found = Dataset("d", "train", [Example("a/1", packed, ("one",)), Example("2", white, ("two",))])
    with pytest.raises(UsageError, match="--images DIR extracts them"):
        write_table(found, tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()
    write_table(found, tmp_path / "t.csv", images=tmp_path / "out")
    first, second = pd.read_csv(tmp_path / "t.csv")["filepath"]
    assert Path(first).read_bytes() == jpeg, "a JPEG stays the JPEG it is"
    assert Image.open(second).getpixel((0, 0)) == (255, 255, 255), "what is drawn on white is white"


def test_shards_hold_a_shuffled_sample_per_caption(tmp_path: Path) -> None:
    found = dataset(tmp_path, [(f"{i} one", f"{i} two") for i in range(5)])
    assert write_shards(found, tmp_path / "s", samples=4) == (5, 10, 3)
    assert json.loads((tmp_path / "s/sizes.json").read_text()) == {"000000.tar": 4, "000001.tar": 4, "000002.tar": 2}
    again = WebDataset(path="s").build(tmp_path)
    texts = [text for example in again.examples for text in example.texts]
    assert sorted(texts) == sorted(text for example in found.examples for text in example.texts)
    assert texts != sorted(texts), "captions of one image are not neighbours"
    with tarfile.open(tmp_path / "s/000000.tar") as tar:
        assert {Path(name).suffix for name in tar.getnames()} == {".jpg", ".png", ".txt"}


def test_an_interrupted_export_goes_on_and_other_data_start_anew(tmp_path: Path) -> None:
    found = dataset(tmp_path, [("one",), ("two",), ("three",)])
    broken = Dataset("d", "train", [*found.examples[:2], Example("2", FileImage(write(tmp_path / "n", b"no")), ("x",))])
    with pytest.raises(BadImageError, match="not an image"):
        write_shards(broken, tmp_path / "s", samples=1)
    assert not (tmp_path / "s").exists()
    first = sorted((tmp_path / "s.partial").glob("*.tar"))[0]
    kept = first.stat().st_mtime_ns
    draw(tmp_path / "mended.png")
    (tmp_path / "n").write_bytes((tmp_path / "mended.png").read_bytes())
    write_shards(broken, tmp_path / "s", samples=1)
    assert (tmp_path / "s" / first.name).stat().st_mtime_ns == kept
    assert not (tmp_path / "s.partial").exists()
    with pytest.raises(UsageError, match="already exists"):
        write_shards(found, tmp_path / "s")
    write(tmp_path / "u.partial/000000.tar", b"of another export")
    write(tmp_path / "u.partial/.plan", b"0123456789abcdef")
    write_shards(found, tmp_path / "u", samples=3)
    assert len(WebDataset(path="u").build(tmp_path)) == 3


@pytest.mark.parametrize("name", ["thesis.txt", "000000.tar"])
def test_a_foreign_folder_is_not_touched(tmp_path: Path, name: str) -> None:
    theirs = write(tmp_path / "s.partial" / name, b"theirs")
    with pytest.raises(UsageError, match=r"s\.partial: in the way, and no unfinished export; move it away"):
        write_shards(dataset(tmp_path, [("one",)]), tmp_path / "s")
    assert theirs.read_bytes() == b"theirs"
    write(tmp_path / "s.partial/.plan", b"0123456789abcdef")
    if name == "thesis.txt":
        with pytest.raises(UsageError, match="in the way"):
            write_shards(dataset(tmp_path, [("one",)]), tmp_path / "s")
        assert theirs.exists()


def test_images_of_like_ids_are_not_exchanged(tmp_path: Path) -> None:
    """Ids that begin alike, that clean to the same name, and that are the same in two data sets."""
    ids = [*(f"{'x' * 100}{end}" for end in ("1", "2")), "a/b", "a:b", *(f"a/{i}" for i in range(600))]
    colours = [f"#{i:06x}" for i in range(len(ids))]
    examples = [
        Example(key, OnWhiteImage(BytesImage(encoded(colour), "x")), (colour,))
        for key, colour in zip(ids, colours, strict=True)
    ]
    write_table(Dataset("d", "train", examples), tmp_path / "t.csv", images=tmp_path / "out")
    again = [Example(ids[0], OnWhiteImage(BytesImage(encoded("#123456"), "x")), ("#123456",))]
    write_table(Dataset("e", "train", again), tmp_path / "u.csv", images=tmp_path / "out")
    rows = [*pd.read_csv(tmp_path / "t.csv").itertuples(), *pd.read_csv(tmp_path / "u.csv").itertuples()]
    assert len(rows) == len(ids) + 1
    for row in rows:
        assert "#%02x%02x%02x" % Image.open(row.filepath).getpixel((0, 0)) == row.title  # noqa: UP031


PIPES = [
    "pipe:touch {ran}",
    "PIPE:touch {ran}",
    "a.tar::pipe:touch {ran}",
    "{{p,q}}ipe:touch {ran}",
    "https://x/a.tar';touch {ran};'",
]


@pytest.mark.parametrize("named", PIPES)
@pytest.mark.parametrize("key", ["train_data", "val_data"])
def test_a_recipe_runs_no_command(named: str, key: str, command: Command, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    head = 'name = "r"\nsummary = "s"\nmodel = "ViT-B-32:random@0"\n[trainer]\n'
    recipe = write(tmp_path / "r.toml", f"{head}{key} = {json.dumps(named.format(ran=ran))}\n")
    told = command("train", recipe, "--set", "train_num_samples=1", "--output", tmp_path / "run")
    assert told.code == 2
    assert f"trainer.{key}: " in told.err
    assert "runs a command; --allow-pipe" in told.err or "holds a quote" in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert not ran.exists()


def test_a_command_that_is_allowed_is_handed_on() -> None:
    check_sources({"train_data": "pipe:cat a.tar"}, allow_pipe=True)
    check_sources({"train_data": "https://x/{000..009}.tar::gs://y/1.tar"})


def test_a_folders_own_names_are_no_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pipe:touch ran;.tar", b"")
    found = inputs({"train_data": ".", "train_num_samples": 1})
    assert found.flags["train_data"] == f"{tmp_path}/pipe:touch ran;.tar"
    write(tmp_path / "a::b" / "0.tar", b"")
    with pytest.raises(UsageError, match="which separate shards"):
        inputs({"train_data": "a::b", "train_num_samples": 1})


@pytest.mark.parametrize("named", ["{1..9999999999}.tar", "{a,b}" * 40 + ".tar"])
def test_a_billion_shards_are_too_many(named: str) -> None:
    with pytest.raises(DataError, match="COCABENCH_MAX_ROWS"):
        check_sources({"train_data": named})


def test_unknown_keys_and_data_without_captions_are_errors(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UsageError, match="--splitt: unknown key; did you mean 'split'"):
        build("karpathy", {"path": "x", "splitt": "train"}, tmp_path)
    with pytest.raises(DataError, match="have no caption"):
        build("tsv", {"path": "labels.tsv", "label_key": "label"}, data)


def test_the_command_writes_what_the_loader_finds(command: Command, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "train.csv"
    result = command("data", "csv", "--from", "tsv", "--path", "captions.tsv", "--data-root", data, "--output", out)
    assert result.code == 0, result.err
    assert "24 captions of 12 images" in result.out
    assert len(pd.read_csv(out)) == 24
    shards = ["data", "webdataset", "--from=tsv", "--path=captions.tsv", "--data-root", data, "--limit", 3]
    assert command(*shards, "--output", tmp_path / "s").code == 0
    assert (tmp_path / "s/000000.tar").is_file()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--from", "karpaty", "--path", "x"), "did you mean karpathy"),
        (("--from", "tsv", "--path"), "--path: no value"),
        (("--from", "tsv", "stray"), "unexpected argument"),
        (("--from", "tsv", "--path", "absent.tsv"), "no such file"),
        (("--from", "karpathy", "--path", "x", "--max-captions", "0"), "--max-captions: got '0'; wanted 1 or more"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(command: Command, tmp_path: Path, words: tuple[str, ...], wanted: str) -> None:
    result = command("data", "csv", *words, "--output", tmp_path / "t.csv")
    assert result.code
    assert wanted in result.err


def test_questions_become_captions_with_their_answers() -> None:
    keys = {"target": "questions"}
    first = build("emoji", keys, Path(), template="Q: {question} A:").examples[0]
    assert first.texts == ("Q: what colour? A: brown", "Q: how many? A: three", "Q: what kind? A: nature")
    assert build("emoji", keys, Path()).examples[0].texts[1] == "question: how many? answer: three"
    with pytest.raises(UsageError, match=r"--template: got 'Q:'; wanted \{question\} in it, once"):
        build("emoji", keys, Path(), template="Q:")
