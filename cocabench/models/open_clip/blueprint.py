"""Blueprints of models: architecture, preprocessing and weights file of a model string. Nothing is loaded.

Every kind of model string becomes a Blueprint, so that there is one builder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from cocabench import demo
from cocabench.core.errors import DataError, ModelError, UnknownNameError, UsageError, unreadable
from cocabench.core.files import expanded, parse_json, read_text
from cocabench.core.signature import digest, digest_file, flat
from cocabench.core.types import Ability, Note
from cocabench.data.remote import local_file, url_of
from cocabench.models.open_clip import published, weights
from cocabench.models.open_clip.config import TEXT_PATHS, Config, checked, of_file
from cocabench.models.open_clip.languages import takes_language
from cocabench.models.remote_code import refuse_code_in
from cocabench.specs.aliases import hub_name
from cocabench.specs.spec import ModelSpec, WeightsKind

CONTRASTIVE: frozenset[Ability] = frozenset({"encode", "profile"})
GENERATIVE: frozenset[Ability] = CONTRASTIVE | {"caption", "score_captions"}

_TOKENIZER_FILES = ("*token*.json", "vocab*", "merges.txt", "*.model")


@dataclass(frozen=True)
class Blueprint:
    """Everything needed to build a model.

    id: the canonical model string. config: open_clip's model_cfg, with absolute file paths, none of which loads code.
    preprocess: open_clip's PreprocessCfg fields. resize: the value of --resize. weights: a file; None if random or not
    downloaded yet.
    tokenizer: the argument of open_clip.get_tokenizer, '' to build it from config. notes: choices made for the user.
    inside: which weights of the file, '' or 'ema'. parts, shares: of a mixture, which has no weights of its own.
    """

    id: str
    config: Config
    preprocess: Config = field(default_factory=dict)
    weights: Path | None = None
    seed: int | None = None
    tokenizer: str = ""
    notes: tuple[Note, ...] = ()
    inside: str = ""
    parts: tuple[Blueprint, ...] = ()
    shares: tuple[float, ...] = ()
    resize: str = "own"

    def __post_init__(self) -> None:
        text = checked(self.config, f"--model {self.id}")["text_cfg"]
        for folder in {Path(text[key]) for key in TEXT_PATHS if text.get(key)}:
            if folder.is_absolute():
                refuse_code_in(folder)

    @property
    def captions(self) -> bool:
        return "multimodal_cfg" in self.config

    @property
    def available(self) -> bool:
        if self.parts:
            return all(part.available for part in self.parts)
        return self.weights is not None or self.seed is not None

    def signature(self) -> dict[str, JsonValue]:
        """Return the model part of a signature, without precision and versions; hashes the weights file."""
        if self.parts:
            mixture: JsonValue = [
                {"weights": part.content(), "share": share} for part, share in zip(self.parts, self.shares, strict=True)
            ]
            return {"id": self.id, "weights": self.content(), "mixture": mixture, **self.construction()}
        return {"id": self.id, "weights": self.content(), **self.construction()}

    def content(self) -> str:
        """Return the hash of the weights, ``random@SEED`` for random ones."""
        if self.parts:
            return digest([[part.content(), share] for part, share in zip(self.parts, self.shares, strict=True)])
        if self.weights is None:
            return f"random@{self.seed}"
        return weights.digest_of(self.weights) + (f"#{self.inside}" if self.inside else "")

    def construction(self) -> dict[str, JsonValue]:
        """Return the parts of the signature about architecture and preprocessing, without weights."""
        return {
            "architecture": digest(_without_paths(self.config)),
            "quick_gelu": bool(self.config.get("quick_gelu", False)),
            "preprocess": digest(self.preprocess),
            "vocabulary": self._vocabulary(),
            **({"resize": self.resize} if self.resize != "own" else {}),
            **({"text_language": "src_lang of each task"} if takes_language(self.config) else {}),
        }

    def _vocabulary(self) -> str:
        """Return a hash of the model's own tokenizer files, '' if it has none."""
        text = self.config["text_cfg"]
        if file := (text.get("tokenizer_kwargs") or {}).get("bpe_path"):
            return digest_file(Path(file))
        folder = Path(text.get("hf_tokenizer_name") or "")
        if not folder.is_absolute() or not folder.is_dir():
            return ""
        files = sorted(path for name in _TOKENIZER_FILES for path in folder.glob(name))
        return digest({path.name: digest_file(path) for path in files}) if files else ""


