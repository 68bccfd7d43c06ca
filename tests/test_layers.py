"""Imports point one way, and the light modules stay light."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cocabench

PACKAGE = Path(cocabench.__file__).parent
LAYERS = (
    ("core",),
    ("specs", "metrics"),
    ("captioneval", "data", "demo"),
    ("models",),
    ("kinds",),
    ("results",),
    ("report",),
    ("run",),
    ("train", "play"),
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


def test_modules_import_their_own_layer_and_lower_ones_only() -> None:
    wrong = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in RANK, f"give {own} a layer"
        if higher := {name for name in imports(path) if RANK[name] > RANK[own]}:
            wrong[str(path.relative_to(PACKAGE))] = higher
    assert not wrong


MODULES = {
    ".".join(("cocabench", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def modules_of(node: ast.AST, package: Sequence[str]) -> set[str]:
    """Return the modules of cocabench that a statement imports, for whatever reason."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names} & MODULES.keys()
    if not isinstance(node, ast.ImportFrom):
        return set()
    above = package[: len(package) - node.level + 1] if node.level else ()
    base = ".".join((*above, *([node.module] if node.module else [])))
    inner = {name for alias in node.names if (name := f"{base}.{alias.name}") in MODULES}
    return inner or {base} & MODULES.keys()


def test_imports_have_no_cycle() -> None:
    """Within a layer too, and for types alone too: a circle is one module in two files."""
    graph = {}
    for name, path in MODULES.items():
        package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        graph[name] = {found for node in nodes for found in modules_of(node, package)} - {name}
    assert graph["cocabench.models.open_clip.decoding.likelihood"] > {"cocabench.models.open_clip.decoding.steps"}, (
        "relative imports count"
    )
    graphlib.TopologicalSorter(graph).prepare()


LIGHT = (
    "cocabench",
    "cocabench.results.store",
    "cocabench.results.gate",
    "cocabench.report",
    "cocabench.specs.registry",
    "cocabench.cli",
)


def test_torch_free_modules_import_no_torch() -> None:
    """In one process, for starting one takes most of the time; what imports it is named."""
    code = (
        "import importlib, sys\n"
        f"for name in {LIGHT}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
        "sys.modules['cocabench.specs.registry'].all_tasks()\n"
        "assert 'torch' not in sys.modules, 'listing tasks'\n"
    )
    process = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
