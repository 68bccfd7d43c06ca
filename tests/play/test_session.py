"""What the playground computes: streams, rankings, classes and the search, without a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cocabench.core.cache import DiskCache
from cocabench.core.errors import CocabenchError, MissingDataError, UsageError
from cocabench.data.images import BytesImage, FileImage
from cocabench.models.interactive import Word
from cocabench.play import markup, page
from cocabench.play.session import Named, Playground, Scored, Written, checked_texts, load, playable
from cocabench.specs.registry import find_tasks

CODES = {"1f436": "dog face", "1f34e": "red apple", "1f697": "automobile"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three emoji, a file that is no image, and a link to a folder outside."""
    folder = tmp_path_factory.mktemp("photos")
    (task,) = find_tasks(["emoji_retrieval"])
    for example in task.loader.build(Path()).examples:
        if example.id in CODES:
            (folder / "below").mkdir(exist_ok=True)
            example.image.open().save(folder / "below" / f"{example.id}.png")
    (folder / "broken.png").write_text("no image")
    (folder / "notes.txt").write_text("notes")
    return folder


@pytest.fixture(scope="module")
def playground(photos: Path) -> Iterator[Playground]:
    made = load("demo", images=photos, device="cpu")
    yield made
    made.close()


@pytest.fixture
def dog(photos: Path) -> FileImage:
    return FileImage(photos / "below" / "1f436.png")


def test_a_caption_grows_and_ends_as_without_a_page(playground: Playground, dog: FileImage) -> None:
    coca = playground.models[0]
    *growing, made = playground.caption(coca, dog, {"generation_type": "greedy"})
    assert isinstance(made, Written)
    assert made.text == coca.caption([dog], {"generation_type": "greedy"}).texts[0]
    assert growing == sorted(growing, key=len)
    assert 0 < len(growing) == len([text for text in growing if isinstance(text, str) and made.text.startswith(text)])
    assert " ".join(word.text for word in made.words[:-1]) == made.text


def test_errors_reach_the_one_who_asked_and_the_next_question_is_answered(
    playground: Playground, dog: FileImage
) -> None:
    coca, clip = playground.models
    with pytest.raises(CocabenchError, match=r"x\.png: not an image"):
        list(playground.caption(coca, BytesImage(b"%PDF", "x.png"), {}))
    with pytest.raises(CocabenchError, match="cannot caption"):
        list(playground.caption(clip, dog, {}))
    with pytest.raises(UsageError, match=r"template: '\{d\}'; wanted \{c\}"):
        playground.classify(coca, BytesImage(b"", "x.png"), ["dog"], "{d}")
    assert playground.search(coca, "a dog")


def test_captions_are_ranked_by_likelihood_else_by_cosine(playground: Playground, dog: FileImage) -> None:
    coca, clip = playground.models
    texts = ["red apple", "dog face", "", "dog face"]
    found = playground.rank(coca, dog, texts)
    assert [one.text for one in found] == ["dog face", "red apple"]
    wanted = coca.score_captions([dog], [["dog face", "red apple"]]).logprobs[0]
    assert [one.logprob for one in found] == pytest.approx(wanted.tolist(), rel=1e-4)
    rows = coca.encode_texts(["dog face", "red apple"]) @ coca.encode_images([dog]).rows[0]
    assert [one.cosine for one in found] == pytest.approx(rows.tolist(), abs=1e-5)
    assert [(one.text, one.logprob) for one in playground.rank(clip, dog, texts)] == [
        ("dog face", None),
        ("red apple", None),
    ]


def test_probabilities_of_classes_use_the_scale_that_the_checkpoint_learned(
    playground: Playground, dog: FileImage
) -> None:
    clip = playground.models[1]
    found = playground.classify(clip, dog, ["red apple", "dog face", "automobile"], "{c}")
    assert found[0].name == "dog face"
    powers = np.exp(35.9375 * np.array([one.cosine for one in found]))
    assert [one.probability for one in found] == pytest.approx((powers / powers.sum()).tolist(), rel=0.02)
    assert sum(one.probability for one in found) == pytest.approx(1)


@pytest.mark.parametrize(("code", "name"), CODES.items())
def test_a_search_finds_the_image_and_skips_what_is_none(playground: Playground, code: str, name: str) -> None:
    found = playground.search(playground.models[0], name)
    assert found[0].name == f"below/{code}.png"
    assert len(found) == len(CODES)
    assert [one.cosine for one in found] == sorted((one.cosine for one in found), reverse=True)


