"""What can move a number changes the protocol or the model part of a signature, and nothing else does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from PIL import Image

from cocabench.core.cache import MemoryCache
from cocabench.core.errors import ModelError
from cocabench.core.signature import known_differences, protocol_differences, short
from cocabench.core.types import SCHEMA_VERSION, Dataset, Machine, Signature
from cocabench.kinds.captioning import OPTIONS, UNREAD
from cocabench.kinds.classification import Classification
from cocabench.kinds.efficiency import Efficiency
from cocabench.models.open_clip.blueprint import Blueprint
from cocabench.results.explain import PARTS, explain
from cocabench.run.plan import Planner
from cocabench.run.prepare import Settings, identity_of, prepare
from cocabench.specs.registry import model_sources, read_tasks
from cocabench.specs.spec import parse_models
from tests.conftest import task
from tests.report.records import record

Edit = Callable[[Path], None]
LABELLED = ("name", "classification", "acc1", 'path = "labels.tsv"\nlabel_key = "label"', 'templates = "cifar10"')
CAPTIONED = ("tell", "captioning", "BLEU@4", 'path = "captions.tsv"', 'metrics = ["BLEU@4"]\nseq_len = 12')
CHOSEN = ("choose", "image_caption_selection", "acc", 'path = "pairs.tsv"\nnegative_key = "wrong"', "")
RETRIEVED = ("find", "retrieval", "t2i_recall@5", 'path = "captions.tsv"', "ks = [1, 5]")


@pytest.fixture
def place(tmp_path: Path, data: Path) -> Path:
    """Return a data root of one's own with its task file."""
    shutil.copytree(data, tmp_path / "data")
    return tmp_path / "data"


def protocol(root: Path, text: str, **settings: Any) -> Signature:
    """Return a signature with the protocol of a task file's text, and no model."""
    (root / "t.toml").write_text(text)
    made = prepare(read_tasks(root / "t.toml")[0], Settings(data_root=root, **settings))
    return Signature(protocol=made.protocol, model={})


def replaced(file: str, old: str, new: str) -> Edit:
    def edit(root: Path) -> None:
        before = (root / file).read_text()
        assert old in before
        (root / file).write_text(before.replace(old, new, 1))

    return edit


def swapped(file: str) -> Edit:
    """Exchange the first two rows of a table."""

    def edit(root: Path) -> None:
        head, first, second, *rest = (root / file).read_text().splitlines()
        (root / file).write_text("\n".join([head, second, first, *rest]))

    return edit


@pytest.mark.parametrize(
    ("name", "edit", "part"),
    [
        ("an image less", replaced("labels.tsv", "images/11.png\tthing 5", ""), "data.images"),
        ("another label", replaced("labels.tsv", "images/00.png\tthing 0", "images/00.png\tthing 1"), "data.hash"),
        ("another class name", replaced("labels.tsv", "thing 0", "object 0"), "prompts"),
        ("another order", swapped("labels.tsv"), "data.hash"),
    ],
)
def test_data_of_a_classification(place: Path, name: str, edit: Edit, part: str) -> None:
    before = protocol(place, task(*LABELLED))
    edit(place)
    assert any(said.startswith(part) for said in protocol_differences(before, protocol(place, task(*LABELLED)))), name


@pytest.mark.parametrize(
    ("mode", "parts", "notes"),
    [
        ("RGB", [], []),
        ("L", [], []),
        (
            "RGBA",
            ["pixels"],
            ["1 image is not RGB (1 RGBA); it is made RGB before it is resized, as clip-benchmark does it"],
        ),
        (
            "I;16",
            ["pixels"],
            ["1 image of 16-bit grey is scaled to 8 bits; clip-benchmark makes all above 255 white"],
        ),
        (
            "F",
            ["pixels"],
            [
                "1 image is not RGB (1 F); it is made RGB before it is resized, as clip-benchmark does it",
                "1 image of 32-bit grey, whose range is unknown: values outside 0-255 are clipped, those of a 0-1 "
                "range become black, as in clip-benchmark; store them with 8 or 16 bits",
            ],
        ),
    ],
)
def test_images_that_are_not_rgb(place: Path, mode: str, parts: list[str], notes: list[str]) -> None:
    before = protocol(place, task(*LABELLED))
    Image.new(mode, (9, 9)).save(place / "images/00.png", "TIFF" if mode == "F" else "PNG")
    after = prepare(read_tasks(place / "t.toml")[0], Settings(data_root=place))
    found = protocol_differences(before, Signature(protocol=after.protocol, model={}))
    assert [said.partition(":")[0] for said in found] == parts
    assert [note.text for note in after.dataset.notes] == notes


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (replaced("captions.tsv", "thing 0 number 0", "thing 0 number 9"), "data.hash"),
        (replaced("captions.tsv", "images/00.png\ta picture of thing 0 number 0", ""), "data.images"),
        (replaced("captions.tsv", "images/02.png\ta picture of thing 2 number 1", ""), "data.texts"),
    ],
)
def test_data_of_captions(place: Path, edit: Edit, part: str) -> None:
    before = protocol(place, task(*RETRIEVED))
    edit(place)
    assert any(said.startswith(part) for said in protocol_differences(before, protocol(place, task(*RETRIEVED))))


