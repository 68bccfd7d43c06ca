"""The playground's page in a real browser: image in, caption out; nothing asks another machine for anything."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from cocabench.specs.registry import find_tasks

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'cocabench[browser]'")
pytest.importorskip("gradio", reason="no gradio: pip install 'cocabench[play]'")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
WAIT_MS = 120_000
HARMLESS = ("Method not implemented.",)
"""What gradio's client says of closing a stream of events that has ended."""

GUARDED = """
import socket, sys
real = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        print("left this machine:", address, file=sys.stderr, flush=True)
        raise OSError("no network in this test")
    return real(self, address)
socket.socket.connect = connect
found = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    if host not in ("127.0.0.1", "::1", "localhost", None):
        print("not of this machine:", host, file=sys.stderr, flush=True)
        raise socket.gaierror("no network in this test")
    return found(host, *rest, **more)
socket.getaddrinfo = getaddrinfo
from cocabench.cli import main
main()
"""
"""`cocabench`, which says so if it connects to another machine or asks for one's address."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt install chromium, or set CHROMIUM"),
]


class Running(NamedTuple):
    """A playground: its address, the folder that it searches, and the one for its temporary files."""

    address: str
    photos: Path
    temporary: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Start the playground with the demo's models; at the end Ctrl-C ends it without leftovers."""
    folder, temporary = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("temporary")
    (task,) = find_tasks(["emoji_retrieval"])
    for example in task.loader.build(Path()).examples[:1900:150]:
        example.image.open().convert("RGB").resize((640, 480)).save(folder / f"{example.id}.jpg")
    command = [sys.executable, "-c", GUARDED, "play", "--images", str(folder), "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"serving (http://127\.0\.0\.1:\d+/)", line)
        try:
            assert found, line + process.stderr.read()
            yield Running(found[1], folder, temporary)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                _, said = process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert "this machine" not in said, "nothing was asked of another one"
    assert said.count("Traceback (") == said.count("InvalidPathError: "), said
    assert said.count("\n") == 0 or "InvalidPathError: " in said, "of the intruder's file alone"
    assert process.returncode == 0
    assert not list(temporary.glob("cocabench-play-*")), "uploads are removed"


Opened = Callable[..., Any]


@pytest.fixture
def opened(running: Running) -> Iterator[Opened]:
    """Open the page; at the end the console must be silent, and everything must have come from this server."""
    said: list[str] = []
    with sync_api.sync_playwright() as playwright, contextlib.ExitStack() as stack:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        stack.callback(browser.close)

        def open_page(width: int, scheme: str) -> Any:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.set_default_timeout(WAIT_MS)
            page.on("console", lambda message: said.append(message.text) if message.text not in HARMLESS else None)
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda asked: said.append(asked.url) if not _own(asked.url, running) else None)
            page.goto(running.address)
            page.get_by_role("button", name="Write captions").wait_for()
            return page

        yield open_page
    assert not said


def _own(url: str, running: Running) -> bool:
    return url.startswith((running.address, "data:", f"blob:{running.address}"))


def drop(page: Any, name: str, content: bytes, kind: str = "image/png") -> None:
    page.locator("input[type=file]").first.set_input_files({"name": name, "mimeType": kind, "buffer": content})


def fits(page: Any) -> bool:
    width: bool = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    return width


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_an_image_becomes_captions_ranks_classes_and_matches(
    opened: Opened, running: Running, width: int, scheme: str
) -> None:
    page = opened(width, scheme)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 200) == (scheme == "dark"), colour
    page.evaluate(
        "window.seen = new Set(); new MutationObserver(() => document.querySelectorAll('[aria-busy]').forEach("
        "one => window.seen.add(one.innerText))).observe(document.body, {subtree: true, childList: true})"
    )
    page.get_by_role("radio", name="greedy").check()
    page.get_by_label("First words").fill("a")
    page.get_by_role("button", name="1f436").or_(page.locator(".gallery-item").nth(1)).first.click()
    page.locator("[data-testid=image] img, .image-frame img").first.wait_for()
    page.get_by_role("button", name="Write captions").click()
    page.wait_for_function("document.querySelectorAll('.coca ruby').length > 3")
    page.wait_for_function("document.querySelectorAll('.coca:has(ruby)').length > 1")  # the second model begins last
    page.wait_for_function("!document.querySelector('[aria-busy]')")
    assert page.locator(".coca:has(ruby)").count() == 2, "both models"
    assert page.evaluate("window.seen.size") >= 2, "it appears while it is written"
    assert fits(page)
    page.get_by_role("tab", name="Rank").click()
    page.get_by_role("button", name="Rank captions").click()
    page.locator("td:visible", has_text="a dog").first.wait_for()
    assert fits(page)
    page.get_by_role("tab", name="Classes").click()
    page.get_by_role("button", name="Classify").click()
    page.locator(".bar:visible").first.wait_for()
    assert page.locator("tbody:visible tr").first.inner_text().startswith("dog")
    assert fits(page)
    page.get_by_role("tab", name="Search").click()
    page.get_by_label("Search 13 images").fill("a flag")
    page.get_by_role("button", name="Search").click()
    page.locator(".grid-wrap img").nth(11).wait_for()
    assert fits(page)