def test_a_second_start_takes_the_folder_from_the_cache(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started() -> Playground:
        return load("demo/clip", images=photos, device="cpu", cache=DiskCache(tmp_path, limit=1 << 30))

    def refused(pixels: object) -> None:
        raise AssertionError("encoded again")

    first, second = started(), started()
    found = first.search(first.models[0], "dog face")
    monkeypatch.setattr(second.models[0], "encode_image_batch", refused)
    assert second.search(second.models[0], "dog face") == found
    with pytest.raises(AssertionError, match="encoded again"):
        second.classify(second.models[0], found[0].image, ["dog face"], "{c}")
    first.close()
    second.close()


@pytest.mark.parametrize("kept", [True, False])
def test_a_folder_without_a_readable_image_is_one_line(tmp_path: Path, kept: bool) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("no image")
    cache = DiskCache(tmp_path / "cache", limit=1 << 30) if kept else None
    made = load("demo/clip", images=tmp_path / "photos", device="cpu", cache=cache)
    said = f"--images {tmp_path / 'photos'}: no image that can be read; wanted images that Pillow opens"
    for _ in range(2):
        with pytest.raises(MissingDataError, match=f"^{re.escape(said)}"):
            made.search(made.models[0], "a dog")
    made.close()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["", " "], "classes: nothing typed"),
        ([str(i) for i in range(1001)], "1,001 lines; wanted at most 1,000"),
        (["x" * 2001], "a text of 2,001 characters"),
    ],
)
def test_too_much_text_is_one_line(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checked_texts("classes", texts)


def test_everything_that_is_said_is_escaped() -> None:
    bad = "<img src=x onerror=alert(1)>\"'"
    made = [
        markup.empty(bad, bad),
        markup.growing(bad, bad),
        markup.written(bad, Written(bad, 0.5, [Word(bad, -1.0), Word("", -0.5)])),
        markup.written(bad, Written(bad, 0.5, [])),
        markup.ranked(bad, [Scored(bad, -1.0, 0.5), Scored(bad + "2", None, 0.1)]),
        markup.classified(bad, [Named(bad, 0.5, 0.5)] * 30),
        markup.failed(bad, UsageError(bad, bad)),
    ]
    for html in made:
        assert "<img" not in html
        assert "&lt;img src=x" in html


def test_a_word_shows_its_probability_and_the_unlikelier_is_the_redder() -> None:
    likely, unlikely = np.log(0.9), np.log(0.25)
    html = markup.written("m", Written("a dog", 1.0, [Word("a", likely), Word("dog", unlikely), Word("", 0.0)]))
    assert '<span style="--doubt: 0.06">a</span><rt>90</rt>' in html
    assert '<span style="--doubt: 0.49">dog</span><rt>25</rt>' in html
    assert "<rt>100</rt>" in html, "the end"
    assert "<rt>&lt;1</rt>" in markup.written("m", Written("a", 1.0, [Word("a", -9.0), Word("", 0.0)]))
    assert f"{(0.9 * 0.25) ** (1 / 3):.0%} per word" in html


def test_a_model_without_the_base_class_is_one_line() -> None:
    class Other:
        id = "other"

    with pytest.raises(CocabenchError, match="other: a model without cocabench's base class"):
        playable(Other())


def test_models_and_folders_that_no_page_can_have_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--model demo,demo/clip: 3 models; wanted one or two"):
        load("demo,demo/clip")
    with pytest.raises(MissingDataError, match="nowhere: no such folder"):
        load("demo/clip", images=tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match="no images"):
        load("demo/clip", images=tmp_path)


def test_uploads_that_are_gone_absent_or_too_large_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").write_bytes(b"1234")
    for nothing in (None, {}, {"path": ""}):
        with pytest.raises(UsageError, match="image: none; drop one"):
            page._opened(nothing)
    with pytest.raises(UsageError, match=r"^x\.png: uploads are kept for an hour"):
        page._opened({"path": str(tmp_path / "gone"), "orig_name": "/folder/of/mine/x.png"})
    kept = {"path": str(tmp_path / "kept"), "orig_name": "x.png"}
    assert page._opened(kept) == BytesImage(b"1234", "x.png")
    monkeypatch.setenv("COCABENCH_MAX_UPLOAD_BYTES", "3")
    with pytest.raises(CocabenchError, match=r"x\.png: 4 bytes in an upload; wanted at most 3"):
        page._opened(kept)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_beams": None}, "num_beams: empty; wanted a number"),
        ({"temperature": 0}, "temperature: got 0; wanted .*greater than"),
        ({"generation_type": "evil"}, "generation_type: got evil"),
        ({"top_p": "<b>"}, "top_p: got <b>"),
    ],
)
def test_options_that_no_decoder_has_are_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        page._checked(values)
    assert "\n" not in str(caught.value)