def test_a_negative_and_the_scoring_of_a_selection(place: Path) -> None:
    before = protocol(place, task(*CHOSEN))
    scored = protocol(place, task(*CHOSEN[:-1], 'scoring = "likelihood"'))
    assert [said.partition(":")[0] for said in protocol_differences(before, scored)] == ["scoring"]
    replaced("pairs.tsv", "thing 20 of 0, not", "thing 21 of 0, not")(place)
    assert [s.partition(":")[0] for s in protocol_differences(before, protocol(place, task(*CHOSEN)))] == ["data.hash"]


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("version = 1", "version = 2", "version"),
        ('name = "name"', 'name = "other"', "task"),
        ('templates = "cifar10"', 'templates = "imagenet1k"', "prompts"),
        ("[params]", "[expect]\nimages = 5\n[params]", "standard"),
    ],
)
def test_parts_of_a_task_file_that_move_a_number(data: Path, old: str, new: str, part: str) -> None:
    text = task(*LABELLED)
    assert old in text
    difference = protocol_differences(protocol(data, text), protocol(data, text.replace(old, new)))
    assert [said.partition(":")[0] for said in difference] == [part]


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (LABELLED, 'summary = "s"', 'summary = "other words"'),
        (LABELLED, 'groups = ["mine"]', 'groups = ["mine", "yours"]'),
        (LABELLED, 'primary = "acc1"', 'primary = "acc5"'),
        (LABELLED, 'loader = "tsv"', 'loader = "tsv"\nsource = "where to get it"'),
        (LABELLED, "[params]", "[expect]\nimages = 12\n[params]"),
        (RETRIEVED, "ks = [1, 5]", "ks = [5, 10]"),  # ranks are kept: another K reads the same ones
        *((CAPTIONED, "seq_len = 12", f"seq_len = 12\n{key} = {value}") for key, value in (("top_k", 5), ("seed", 3))),
    ],
)
def test_parts_of_a_task_file_that_move_none(data: Path, kind: tuple[str, ...], old: str, new: str) -> None:
    text = task(*kind)
    assert old in text
    assert protocol(data, text) == protocol(data, text.replace(old, new))


def test_where_the_data_lie_moves_no_number(place: Path, data: Path) -> None:
    assert protocol(place, task(*LABELLED)) == protocol(data, task(*LABELLED))


def test_a_limit_and_its_seed(data: Path) -> None:
    full, five, other = (protocol(data, task(*LABELLED), **s) for s in ({}, {"limit": 5}, {"limit": 5, "seed": 1}))
    assert {s.partition(":")[0] for s in protocol_differences(full, five)} == {"data.hash", "data.images", "limit"}
    assert [s.partition(":")[0] for s in protocol_differences(five, other)] == ["data.hash"]
    assert protocol(data, task(*LABELLED), seed=1) == full


@pytest.mark.parametrize("settings", [{"fresh": True}, {"skip_bad_images": True}, {"output": Path("elsewhere")}])
def test_how_it_is_run_moves_no_number(data: Path, settings: dict[str, Any]) -> None:
    assert protocol(data, task(*LABELLED), **settings) == protocol(data, task(*LABELLED))


CHANGED = {
    "decoding": '"logprob"',
    "generation_type": '"greedy"',
    "num_beams": "4",
    "num_beam_groups": "1",
    "seq_len": "20",
    "min_seq_len": "3",
    "top_k": "3",
    "top_p": "0.5",
    "temperature": "0.7",
    "repetition_penalty": "1.2",
    "diversity_penalty": "0.5",
    "length_penalty": "0.9",
    "seed": "7",
}


