"""Settings by which a model's files could run code. Such files come from folders and hubs, and must not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cocabench.core.errors import ModelError, unreadable
from cocabench.core.files import parse_json, read_text

CODE_KEYS = frozenset({
    "auto_map", "code_revision", "custom_generate", "custom_pipelines", "kernel_config", "trust_remote_code",
    "use_kernels",
})  # fmt: skip
"""Settings of transformers, anywhere in a file, by which a repository can run its own Python code."""

ATTENTION_KEYS = frozenset({"attn_implementation", "_attn_implementation", "experts_implementation"})
"""Settings of transformers that may name a repository of kernels: ``ORG/REPO``."""

TOWER_FILES = ("config.json", "tokenizer_config.json")
"""Files in which transformers looks for code of a tokenizer or text tower."""

FIX = "remove it; only installed plugins may run code"


def refuse_code(content: object, where: str) -> None:
    """Raise ModelError if a JSON value has a setting by which a repository can run code."""
    for path, key, value in _settings(content):
        kernels = key in ATTENTION_KEYS and "/" in str(value)
        if (key in CODE_KEYS and value not in (False, None)) or kernels:
            raise ModelError(where, f"{path} would run code that comes with the model", fix=FIX)


def refuse_code_in(folder: Path, names: Iterable[str] = TOWER_FILES) -> None:
    """Raise ModelError if one of these JSON files in a folder names its own code; by default a text tower's."""
    for file in (folder / name for name in names):
        if not file.is_file():
            continue
        try:
            content = parse_json(read_text(file))
        except (OSError, ValueError) as error:
            raise ModelError(str(file), unreadable(error)) from None
        refuse_code(content, str(file))


def _settings(content: object, prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield (path, key, value) of every entry of every table in a JSON value."""
    waiting = [(prefix, content)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, Mapping):
            for key, item in value.items():
                yield f"{path}{key}", str(key), item
                waiting.append((f"{path}{key}.", item))
        elif isinstance(value, list):
            waiting += [(path, item) for item in value]
