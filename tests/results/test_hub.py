"""Results for the hub: its own library reads back what we write, and a push reaches a server with the hub's layout."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from cocabench.core.errors import ResultsError, UsageError
from cocabench.core.types import MetricInfo, Record
from cocabench.results import hub
from cocabench.results.store import Store
from tests.conftest import Command
from tests.report.records import estimate, record

huggingface_hub = pytest.importorskip("huggingface_hub", reason="pip install 'cocabench[hub]'")
yaml = pytest.importorskip("yaml", reason="pip install 'cocabench[hub]'")

PLAIN = record("mine", "imagenetv2", {"acc1": estimate(0.5, 0.031, n=10000), "acc5": estimate(0.8)})
"""A task whose file names a data set on the hub."""


def test_the_model_index_is_read_back_by_the_hubs_library() -> None:
    health = MetricInfo(unit="fraction", higher_is_better=False, summary="empty", kind="health")
    more = record("mine", "own", {"acc1": estimate(None), "empty": estimate(0.1)}, evaluator="captioning")
    more = more.model_copy(update={"definitions": more.definitions | {"empty": health}})
    data = huggingface_hub.ModelCardData(**yaml.safe_load(hub.to_model_index([PLAIN, more])))
    assert [(r.dataset_type, r.metric_type, r.metric_value) for r in data.eval_results] == [
        ("vaishaal/ImageNetV2", "acc1", 0.5),
        ("vaishaal/ImageNetV2", "acc5", 0.8),
    ], "neither undefined metrics nor those of health"
    first = data.eval_results[0]
    assert (first.task_type, first.dataset_name) == ("zero-shot-image-classification", "imagenetv2")
    assert first.metric_args["n"] == 10000
    assert (first.metric_args["low"], first.metric_args["high"]) == pytest.approx((0.469, 0.531))


def test_entries_are_of_whole_results_on_data_sets_of_the_hub() -> None:
    limited = record("mine", "winoground", 0.3, protocol={"limit": 50})
    others = [limited, record("mine", "imagenet1k", 0.6), record("mine", "no_such_task", 0.6)]
    found = hub.entries([PLAIN, *others])
    parsed = huggingface_hub.parse_eval_result_entries(yaml.safe_load(hub.to_yaml(found.entries)))
    assert [(e.dataset_id, e.task_id, e.value, e.date) for e in parsed] == [
        ("vaishaal/ImageNetV2", "imagenetv2", 0.5, "2025-01-01")
    ]
    assert "acc1: 50.0 ± 3.1 (n=10000)" in parsed[0].notes
    assert found.left_out == {
        "winoground": "not a whole result of the standard protocol",
        "imagenet1k": "its task file names no data set on the hub",
        "no_such_task": "no task of that name is installed",
    }


def test_results_of_two_models_are_refused() -> None:
    with pytest.raises(UsageError, match="results of 2 models; wanted those of one; choose one with --model: mine, b"):
        hub.to_card([PLAIN, record("b")])


class Hub(ThreadingHTTPServer):
    """A repository ORG/NAME in the hub's HTTP layout."""

    def __init__(self, files: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.commits = files, list[tuple[bool, dict[str, Any]]]()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def answer(self, content: bytes = b"", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:
        repo, _, path = self.path.lstrip("/").partition("/resolve/main/")
        text = self.server.files.get(path)
        if repo != "ORG/NAME":
            self.answer(status=404, X_Error_Code="RepoNotFound")
        elif text is None:
            self.answer(status=404, X_Error_Code="EntryNotFound")
        else:
            self.answer(text.encode(), ETag=f'"{hash(text)}"', X_Repo_Commit="0" * 40)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path, _, query = self.path.partition("?")
        if path == "/api/validate-yaml":
            self.answer(b'{"errors": [], "warnings": []}', Content_Type="application/json")
        elif path == "/api/models/ORG/NAME/preupload/main":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.answer(json.dumps({"files": files}).encode(), Content_Type="application/json")
        elif path == "/api/models/ORG/NAME/commit/main":
            lines = [json.loads(line) for line in body.splitlines()]
            sent = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"}
            self.server.commits.append(("create_pr=1" in query, sent))
            self.server.files |= {name: content.decode() for name, content in sent.items()}
            host = "http://{}:{}".format(*self.server.server_address[:2])
            done = {
                "commitUrl": f"{host}/ORG/NAME/commit/1",
                "commitOid": "1" * 40,
                "pullRequestUrl": f"{host}/ORG/NAME/discussions/7",
            }
            self.answer(json.dumps(done).encode(), Content_Type="application/json")
        else:
            self.answer(status=404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    running = Hub({})
    thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    address = "http://{}:{}".format(*running.server_address[:2])
    made = huggingface_hub.HfApi(endpoint=address, token="hf_x")
    monkeypatch.setattr(hub, "_api", lambda: made)
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


CARD = """---
license: mit
model-index:
- name: Mine
  results:
  - task: {type: text-generation}
    dataset: {type: x, name: x}
    metrics: [{type: acc1, value: 0.9}]
  - task: {type: zero-shot-image-classification}
    dataset: {type: vaishaal/ImageNetV2, name: imagenetv2}
    metrics: [{type: acc1, value: 0.1}]
---
# Mine

It sees.
"""


def sent(server: Hub, records: list[Record], *, pull_request: bool = False) -> str:
    return hub.push("ORG/NAME", hub.changes("ORG/NAME", records), pull_request=pull_request)


def test_a_push_keeps_the_card_and_the_results_of_others(server: Hub) -> None:
    server.files = {hub.README: CARD}
    made = hub.changes("ORG/NAME", [PLAIN])
    assert [change.path for change in made] == [hub.README, hub.ENTRIES]
    assert server.commits == [], "a preview sends nothing"
    assert "+## Evaluation" in made[0].diff
    assert "-license: mit" not in made[0].diff
    assert sent(server, [PLAIN]).endswith("/ORG/NAME/commit/1")
    [(pull_request, files)] = server.commits
    assert not pull_request
    card = huggingface_hub.ModelCard(files[hub.README].decode())
    assert "It sees." in card.text
    values = {(r.dataset_type, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert values == {("x", "acc1"): 0.9, ("vaishaal/ImageNetV2", "acc1"): 0.5, ("vaishaal/ImageNetV2", "acc5"): 0.8}
    assert card.data.model_name == "Mine"
    assert hub.changes("ORG/NAME", [PLAIN]) == [], "twice is once"


def test_a_hostile_card_neither_commands_a_terminal_nor_runs_code(server: Hub, tmp_path: Path) -> None:
    server.files = {hub.README: "---\nlicense: mit\n---\n# Mine \x1b[2J\n"}
    (card, _) = hub.changes("ORG/NAME", [PLAIN])
    assert "# Mine �[2J" in card.diff
    damaged = CARD.replace("type: x,", "kind: x,")
    for text in (f"---\nx: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n---\n", damaged, "---\n[\n---\n"):
        server.files = {hub.README: text}
        with pytest.raises(ResultsError, match=r"ORG/NAME: README\.md: metadata that cannot be read") as error:
            hub.changes("ORG/NAME", [PLAIN])
        assert "\n" not in str(error.value)
    assert not (tmp_path / "made").exists()


def test_a_card_without_metadata_keeps_its_text(server: Hub, caplog: pytest.LogCaptureFixture) -> None:
    server.files = {hub.README: "# Mine\n\nIt sees.\n"}
    (card, _) = hub.changes("ORG/NAME", [PLAIN])
    assert "\n# Mine\n\nIt sees.\n" in card.after
    assert not caplog.records, "the hub's library says nothing on its own"


def test_a_second_push_replaces_the_section(server: Hub) -> None:
    assert sent(server, [PLAIN]).endswith("/commit/1")
    better = record("mine", "imagenetv2", {"acc1": estimate(0.625, 0.01)})
    assert sent(server, [better], pull_request=True).endswith("/discussions/7")
    assert [pull_request for pull_request, _ in server.commits] == [False, True]
    text = server.files[hub.README]
    assert text.count("## Evaluation") == text.count(hub.BEGIN) == 1
    assert "62.5 ± 1.0" in text
    assert "50.0 ±" not in text


def test_a_repository_that_does_not_exist_is_an_error_of_one_line(server: Hub) -> None:
    with pytest.raises(ResultsError, match=r"^hub: ORG/OTHER: .*; see `hf auth login`") as caught:
        hub.changes("ORG/OTHER", [PLAIN])
    assert "\n" not in str(caught.value)


def test_the_command_sends_only_with_yes(server: Hub, tmp_path: Path, command: Command) -> None:
    Store(tmp_path).put_record(PLAIN)
    shown = command("push", str(tmp_path), "--repo", "ORG/NAME")
    assert "+| `imagenetv2` | `acc1` | 50.0 ± 3.1 (n=10000) |" in shown.out
    assert "nothing was sent; to send it, add --yes" in shown.err
    assert server.commits == []
    assert "/ORG/NAME/commit/1" in command("push", str(tmp_path), "--repo", "ORG/NAME", "--yes").out
    assert "ORG/NAME has these results already" in command("push", str(tmp_path), "--repo", "ORG/NAME", "--yes").err
    assert len(server.commits) == 1
