"""The hub's HTTP layout on loopback: listings with hashes, files with ranges; it drops, delays and lies on request."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What is served. drops: {file: how many answers end in the middle}. busy: how many answers are 429 first.

    lies: files whose content is another than listed. resumes: whether it knows ranges. asked: how often each file was
    asked for; ranges: from where. listed: in place of the true listing.
    """

    files: dict[str, bytes]
    name: str = "org/data"
    commit: str = COMMIT
    drops: Counter[str] = field(default_factory=Counter)
    busy: int = 0
    lies: frozenset[str] = frozenset()
    resumes: bool = True
    asked: Counter[str] = field(default_factory=Counter)
    ranges: list[str] = field(default_factory=list)
    url: str = ""
    listed: bytes = b""

    def listing(self) -> bytes:
        if self.listed:
            return self.listed
        siblings = []
        for name, content in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            one: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": blob}
            if large(name):
                sha = hashlib.sha256(content).hexdigest()
                one["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 100}
            siblings.append(one)
        return json.dumps({"id": self.name, "sha": self.commit, "siblings": siblings}).encode()


def large(name: str) -> bool:
    return name.endswith((".tar", ".parquet"))


@contextmanager
def served(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, *, body: bool = True) -> None:
            if hub.busy:
                hub.busy -= 1
                return self.answer(429, b"", {"Retry-After": "0"}, body=False)
            path = unquote(self.path.partition("?")[0])
            if found := re.fullmatch(rf"/api/datasets/{hub.name}(?:/revision/(.+))?", path):
                known = found[1] in (None, "main", hub.commit)
                return self.answer(200, hub.listing(), {}) if known else self.lost("RevisionNotFound")
            found = re.fullmatch(rf"/(?:datasets/)?{hub.name}(?:/resolve/([^/]+))?/(.+)", path)
            if not found or found[2] not in hub.files:
                return self.lost("EntryNotFound" if found else "RepoNotFound")
            return self.file(found[2], body=body)

        def lost(self, code: str) -> None:
            self.answer(404, b"", {"X-Error-Code": code})

        def file(self, name: str, *, body: bool) -> None:
            content = hub.files[name]
            digest = hashlib.sha256(content).hexdigest()
            sent = content[::-1] if name in hub.lies else content
            etag = {"ETag": f'"{digest}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
            if large(name):
                etag |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            if not body:
                return self.answer(200, sent, etag, body=False)
            hub.asked[name] += 1
            status, start, end = 200, 0, len(sent)
            if (
                hub.resumes
                and (asked := self.headers.get("Range"))
                and (range_ := re.fullmatch(r"bytes=(\d+)-(\d*)", asked))
            ):
                hub.ranges.append(f"{name}:{range_[1]}")
                status, start = 206, int(range_[1])
                end = min(int(range_[2] or len(sent)) + 1, len(sent))
                etag["Content-Range"] = f"bytes {start}-{end - 1}/{len(sent)}"
            rest = sent[start:end]
            if hub.drops[name] > 0:
                hub.drops[name] -= 1
                self.head(status, len(rest), etag)
                self.wfile.write(rest[: len(rest) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return None
            return self.answer(status, rest, etag)

        def head(self, status: int, length: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(length), **headers}.items():
                self.send_header(key, value)
            self.end_headers()

        def answer(self, status: int, content: bytes, headers: dict[str, str], *, body: bool = True) -> None:
            self.head(status, len(content), headers)
            if body and self.command != "HEAD":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
