"""The entry point ``transformers`` of the group cocabench.models: a folder or hub repository to a Source.

Nothing is loaded, and transformers is not imported. Every file that it will read is found, hashed for the signature
and searched for settings by which it would run code that comes with the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from pydantic import JsonValue

from cocabench.core.errors import ModelError, UnknownNameError, first_line, unreadable
from cocabench.core.files import expanded, parse_json, read_text
from cocabench.core.signature import digest, digest_file
from cocabench.core.types import Ability, Note
from cocabench.models.hf.families import FAMILIES, Cleaning, Family, Usage, check_version
from cocabench.models.remote_code import refuse_code_in
from cocabench.specs.spec import ModelSpec

if TYPE_CHECKING:
    from cocabench.models.base import Model
    from cocabench.models.hardware import Hardware

LIBRARY = "transformers"

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""What transformers prefers, in this order."""

TOKENIZERS = (
    "tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model",
)  # fmt: skip
"""One of these holds the vocabulary. Without one, transformers 5 makes an empty tokenizer."""

PROCESSORS = ("preprocessor_config.json", "processor_config.json")

SETTINGS = ("config.json", "generation_config.json", *PROCESSORS, "tokenizer_config.json")
OTHERS = ("added_tokens.json", "special_tokens_map.json", "merges.txt")
ADAPTER = "adapter_config.json"

MIN_POSITIONS = 4
"""A start token, a word, an end token, and one more."""


@dataclass(frozen=True)
class HFSource:
    """A checkpoint in the layout of ``save_pretrained``.

    folder: with its files. use: how its networks and texts are handled.
    """

    id: str
    folder: Path
    use: Usage
    notes: tuple[Note, ...] = ()
    available: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("pillow", "tokenizers", "torch", "transformers")
    model_module: ClassVar[str] = "cocabench.models.hf.load"
    features_version: ClassVar[int] = 1
    """Raise it if a change in this room or in the base class changes a feature or a caption."""

    @property
    def abilities(self) -> frozenset[Ability]:
        return self.use.family.abilities

    def signature(self) -> dict[str, JsonValue]:
        """Return the hashes of all files that transformers reads, and what is done with texts."""
        preprocess, vocabulary = self._hashes(PROCESSORS), self._hashes((*TOKENIZERS, *OTHERS, "tokenizer_config.json"))
        made: dict[str, JsonValue] = {
            "id": self.id,
            "weights": digest([digest_file(path) for path in weight_files(self.folder)]),
            "architecture": digest(self.use.family.network, self._hashes(("config.json",))),
            "preprocess": digest(preprocess),
            "vocabulary": digest(vocabulary),
        }
        if "caption" in self.abilities:
            return {**made, "generate": {"by": "transformers", "length": self.use.length}}
        return {**made, "texts": {"cleaning": self.use.cleaning, "length": self.use.length}}

    def load(self, hardware: Hardware) -> Model:
        """Return the model on its device, ready to encode or to caption."""
        from cocabench.models.hf.load import loaded  # transformers takes seconds to import

        return loaded(self.id, self.folder, self.use, hardware)

    def _hashes(self, names: Sequence[str]) -> dict[str, JsonValue]:
        found = (self.folder / name for name in names)
        return {path.name: digest_file(path) for path in found if path.is_file()}


def sources(spec: ModelSpec, *, download: bool = True) -> list[HFSource]:
    """Return the Source of ``transformers::FOLDER`` or ``transformers::ORG/NAME``; a folder takes precedence.

    ModelError for files that are missing, cannot be read, or would run code.
    """
    folder = expanded(spec.weights)
    if not folder.is_dir():
        folder = _from_hub(spec.weights, download=download)
    return [source_of(f"{LIBRARY}::{spec.weights}", folder)]


def source_of(name: str, folder: Path) -> HFSource:
    """Return the Source of a folder."""
    where = f"--model {name}"
    config = _table(folder / "config.json", where)
    model_type = str(config.get("model_type", ""))
    if model_type not in FAMILIES:
        raise UnknownNameError(f"{where}: model_type", model_type, FAMILIES, fix=f"known: {', '.join(FAMILIES)}")
    family = FAMILIES[model_type]
    check_version(where, family)
    if (made := config.get("architectures") or [family.network])[0] != family.network:
        raise ModelError(where, f"a {made[0]}", wanted=f"a {family.network}")
    if (folder / ADAPTER).is_file():
        raise ModelError(where, f"{ADAPTER} in the folder", wanted="whole weights", fix="merge the adapter into them")
    refuse_code_in(folder, SETTINGS)
    _check_parts(where, folder)
    tokenizer = str(_table(folder / "tokenizer_config.json", where, needed=False).get("tokenizer_class", ""))
    use = Usage(family, longest_text(family, config, where), cleaning_for(model_type, tokenizer))
    return HFSource(name, folder, use)


