"""The shipped demo data and checkpoints, and the code that builds the data."""

import gzip
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from cocabench.data.builtin import read_shards
from cocabench.demo import GROUPS, MODELS, data_files, model_folder
from tools.demo.build import build_shards
from tools.demo.sources import CLDR, TWEMOJI, Emoji, caption_subset, captions, tarball

MB = 1_000_000
KEYS = ("id", "emoji", "name", "unicode_name", "short_names", "captions")
KEYS += ("keywords", "group", "subgroup", "caption_subset")
WAVE = Emoji("1f44b", "👋", "Waving Hand", "waving hand sign", ("wave", "x", "hand2"), (), "people-body", "hand")


@pytest.fixture(scope="module")
def records() -> list[dict[str, object]]:
    return [record for record, _ in read_shards(data_files())]


def test_shards_hold_every_emoji_once(records: list[dict[str, object]]) -> None:
    assert len(records) == 1906
    assert len({record["id"] for record in records}) == len(records)
    assert {tuple(record) for record in records} == {KEYS}
    assert not any("." in str(record["id"]) for record in records)


def test_every_group_is_present_and_in_every_shard(records: list[dict[str, object]]) -> None:
    assert {record["group"] for record in records} == set(GROUPS)
    for path in data_files():
        assert {record["group"] for record, _ in read_shards([path])} == set(GROUPS)


def test_captions_are_distinct_lower_case_and_never_empty(records: list[dict[str, object]]) -> None:
    for record in records:
        own = record["captions"]
        assert isinstance(own, list)
        assert own
        assert len(set(own)) == len(own)
        assert all(text == text.lower().strip() != "" for text in own)


def test_caption_subset_has_300_in_proportion(records: list[dict[str, object]]) -> None:
    everything = Counter(record["group"] for record in records)
    subset = Counter(record["group"] for record in records if record["caption_subset"])
    assert subset.total() == 300
    for group, count in everything.items():
        assert abs(subset[group] - 300 * count / len(records)) < 1


def test_pictures_are_64_pixel_png() -> None:
    for _, png in read_shards(data_files()):
        picture = Image.open(io.BytesIO(png))
        assert (picture.format, picture.size) == ("PNG", (64, 64))


def test_tar_metadata_says_nothing_about_the_builder() -> None:
    for path in data_files():
        assert path.read_bytes()[4:8] == bytes(4), "gzip time"
        with tarfile.open(path) as tar:
            assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_sizes() -> None:
    assert sum(path.stat().st_size for path in data_files()) <= 6 * MB
    folders = [model_folder(name) for name in MODELS]
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) <= 8 * MB


@pytest.mark.parametrize("name", MODELS)
def test_model_folder_is_complete(name: str) -> None:
    folder = model_folder(name)
    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    text = config["model_cfg"]["text_cfg"]
    lines = gzip.decompress((folder / text["tokenizer_kwargs"]["bpe_path"]).read_bytes()).decode().split("\n")
    assert lines[0].startswith("#version")
    assert all(len(line.split()) == 2 for line in lines[1:]), "SimpleTokenizer takes an empty last line for a merge"
    assert text["vocab_size"] == 512 + len(lines) - 1 + 2
    assert (folder / "open_clip_model.safetensors").is_file()


def test_unknown_model_is_named() -> None:
    with pytest.raises(KeyError, match=r"'vit'.*coca, clip"):
        model_folder("vit")


def test_captions_leave_codes_out_and_count_punctuation_once() -> None:
    assert captions(WAVE) == ["waving hand", "waving hand sign", "wave"]


def test_caption_subset_of_a_small_set_is_all_of_it() -> None:
    assert caption_subset([WAVE]) == {"1f44b"}


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    _write_packages(tmp_path, picture=_png("red"))
    first = [path.read_bytes() for path in build_shards(tmp_path, tmp_path / "a")]
    second = [path.read_bytes() for path in build_shards(tmp_path, tmp_path / "b")]
    assert first == second
    [(record, png)] = read_shards([tmp_path / "a" / "emoji-00000.tar.gz"])
    assert record == {
        "id": "2764-fe0f",
        "emoji": "❤️",
        "name": "red heart",
        "unicode_name": "heavy black heart",
        "short_names": ["heart", "red heart"],
        "captions": ["red heart", "heavy black heart", "heart"],
        "keywords": ["love"],
        "group": "smileys-emotion",
        "subgroup": "heart",
        "caption_subset": True,
    }
    assert png == _png("red")


def test_another_picture_gives_other_bytes(tmp_path: Path) -> None:
    _write_packages(tmp_path, picture=_png("red"))
    first = [path.read_bytes() for path in build_shards(tmp_path, tmp_path / "a")]
    _write_packages(tmp_path, picture=_png("blue"))
    assert first != [path.read_bytes() for path in build_shards(tmp_path, tmp_path / "a")]


def test_a_missing_picture_is_an_error_that_names_it(tmp_path: Path) -> None:
    _write_packages(tmp_path, picture=None)
    with pytest.raises(FileNotFoundError, match=r"img/twitter/64/2764-fe0f\.png"):
        build_shards(tmp_path, tmp_path / "a")


def _png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


def _write_packages(folder: Path, *, picture: bytes | None) -> None:
    """Write a picture package and a CLDR package with one emoji and one component, which must be left out."""
    heart = {"name": "HEAVY BLACK HEART", "unified": "2764-FE0F", "image": "2764-fe0f.png", "short_names": ["heart"]}
    tone = {"name": "SKIN TONE", "unified": "1F3FB", "image": "1f3fb.png", "short_names": ["tone"]}
    rows = [{**heart, "category": "Smileys & Emotion"}, {**tone, "category": "Component"}]
    names = {"hexcode": "2764", "emoji": "❤️", "label": "red heart", "tags": ["love"], "group": 0, "subgroup": 7}
    pictures = {} if picture is None else {"img/twitter/64/2764-fe0f.png": picture}
    _write_package(tarball(folder, TWEMOJI), {"emoji.json": json.dumps(rows).encode(), **pictures})
    cldr = {
        "en/data.json": [names],
        "meta/groups.json": {"groups": {"0": "smileys-emotion"}, "subgroups": {"7": "heart"}},
        "en/shortcodes/emojibase.json": {"2764": ["heart", "red_heart"]},
        "en/shortcodes/github.json": {"2764-FE0F": "heart"},
    }
    _write_package(tarball(folder, CLDR), {path: json.dumps(content).encode() for path, content in cldr.items()})


def _write_package(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
