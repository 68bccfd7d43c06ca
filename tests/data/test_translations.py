"""Sets in many languages, as their authors and clip-benchmark lay them out, each image of one colour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cocabench.core.errors import DataError, MissingDataError, SpecError, UnknownNameError
from cocabench.core.types import Dataset
from cocabench.data import prompts
from cocabench.data.builtin import Emoji
from cocabench.data.prompts import class_names, languages, synsets, templates
from cocabench.specs.registry import all_tasks, find_tasks, read_tasks
from tests.data.drawing import write
from tests.data.standard_sets import number_of, picture

XTD = [f"COCO_{'train' if k else 'val'}2014_{k:012}.jpg" for k in range(3)]
CAPTIONS = {"de": ["ein Hund", "eine Katze", "zwei Züge"], "jp": ["犬", "猫", "二本の列車"]}


def xtd10(root: Path) -> None:
    """XTD10 as its repository has it: de of MIC, jp of STAIR, the index in XTD10."""
    write(root / "xtd10/XTD10/test_image_names.txt", "\n".join(XTD) + "\n")
    for code, folder in (("de", "MIC"), ("jp", "STAIR")):
        write(root / f"xtd10/{folder}/test_1kcaptions_{code}.txt", "\n".join(CAPTIONS[code]) + "\n")
    for k, name in enumerate(XTD):
        picture(root / "xtd10/images" / name, k)


def exported(root: Path, name: str, code: str) -> None:
    """What clip-benchmark makes of both, with the paths of the machine that made it."""
    paths = [str(root / "xtd10/images" / image) for image in XTD]
    content = {"image_paths": paths, "annotations": CAPTIONS[code], "indicies": [0, 1, 2]}
    write(root / f"{name}-{code}.json", json.dumps(content, ensure_ascii=False))


def crossmodal(root: Path) -> None:
    rows = [
        {"image/key": f"key{k}", "de": {"caption": [f"Bild {k}", f"noch {k}"]}, "ja": {"caption": [f"絵{k}"]}}
        for k in range(2)
    ]
    write(root / "xm3600/captions.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    for k in range(2):
        picture(root / f"xm3600/images/key{k}.jpg", k)


def lines_200(root: Path) -> None:
    for folder, index, names in (
        ("xtd200", "test_image_names.txt", XTD),
        ("flickr30k-200", "filenames.txt", ["7.jpg"]),
    ):
        write(root / folder / index, "\n".join(names) + "\n")
        write(root / folder / "deu_Latn.txt", "\n".join(CAPTIONS["de"][: len(names)]) + "\n")
        for k, name in enumerate(names):
            picture(root / folder / "images" / name, k)


def flickr_zh(root: Path) -> None:
    write(root / "flickr30k/flickr30k_test_zh.txt", "image,caption\n7.jpg,一只狗,在跑\n7.jpg,狗\n\n8.jpg,猫\n")
    for k, name in enumerate(("7", "8")):
        picture(root / f"flickr30k/flickr30k-images/{name}.jpg", k)


def imagenet(root: Path) -> None:
    for k in (0, 1, 999):
        for i in range(2):
            picture(root / f"imagenet1k/val/{synsets('imagenet1k')[k]}/ILSVRC2012_val_{10 * k + i + 1:08}.JPEG", k)


def read(task: str, root: Path) -> Dataset:
    (found,) = find_tasks([task])
    return found.loader.build(root)


def shown(data: Dataset) -> list[tuple[int, tuple[str, ...]]]:
    return [(number_of(example.image.open()), example.texts) for example in data.examples]


def test_xtd10_reads_the_repositorys_folders_and_notes_images_of_cocos_training_set(tmp_path: Path) -> None:
    xtd10(tmp_path)
    for code in ("de", "jp"):
        data = read(f"xtd10/{code}", tmp_path)
        assert shown(data) == [(k, (text,)) for k, text in enumerate(CAPTIONS[code])]
        (note,) = data.notes
        assert note == ("training_images", "2 of 3 images are of COCO's train2014, which many models were trained on")
    assert read("xtd10/ja", tmp_path).examples == read("xtd10/jp", tmp_path).examples


def test_the_older_name_reads_the_same_files_from_its_own_folder(tmp_path: Path) -> None:
    xtd10(tmp_path)
    expected = shown(read("xtd10/jp", tmp_path))
    (tmp_path / "xtd10").rename(tmp_path / "multilingual_mscoco")
    assert shown(read("multilingual_mscoco_captions/jp", tmp_path)) == expected
    assert read("multilingual_mscoco_captions/ja", tmp_path).notes[0].code == "training_images"


def test_sets_have_clip_benchmarks_languages_and_counts() -> None:
    from clip_benchmark.datasets import crossmodal3600 as xm3600
    from clip_benchmark.datasets import multilingual_mscoco as mscoco
    from clip_benchmark.datasets import xtd10 as xtd
    from clip_benchmark.datasets.flores_langs import flores_languages as flores

    wanted = {"xtd10": xtd.SUPPORTED_LANGUAGES, "multilingual_mscoco_captions": mscoco.SUPPORTED_LANGUAGES}
    wanted |= dict.fromkeys(("xtd200", "flickr30k-200"), flores)
    wanted |= dict.fromkeys(
        ("crossmodal3600", "crossmodal3600_all", "crossmodal3600_captions"), xm3600.SUPPORTED_LANGUAGES
    )
    for name, codes in wanted.items():
        tasks = [task.spec for task in find_tasks([name])]
        assert {spec.language for spec in tasks} == set(codes), name
        assert len(tasks) == len(codes) == {"x": 11, "m": 11, "c": 36}.get(name[0] * ("200" not in name), 201), name
        assert {spec.expect.images for spec in tasks} == {3600 if "crossmodal" in name else 1000}, name
    for name in ("xtd10", "multilingual_mscoco_captions", "xtd200", "flickr30k-200", "crossmodal3600"):
        assert all(task.spec.expect.texts == task.spec.expect.images for task in find_tasks([name])), name
    for name in ("flickr30k/zh", "flickr8k/zh"):
        (task,) = find_tasks([name])
        assert task.spec.expect.model_dump(include={"images", "texts"}) == {"images": 1000, "texts": 5000}


def test_captions_of_clip_benchmarks_own_file_are_read_where_the_repositorys_are_not(tmp_path: Path) -> None:
    xtd10(tmp_path)
    expected = shown(read("xtd10/de", tmp_path))
    (tmp_path / "xtd10/MIC/test_1kcaptions_de.txt").unlink()
    with pytest.raises(MissingDataError, match=r"no test_1kcaptions_de\.txt"):
        read("xtd10/de", tmp_path)
    exported(tmp_path, "xtd10", "de")
    assert shown(read("xtd10/de", tmp_path)) == expected


def test_sets_in_200_languages_are_lines_beside_an_index(tmp_path: Path) -> None:
    lines_200(tmp_path)
    assert shown(read("xtd200/deu_Latn", tmp_path)) == [(k, (text,)) for k, text in enumerate(CAPTIONS["de"])]
    assert shown(read("flickr30k-200/deu_Latn", tmp_path)) == [(0, ("ein Hund",))]


def test_crossmodal_has_two_protocols(tmp_path: Path) -> None:
    crossmodal(tmp_path)
    assert shown(read("crossmodal3600/de", tmp_path)) == [(k, (f"Bild {k}",)) for k in range(2)]
    assert shown(read("crossmodal3600_all/de", tmp_path)) == [(k, (f"Bild {k}", f"noch {k}")) for k in range(2)]
    assert [e.id for e in read("crossmodal3600/jp", tmp_path).examples] == ["key0", "key1"]
    counts = [task.spec.expect.texts or 0 for task in find_tasks(["crossmodal3600_all"])]
    assert sum(counts) == 261_375  # of the paper


def test_flickr_in_chinese_keeps_commas_in_captions(tmp_path: Path) -> None:
    flickr_zh(tmp_path)
    expected = [(0, ("一只狗,在跑", "狗")), (1, ("猫",))]
    assert shown(read("flickr30k/zh", tmp_path)) == expected
    (tmp_path / "flickr30k/flickr30k_test_zh.txt").rename(tmp_path / "flickr30k/flickr8k_test_zh.txt")
    (tmp_path / "flickr30k").rename(tmp_path / "flickr8k")
    assert shown(read("flickr8k/zh", tmp_path)) == expected


def test_imagenets_translations_have_names_and_templates_of_the_language(tmp_path: Path) -> None:
    imagenet(tmp_path)
    data = read("imagenet1k/cn", tmp_path)
    assert [data.classes[e.label] for e in data.examples[::2]] == ["丁鲷", "金鱼", "卫生纸"]  # type: ignore[index]
    assert [len(templates(f"imagenet1k/{code}")) for code in ("cn", "it", "jp", "ar")] == [80, 49, 37, 55]
    assert all(len(class_names(f"imagenet1k/{code}")) == 1000 for code in languages("imagenet1k"))
    assert all("{c}" in text for code in languages("imagenet1k") for text in templates(f"imagenet1k/{code}"))


def test_babel_imagenet_keeps_the_classes_that_have_a_name(tmp_path: Path) -> None:
    imagenet(tmp_path)
    data = read("babel_imagenet/DE", tmp_path)
    assert len(data.classes) == 738
    named = {number_of(e.image.open()): data.classes[e.label] for e in data.examples}  # type: ignore[index]
    assert named == {0: "Schleie", 1: "Goldfisch", **({999: named[999]} if 999 in named else {})}
    assert data.templates == templates("babel_imagenet/DE")
    assert len(data.templates) == 80
    tasks = [task.spec for task in all_tasks().values() if task.spec.family == "babel_imagenet"]
    assert {spec.language: spec.expect.classes for spec in tasks} == {
        code: len(class_names(f"babel_imagenet/{code}")) for code in languages("babel_imagenet")
    }
    assert all(spec.expect.images == 50 * (spec.expect.classes or 0) for spec in tasks)
    assert not {"BR", "FY", "LA"} & set(languages("babel_imagenet"))


@pytest.mark.parametrize(
    ("make", "task", "file", "content", "said"),
    [
        (xtd10, "xtd10/de", "xtd10/MIC/test_1kcaptions_de.txt", b"ein Hund\n", "1 line; wanted 3, as test_im"),
        (xtd10, "xtd10/de", "xtd10/MIC/test_1kcaptions_de.txt", "a\nb\nZüge".encode("latin-1"), "UTF-8|utf-8"),
        (xtd10, "xtd10/jp", "xtd10/STAIR/test_1kcaptions_jp.txt", "犬\n\n猫".encode(), "1 image without a caption"),
        (crossmodal, "crossmodal3600/de", "xm3600/captions.jsonl", b'{"image/key": "key0"}', "unknown 'de'"),
        (crossmodal, "crossmodal3600/de", "xm3600/captions.jsonl", b'{"image/key": "key0", "de": 3}', "table|caption"),
        (flickr_zh, "flickr30k/zh", "flickr30k/flickr30k_test_zh.txt", b"image,caption\n7 dog\n", "line 2: '7 dog'"),
        (flickr_zh, "flickr30k/zh", "flickr30k/flickr30k_test_zh.txt", "i,c\n7.jpg,狗".encode("gbk"), "not UTF-8"),
        (flickr_zh, "flickr30k/zh", "flickr30k/flickr30k_test_zh.txt", "i,c\n7.jpg,狗".encode("utf-16"), "not UTF-8"),
        (xtd10, "xtd10/de", "xtd10/MIC/test_1kcaptions_de.txt", "a\nb\nZüge".encode("utf-16"), "not UTF-8"),
        (xtd10, "xtd10/de", "xtd10/XTD10/test_image_names.txt", "ä\nb\nc".encode("latin-1"), "not UTF-8"),
        (xtd10, "xtd10/jp", "xtd10/STAIR/test_1kcaptions_jp.txt", "犬\n猫\n列".encode("shift-jis"), "not UTF-8"),
        (xtd10, "xtd10/de", "xtd10/MIC/test_1kcaptions_de.txt", "a\nb\nc".encode("utf-16-le"), "not UTF-8 .*NUL"),
        (xtd10, "xtd10/de", "xtd10/MIC/test_1kcaptions_de.txt", b"", "0 lines; wanted 3"),
        (flickr_zh, "flickr30k/zh", "flickr30k/flickr30k_test_zh.txt", b"7.jpg,a\n8.jpg,b", r"line 1: .*wanted a"),
        (lines_200, "xtd200/deu_Latn", "xtd200/deu_Latn.txt", "ü\nb\nc".encode("utf-32"), "not UTF-8"),
        (crossmodal, "crossmodal3600/de", "xm3600/captions.jsonl", '{"image/key": "ü"}'.encode("latin-1"), "not UTF-8"),
        (crossmodal, "crossmodal3600/de", "xm3600/captions.jsonl", '{"image/key": "k"}'.encode("utf-16"), "not UTF-8"),
    ],
)  # fmt: skip
def test_wrong_files_are_one_line(tmp_path: Path, make: Any, task: str, file: str, content: bytes, said: str) -> None:
    make(tmp_path)
    write(tmp_path / file, content)
    with pytest.raises((DataError, UnknownNameError), match=said) as caught:
        read(task, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_language_that_a_set_does_not_have_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown 'xtd10/sv'.*did you mean"):
        find_tasks(["xtd10/sv"])
    with pytest.raises(UnknownNameError, match="babel_imagenet: language"):
        class_names("babel_imagenet/BR")
    file = tmp_path / "t.toml"
    head = 'name = "x"\nversion = 1\nevaluator = "classification"\nsummary = "s"\nprimary = "acc1"\n'
    file.write_text(f'{head}[data]\nloader = "emoji"\ngroup = "animals-nature"\nlanguage = "sv"\n')
    with pytest.raises(SpecError, match=r"data\.language: got 'sv'; did you mean"):
        read_tasks(file)
    with mock.patch.object(prompts, "find_spec", return_value=None):
        prompts._peer_folder.cache_clear()
        with pytest.raises(DataError, match="clip-benchmark is not installed"):
            prompts._peer_folder()
        prompts._peer_folder.cache_clear()


def test_emoji_have_names_in_eight_languages() -> None:
    names = {code: Emoji(group="animals-nature", language=code).build(Path()) for code in ("en", "de", "zh")}
    fish = next(e for e in names["en"].examples if names["en"].classes[e.label] == "tropical fish")  # type: ignore[index]
    found = {
        code: next(data.classes[e.label] for e in data.examples if e.id == fish.id)  # type: ignore[index]
        for code, data in names.items()
    }
    assert found == {"en": "tropical fish", "de": "Tropenfisch", "zh": "热带鱼"}
    (english,) = find_tasks(["emoji_animals_nature"])
    assert english.loader.build(Path()).examples == names["en"].examples
