"""A report on disk: the page, its tables and its figures, from a few Records and from published numbers."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cocabench.core.errors import ResultsError, UnknownNameError
from cocabench.core.formatting import signed
from cocabench.core.types import Note, Record
from cocabench.report.page import breakable
from cocabench.report.write import indented, write_report
from tests.report.constructed import names
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
    paths = write_report(records, folder, figures=False, **more)  # type: ignore[arg-type]
    text = paths[0].read_text(encoding="utf-8")
    return text.replace("<wbr>", "")


def test_a_report_has_a_page_tables_drawn_figures_and_data(tmp_path: Path) -> None:
    paths = write_report(two_models(), tmp_path, title="T <b>")
    assert paths[0] == tmp_path / "index.html"
    names = {str(path.relative_to(tmp_path)) for path in paths}
    figures = ("differences", "kind-classification", "kind-captioning")
    assert {f"figures/{name}.{form}" for name in figures for form in FORMS} <= names
    tables = ("standings", "results", "means", "retrieval_t2i", "retrieval_i2t", "captioning", "costs", "signatures")
    assert {f"tables/{name}.{form}" for name in tables for form in ("md", "csv", "tex")} <= names
    assert all(path.stat().st_size for path in paths)
    page = Page(paths[0].read_text(encoding="utf-8").replace("<wbr>", ""))
    assert page.texts["title"][0] == "T <b>"
    said = "a|x and b do not differ significantly on r (smallest detectable: 4.0 points); 2 are not tested."
    assert "".join(page.texts["h1"]) == said
    assert any("random weights" in text for text in page.texts["p"])
    data = json.loads((tmp_path / "data.json").read_text())
    assert [r["task"] for r in data["records"]] == ["t1", "t2", "r", "c", "t1", "t2", "r"]
    links = [a["href"] or "" for tag, a in page.tags if tag == "a" and not (a.get("href") or "#").startswith("#")]
    assert links
    assert all((tmp_path / link).is_file() for link in links)


def test_tables_have_every_metric_in_the_blogs_order(tmp_path: Path) -> None:
    page_of(two_models(), tmp_path)
    retrieval = (tmp_path / "tables/retrieval_t2i.md").read_text()
    assert "| task | model | t2i_recall@1 | t2i_recall@5 | t2i_recall@10 |" in retrieval
    captions = (tmp_path / "tables/captioning.md").read_text()
    assert "| c | a\\|x | 21.0 | 83.0 ± 6.0 |" in captions
    assert "| a\\|x | 306.72 |" in (tmp_path / "tables/costs.md").read_text()


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_report(two_models(), tmp_path / folder)
    one, two = (
        {p.relative_to(d): p.read_bytes() for p in d.rglob("*") if p.is_file()} for d in sorted(tmp_path.iterdir())
    )
    assert one == two


def test_json_is_indented_as_the_standard_library_does() -> None:
    value: object = {
        "a": [],
        "b": {},
        "c": [1, "é\n", None, [True, {"x": (1.5, 2)}]],
        "d": {"e": 1, "f": "} ,"},
        "g": (),
    }
    for one in (value, [value, value], [], 3, "é", None):
        assert indented(one) == json.dumps(one, ensure_ascii=False, indent=1)
    held = estimate(0.5, 0.1)
    assert json.loads(indented([held])) == [held.model_dump(mode="json")]


def test_models_are_shown_in_the_requested_order(tmp_path: Path) -> None:
    page_of(two_models(), tmp_path, models=["b", "a|x"])
    assert json.loads((tmp_path / "data.json").read_text())["shown"] == ["b", "a|x"]
    with pytest.raises(UnknownNameError, match="did you mean"):
        write_report(two_models(), tmp_path, models=["a|x", "bb"])


def test_the_baseline_is_what_the_others_are_compared_with(tmp_path: Path) -> None:
    records = [record(m, "t", {"acc1": estimate(v, 0.02)}) for m, v in (("old", 0.5), ("new", 0.7), ("newer", 0.8))]
    page = Page(page_of(records, tmp_path, baseline=["old"]))
    assert json.loads((tmp_path / "data.json").read_text())["models"] == ["new", "newer", "old"]
    first = next(a for tag, a in page.tags if tag == "option")
    chosen = [a["value"] for tag, a in page.tags if tag == "option" and "selected" in a]
    assert first["value"] == "0"
    assert chosen[0] == "2", "the baseline of the differences"
    bodies = [a for tag, a in page.tags if tag == "tbody" and "data-base" in a]
    assert [(a["data-base"], "hidden" in a) for a in bodies] == [("2", False), ("0", True), ("1", True)]


def test_a_report_of_published_numbers_alone(tmp_path: Path) -> None:
    text = page_of([], tmp_path, published=[COCA, CLIP])
    data = json.loads((tmp_path / "data.json").read_text())
    assert data["headline"] == (
        "coca_ViT-L-14 (published) scores higher on 23 of 38 tasks; without samples nothing can be tested."
    )
    assert "not the blog" in text
    assert "Published, not compared" not in text, "there is nothing to set them apart from"
    assert "| 163.64 |" in (tmp_path / "tables/costs.md").read_text()


def test_published_numbers_beside_measured_ones_are_set_apart(tmp_path: Path) -> None:
    text = page_of([record(COCA, "imagenet1k", 0.75)], tmp_path, published=[COCA])
    page = Page(text)
    assert page.texts["h1"] == [f"{COCA}: 75.0 % acc@1."]
    assert "Published, not compared" in text
    assert "75.6" in text
    assert 'class="forest"' not in text


def test_one_model_has_no_differences_and_no_records_are_an_error(tmp_path: Path) -> None:
    text = page_of([record()], tmp_path)
    assert Page(text).texts["h1"] == ["a: 50.0 % acc@1."]
    assert 'class="forest"' not in text
    with pytest.raises(ResultsError, match="no Records"):
        write_report([], tmp_path)


def test_markup_in_names_is_escaped_in_page_and_figures(tmp_path: Path) -> None:
    records = [
        record(f"{HOSTILE}{i}", HOSTILE + task, 0.5 + i / 10, notes=(Note("other", HOSTILE),), groups=(HOSTILE,))
        for i in range(3)
        for task in ("t1", "t2")
    ]
    text = write_report(records, tmp_path, title=HOSTILE)[0].read_text()
    page = Page(text)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert HOSTILE in page.texts["title"]
    drawn = list((tmp_path / "figures").glob("*.svg"))
    assert drawn
    assert not [file for file in drawn if "<script" in file.read_text()]


def test_only_the_pages_script_may_run_and_nothing_is_fetched(tmp_path: Path) -> None:
    page = Page(page_of(two_models(), tmp_path))
    (policy,) = [a["content"] or "" for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    urls = [a.get(name) or "" for _, a in page.tags for name in ("src", "href", "xlink:href")]
    assert not [url for url in urls if re.match(r"(?!data:)[a-z]+:|//", url)]


def test_links_within_the_page_lead_somewhere(tmp_path: Path) -> None:
    page = Page(page_of(two_models(), tmp_path))
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = [a["href"] or "" for tag, a in page.tags if tag in ("a", "use") and (a.get("href") or "").startswith("#")]
    assert len(links) > 20
    assert not {link[1:] for link in links} - set(ids)


def test_the_page_says_how_to_measure_it_again(tmp_path: Path) -> None:
    text = page_of(two_models(), tmp_path)
    assert "cocabench run --model &#39;a|x&#39;,b --tasks t1,t2,r,c" in text
    assert re.search(r"cocabench \d\S+, report [0-9a-f]{12}, 1 January 2025, 2 models, 4 tasks, 7 results\.", text)


def test_names_wrap_after_separators_only_and_short_ones_never() -> None:
    assert breakable("coca_ViT-L:a/b<c") == "coca_<wbr>ViT-<wbr>L:<wbr>a/<wbr>b&lt;c"
    assert breakable("a--b - c_ and") == "a--<wbr>b - c_ and"
    assert breakable("ROUGE-L") == "ROUGE-L"


@pytest.mark.slow
def test_a_page_of_fifty_models_is_small(tmp_path: Path) -> None:
    records = [
        record(name, f"t{t}", {"acc1": estimate(0.3 + 0.005 * m + 0.01 * t, 0.02)})
        for m, name in enumerate(names(50))
        for t in range(40)
    ]
    text = page_of(records, tmp_path)
    assert len(text) < 3_000_000
    assert text.count('class="forest"') == 1
    assert 'class="heat sortable"' in text
    data = json.loads((tmp_path / "data.json").read_text())
    others = [model for model in data["models"] if model not in data["shown"]]
    bases = json.loads(re.search(r'id="bases">(\[.*?\])</script>', text)[1])  # type: ignore[index]
    assert len(bases) == len(others) == 44
    rows = zlib.decompress(base64.b64decode(bases[7])).decode()
    gaps = {(d["first"], d["second"]): d["value"] for d in data["differences"] if d["task"] == "t5"}
    first, last = data["shown"][0], data["shown"][-1]
    wanted = [gaps.get((m, others[7]), -gaps.get((others[7], m), 0.0)) for m in (first, last)]
    said = re.search(r'title="t5">.*?</tr>', rows, re.DOTALL)[0]  # type: ignore[index]
    titles = [f"<title>{data['names'][m]}: {signed(gap)} " for m, gap in zip((first, last), wanted, strict=True)]
    assert all(title in said for title in titles)
    tested = [d["adjusted"] is not None for d in data["differences"] if not d["task"].startswith("mean:")]
    assert all(tested), "all pairs are corrected together"
