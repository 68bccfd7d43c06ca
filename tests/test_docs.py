"""The documentation is true: its commands exist, what it says runs does, and what is made from the code is current."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import typer

import cocabench
from cocabench.cli import app
from cocabench.core.notes import CODES
from cocabench.kinds import every
from cocabench.specs.registry import all_tasks, families, find_tasks
from tools import clip_benchmark, links, site

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md"))
}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUN = [name for name, text in PAGES.items() if "```sh\n" in text]
"""Pages with commands that a test runs (``sh``, and ``py``); those in ``bash`` need data, weights or machines."""

ROOT_COMMAND = typer.main.get_command(app)
find = cache(lambda name: find_tasks([name]))


def blocks(text: str, *languages: str) -> list[str]:
    return [body for language, body in BLOCK.findall(text) if language in languages]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each cocabench command in blocks of shell."""
    for body in blocks(text, "sh", "bash"):
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            starts = [
                i for i, word in enumerate(words) if word == "cocabench" and (i == 0 or words[i - 1] in {"&&", "--"})
            ]
            for start in starts:
                rest = words[start + 1 :]
                yield rest[: next((i for i, word in enumerate(rest) if word in {"|", ">", "&&", ";"}), len(rest))]


def parsed(words: list[str]) -> dict[str, object]:
    """Return the parameters of a command; typer's error for a name, option or value that does not exist."""
    command = ROOT_COMMAND
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]  # type: ignore[attr-defined]
    if getattr(command, "commands", None):
        known = {name for param in command.params for name in param.opts}
        assert set(words) <= known, words
        return {}
    return dict(command.make_context(command.name, list(words)).params)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_every_command_exists_with_its_options_and_tasks(name: str) -> None:
    text = PAGES.get(name) or (ROOT / name).read_text(encoding="utf-8")
    for words in commands(text):
        params = parsed(words)
        tasks = params.get("tasks") if words[0] == "run" else None
        for value in tasks if isinstance(tasks, list) else []:
            assert all(n.endswith(".toml") or n == "…" or find(n) for n in value.split(","))


def test_a_command_that_does_not_exist_is_found() -> None:
    wrong = "```bash\ncocabench run --modell demo\n```\n```sh\nx && cocabench report results --no-such\n```\n"
    found = list(commands(wrong))
    assert found == [["run", "--modell", "demo"], ["report", "results", "--no-such"]]
    for words in found:
        with pytest.raises(typer.TyperException):
            parsed(words)


@pytest.mark.parametrize("name", ["README.md", *PAGES])
def test_python_of_the_pages_compiles_and_names_what_exists(name: str) -> None:
    for body in blocks(PAGES.get(name, README), "python", "py"):
        assert "8 < --" not in body, "a formatter took the snippet for Python"
        if "--8<--" not in body:
            compile(body, name, "exec")
        assert set(re.findall(r"\bcocabench\.([a-z]\w*)\(", body)) <= set(cocabench.__all__)


def script(text: str) -> str:
    """Return a page's runnable blocks as one script of bash: commands, the files that it shows, Python."""
    lines = ["set -euo pipefail"]
    for language, body in BLOCK.findall(text):
        if language == "sh":
            lines.append(body)
        elif language == "toml" and (file := re.match(r"# ([\w.]+)\n", body)):
            lines.append(f"cat > {file[1]} <<'END'\n{body}END")
        elif language == "py":
            lines.append(f"python - <<'END'\n{body}END")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_what_a_page_shows_runs_in_its_order(name: str, tmp_path: Path, cached: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COCABENCH_CACHE": str(cached)}
    order = ["bash", "-c", script(PAGES[name])]
    done = subprocess.run(order, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    if name == "docs/tutorial.md":
        assert (tmp_path / "reports" / "tutorial" / "index.html").is_file()
        for said in ("demo/coca", "photos", "t2i_recall@5", "p_adjusted"):
            assert said in done.stdout


def test_the_tutorial_is_among_the_pages_that_run() -> None:
    assert {"docs/tutorial.md", "docs/guides/captions.md"} <= set(RUN)


def test_readme_is_short_and_its_first_commands_are_make() -> None:
    assert len(README.splitlines()) <= 120
    assert blocks(README, "sh") == ["make demo\nmake test\n"]


def test_readme_has_the_published_results_of_today() -> None:
    assert site.with_table(README) == README
    assert "| `coca_ViT-L-14:laion2b_s13b_b90k` | 75.6 | 92.0 |" in README
    assert site.with_table(README.replace("75.6", "99.9")) == README


def test_links_of_the_readme_lead_to_files() -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README)]
    local = [link for link in links if link and "://" not in link and not link.startswith("../../actions/")]
    assert len(local) > 20
    assert not [link for link in local if not (ROOT / link).exists()]