def test_what_is_no_image_and_what_is_too_large_are_one_line(opened: Opened) -> None:
    page = opened(1000, "light")
    page.get_by_text("Options", exact=True).click()  # its fields are made now; what is typed before that is lost
    drop(page, "letter.png", b"Dear Sir or Madam")
    page.locator(".error", has_text="letter.png: not an image").nth(1).wait_for()
    page.get_by_role("button", name="Remove Image").or_(page.get_by_label("Remove Image")).first.click()
    drop(page, "bomb.png", bomb())
    page.locator(".error", has_text="bomb.png: 100,020,001 pixels in an image").nth(1).wait_for()
    page.get_by_role("button", name="Remove Image").or_(page.get_by_label("Remove Image")).first.click()
    page.get_by_role("button", name="Write captions").click()
    page.locator(".error", has_text="image: none; drop one").nth(1).wait_for()
    page.get_by_label("Num beams").fill("5")
    page.get_by_label("Num beam groups").fill("3")
    drop(page, "dot.png", dot())
    page.locator(".error", has_text="a divisor of 5 beams").nth(1).wait_for()


def test_what_is_dropped_while_captions_are_written_comes_next(opened: Opened) -> None:
    page = opened(1000, "light")
    page.get_by_text("Options", exact=True).click()
    for label, value in (("Num beams", "3000"), ("Min seq len", "11")):
        page.get_by_label(label, exact=True).fill(value)  # so that a caption takes seconds, not 0.08
    drop(page, "dot.png", dot())
    page.locator("[aria-busy]").first.wait_for()
    page.get_by_role("button", name="Remove Image").or_(page.get_by_label("Remove Image")).first.click()
    drop(page, "letter.png", b"Dear Sir or Madam")
    assert page.locator("[aria-busy]").count(), "captions are still written"
    page.locator(".error", has_text="letter.png: not an image").nth(1).wait_for()


def bomb() -> bytes:
    """A PNG whose header says 10,001 x 10,001 pixels."""
    content = io.BytesIO()
    Image.new("1", (10_001, 10_001)).save(content, "PNG")
    return content.getvalue()


def dot() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(content, "PNG")
    return content.getvalue()


def ask(url: str, data: Any = None, **headers: str) -> tuple[int, str]:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_files_outside_the_uploads_stay_where_they_are(running: Running) -> None:
    photo = sorted(running.photos.glob("*.jpg"))[0]
    for path in ("/etc/passwd", str(photo), f"{photo.parent}/../{photo.parent.name}/{photo.name}"):
        status, text = ask(f"{running.address}gradio_api/file={path}")
        assert status in (403, 404), text
    config = json.loads(ask(f"{running.address}config")[1])
    numbers = [one["id"] for one in config["dependencies"] if len(one["inputs"]) > 10]
    assert len(numbers) == 1, "the captions' event"
    (event,) = (one for one in config["dependencies"] if one["id"] == numbers[0])
    picture = {"path": str(photo), "orig_name": "x.jpg", "meta": {"_type": "gradio.FileData"}}
    values = [picture, "greedy", "", *([None] * (len(event["inputs"]) - 3))]
    given = {"data": values, "fn_index": event["id"], "session_hash": "intruder"}
    status, text = ask(f"{running.address}gradio_api/queue/join", given)
    if status == 200:
        _, text = ask(f"{running.address}gradio_api/queue/data?session_hash=intruder")
    assert "<ruby" not in text
    assert "not in the cache" in text or "InvalidPath" in text or '"success":false' in text, text


def test_another_name_of_this_machine_gets_nothing_and_answers_forbid_other_origins(running: Running) -> None:
    status, text = ask(running.address, Host="evil.example")
    assert status == 400
    assert "playground" not in text
    with urllib.request.urlopen(running.address, timeout=60) as answer:
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        page = answer.read().decode()
    assert "api.gradio.app" not in page
    assert '"analytics_enabled":false' in page.replace(" ", "")
