"""The one command for a GPU, on machines that have none: what it would do, its order, its budget, its stand-ins."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import gpu, pinned, wheels
from benchmarks.gpu import PARTS, Part, line, run, seconds


def script(folder: Path, body: str) -> str:
    """Return the command of a Python file, since words are split at blanks."""
    file = folder / f"{abs(hash(body))}.py"
    file.write_text(body)
    return str(file)


def test_without_a_gpu_it_says_what_it_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "gpu", lambda: "")
    (tmp_path / "training.json").write_text("{}")
    gpu.main(["--folder", str(tmp_path), "--budget", "8m"])
    said = capsys.readouterr().out
    left = sum(part.seconds for part in PARTS if part.name != "training")
    assert said.startswith(
        f"No GPU here, so nothing is measured. With one, of a budget of 480 s about {left} s would be:"
    )
    assert all(part.name in said for part in PARTS)
    assert f"done: {tmp_path / 'training'}.json" in said
    assert sum(part.seconds for part in PARTS) <= seconds("8m"), "all parts fit into the budget"


def test_of_a_small_budget_it_says_what_would_not_run(tmp_path: Path) -> None:
    parts = (Part("first", "w", 50, "", ""), Part("long", "l", 90, "", ""), Part("short", "s", 20, "", ""))
    said = list(gpu.intentions(parts, tmp_path, 80))
    assert said[0].endswith("of a budget of 80 s about 70 s would be:")
    assert said[1:4] == ["  first       50 s  w", "  short       20 s  s", "  long          –   not run: it takes 90 s"]


def test_what_is_done_stays_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    counting = f"open({str(tmp_path / 'calls')!r}, 'a').write('x'); print('{{\"rate\": 7}}')"
    parts = (
        Part("good", "w", 1, script(tmp_path, counting), "", ("rate",)),
        Part("bad", "w", 1, script(tmp_path, "raise SystemExit('out of memory')"), "", ("rate",)),
        Part("silent", "w", 1, script(tmp_path, "print('no JSON')"), "", ("rate",)),
    )
    for _ in range(2):
        found = {one.name: result for one, result in run(parts, tmp_path, 60)}
        assert found["good"]["rate"] == 7
        assert found["bad"] == {"error": "exit code 1: out of memory"}
        assert found["silent"] == {"error": "exit code 0: no JSON"}
    assert (tmp_path / "calls").read_text() == "x"
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["good.json"]
    assert line(parts[0], {"rate": 7, "wall_s": 2.0}) == "good         2.0 s  rate 7"
    assert line(parts[1], found["bad"]) == "bad        FAILED: exit code 1: out of memory"


def test_the_budget_ends_a_part_and_begins_none_without_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "FEWEST_S", 0.5)
    slow = Part("slow", "w", 1, script(tmp_path, "import time; time.sleep(60)"), "", ())
    (_, found), (_, other) = run((slow, Part("next", "w", 90, "", "")), tmp_path, 1.2)
    assert found["error"].startswith("stopped after 1 s")
    assert other == {"not run": "0 s of the budget were left"}
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(("text", "wanted"), [("8m", 480), ("90s", 90), ("30", 30), ("1.5m", 90)])
def test_a_budget_is_minutes_or_seconds(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("words", [["--budget", "soon"], ["--only", "ViT-H"]])
def test_wrong_flags_are_one_line(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(words)
    assert "got 'soon'" in (said := capsys.readouterr().err) or "unknown part 'ViT-H'; known: agreement" in said


def test_wheels_are_the_peers_first_and_then_the_smallest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"open_clip_torch==3.3.0": 3, "large==1": 5, "small==1": 2}

    def fetched(requirements: Sequence[str], folder: Path) -> bool:
        if len(requirements) > 1 or (requirement := requirements[0]) not in sizes:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        name = requirement.replace("==", "-")
        (folder / f"{name}-py3-none-any.whl").write_bytes(bytes(sizes[requirement] << 20))
        return True

    monkeypatch.setattr(wheels, "_fetched", fetched)
    monkeypatch.setattr(wheels, "_needed", lambda _: ["large==1", "small==1"])
    said = list(wheels.pack(tmp_path, 6))
    assert said[0] == f"2 wheels, 5 of 6 MiB, in {tmp_path}"
    assert said[1] == "left out, too large: large"
    assert "clip-benchmark==1.6.2" in said[2]
    assert sorted(path.name.split("-")[0] for path in tmp_path.rglob("*.whl")) == ["open_clip_torch", "small"]


def test_what_cocabench_needs_leaves_torch_to_the_machine() -> None:
    needed = [one.partition("==")[0] for one in wheels._needed("cocabench")]
    assert {"pydantic", "pillow", "rich"} <= set(needed)
    assert not {"torch", "torchvision"} & set(needed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", [one for one in PARTS if one.name not in ("ViT-B-32", "ConvNeXt")], ids=lambda one: one.name
)
def test_each_part_runs_as_its_stand_in_on_the_cpu(part: Part, tmp_path: Path) -> None:
    if part.name == "captions" and not pinned.is_installed():
        pytest.skip("the pinned peers are not installed: python -m benchmarks captioning installs them")
    ((_, found),) = run((part,), tmp_path, 600, stand_ins=True)
    assert "error" not in found
    assert "–" not in line(part, found), "each figure of the table is in the JSON"
    assert json.loads((tmp_path / f"{part.name}.json").read_text()) == found
