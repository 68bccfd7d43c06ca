"""What is published is checked: sizes, and what must be inside."""

import re
import zipfile
from pathlib import Path

import pytest

from tools import packages, release

ROOT = Path(__file__).parents[1]


def test_a_wheel_without_a_file_or_with_a_foreign_or_too_large_one_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cocabench-1-py3-none-any.whl"
    names = (*packages.NEEDED, *packages.NEEDED_IN_WHEEL)
    with zipfile.ZipFile(path, "w") as wheel:
        for name in names:
            wheel.writestr(name, b"x")
    assert packages.main([str(path)]) == 0
    with zipfile.ZipFile(path, "w") as wheel:
        for name in (*names[1:], "tests/test_x.py"):
            wheel.writestr(name, b"x")
    monkeypatch.setattr(packages, "MAX_BYTES", 100)
    assert packages.main([str(path)]) == 1
    out = capsys.readouterr().out
    for said in ("py.typed is missing", "tests/test_x.py would be installed", "wanted 0 or less"):
        assert said in out


def test_versions_agree_and_a_tag_without_notes_or_with_another_version_is_refused(tmp_path: Path) -> None:
    assert len(set(release.versions().values())) == 1
    for name, text in {
        "pyproject.toml": 'version = "1.2.0"\n',
        "cocabench/core/__init__.py": '__version__ = "1.2.0"\n',
        "CITATION.cff": "version: 1.2.0\n",
        "CHANGELOG.md": "# Changelog\n\n## 1.2.0 (2027-01-01)\n\n- New.\n\n## 1.1.0\n\n- Old.\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert release.problems("v1.2.0", tmp_path) == []
    assert release.notes("1.2.0", (tmp_path / "CHANGELOG.md").read_text()) == "- New."
    (tmp_path / "CITATION.cff").write_text("version: 1.1.0\n")
    assert release.problems("v1.3.0", tmp_path)[-1] == "CHANGELOG.md: no section ## 1.3.0; rename Unreleased"
    assert "CITATION.cff: says 1.1.0; wanted 1.2.0" in release.problems("v1.2.0", tmp_path)


def test_the_readme_of_a_release_has_no_relative_link() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = release.absolute(readme, "https://example.org/o/n", "v1.2.0")
    assert page.count("](") == readme.count("](")
    assert not [link for link in re.findall(r"\]\(([^)]+)\)", page) if not link.startswith("https://")]
    assert "(https://example.org/o/n/raw/v1.2.0/reports/example/page.png)](https://example.org/o/n/blob/v1.2.0/" in page
    assert "](https://example.org/o/n/actions/workflows/ci.yml/badge.svg)]" in page
    assert "](https://example.org/o/n/blob/v1.2.0/docs/guides/own-task.md)" in page
    assert "](https://pypi.org/project/cocabench/)" in page
