"""Shell completion: the names offered to bash, without importing torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command

BASELINES = Path(__file__).parents[2] / "results" / "baselines"


def asked(line: str) -> dict[str, str]:
    """Return the variables with which bash asks how the last word of a line goes on."""
    return {"_COCABENCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("cocabench run --model coca_Vi", ["coca_ViT-B-32", "coca_ViT-L-14"]),
        ("cocabench run --model ViT-B-32,demo/cl", ["ViT-B-32,demo/clip"]),
        ("cocabench run --tasks flickr30k,emoji_f", ["flickr30k,emoji_flags", "flickr30k,emoji_food_drink"]),
        ("cocabench score --metrics bleu,m", ["bleu,meteor"]),
        ("cocabench train coca-", ["coca-caption-finetune", "coca-roberta", "coca-scratch", "coca-vqa-finetune"]),
        ("cocabench data csv --from kar", ["karpathy"]),
        (f"cocabench compare {BASELINES} --models demo/cl", ["demo/clip"]),
        (f"cocabench compare {BASELINES} --samples emoji_ret", ["emoji_retrieval"]),
        ("cocabench compare /nowhere --models demo", []),
        ("cocabench run --precision bf", ["bf16"]),
    ],
)
def test_completion_offers_names(
    command: Command, monkeypatch: pytest.MonkeyPatch, line: str, found: list[str]
) -> None:
    for name, value in asked(line).items():
        monkeypatch.setenv(name, value)
    assert command().out.split() == found


def test_completion_imports_no_torch() -> None:
    for line in ("cocabench run --model coca_ViT-B", "cocabench run --tasks flickr8"):
        words = [sys.executable, "-X", "importtime", "-c", "from cocabench.cli import main; main()"]
        result = subprocess.run(words, env={**os.environ, **asked(line)}, capture_output=True, text=True, check=True)
        assert result.stdout.startswith(("coca_ViT-B", "flickr8"))
        imported = {row.rpartition("|")[2].strip() for row in result.stderr.splitlines()}
        assert "cocabench.cli.names" in imported
        assert not imported & {"torch", "open_clip", "transformers"}