def blueprint(spec: ModelSpec, *, download: bool = True) -> Blueprint:
    """Return the Blueprint of a spec."""
    match spec.kind:
        case WeightsKind.DEMO:
            if spec.name not in demo.MODELS:
                raise UnknownNameError("demo model", spec.name, demo.MODELS)
            return _folder(f"demo/{spec.name}", demo.model_folder(spec.name))
        case WeightsKind.FOLDER:
            return _folder(spec.text, expanded(spec.name))
        case WeightsKind.HUB:
            return _hub(spec, spec.name, download=download)
        case WeightsKind.TAG:
            captioner = hub_name(spec.name) if not spec.weights else ""
            return _hub(spec, captioner, download=download) if captioner else _tagged(spec, download=download)
        case WeightsKind.FILE:
            path = _fetched(spec, download=download) if url_of(spec.weights) else expanded(spec.weights)
            if path.is_dir():
                raise weights.no_file(path)
            if not path.is_file():
                raise ModelError(f"--model {spec.text}", f"no such file: {path}", fix="check the path")
            return replace(_architecture(spec), weights=path, inside=spec.inside)
        case WeightsKind.MIXTURE:
            return _mixture(spec, download=download)
        case WeightsKind.RANDOM:
            plan = _architecture(spec)
            note = Note("random_weights", f"{spec.text}: random weights, not trained")
            return replace(plan, seed=int(spec.weights), notes=(*plan.notes, note))
    got = f"a model of {spec.name}"
    raise ModelError(f"--model {spec.text}", got, wanted="an architecture of open_clip, whose trainer this is")


def _fetched(spec: ModelSpec, *, download: bool) -> Path:
    """Return the copy in the cache of a checkpoint behind an address."""
    try:
        found = local_file(spec.weights, download=download)
    except DataError as error:
        raise ModelError(f"--model {spec.text}", error.got, fix=error.fix) from None
    if found is None:
        raise ModelError(f"--model {spec.text}", "not downloaded yet", fix="run it, or without --dry-run")
    return found


def _mixture(spec: ModelSpec, *, download: bool) -> Blueprint:
    """Return the Blueprint of a mixture; ModelError for parts that are not of one architecture and preprocessing."""
    where = f"--model {spec.text}"
    if other := next((part for part in spec.parts if part.kind is WeightsKind.PLUGIN), None):
        raise ModelError(where, f"a mixture of models of {other.name}", wanted="checkpoints of open_clip")
    own = [replace(part, quick_gelu=spec.quick_gelu, preprocess=spec.preprocess) for part in spec.parts]
    parts = [with_options(blueprint(part, download=download), part) for part in own]
    first = parts[0]
    for part in parts[1:]:
        if other_keys := _differences(first, part):
            got = f"a mixture of different architectures ({first.id}; {part.id}: {first_reason(other_keys)})"
            raise ModelError(where, got, wanted="checkpoints of one architecture")
    known = {digest({**published.preprocessing(), **part.preprocess}): part for part in parts if part.preprocess}
    if len(known) > 1:
        names = " and ".join(part.id for part in known.values())
        raise ModelError(where, f"different preprocessing of {names}", wanted="checkpoints that see the same images")
    said = next(iter(known.values()), None)
    notes = [n for part in parts for n in part.notes if not (said and n.code == "preprocess_assumed")]
    if said and any(not part.preprocess for part in parts):
        notes.append(Note("model", f"{spec.text}: preprocessing of {said.id}, which alone says one"))
    ids = [f'"{part.id}"' if "," in part.id and not part.parts else part.id for part in parts]
    share = [] if spec.name == "avg" else [f"{spec.shares[1]:.12g}"]
    return replace(
        said or first,
        id=f"{spec.name}({','.join([*ids, *share])})",
        weights=None,
        seed=None,
        inside="",
        notes=tuple(dict.fromkeys(notes)),
        parts=tuple(parts),
        shares=spec.shares,
    )


