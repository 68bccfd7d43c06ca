"""The leaderboard's site: what may be published, what its page holds, and its filters in a real browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cocabench.core.errors import ResultsError
from cocabench.report.site import write_site
from cocabench.results.store import Store, load
from cocabench.results.validation import problems
from tests.samples import classified

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
PROTOCOL = {"task": "pets", "version": 1, "evaluator": "classification", "data": {"images": 4}, "standard": True}
EXAMPLE = Path(__file__).parents[2] / "examples/leaderboard"


def submission(root: Path, name: str, hits: list[bool], task: str = "pets") -> Path:
    made = classified(root / name, name, hits, task, protocol=PROTOCOL | {"task": task})
    path = load(root / name).paths[0]
    assert path is not None
    table = json.loads(path.read_text())
    table["signature"]["model"] |= {"weights": name, "preprocess": "p", "packages": {}}
    path.unlink()
    (samples,) = (root / name).rglob("*.samples.parquet")
    content = made.model_validate(table)
    own = Store(root / name).put_record(content)
    assert samples.parent == own.parent
    return root / name


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    ada = submission(tmp_path / "submissions", "ada", [True, True, True, False])
    bo = submission(tmp_path / "submissions", "bo", [True, False, False, False], "imagenet1k")
    return [ada, bo]


def edited(folder: Path, old: str, new: str) -> Path:
    (file,) = folder.rglob("*.json")
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


def test_what_a_run_wrote_has_no_problems(folders: list[Path]) -> None:
    assert [problems(folder) for folder in folders] == [[], []]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"value": 0.75', '"value": 0.95', "acc1 is 0.95, but its samples give 0.75"),
        ('"weights": "ada"', '"weights": "bo"', "one of them was edited"),
        ('"schema_version": 2', '"schema_version": 99', "a Record of schema 99"),
    ],
)
def test_an_edited_record_is_found(folders: list[Path], old: str, new: str, said: str) -> None:
    edited(folders[0], old, new)
    assert any(said in line for line in problems(folders[0]))


def test_samples_of_another_record_are_found(folders: list[Path]) -> None:
    (samples,) = folders[0].rglob("*.parquet")
    (others,) = folders[1].rglob("*.parquet")
    shutil.copy(others, samples)
    (said,) = problems(folders[0])
    assert "samples: damaged, or not what its Record was made of" in said
    samples.unlink()
    (said,) = problems(folders[0])
    assert "no samples beside the Record" in said


def test_a_signature_with_parts_missing_and_an_empty_folder_are_found(tmp_path: Path) -> None:
    classified(tmp_path / "c", "c", [True, False])
    assert any(
        "signature without task" not in said and "signature without" in said for said in problems(tmp_path / "c")
    )
    (tmp_path / "empty").mkdir()
    assert "no Records" in problems(tmp_path / "empty")[0]


def test_all_problems_are_told_at_once_and_nothing_is_written(folders: list[Path], tmp_path: Path) -> None:
    for folder in folders:
        edited(folder, '"schema_version": 2', '"schema_version": 99')
    with pytest.raises(ResultsError) as caught:
        write_site(folders, tmp_path / "site", title="x")
    assert str(caught.value).count("schema 99") == 2
    assert not (tmp_path / "site").exists()


def test_the_page_has_a_row_for_each_result_and_is_escaped(folders: list[Path], tmp_path: Path) -> None:
    page, *_ = write_site(folders, tmp_path / "site", title="<b>Ours")
    text = page.read_text()
    assert "<b>Ours" not in text
    assert '<b>75.0</b> <span class="pm">±' in text
    assert 'data-source="ada"' in text
    assert "non-commercial research" in text, "the licence of ImageNet"
    assert (tmp_path / "site/report/index.html").is_file()


@pytest.mark.slow
def test_the_workflows_commands_run(folders: list[Path], tmp_path: Path) -> None:
    workflow = yaml.safe_load((EXAMPLE / ".github/workflows/leaderboard.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}, "what reads a pull request can write nothing"
    writing = [name for name, job in workflow["jobs"].items() if "permissions" in job]
    assert [workflow["jobs"][name]["if"] for name in writing] == ["github.ref == 'refs/heads/main'"]
    steps = workflow["jobs"]["site"]["steps"]
    commands = [step["run"] for step in steps if step.get("run", "").startswith("cocabench")]
    assert len(commands) == 2
    assert all(command in (EXAMPLE / "README.md").read_text() for command in commands)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        subprocess.run(["bash", "-euc", command], cwd=tmp_path, env=env, check=True, capture_output=True)
    assert "Our leaderboard" in (tmp_path / "site/index.html").read_text()
    edited(folders[0], '"value": 0.75', '"value": 0.95')
    failed = subprocess.run(["bash", "-euc", commands[0]], cwd=tmp_path, env=env, check=False, capture_output=True)
    assert failed.returncode == 2


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium: apt install chromium, or set CHROMIUM")
def test_search_filters_and_order_in_a_browser(folders: list[Path], tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'cocabench[browser]'")
    page_file, *_ = write_site(folders, tmp_path / "site", title="Ours", published=["ViT-L-14:laion2b_s32b_b82k"])
    said: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(page_file.as_uri())

        def shown() -> list[str]:
            return [row.inner_text() for row in page.locator("tbody th:visible").all()]

        total = len(shown())
        assert total > 10, "published results too"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing wider than a phone"
        page.fill("#find", "ada pets")
        assert shown() == ["ada"]
        page.fill("#find", "")
        page.select_option('[data-filter="task"]', "imagenet1k")
        page.select_option('[data-filter="source"]', "bo")
        assert shown() == ["bo"]
        assert page.inner_text("#found") == f"1 of {total} results"
        page.select_option('[data-filter="source"]', "")
        page.fill("[data-most]", "1000")
        assert shown() == ["ViT-L-14:laion2b_s32b_b82k"], "those of unknown size are left out"
        page.fill("[data-most]", "")
        page.click("thead button:has-text('Score')")
        assert len(shown()) == 2
        page.fill("#find", "")
        page.screenshot(path=tmp_path / "site.png")
        browser.close()
    assert said == []