@pytest.mark.parametrize("kind", ["beam_search", "greedy", "top_k", "top_p"])
@pytest.mark.parametrize("option", OPTIONS)
def test_every_decoding_option_that_is_read_and_no_other(data: Path, kind: str, option: str) -> None:
    text = task(*CAPTIONED).replace("seq_len = 12", f'generation_type = "{kind}"')
    other = text.replace(f'generation_type = "{kind}"', "") if option == "generation_type" else text
    value = '"greedy"' if kind != "greedy" else '"top_p"'
    changed = f"{other}{option} = {value if option == 'generation_type' else CHANGED[option]}\n"
    moved = {s.partition(":")[0] for s in protocol_differences(protocol(data, text), protocol(data, changed))}
    assert (f"decoding.{option}" in moved) is (option not in UNREAD[kind])
    assert bool(moved) is (option not in UNREAD[kind])


def test_the_prompt_of_captions(data: Path) -> None:
    before, after = (protocol(data, task(*CAPTIONED) + more) for more in ("", 'prompt = "a photo of"\n'))
    assert [said.partition(":")[0] for said in protocol_differences(before, after)] == ["decoding.prompt"]


def test_document_frequencies_and_caption_metrics(place: Path) -> None:
    before = protocol(place, task(*CAPTIONED))
    more = protocol(place, task(*CAPTIONED).replace('["BLEU@4"]', '["BLEU@4", "CIDEr"]'))
    assert [s.partition(":")[0] for s in protocol_differences(before, more)] == ["caption_metrics.CIDEr"]
    replaced("captions.tsv", "number 0", "number 8")(place)
    assert any("document_frequencies" in s for s in protocol_differences(before, protocol(place, task(*CAPTIONED))))


def test_the_definitions_of_metrics(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = protocol(data, task(*LABELLED))
    monkeypatch.setattr(Classification, "version", 2)
    assert protocol_differences(before, protocol(data, task(*LABELLED))) == ["metrics: 1 against 2"]


def test_several_labels(place: Path) -> None:
    before = protocol(place, task(*LABELLED))
    text = task("name", "classification", "mean_average_precision", *LABELLED[3:]) + "multilabel = true\n"
    assert protocol_differences(before, protocol(place, text)) == ["multilabel: absent against True"]


CONFIG: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"width": 8},
    "text_cfg": {"context_length": 76, "tokenizer_kwargs": {}},
}


def built(**fields: Any) -> dict[str, Any]:
    return Blueprint(**{"id": "m", "config": CONFIG, "preprocess": {"mean": [0.5]}, "seed": 0, **fields}).signature()


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"id": "n"}, "id"),
        ({"seed": 1}, "weights"),
        ({"config": {**CONFIG, "embed_dim": 16}}, "architecture"),
        ({"config": {**CONFIG, "text_cfg": {"context_length": 77, "tokenizer_kwargs": {}}}}, "architecture"),
        (
            {"config": {**CONFIG, "text_cfg": {"context_length": 76, "tokenizer_kwargs": {"clean": "lower"}}}},
            "architecture",
        ),
        ({"preprocess": {"mean": [0.4]}}, "preprocess"),
        ({"preprocess": {"mean": [0.5], "interpolation": "bicubic"}}, "preprocess"),
    ],
)
def test_parts_of_a_model(fields: dict[str, Any], part: str) -> None:
    before, after = built(), built(**fields)
    assert [key for key in before if before[key] != after[key]] == [part]


def test_quick_gelu_is_told_apart_by_name() -> None:
    assert built(config={**CONFIG, "quick_gelu": True})["quick_gelu"] is True
    assert built()["quick_gelu"] is False


def test_a_fast_resize_is_named_and_the_own_one_is_not() -> None:
    fast = built(resize="fast")
    assert {key: value for key, value in fast.items() if built().get(key) != value} == {"resize": "fast"}
    assert "resize" not in built(resize="own")


def test_notes_on_a_model_move_no_number() -> None:
    assert built(notes=("x",), tokenizer="y") == built()