def _differences(one: Blueprint, other: Blueprint) -> list[str]:
    """Return how the construction of two parts differs, besides the preprocessing."""
    left, right = (flat(checked_paths(part.config)) for part in (one, other))
    keys = [key for key in sorted(left.keys() | right.keys()) if left.get(key) != right.get(key)]
    found = [f"{key} {left.get(key, 'absent')} against {right.get(key, 'absent')}" for key in keys]
    vocabularies = [part.construction()["vocabulary"] for part in (one, other)]
    return found or (["other tokenizer files"] if vocabularies[0] != vocabularies[1] else [])


def first_reason(reasons: Sequence[str]) -> str:
    return reasons[0] + (f"; {len(reasons) - 1} more" if len(reasons) > 1 else "")


def checked_paths(config: Config) -> dict[str, JsonValue]:
    """Return a config without the places of files, and without quick_gelu where it is the default."""
    found = _without_paths(config)
    assert isinstance(found, dict), "a config is a table"
    return {key: value for key, value in found.items() if (key, value) != ("quick_gelu", False)}


def with_options(plan: Blueprint, spec: ModelSpec) -> Blueprint:
    """Apply --resize, and --preprocess and --quick-gelu, which are for checkpoint files."""
    return replace(_with_quick_gelu(with_preprocess(plan, spec), spec.quick_gelu), resize=spec.resize)


def _with_quick_gelu(drawn: Blueprint, quick_gelu: bool | None) -> Blueprint:
    """Apply --quick-gelu, which is for checkpoint files; published tags have a known activation."""
    if quick_gelu is None or drawn.config.get("quick_gelu", False) == quick_gelu:
        return drawn
    said = f"{drawn.id}: quick-GELU turned {'on' if quick_gelu else 'off'} by --quick-gelu"
    config = {**drawn.config, "quick_gelu": quick_gelu}
    return replace(drawn, config=config, notes=(*drawn.notes, Note("model", said)))


def _architecture(spec: ModelSpec) -> Blueprint:
    """Return the Blueprint of an open_clip architecture by name, or of a JSON file."""
    if spec.name.endswith(".json"):
        path = expanded(spec.name)
        config, preprocess = _model_config(path)
        return Blueprint(spec.text, _absolute(config, path.parent), preprocess)
    name = spec.name.replace("/", "-")
    if name not in published.architectures():
        if expanded(spec.name).is_dir():
            raise UsageError(
                f"--model {spec.text}",
                "the folder has no open_clip_config.json",
                wanted="a folder with config and weights",
            )
        fix = "see `cocabench list models`, or use a folder or .json file"
        raise UnknownNameError("model", spec.name, published.architectures(), fix=fix)
    return Blueprint(f"{name}{spec.text[len(spec.name) :]}", published.architecture(name), tokenizer=name)


