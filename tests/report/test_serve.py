"""The server of reports: what it gives, and everything that it must not give."""

from __future__ import annotations

import http.client
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cocabench.core.errors import ResultsError, UsageError
from cocabench.report.serve import server


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Serve a folder with one report, a secret beside the folder and links that lead to it."""
    root, secret = tmp_path / "reports", tmp_path / "secret.txt"
    (root / "mine" / "tables").mkdir(parents=True)
    (root / "mine" / "index.html").write_text("<title>mine</title>")
    (root / "mine" / "tables" / "results.csv").write_text("a,b\n")
    data = {"title": "<b>mine</b>", "headline": "A is best."}
    (root / "mine" / "data.json").write_text(json.dumps(data))
    (root / ".hidden").write_text("hidden")
    secret.write_text("secret")
    (root / "link.txt").symlink_to(secret)
    (root / "out").symlink_to(tmp_path)
    (root / "within.html").symlink_to(root / "mine" / "index.html")
    running = server(root, port=0)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running.where
    running.shutdown()
    thread.join()
    running.server_close()


def ask(address: tuple[str, int], path: str, method: str = "GET", host: str = "") -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.putrequest(method, path, skip_host=bool(host))
    if host:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, {name.lower(): value for name, value in answer.getheaders()}


def test_a_report_and_its_files_are_served(address: tuple[str, int]) -> None:
    status, text, headers = ask(address, "/mine/")
    assert (status, text) == (200, "<title>mine</title>")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert ask(address, "/mine/tables/results.csv")[:2] == (200, "a,b\n")
    assert ask(address, "/within.html")[0] == 200
    assert ask(address, "/mine/", method="HEAD")[:2] == (200, "")
    status, _, headers = ask(address, "/mine")
    assert (status, headers["location"]) == (301, "mine/")


def test_the_root_shows_the_reports_and_no_files(address: tuple[str, int]) -> None:
    status, text, headers = ask(address, "/")
    assert status == 200
    assert "&lt;b&gt;mine&lt;/b&gt;" in text
    assert "A is best." in text
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "link.txt" not in text
    assert "hidden" not in text


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/mine/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/mine/..%5c..%5csecret.txt",
        "//secret.txt/../../secret.txt",
        "/link.txt",
        "/out/secret.txt",
        "/out/",
        "/.hidden",
        "/mine/tables/",
        "/mine/index.html%00.txt",
        "/nothing",
    ],
)
def test_files_outside_the_folder_and_listings_are_refused(address: tuple[str, int], path: str) -> None:
    status, text, _ = ask(address, path)
    assert status in (301, 404)
    assert "secret" not in text.replace(path, "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_the_server_is_read_only(address: tuple[str, int], method: str) -> None:
    assert ask(address, "/mine/", method=method)[0] == 501


def test_a_foreign_host_header_is_refused(address: tuple[str, int]) -> None:
    assert ask(address, "/mine/", host="evil.example")[0] == 421
    assert ask(address, "/mine/", host=f"localhost:{address[1]}")[0] == 200


def test_only_this_machine_is_served_by_default(address: tuple[str, int]) -> None:
    assert address[0] == "127.0.0.1"


def test_a_missing_folder_or_a_used_port_is_an_error(address: tuple[str, int], tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no such folder"):
        server(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="another --port"):
        server(tmp_path, port=address[1])


def test_a_reader_that_hangs_up_prints_nothing(
    address: tuple[str, int], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(5):
        with socket.create_connection(address) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
            client.sendall(b"GET /mine/ HTTP/1.1\r\nHost: localhost\r\n")
    assert ask(address, "/mine/")[0] == 200
    assert capfd.readouterr().err == ""
    assert not [record for record in caplog.records if record.exc_info]


def test_a_pipe_is_not_found_and_a_name_that_is_not_unicode_is_left_out(
    address: tuple[str, int], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "reports" / "pipe.html")
    assert ask(address, "/pipe.html")[0] == 404
    folder = os.fsencode(tmp_path / "reports") + b"/\xff"
    os.mkdir(folder)
    Path(os.fsdecode(folder + b"/index.html")).write_text("other")
    status, text, _ = ask(address, "/")
    assert (status, "mine" in text) == (200, True)
