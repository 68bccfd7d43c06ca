"""What cocabench computes and prints is what it did when the goldens were made, to the digit."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.goldens.equality import differences, elsewhere, folders_differ
from tests.goldens.make import COMMITTED, make
from tests.goldens.scenes import SCENES

pytestmark = pytest.mark.filterwarnings("default")
QUICK = [name for name, scene in SCENES.items() if scene.quick]
SLOW = [name for name in SCENES if name not in QUICK]


@pytest.mark.parametrize("scene", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_scene_equals_its_golden(scene: str, tmp_path: Path) -> None:
    make(tmp_path, [scene])
    lines = folders_differ(COMMITTED, tmp_path, scenes=[scene])
    assert not lines, "\n".join(lines)


def test_every_golden_has_its_scene() -> None:
    numbers = {path.stem for path in (COMMITTED / "numbers").iterdir()}
    words = {path.name for path in (COMMITTED / "words").iterdir()}
    assert numbers == set(SCENES)
    assert words <= set(SCENES)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    for name in ("numbers", "words"):
        shutil.copytree(COMMITTED / name, tmp_path / name)
    shutil.copy(COMMITTED / "environment.json", tmp_path)
    assert folders_differ(COMMITTED, tmp_path) == []
    return tmp_path


class TestAPlantedChangeIsReportedWithItsPath:
    def changed(self, copied: Path, *keys: str, value: object) -> list[str]:
        """Set a leaf of quick's numbers, and return the reported lines."""
        file = copied / "numbers/quick.json"
        tree = json.loads(file.read_text())
        below = tree
        for key in keys[:-1]:
            below = below[key]
        below[keys[-1]] = value
        file.write_text(json.dumps(tree))
        return folders_differ(COMMITTED, copied)

    def record(self) -> str:
        tree = json.loads((COMMITTED / "numbers/quick.json").read_text())
        return next(key for key in tree["records"] if "demo/coca g_folder_names" in key)

    def test_a_number(self, copied: Path) -> None:
        key = self.record()
        (line,) = self.changed(copied, "records", key, "metrics", "acc1", "value", value=0.123)
        assert line.startswith(f"numbers/quick.json: records/{key}/metrics/acc1/value: golden 0.")
        assert line.endswith(", got 0.123")

    def test_a_column(self, copied: Path) -> None:
        key = self.record()
        (line,) = self.changed(copied, "records", key, "samples", "columns", "n_above", "hash", value="0" * 16)
        assert line.startswith(f"numbers/quick.json: records/{key}/samples/columns/n_above/hash: golden '")

    def test_a_part_of_the_protocol_of_another_type(self, copied: Path) -> None:
        key = self.record()
        (line,) = self.changed(copied, "records", key, "protocol", "version", value=1.0)
        assert line == f"numbers/quick.json: records/{key}/protocol/version: golden 1, got 1.0"

    def test_a_warning(self, copied: Path) -> None:
        key = self.record()
        (line,) = self.changed(copied, "records", key, "warnings", value=["another"])[-1:]
        assert f"records/{key}/warnings[" in line

    def test_a_word_of_a_table(self, copied: Path) -> None:
        file = copied / "words/gates/gate.txt"
        lines = file.read_text().splitlines()
        number = next(k for k, line in enumerate(lines) if line.startswith("regressed"))
        lines[number] = lines[number].replace("regressed", "pass", 1)
        file.write_text("\n".join(lines) + "\n")
        (line,) = folders_differ(COMMITTED, copied)
        assert line.startswith(f"words/gates/gate.txt:{number + 1}: golden 'regressed")
        assert ", got 'pass" in line

    def test_a_file_more_or_less(self, copied: Path) -> None:
        (copied / "words/quick/run.txt").rename(copied / "words/quick/ran.txt")
        assert folders_differ(COMMITTED, copied) == [
            "words/quick/ran.txt: not in the golden",
            "words/quick/run.txt: only in the golden",
        ]


class TestHowEqual:
    @pytest.mark.parametrize(("got", "same"), [(0.5 + 1e-13, True), (0.5 + 1e-11, False), (0.5, True)])
    def test_numbers_are_to_a_millionth_of_a_millionth(self, got: float, same: bool) -> None:
        for key, same_machine in product(("value", "low", "p_value"), (True, False)):
            lines = list(differences({key: 0.5}, {key: got}, same_machine=same_machine))
            assert (not lines) is same

    def test_words_of_another_machine_may_differ_in_widths_last_digits_and_its_note_alone(self) -> None:
        golden = "device    HERE      text\na dog   -26.1914        6188.61\nNote: not measured alike: HERE\nend\n"
        assert elsewhere(golden) == elsewhere("device    HERE   text\na dog  -26.1913  6188.6\nend\n")
        for other in ("devices    HERE  text", "device  HERE  test", "device HERE  text"):
            assert elsewhere(golden) != elsewhere(golden.replace("device    HERE      text", other))
        assert elsewhere(golden) != elsewhere(golden.replace("6188.61", "6180.61"))

    def test_near_ties_may_fall_otherwise_on_another_machine(self) -> None:
        def named(task: str, value: str) -> dict[str, Any]:
            return {"records": {f"demo/clip {task} 1": {"n_above": {"family": "int", "hash": value}}}}

        assert not list(differences(named("mnist", "a"), named("mnist", "b"), same_machine=False))
        assert list(differences(named("mnist", "a"), named("mnist", "b"), same_machine=True))
        assert list(differences(named("cars", "a"), named("cars", "b"), same_machine=False))

    def test_last_bits_may_differ_on_another_machine(self) -> None:
        golden = {"family": "float", "rounded": "a", "exact": "b", "sum": 100.0}
        got = {"family": "float", "rounded": "c", "exact": "d", "sum": 100.001}
        assert len(list(differences(golden, got, same_machine=True))) == 3
        assert not list(differences(golden, got, same_machine=False))
        assert list(differences({"family": "int", "hash": "a"}, {"family": "int", "hash": "b"}, same_machine=False))
