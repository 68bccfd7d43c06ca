"""What the installed open_clip publishes and declares, read from its files: architectures, tags, keys of configs.

Importing open_clip takes five seconds, for torch, torchvision and timm; plans and lists need none of them. Where a
program has imported it, it is asked instead, since ``open_clip.add_model_config`` may have added architectures.
"""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Table = dict[str, Any]


def architectures() -> list[str]:
    """Return the names of open_clip's architectures, in its order.

    >>> "coca_ViT-L-14" in architectures()
    True
    """
    return list(_imported().list_models() if _imported() else _configs())


def architecture(name: str) -> Table:
    """Return the config (model_cfg) of an architecture; KeyError for an unknown name."""
    found = _imported().get_model_config(name) if _imported() else deepcopy(_configs().get(name))
    if found is None:
        raise KeyError(name)
    return dict(found)


def tags(name: str) -> list[str]:
    """Return the tags of an architecture's published weights; of an unknown one, none."""
    return list((_imported() or _pretrained()).list_pretrained_tags_by_model(name))


def tag(name: str, which: str) -> Table:
    """Return where a tag's weights are and how images are prepared for them; empty if there is no such tag.

    Case and hyphens of the tag do not matter, as in open_clip.
    """
    return dict((_imported() or _pretrained()).get_pretrained_cfg(name, which))


def preprocessing() -> Table:
    """Return open_clip's default preprocessing, the fields of PreprocessCfg."""
    return dict(declared("transform", "PreprocessCfg"))


@cache
def declared(module: str, name: str) -> Table:
    """Return the fields, or parameters of ``__init__``, of a class of open_clip; defaults of fields, else None."""
    tree = ast.parse((_folder() / f"{module}.py").read_text(encoding="utf-8"))
    cls = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    made = next((node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)
    if made:
        return {argument.arg: None for argument in (*made.args.args, *made.args.kwonlyargs)[1:]}
    near = {
        alias.name: str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    bases = [base.id for base in cls.bases if isinstance(base, ast.Name)]
    inherited = [declared(near.get(base, module), base) for base in bases]
    own = {ast.unparse(node.target): _constant(node.value) for node in cls.body if isinstance(node, ast.AnnAssign)}
    return {key: value for table in (*inherited, own) for key, value in table.items()}


def _constant(node: ast.expr | None) -> Any:
    if isinstance(node, ast.Name):
        return _constants().get(node.id)
    return ast.literal_eval(node) if node is not None else None


@cache
def _constants() -> Table:
    return runpy.run_path(str(_folder() / "constants.py"))


@cache
def _configs() -> Mapping[str, Table]:
    """Return the configs of open_clip's folder by name, in natural order."""
    read = {path.stem: json.loads(path.read_bytes()) for path in (_folder() / "model_configs").glob("*.json")}
    whole = {name: one for name, one in read.items() if {"embed_dim", "vision_cfg", "text_cfg"} <= one.keys()}
    return {name: whole[name] for name in sorted(whole, key=_natural)}


def _natural(name: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())]


@cache
def _pretrained() -> SimpleNamespace:
    """Return open_clip's module of published tags without what it imports from others, which only downloads use."""
    tree = ast.parse((_folder() / "pretrained.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not isinstance(node, ast.ImportFrom | ast.Try)]
    known = dict(_constants())
    unevaluated = annotations.compiler_flag  # of functions, whose annotations name imported types
    exec(compile(tree, "pretrained.py", "exec", flags=unevaluated), known)
    return SimpleNamespace(**known)


def _folder() -> Path:
    spec = find_spec("open_clip")
    assert spec is not None, "cocabench requires open_clip"
    assert spec.submodule_search_locations, "it is a package"
    return Path(spec.submodule_search_locations[0])


def _imported() -> Any:
    """Return open_clip if this process has imported it whole."""
    module = sys.modules.get("open_clip")
    return module if hasattr(module, "list_pretrained") else None