def test_weights_and_vocabularies_count_by_content_not_by_place(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.pt").write_bytes(content)
        (tmp_path / name / "bpe.gz").write_bytes(content)
        (tmp_path / name / "tokenizer.json").write_bytes(content)

    def at(name: str) -> list[dict[str, Any]]:
        folder = tmp_path / name
        own = {**CONFIG, "text_cfg": {"tokenizer_kwargs": {"bpe_path": str(folder / "bpe.gz")}}}
        hugging = {**CONFIG, "text_cfg": {"hf_tokenizer_name": str(folder)}}
        built_with = ({"weights": folder / "weights.pt", "seed": None}, {"config": own}, {"config": hugging})
        return [built(**fields) for fields in built_with]

    weights = [at(name)[0]["weights"] for name in "abc"]
    vocabularies = [[at(name)[i]["vocabulary"] for name in "abc"] for i in (1, 2)]
    for first, same, other in (weights, *vocabularies):
        assert first == same != other
        assert first


def planned(model: Path, task: Path, settings: Settings) -> Signature:
    """Return the signature of a model on a task as a run plans it."""
    planner = Planner(settings)
    (cell,) = planner.plan(model_sources(parse_models(str(model))), read_tasks(task)).cells
    found = planner.job(cell.model, cell.steps[0]).signature
    assert found is not None
    return found


def test_precision_and_packages_are_the_models(models: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def signature(precision: str) -> Signature:
        return planned(models / "clip", data / "name.toml", Settings(data_root=data, precision=precision))

    fp32, bf16 = signature("fp32"), signature("bf16")
    assert protocol_differences(fp32, bf16) == []
    assert short(fp32) != short(bf16)
    known = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0" if name == "pillow" else known(name))
    assert signature("fp32").model["packages"]["pillow"] == "0"  # type: ignore[index, call-overload]
    assert protocol_differences(fp32, signature("fp32")) == []


def test_compile_is_in_the_signature_only_if_set(models: Path, data: Path) -> None:
    plain, compiled = (
        planned(models / "clip", data / "name.toml", Settings(data_root=data, precision="fp32", compile=on))
        for on in (False, True)
    )
    assert compiled.model == {**plain.model, "compile": True}
    assert "compile" not in plain.model
    assert compiled.protocol == plain.protocol


def test_a_signature_is_the_same_on_every_machine() -> None:
    """Literal digits: a change of the hash would orphan every stored result."""
    fixed = Signature(protocol={"task": "é", "data": {"images": 3}, "limit": None}, model={"id": "m", "x": [1.5, True]})
    assert short(fixed) == "a6822917e402"
    assert short(Signature(protocol=dict(reversed(fixed.protocol.items())), model=fixed.model)) == short(fixed)


def test_imported_records_differ_only_in_parts_known_to_both() -> None:
    ours = Signature(protocol={"data": {"images": 5}, "prompts": "x"}, model={})
    theirs = Signature(protocol={"data": {"images": 6}, "imported": "other"}, model={})
    assert known_differences(ours, theirs) == ["data.images: 5 against 6"]


RECORDS = Path(__file__).parents[1] / "records"


@pytest.mark.parametrize("path", sorted(RECORDS.glob("schema_*/*.json")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_records_of_every_schema_are_read_and_explained(path: Path) -> None:
    """Committed files as each schema wrote them; they are never edited."""
    from cocabench.results.store import read_record

    stored, found = json.loads(path.read_text()), read_record(path)
    assert f"schema_{stored['schema_version']}" == path.parent.name
    assert {name: e.model_dump() for name, e in found.metrics.items()} == stored["metrics"]
    assert found.signature.model_dump() == stored["signature"]
    said = explain(found)
    assert all(part.words for part in (*said.protocol, *said.model)), "every part of our own has words"


def test_what_costs_were_measured_with_is_explained() -> None:
    said = explain(record(protocol=Efficiency().protocol(Dataset("costs", "", ()), Machine()), evaluator="efficiency"))
    assert {"machine", "threads", "batch_size", "train_batch_size"} < {part.name for part in said.protocol}
    assert all(part.words for part in said.protocol), "every part of our own has words"


def test_the_current_schema_has_examples() -> None:
    assert list((RECORDS / f"schema_{SCHEMA_VERSION}").glob("*.json")), "commit Records that this schema wrote"


def test_a_plugins_protocol_parts_are_shown_unchanged() -> None:
    made = record(protocol={"theirs": {"knob": 3}, "task": "t"})
    assert [(p.name, p.value, p.words) for p in explain(made).protocol] == [
        ("theirs.knob", "3", ""),
        ("task", "t", PARTS["task"]),
    ]


def test_an_incomplete_source_of_a_plugin_is_one_line() -> None:
    whole = {"id": "lib::x", "signature": dict, "load": None, "packages": ("nowhere",), "features_version": 0}
    with pytest.raises(ModelError, match="lib::x: its packages name 'nowhere', which is not installed; wanted names"):
        identity_of(cast(Any, SimpleNamespace(**whole)), "fp32", False, MemoryCache())
    part = {"id": "lib::x", "load": None, "packages": ()}
    with pytest.raises(ModelError, match="lib::x: its Source has no signature and no features_version; define it"):
        identity_of(cast(Any, SimpleNamespace(**part)), "fp32", False, MemoryCache())