def _tagged(spec: ModelSpec, *, download: bool) -> Blueprint:
    """Return the Blueprint of a published tag, with the tag's quick-GELU and preprocessing; open_clip only warns."""
    plan = _architecture(spec)
    tags = published.tags(plan.tokenizer)
    tag = spec.weights or _default_tag(plan.tokenizer, tags)
    known = published.tag(plan.tokenizer, tag)
    if not tags:
        raise _no_weights(spec.name, f"no published weights, and no file {tag!r}")
    if not known:
        raise UnknownNameError(f"pretrained tag of {spec.name}", tag, tags, fix=f"tags: {', '.join(tags)}")
    notes = [] if spec.weights else [Note("model", f"{spec.name}: no tag given, using {tag}")]
    config = plan.config
    quick_gelu = bool(known.get("quick_gelu", config.get("quick_gelu", False)))
    if bool(config.get("quick_gelu", False)) != quick_gelu:
        config = {**config, "quick_gelu": quick_gelu}
        said = f"{plan.tokenizer}:{tag} was trained with{'' if quick_gelu else 'out'} quick-GELU; built accordingly"
        notes.append(Note("model", said))
    file = weights.fetch(f"{plan.tokenizer}:{tag}", known) if download else weights.cached(known)
    preprocess = {k: v for k, v in known.items() if k in published.preprocessing()}
    return replace(
        plan, id=f"{plan.tokenizer}:{tag}", config=config, preprocess=preprocess, weights=file, notes=tuple(notes)
    )


APPEARANCE = ("mean", "std", "interpolation", "resize_mode")
"""What of the preprocessing a network alone does not tell, in open_clip's words."""


def with_preprocess(plan: Blueprint, spec: ModelSpec) -> Blueprint:
    """Follow --preprocess, which says for checkpoint files whose preprocessing is theirs: TAG or NAME:TAG.

    Without it a note says what was assumed, where every published tag of the architecture has something else.
    """
    if spec.kind is not WeightsKind.FILE:
        return plan
    if not spec.preprocess:
        note = _assumed(plan)
        return replace(plan, notes=(*plan.notes, note)) if note else plan
    name, _, tag = (spec.preprocess if ":" in spec.preprocess else f"{plan.tokenizer}:{spec.preprocess}").partition(":")
    known = published.tag(name, tag)
    if not known:
        tags = published.tags(name)
        raise UnknownNameError(f"--preprocess, a tag of {name}", tag, tags, fix="or write NAME:TAG of another")
    preprocess = {key: value for key, value in known.items() if key in published.preprocessing()}
    said = f"{plan.id}: preprocessing of {name}:{tag} by --preprocess"
    return replace(plan, preprocess={**plan.preprocess, **preprocess}, notes=(*plan.notes, Note("model", said)))


def _assumed(plan: Blueprint) -> Note | None:
    """Return a note on the preprocessing of a file, where all published tags of its architecture have another."""
    tags = published.tags(plan.tokenizer)
    known = [published.tag(plan.tokenizer, tag) for tag in tags]
    ours = _appearance({**published.preprocessing(), **plan.preprocess})
    if not known or any(_appearance(one) == ours for one in known):
        return None
    theirs = ", ".join(f"{key} {_short(value)}" for key, value in _appearance(known[0]).items() if value != ours[key])
    assumed = ", ".join(f"{key} {_short(value)}" for key, value in ours.items())
    said = f"{plan.id}: a file does not tell its preprocessing; assumed {assumed}"
    return Note("preprocess_assumed", f"{said}; the published {tags[0]} has {theirs}: --preprocess {tags[0]}")


def _appearance(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v := config.get(key), list | tuple) else v for key in APPEARANCE}


def _short(value: Any) -> str:
    return "/".join(f"{number:.3g}" for number in value) if isinstance(value, tuple) else str(value)


def _default_tag(name: str, tags: list[str]) -> str:
    if tag := default_tag(name, tags):
        return tag
    if not tags:
        raise _no_weights(name, "no published weights")
    raise UsageError(f"--model {name}", "no default tag", fix=f"use {name}:TAG with one of {', '.join(tags)}")


def _no_weights(name: str, got: str) -> UsageError:
    return UsageError(f"--model {name}", got, fix=f"use {name}:FILE or {name}:random@0")


def _folder(name: str, folder: Path) -> Blueprint:
    return replace(described(name, folder), weights=weights.in_folder(folder))


