"""A report on disk: the page, its tables and its figures, from a few Records and from published numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cocabench.core.errors import ResultsError, UnknownNameError
from cocabench.core.types import Note, Record
from cocabench.report.write import write_report
from tests.report.records import estimate, record

COCA, CLIP = "coca_ViT-L-14:laion2b_s13b_b90k", "ViT-L-14:laion2b_s32b_b82k"
FORMS = ("svg", "png", "pdf")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """The text of each element of some tags, and every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("h1", "title", "caption", "li", "script", "p", "h2", "tr"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for tag in self._open[-1:]:
            self.texts[tag][-1] += data


def two_models() -> list[Record]:
    recall = {f"{d}_recall@{k}": estimate(0.1 * k**0.5, 0.02) for d in ("t2i", "i2t") for k in (10, 1, 5)}
    captions = {"CIDEr": estimate(0.83, 0.06, 300), "BLEU@4": estimate(0.21)}
    return [
        record("a|x", "t1", {"acc1": estimate(0.6, 0.05)}, parameters={"image_encoder": 306_720_000}),
        record("a|x", "t2", {"acc1": estimate(0.5, 0.05)}, notes=(Note("random_weights", "random weights"),)),
        record("a|x", "r", recall, evaluator="retrieval", primary="t2i_recall@5"),
        record("a|x", "c", captions, evaluator="captioning", skipped_metrics={"SPICE": "no jars"}),
        record("b", "t1", 0.4),
        record("b", "t2", 0.7),
        record("b", "r", recall, evaluator="retrieval", primary="t2i_recall@5"),
    ]


def page_of(records: Sequence[Record], folder: Path, **more: object) -> str:
    """Return the page without the places where its names may be broken."""
    text = write_report(records, folder, **more)[0].read_text(encoding="utf-8")  # type: ignore[arg-type]
    return text.replace("<wbr>", "")


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests read the page alone."""
    if "drawn" not in request.node.name:
        monkeypatch.setattr("cocabench.report.write.draw_all", lambda plots, folder: [])
        monkeypatch.setattr("cocabench.report.write.inline", lambda plot, folder: "")


def test_a_report_has_a_page_tables_drawn_figures_and_data(tmp_path: Path) -> None:
    paths = write_report(two_models(), tmp_path, title="T <b>")
    assert paths[0] == tmp_path / "index.html"
    names = {str(path.relative_to(tmp_path)) for path in paths}
    assert {f"figures/figure1{part}.{form}" for part in "ab" for form in FORMS} <= names
    tables = ("standings", "results", "means", "retrieval_t2i", "retrieval_i2t", "captioning", "costs")
    assert {f"tables/{name}.{form}" for name in tables for form in ("md", "csv", "tex")} <= names
    assert all(path.stat().st_size for path in paths)
    page = Page(paths[0].read_text(encoding="utf-8").replace("<wbr>", ""))
    assert page.texts["title"] == ["T <b>"]
    assert page.texts["h1"][0].startswith("a|x and b each score better on 1 of 3 tasks; none of the")
    assert any("random weights" in text for text in page.texts["li"])
    data = json.loads((tmp_path / "data.json").read_text())
    assert [r["task"] for r in data["records"]] == ["t1", "t2", "r", "c", "t1", "t2", "r"]


def test_tables_have_every_metric_in_the_blogs_order(tmp_path: Path) -> None:
    write_report(two_models(), tmp_path)
    retrieval = (tmp_path / "tables/retrieval_t2i.md").read_text()
    assert "| task | model | t2i_recall@1 | t2i_recall@5 | t2i_recall@10 |" in retrieval
    captions = (tmp_path / "tables/captioning.md").read_text()
    assert "| c | a\\|x | 21.0 | 83.0 ± 6.0 | skipped \\[1\\] |" in captions
    assert "\\[1\\] SPICE skipped: no jars" in captions
    assert "| a\\|x | 306.72 |" in (tmp_path / "tables/costs.md").read_text()


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_report(two_models(), tmp_path / folder)
    one, two = (
        {p.relative_to(d): p.read_bytes() for p in d.rglob("*") if p.is_file()} for d in sorted(tmp_path.iterdir())
    )
    assert one == two


def test_models_are_shown_in_the_requested_order(tmp_path: Path) -> None:
    assert "b and a|x each score better" in page_of(two_models(), tmp_path, models=["b", "a|x"])
    with pytest.raises(UnknownNameError, match="did you mean"):
        write_report(two_models(), tmp_path, models=["a|x", "bb"])


def test_the_baseline_is_shown_last_and_compared_with_the_others(tmp_path: Path) -> None:
    records = [record(m, "t", v) for m, v in (("old", 0.5), ("new", 0.7), ("newer", 0.8))]
    write_report(records, tmp_path, baseline=["old"])
    assert json.loads((tmp_path / "data.json").read_text())["models"] == ["new", "newer", "old"]
    assert "new scores better" in json.loads((tmp_path / "data.json").read_text())["figures"]["figure1a"]["shows"]


def test_a_report_of_published_numbers_alone(tmp_path: Path) -> None:
    text = page_of([], tmp_path, published=[COCA, CLIP])
    data = json.loads((tmp_path / "data.json").read_text())
    assert "better on 22 and worse on 13 of 35 tasks" in data["figures"]["figure1a"]["shows"]
    assert "not the blog" in text
    assert "incomparable (published by LAION blog and by CLIP_benchmark)" in text
    assert "| 163.64 |" in (tmp_path / "tables/costs.md").read_text()


def test_published_and_measured_numbers_are_shown_without_difference(tmp_path: Path) -> None:
    text = page_of([record(COCA, "imagenet1k", 0.75)], tmp_path, published=[COCA])
    assert "have no comparable task in common" in text
    assert "75.6" in text
    assert 'id="scores"' not in text


def test_one_model_has_no_pair_and_no_records_are_an_error(tmp_path: Path) -> None:
    text = page_of([record()], tmp_path)
    assert "a on 1 task." in text
    assert 'id="scores"' not in text
    with pytest.raises(ResultsError, match="no Records"):
        write_report([], tmp_path)


def test_the_headline_of_three_models_names_the_one_that_is_best_most_often(tmp_path: Path) -> None:
    records = [record(m, t, v) for m, v in (("a", 0.5), ("b", 0.7), ("c", 0.6)) for t in ("t1", "t2")]
    text = page_of(records, tmp_path)
    assert "b is best on 2 of 2 tasks." in text
    pairs = json.loads(re.findall(r'id="data">(.*?)</script>', text)[0])["pairs"]
    assert set(pairs) == {"0-1", "0-2", "1-2"}


def test_markup_in_names_is_escaped_in_page_and_figures(tmp_path: Path) -> None:
    records = [
        record(
            f"{HOSTILE}{i}",
            HOSTILE + task,
            0.5 + i / 10,
            notes=(Note("other", HOSTILE),),
            groups=(HOSTILE, '"x" onclick="y'),
        )
        for i in range(3)
        for task in ("t1", "t2")
    ]
    text = page_of(records, tmp_path, title=HOSTILE)
    page = Page(text)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in page.texts["title"]
    for drawn in (tmp_path / "figures").glob("*.svg"):
        assert "<script" not in drawn.read_text()


def test_only_the_pages_script_may_run_and_nothing_is_fetched(tmp_path: Path) -> None:
    page = Page(page_of(two_models(), tmp_path))
    (policy,) = [a["content"] or "" for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    urls = [a.get(name) or "" for _, a in page.tags for name in ("src", "href", "xlink:href")]
    assert not [url for url in urls if re.match(r"(?!data:)[a-z]+:|//", url)]


def test_every_table_has_a_caption_and_scoped_heads(tmp_path: Path) -> None:
    page = Page(page_of(two_models(), tmp_path))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") > 5
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")


def test_every_number_links_to_its_signature(tmp_path: Path) -> None:
    page = Page(page_of(two_models(), tmp_path))
    ids = {attributes.get("id") for _, attributes in page.tags}
    links = [a["href"] or "" for tag, a in page.tags if tag == "a" and (a.get("href") or "").startswith("#")]
    assert len([link for link in links if re.fullmatch(r"#r\d+", link)]) > 10
    assert not [link for link in links if link[1:] not in ids]
