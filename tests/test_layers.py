"""Imports point one way, and the light modules stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cocabench

PACKAGE = Path(cocabench.__file__).parent
LAYERS = (
    ("errors", "types", "cachedir"),
    (
        "metrics",
        "spec",
        "signature",
        "explain",
        "store",
        "epochs",
        "efficiency",
        "compare",
        "gate",
        "report",
        "published",
        "interop",
    ),
    ("registry", "data", "models", "demo", "thumbnails"),
    ("evaluators",),
    ("plan", "measure", "run", "expected"),
    ("train",),
    ("cli", "__main__", "pytest_plugin"),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def imports(path: Path) -> set[str]:
    """Return the top-level parts of cocabench that a module imports at any depth, type checking aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(n)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for n in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cocabench"):
            parts = node.module.split(".")[1:2] or [alias.name for alias in node.names]
            found |= set(parts)
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("cocabench.")}
    return found & RANK.keys()


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_its_own_layer_and_lower_ones_only(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    assert own in RANK, f"give {own} a layer"
    higher = {name for name in imports(path) if RANK[name] > RANK[own]}
    assert not higher, f"{own} must not import {higher}"


@pytest.mark.parametrize(
    "module",
    ["cocabench", "cocabench.cli", "cocabench.report", "cocabench.gate", "cocabench.store", "cocabench.registry"],
)
def test_what_needs_no_torch_imports_none(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_listing_tasks_needs_no_torch() -> None:
    code = "import cocabench.registry as r, sys; r.all_tasks(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
