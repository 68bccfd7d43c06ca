"""Serve reports over HTTP: read-only, only files in the folder, only to this machine by default."""

from __future__ import annotations

import io
import ipaddress
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from cocabench.core import __version__
from cocabench.core.errors import ResultsError, UsageError, first_line
from cocabench.core.files import parse_json, read_regular, read_text
from cocabench.core.text import well_formed
from cocabench.report.page import environment

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
}
STATIC_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Content security policy of everything but reports, whose pages have their own."""

TYPES = {".md": "text/plain; charset=utf-8", ".csv": "text/csv; charset=utf-8", ".tex": "text/plain; charset=utf-8"}


class Found(NamedTuple):
    """A report below the folder: its address, title and headline."""

    address: str
    title: str
    headline: str


class Server(ThreadingHTTPServer):
    """An HTTP server on an IPv4 or IPv6 address."""

    def __init__(self, address: tuple[str, int], handler: Callable[..., SimpleHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log what ended a connection: one line for a client that went away, the traceback of a bug."""
        error = sys.exception()
        gone = isinstance(error, ConnectionError | TimeoutError)
        logging.getLogger(__name__).log(
            logging.INFO if gone else logging.ERROR, "%s: %s", client_address, error, exc_info=None if gone else error
        )

    @property
    def where(self) -> tuple[str, int]:
        """The address and the port that it listens on."""
        host, port, *_ = self.socket.getsockname()
        return str(host), int(port)


def server(folder: Path, *, host: str = "127.0.0.1", port: int = 8000) -> Server:
    """Return a server of the reports in a folder; port 0 picks a free one.

    Raises ResultsError if there is no such folder, UsageError if the port cannot be used.
    """
    root = folder.resolve()
    if not root.is_dir():
        raise ResultsError(str(folder), "no such folder", fix="`cocabench report` writes reports")
    try:
        return Server((host, port), partial(Handler, directory=str(root)))
    except (OSError, OverflowError) as error:
        raise UsageError(
            "serve", f"cannot listen on {host}:{port} ({first_line(error)})", wanted="another --port"
        ) from None


def reports(root: Path) -> Iterator[Found]:
    """Yield the reports in a folder and its subfolders, sorted by name."""
    for page in sorted([*root.glob("index.html"), *root.glob("*/index.html"), *root.glob("*/*/index.html")]):
        if inside(root, page) is not None:
            name = page.parent.relative_to(root).as_posix()
            if well_formed(name) != name:  # no address leads to a name that is not Unicode
                continue
            yield Found("index.html" if name == "." else f"{name}/", *_title_and_headline(page, name))


def _title_and_headline(page: Path, name: str) -> tuple[str, str]:
    try:
        data = parse_json(read_text(page.with_name("data.json")))
        return well_formed(str(data["title"])), well_formed(str(data["headline"]))
    except (OSError, ValueError, KeyError, TypeError):
        return name, ""


def inside(root: Path, path: Path) -> Path | None:
    """Return the resolved path if it is inside root and not hidden, else None."""
    try:
        real = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return None
    if not real.is_relative_to(root) or any(part.startswith(".") for part in real.relative_to(root).parts):
        return None
    return real


class Handler(SimpleHTTPRequestHandler):
    """Serves GET and HEAD of files in the folder; the root lists the reports, other folders are not listed."""

    server_version, sys_version = f"cocabench/{__version__}", ""

    def send_head(self) -> io.BytesIO | None:
        root, wanted = Path(self.directory), unquote(urlsplit(self.path).path, errors="replace")
        found = inside(root, root / wanted.lstrip("/"))
        if not self._host_allowed():
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        elif found is None or "\\" in wanted or ".." in wanted.split("/"):
            self.send_error(HTTPStatus.NOT_FOUND)
        elif found.is_dir() and not wanted.endswith("/"):
            self._moved()
        else:
            return self._content(root, found)
        return None

    def _content(self, root: Path, found: Path) -> io.BytesIO | None:
        page = inside(root, found / "index.html") if found.is_dir() else found
        if page is not None and page.is_file():
            try:
                content = read_regular(page)
            except OSError:
                self.send_error(HTTPStatus.NOT_FOUND)
                return None
            return self._send(content, _type(self, page), static=page.suffix != ".html")
        if found == root:
            return self._overview(root)
        self.send_error(HTTPStatus.NOT_FOUND)
        return None

    def _host_allowed(self) -> bool:
        """Return whether the Host header is allowed: on loopback only this machine's names, against DNS rebinding."""
        assert isinstance(self.server, Server)
        address, _ = self.server.where
        if not ipaddress.ip_address(address).is_loopback:
            return True
        try:
            name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:  # no host at all, such as "["
            return False
        return name in ("localhost", address) or name.endswith(".localhost")

    def _overview(self, root: Path) -> io.BytesIO:
        text = environment().get_template("overview.html").render(reports=list(reports(root)), version=__version__)
        return self._send(text.encode(), "text/html; charset=utf-8", static=True)

    def _moved(self) -> None:
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        self.send_header("Location", urlsplit(self.path).path.rsplit("/", 1)[-1] + "/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the base class's name
        logging.getLogger(__name__).info(format, *args)

    def _send(self, content: bytes, kind: str, *, static: bool) -> io.BytesIO:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if static:
            self.send_header("Content-Security-Policy", STATIC_POLICY)
        self.end_headers()
        return io.BytesIO(content)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()


def _type(handler: SimpleHTTPRequestHandler, path: Path) -> str:
    kind = TYPES.get(path.suffix) or handler.guess_type(str(path))
    return f"{kind}; charset=utf-8" if kind in ("text/html", "application/json") else kind
