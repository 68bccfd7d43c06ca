"""cocabench show: a Record's numbers and its signature in words; a folder is listed."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Command
from tests.samples import classified, right

RECORD = Path(__file__).parents[1] / "records" / "schema_1" / "captioning.json"


def test_a_record_is_explained(command: Command) -> None:
    told = command("show", RECORD)
    assert told.code == 0, told.err
    assert told.out.startswith("demo/coca on emoji_captions")
    for line in (
        ("CIDEr", "12.3 ± ", "tf-idf"),
        ("decoding.num_beams", "6", "beams"),
        ("data.hash", "8c5c9a25cd9e1392", "ids, texts, labels, domains and negatives, in order"),
        ("packages.torch", "2.", "computes"),
    ):
        assert any(all(part in printed for part in line) for printed in told.out.splitlines()), line
    assert "Environment: kept, never compared" in told.out
    assert "no samples: differences cannot be paired" in told.out


def test_a_folder_is_listed_and_one_is_chosen(command: Command, tmp_path: Path) -> None:
    for model, task in (("a", "t1"), ("a", "t2"), ("b", "t1")):
        classified(tmp_path, model, right(1, 2), task)
    assert len(command("show", tmp_path).out.splitlines()) == 5
    told = command("show", tmp_path, "--model", "a", "--task", "t2")
    assert told.out.startswith("a on t2")
    assert "samples beside it" in told.out
    refused = command("show", tmp_path, "--model", "c")
    assert (refused.code, "unknown 'c'" in refused.err) == (2, True)
    assert command("show", tmp_path / "none").code == 2