def test_generated_pages_have_every_task_metric_note_and_command() -> None:
    tasks = all_tasks()
    page = site.tasks()
    rows = families(task.spec for task in tasks.values())
    assert sum(len(specs) for _, _, specs in rows) == len(tasks)
    assert [name for name, _, _ in rows if f"| `{name}` |" not in page] == []
    assert [name for name, task in tasks.items() if not task.spec.licence] == []
    assert "cs.toronto.edu/~kriz" in page
    metrics = site.metrics()
    assert all(metrics.count(f"| `{m.name}` |") >= 1 for kind in every() for m in kind.listed())
    assert all(f"| `{code}` |" in site.notes() for code in CODES)
    shown = site.commands()
    words = [" ".join(words) for words, _ in site.every_command(ROOT_COMMAND) if words]
    assert [name for name in words if f"\n## {name}\n" not in shown] == []
    assert "`--num-beams` `N`" in shown
    assert "[params]" in shown.replace("\\", "")


@pytest.mark.slow
def test_everything_of_clip_benchmark_is_ours_or_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    page = clip_benchmark.page()
    cells = [line.split(" | ")[1] for line in page.splitlines() if line.startswith("| `")]
    assert len(cells) > 100
    assert all(cell.strip(" |") for cell in cells)
    known = set(clip_benchmark.options())
    assert known == clip_benchmark.OPTIONS.keys()
    assert len(known) > 35
    flags = {flag for cell in clip_benchmark.OPTIONS.values() for flag in re.findall(r"--[a-z][a-z-]+", cell)}
    assert len(flags) > 10
    shown = site.commands()
    assert [flag for flag in sorted(flags) if f"`{flag}`" not in shown] == []
    assert {"`vtab/cub`", "the group `vtab+`: its 36"} <= {cell.strip(" |") for cell in cells}
    for explained, theirs in (
        (clip_benchmark.SETS, clip_benchmark.sets()),
        (clip_benchmark.TASKS, clip_benchmark.tasks()),
        (clip_benchmark.MODEL_TYPES, clip_benchmark.model_types()),
        (clip_benchmark.EXPORTED, clip_benchmark.exported()),
    ):
        assert not explained.keys() - set(theirs), "explained, and not there"
    ours = {name for name in clip_benchmark.SETS if f"| `{name}` | {clip_benchmark.SETS[name]} |" not in page}
    assert not ours, "explained, and a task"
    monkeypatch.setattr(clip_benchmark, "sets", lambda: ["new_set"])
    with pytest.raises(KeyError, match="new_set"):
        clip_benchmark.page()


@pytest.mark.slow
def test_the_page_of_models_has_published_accuracies() -> None:
    row = next(line for line in site.models().splitlines() if line.startswith("| `coca_ViT-L-14` |"))
    assert "`laion2b_s13b_b90k`" in row
    assert "| 75.6 |" in row


@pytest.mark.slow
def test_examples_in_docstrings_become_code() -> None:
    from tools import doctests  # griffe comes with the extra docs, which dev has

    text = "Adds.\n\n>>> 1 + 1\n2\n\nMore."
    assert doctests.fenced(text) == "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore."
    assert doctests.listed("Adds: x.\n\na, b: two.\nNo: c.") == "Adds: x.\n\n\n- **a, b**: two.\nNo: c."


def test_dead_links_are_found(tmp_path: Path) -> None:
    """Against a server of our own: there, not there, and a port at which nobody answers."""
    (tmp_path / "there").write_text("x")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        page = tmp_path / "page.md"
        page.write_text(f"[a]({base}/there), <{base}/gone>. And http://127.0.0.1:9/closed.")
        lines = list(links.dead(links.addresses([page])))
        server.shutdown()
    assert [line.partition("127.0.0.1")[2].partition("/")[2] for line in lines] == [
        "gone: status 404",
        "closed: ConnectionError",
    ]