def described(name: str, folder: Path) -> Blueprint:
    """Return the Blueprint of a folder's config, without weights; ModelError if there is none."""
    path = next((folder / file for file in weights.CONFIGS if (folder / file).is_file()), None)
    if path is None:
        raise ModelError(
            f"--model {name}", f"no open_clip_config.json in {folder}", wanted="a folder with config and weights"
        )
    config, preprocess = _model_config(path, named=path.name == weights.CONFIGS[0])
    config = _absolute(config, folder)
    if config["text_cfg"].get("hf_tokenizer_name"):
        config["text_cfg"]["hf_tokenizer_name"] = str(folder.resolve())
    return Blueprint(name, config, preprocess)


def _hub(spec: ModelSpec, repository: str, *, download: bool) -> Blueprint:
    path, file = weights.from_hub(repository) if download else weights.cached_from_hub(repository)
    config, preprocess = _model_config(path, named=path.name == weights.CONFIGS[0])
    return Blueprint(spec.text, config, preprocess, file, tokenizer=f"hf-hub:{repository}")


def _model_config(path: Path, *, named: bool = False) -> tuple[Config, Config]:
    """Return model_cfg and preprocess_cfg of a file. named: the first must stand under its name, as open_clip wants."""
    try:
        content = parse_json(read_text(path))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(str(path), unreadable(error)) from None
    if named and isinstance(content, dict) and "model_cfg" not in content:
        raise ModelError(str(path), "no 'model_cfg' in it", wanted='{"model_cfg": …, "preprocess_cfg": …}')
    if path.name == weights.CONFIGS[1] and isinstance(content, dict) and "model_type" in content:
        fix = f"write transformers::{path.parent}"
        raise ModelError(str(path), "a config of transformers", wanted="one of open_clip", fix=fix)
    return of_file(content, str(path))


def _absolute(config: Config, base: Path) -> Config:
    """Return config with absolute paths of the files next to it (BPE merges, a text tower's folder)."""
    config = deepcopy(config)
    text, tokenizer = config["text_cfg"], config["text_cfg"].get("tokenizer_kwargs") or {}
    for table, keys in ((text, TEXT_PATHS), (tokenizer, ("bpe_path",))):
        table.update(
            {key: str((base / table[key]).resolve()) for key in keys if table.get(key) and (base / table[key]).exists()}
        )
    return config


def _without_paths(config: Mapping[str, Any]) -> JsonValue:
    """Return config with absolute paths cut to their last part: the location of files does not change numbers."""
    if isinstance(config, Mapping):
        return {key: _without_paths(value) for key, value in config.items()}
    return Path(config).name if isinstance(config, str) and config.startswith("/") else config


DEFAULT_TAGS: Final = {
    "coca_ViT-B-32": "laion2b_s13b_b90k",
    "coca_ViT-L-14": "laion2b_s13b_b90k",
    "ViT-B-32": "laion2b_s34b_b79k",
    "ViT-B-32-256": "datacomp_s34b_b86k",
    "ViT-B-32-quickgelu": "openai",
    "ViT-B-16": "laion2b_s34b_b88k",
    "ViT-B-16-quickgelu": "openai",
    "ViT-L-14": "laion2b_s32b_b82k",
    "ViT-L-14-quickgelu": "openai",
    "ViT-L-14-336": "openai",
    "ViT-H-14": "laion2b_s32b_b79k",
    "ViT-g-14": "laion2b_s34b_b88k",
    "ViT-bigG-14": "laion2b_s39b_b160k",
    "RN50": "openai",
    "RN101": "openai",
    "RN50x4": "openai",
    "RN50x16": "openai",
    "RN50x64": "openai",
    "convnext_base_w": "laion2b_s13b_b82k",
    "convnext_large_d": "laion2b_s26b_b102k_augreg",
    "xlm-roberta-base-ViT-B-32": "laion5b_s13b_b90k",
    "xlm-roberta-large-ViT-H-14": "frozen_laion5b_s13b_b90k",
}


def default_tag(name: str, tags: Sequence[str]) -> str:
    """Return the default of an architecture's published tags, '' if there is none."""
    return DEFAULT_TAGS.get(name, tags[0] if len(tags) == 1 else "")