def cleaning_for(model_type: str, tokenizer: str) -> Cleaning:
    """Return what is done to all texts of a checkpoint, by its model_type and the class of its tokenizer.

    SigLIP was trained on lower case without punctuation, SigLIP2 on lower case; the tokenizers of most versions of
    transformers do not do it. A SigLIP2 of one resolution is a SiglipModel: its tokenizer tells.
    """
    if not model_type.startswith("siglip"):
        return ""
    second = model_type == "siglip2" or tokenizer.startswith(("Gemma", "Siglip2"))
    return "lower" if second else "canonical"


def longest_text(family: Family, config: Mapping[str, Any], where: str) -> int:
    """Return the tokens of the longest text: the tower's positions, or fewer in the original code.

    config: of the network; GIT's has no table of its own for texts.
    """
    text = config.get("text_config") or config
    positions = text.get("max_position_embeddings", family.positions)
    if not isinstance(positions, int) or positions < MIN_POSITIONS:
        wanted = f"a whole number, {MIN_POSITIONS} or more"
        raise ModelError(where, f"max_position_embeddings: {positions!r}", wanted=wanted)
    return min(family.text_length, positions - family.reserved_positions)


def weight_files(folder: Path) -> list[Path]:
    """Return the weights that transformers loads from a folder: one file, or the shards that its index names."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise ModelError(
            str(folder), "no weights file", wanted=f"{WEIGHTS[0]} or {WEIGHTS[2]}, or their index of shards"
        )
    if found.suffix != ".json":
        return [found]
    try:
        names = sorted({Path(str(name)).name for name in parse_json(read_text(found))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(str(found), "not an index of shards", wanted='{"weight_map": {name: file}}') from None
    if lost := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(str(found), f"{len(lost)} of {len(names)} shards are missing: {lost[0]}")
    return [folder / name for name in names]


def _check_parts(where: str, folder: Path) -> None:
    """Raise ModelError for a folder without weights, tokenizer or image processor."""
    weight_files(folder)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        fix = "save it there: tokenizer.save_pretrained(FOLDER), or processor.save_pretrained(FOLDER)"
        raise ModelError(where, "no tokenizer in the folder", wanted=f"one of {', '.join(TOKENIZERS)}", fix=fix)
    tables = [_table(folder / name, where, needed=False) for name in PROCESSORS]
    if not (tables[0] or "image_processor" in tables[1]):
        fix = "save it there: image_processor.save_pretrained(FOLDER), or processor.save_pretrained(FOLDER)"
        raise ModelError(where, "no image processor in the folder", wanted=" or ".join(PROCESSORS), fix=fix)


def _table(path: Path, where: str, *, needed: bool = True) -> dict[str, Any]:
    """Return a JSON file's table; {} for a missing file that is not needed."""
    try:
        found = parse_json(read_text(path))
    except FileNotFoundError:
        if not needed:
            return {}
        fix = "open_clip's folders are written without transformers::" if _is_open_clips(path.parent) else ""
        raise ModelError(
            where, f"no {path.name} in the folder", wanted="a folder of save_pretrained", fix=fix
        ) from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(str(path), unreadable(error)) from None
    if not isinstance(found, dict):
        raise ModelError(str(path), "not a table", wanted="{…}")
    return found


def _is_open_clips(folder: Path) -> bool:
    return (folder / "open_clip_config.json").is_file()


_DOWNLOAD_ERRORS = (OSError, RuntimeError, HfHubHTTPError, LocalEntryNotFoundError, KeyError, TypeError)
"""The last two: the hub's answer is not understood."""


def _from_hub(repository: str, *, download: bool) -> Path:
    """Return the local folder of a hub repository's files; the weights are downloaded in one format."""
    where = f"--model {LIBRARY}::{repository}"
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise ModelError(where, "no such folder", wanted="a folder, or ORG/NAME on the hub")
    try:
        if not download:
            return _cached(where, repository)
        files = set(huggingface_hub.HfApi().list_repo_files(repository))
        named = {*SETTINGS, *TOKENIZERS, *OTHERS, ADAPTER} & files
        weights = next((name for name in WEIGHTS if name in files), "")
        if weights.endswith(".json"):
            stem, suffix = weights.removesuffix(".index.json").rsplit(".", 1)
            named |= {name for name in files if name.startswith(f"{stem}-") and name.endswith(suffix)}
        folder = huggingface_hub.snapshot_download(repository, allow_patterns=sorted({weights, *named} - {""}))
    except HFValidationError as error:
        raise ModelError(where, first_line(error), wanted="a folder, or ORG/NAME on the hub") from None
    except _DOWNLOAD_ERRORS as error:
        try:
            return _cached(where, repository)
        except ModelError:
            fix = "check the name and the network, or use a local folder"
            raise ModelError(where, f"not cached and the download failed ({first_line(error)})", fix=fix) from None
    return Path(folder)


def _cached(where: str, repository: str) -> Path:
    """Return the folder of a repository's downloaded files, without network access."""
    found = huggingface_hub.try_to_load_from_cache(repository, "config.json")
    if not isinstance(found, str):
        raise ModelError(where, "not downloaded yet", fix="a run without --dry-run downloads it")
    return Path(found).parent
