"""The page in a real browser, Debian's chromium driven by Playwright: no network, no message, axe-core content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cocabench.core.types import Note
from cocabench.report.write import write_report
from cocabench.results.store import RecordSet, Store, load
from tests.report.pictured import results
from tests.report.records import estimate, record

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'cocabench[browser]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: pip install 'cocabench[browser]'")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
PHONE = {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt install chromium, or set CHROMIUM"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two models with samples, a third without, and groups."""
    folder = tmp_path_factory.mktemp("plain")
    more = [
        record(model, f"group_task_{i}", {"acc1": estimate(0.3 + 0.1 * i + 0.05 * side, 0.02)}, groups=("robust",))
        for side, model in enumerate(("one", "two", "three"))
        for i in range(4)
    ]
    return write_report(joined(results(folder / "results"), more, folder / "results"), folder / "page")[0]


def joined(found: RecordSet, more: list[Any], root: Path) -> RecordSet:
    store = Store(root)
    for made in more:
        store.put_record(made)
    return load(root)


@pytest.fixture(scope="module")
def hostile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which every name and text is markup."""
    folder = tmp_path_factory.mktemp("hostile")
    models = (f"{HOSTILE}:javascript:alert(1)", f"b{HOSTILE}")
    found = results(folder / "results", models=models, text=HOSTILE)
    bad = [r.model_copy(update={"notes": (Note("other", HOSTILE),), "groups": (HOSTILE, "'\"><b>")}) for r in found]
    for made in bad:
        Store(folder / "results").put_record(made)
    return write_report(load(folder / "results"), folder / "page", title=HOSTILE)[0]


Opened = Callable[..., Any]


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """Open a page; at the end nothing must have been said on the console and nothing asked of the network."""
    contexts: list[Any] = []
    said: list[str] = []

    def open_page(file: Path, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request", lambda asked: said.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
        )
        page.goto(file.resolve().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said


def texts(page: Any, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def column(page: Any, index: int) -> list[str]:
    return texts(page, f"#table-results tbody[data-part=classification] tr[data-tags] > :nth-child({index})")


def test_clicking_a_column_head_sorts_and_announces_the_order(opened: Opened, page_file: Path) -> None:
    page = opened(page_file)
    before = column(page, 1)
    head = page.locator("#table-results thead th").nth(2)
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    values = [float(text.split()[0]) for text in column(page, 3)]
    assert values == sorted(values, reverse=True)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    values = [float(text.split()[0]) for text in column(page, 3)]
    assert values == sorted(values)
    assert sorted(column(page, 1)) == sorted(before)


def test_a_group_and_a_text_filter_tasks_and_leaderboard(opened: Opened, page_file: Path) -> None:
    page = opened(page_file)
    assert page.locator("#count").inner_text() == "7 tasks"
    page.select_option("#group", "robust")
    assert page.locator("#table-results tr[data-tags]:visible").count() == 4
    assert texts(page, "#table-standings tr[data-tags]:visible td:last-child") == ["4", "4", "4"]
    page.fill("#find", "task_2")
    assert texts(page, "#table-results tr[data-tags]:visible th:first-child") == ["group_task_2"]
    assert page.locator("#count").inner_text() == "1 of 7 tasks"
    page.select_option("#group", "all tasks")
    page.fill("#find", "")
    assert page.locator("#table-results tr[data-tags]:visible").count() == 7


def test_any_two_models_can_be_compared(opened: Opened, page_file: Path) -> None:
    page = opened(page_file)
    assert "one" in page.locator("#scores caption").inner_text()
    page.select_option("#first", label="three")
    page.select_option("#second", label="two")
    assert texts(page, "#gaps caption .model") == ["three", "two"]
    assert texts(page, "#scores tbody th") == [f"group_task_{i}" for i in (3, 2, 1, 0)]
    assert texts(page, "#scores tbody tr:first-child td.num") == ["70.0", "65.0"]
    assert page.locator("#gaps tbody tr:first-child td.num").inner_text().startswith("+5.0")
    turned = [page.locator("#gaps tbody tr:first-child td.num").inner_text()]
    page.select_option("#first", label="two")
    assert page.locator("#pair-message").inner_text() == "Choose two different models."
    page.select_option("#second", label="three")
    turned.append(page.locator("#gaps tbody tr:first-child td.num").inner_text())
    assert turned[1].startswith("−5.0")


def test_the_gallery_shows_pictures_and_filters_by_outcome(opened: Opened, page_file: Path) -> None:
    page = opened(page_file)
    task = page.locator("details.samples", has_text="named").first
    task.locator("summary").click()
    image = task.locator("img").first
    image.scroll_into_view_if_needed()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert image.get_attribute("alt")
    items = task.locator(".items > li:visible")
    everything = items.count()
    task.locator("select.outcome").select_option("first")
    some = items.count()
    assert 0 < some < everything
    for values in (items.nth(i).get_attribute("data-values") for i in range(some)):
        assert values == "1.0 0.0"
    task.locator("select.outcome").select_option("wrong")
    assert {items.nth(i).get_attribute("data-values") for i in range(items.count())} == {"0.0 0.0"}
    assert "of" in task.locator("output").inner_text()


def test_hovering_over_a_number_shows_how_it_was_measured(opened: Opened, page_file: Path) -> None:
    page = opened(page_file)
    number = page.locator("#table-results a.n").first
    number.focus()
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert "signature" in tip.inner_text()
    assert number.get_attribute("aria-describedby") == "tip"
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    number.hover()
    assert tip.is_visible()
    number.click()
    target = page.locator(number.get_attribute("href") or "")
    assert target.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1280, "height": 900}, PHONE], ids=["desktop", "phone"])
def test_axe_finds_no_serious_accessibility_problem(
    opened: Opened, page_file: Path, scheme: str, size: dict[str, int]
) -> None:
    page = opened(page_file, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    page.locator("details.samples > summary").first.click()
    page.locator("#methods details > summary").first.click()
    found = axe.Axe().run(page).response["violations"]
    bad = [
        (v["id"], [node["html"][:200] for node in v["nodes"][:3]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert not bad


def test_themes_can_be_chosen_and_differ(opened: Opened, page_file: Path) -> None:
    page = opened(page_file, color_scheme="light")
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.click("#theme")
    assert page.evaluate(background) == light
    page.click("#theme")
    assert page.evaluate(background) != light
    assert page.locator("#theme").get_attribute("aria-label") == "Theme: dark"
    assert opened(page_file, color_scheme="dark").evaluate(background) == page.evaluate(background)


def test_a_phone_scrolls_tables_and_never_the_page(opened: Opened, page_file: Path) -> None:
    page = opened(page_file, viewport=PHONE)
    page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_markup_in_names_and_captions_is_text(opened: Opened, hostile_file: Path) -> None:
    page = opened(hostile_file)
    page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
    page.wait_for_timeout(200)
    assert page.title() == HOSTILE
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("script").count() == 2
    assert page.evaluate("[...document.links].every(link => ['#', 'f'].includes(link.getAttribute('href')[0]))")
    assert f"b{HOSTILE}" in texts(page, ".legend .model")
    page.locator("#table-results a.n").first.focus()
    assert "owned" in page.locator("#tip").inner_text()


def test_the_page_prints_with_collapsed_sections_open(opened: Opened, page_file: Path) -> None:
    page = opened(page_file)
    page.emulate_media(media="print")
    assert page.locator(".bar").is_hidden()
    assert page.pdf(format="A4")[:5] == b"%PDF-"


def test_the_page_is_readable_without_script(opened: Opened, page_file: Path) -> None:
    page = opened(page_file, java_script_enabled=False)
    assert page.locator("#table-results td").first.is_visible()
    assert page.locator("#scores .mark").first.is_visible()
    assert page.locator("#theme").is_hidden()


def test_untested_pairs_of_many_models_are_drawn_and_labelled(opened: Opened, tmp_path: Path) -> None:
    records = [record(f"m{i}", task, 0.3 + 0.05 * i) for i in range(7) for task in ("t1", "t2")]
    page = opened(write_report(records, tmp_path)[0])
    page.select_option("#first", label="m6")
    page.select_option("#second", label="m2")
    assert page.locator("#gaps tbody tr:first-child td.num").inner_text().startswith("+20.0")
    assert "not tested" in page.locator("#pair-about").inner_text()


@pytest.fixture(scope="module")
def many_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of twelve models with long names on five tasks of two kinds; the later, the better."""
    folder = tmp_path_factory.mktemp("many")
    recalls = {f"t2i_recall@{k}": estimate(0.4, 0.02) for k in (1, 5)}
    records = [
        record(name, task, {"acc1": estimate(0.3 + 0.04 * i, 0.02)})
        for i, name in enumerate(f"coca_ViT-L-14-{i}:mscoco_finetuned_laion2b_s13b_b90k" for i in range(12))
        for task in ("t1", "t2", "t3", "t4")
    ]
    more = [record(r.model, "found", recalls, evaluator="retrieval") for r in records if r.task == "t1"]
    return write_report([*records, *more], folder)[0]


def test_the_best_of_many_models_are_shown_by_default_and_others_can_be_chosen(opened: Opened, many_file: Path) -> None:
    page = opened(many_file)
    heads = "#table-results thead th[data-col]:visible .model"
    assert page.locator(heads).count() == 8
    assert page.locator("#kind-retrieval tr[data-row]:visible").count() == 8
    assert page.locator("#table-heat tbody tr:visible").count() == 12
    page.locator("#choice summary").click()
    page.locator("#find-model").fill("14-0")
    page.locator("#choice fieldset label:visible input").check()
    assert page.locator("#choice [role=status]").inner_text() == "9 of 12"
    assert page.locator(heads).first.inner_text().startswith("coca_ViT-L-14-0:")
    page.locator("[data-choose=all]").click()
    assert page.locator("#kind-retrieval tr[data-row]:visible").count() == 12
    page.locator("[data-choose=none]").click()
    assert page.locator("tr.part:visible").count() == page.locator("#table-results tr.part:visible").count()
    page.locator("[data-choose=best]").click()
    assert page.locator(heads).count() == 8
    page.keyboard.press("Escape")
    assert page.locator("#choice .panel").is_hidden()


def test_the_heat_map_sorts_models_by_a_task(opened: Opened, many_file: Path) -> None:
    page = opened(many_file)
    page.locator("#table-heat thead th button").nth(1).click()
    values = [int(text) for text in texts(page, "#table-heat tbody td:nth-child(2)")]
    assert values == sorted(values, reverse=True)
    page.locator("#table-heat td[data-r]").first.hover()
    assert "t1" in page.locator("#tip").inner_text()


def test_names_on_a_phone_wrap_at_separators(opened: Opened, many_file: Path) -> None:
    page = opened(many_file, viewport=PHONE)
    lines = """span => { const range = document.createRange(), found = [];
        const walker = document.createTreeWalker(span, NodeFilter.SHOW_TEXT);
        for (let node; (node = walker.nextNode()); ) { range.selectNodeContents(node);
            found.push(range.getClientRects().length); }
        return Math.max(...found); }"""
    for name in page.locator("#table-standings .model").all()[:3]:
        assert name.evaluate(lines) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
