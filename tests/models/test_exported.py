"""Towers as ONNX graphs and torch.export archives: the original's features, fixed batches, types, and bad folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from cocabench.core.errors import ModelError
from cocabench.data.images import FileImage
from cocabench.models.exported import in_batches
from cocabench.models.hardware import hardware
from cocabench.specs.registry import model_sources
from cocabench.specs.spec import parse_models
from tests.conftest import Command
from tests.models.tiny import CLIP, write_folder

CONFIG = "open_clip_config.json"
TEXTS = ["thing 1", "a much longer text about thing 2", "thing 3"]


class Encode(nn.Module):
    """One tower of an open_clip network."""

    def __init__(self, net: nn.Module, method: str) -> None:
        super().__init__()
        self.net, self.method = net, method

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = getattr(self.net, self.method)(inputs)
        return found


def loaded(model: str) -> Any:
    (source,) = model_sources(parse_models(model, typed=True))
    return source.load(hardware(device="cpu", precision="fp32", workers=0))


def tiny_onnx(path: Path, shape: list[Any], kind: int, weights: np.ndarray, *, tokens: bool = False) -> None:
    """Write a graph by hand: pixels are flattened and multiplied with weights; of tokens, their rows are averaged."""
    table = numpy_helper.from_array(weights, "w")
    if tokens:
        nodes = [
            helper.make_node("Gather", ["w", "x"], ["e"]),
            helper.make_node("ReduceMean", ["e", "axes"], ["y"], keepdims=0),
        ]
        more = [numpy_helper.from_array(np.array([1]), "axes")]
    else:
        nodes, more = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])], []
    out = TensorProto.FLOAT if weights.dtype == np.float32 else TensorProto.FLOAT16
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", out, [shape[0], weights.shape[1]])],
        [table, *more],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))


def by_hand(folder: Path, dtype: type = np.float32, batch: Any = "k") -> tuple[np.ndarray, np.ndarray]:
    """Write a folder of graphs by hand; return the weights of both."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}))
    rng = np.random.default_rng(0)
    pixels, table = (rng.standard_normal((n, 8)).astype(dtype) for n in (3 * 32 * 32, 49408))
    kind = TensorProto.FLOAT if dtype is np.float32 else TensorProto.FLOAT16
    tiny_onnx(folder / "image.onnx", [batch, 3, 32, 32], kind, pixels)
    tiny_onnx(folder / "text.onnx", [batch, 16], TensorProto.INT64, table, tokens=True)
    return pixels, table


@pytest.mark.parametrize(("dtype", "batch"), [(np.float32, "k"), (np.float32, 2), (np.float16, "k")])
def test_onnx_by_hand(tmp_path: Path, data: Path, dtype: type, batch: Any) -> None:
    """Rows are the transformed pixels times the weights, and the mean of the tokens' rows, of unit length."""
    weights, table = by_hand(tmp_path / "m", dtype, batch)
    model = loaded(f"onnx::{tmp_path / 'm'}")
    images = [FileImage(path) for path in sorted((data / "images").glob("*.png"))[:5]]
    pixels = torch.stack([model.transform(image.open()) for image in images]).numpy().reshape(5, -1)
    expected = pixels.astype(np.float64) @ weights.astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    tolerance = 1e-5 if dtype is np.float32 else 2e-2
    assert model.encode_images(images).rows == pytest.approx(expected, abs=tolerance)
    tokens = model.tokenizer(TEXTS).numpy()
    means = table.astype(np.float64)[tokens].mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert model.encode_texts(TEXTS) == pytest.approx(means, abs=tolerance)


def test_a_fixed_batch_is_padded() -> None:
    seen: list[int] = []

    def run(inputs: Tensor) -> Tensor:
        seen.append(len(inputs))
        return inputs * 2

    inputs = torch.arange(7.0)[:, None]
    assert torch.equal(in_batches(run, 3, inputs), inputs * 2)
    assert seen == [3, 3, 3]
    assert torch.equal(in_batches(run, None, inputs), inputs * 2)
    assert seen[3:] == [7]


def export(original: Path, folder: Path, *, batch: bool = True) -> Path:
    """Export both towers of a model folder with torch.export."""
    folder.mkdir()
    shutil.copy(original / CONFIG, folder)
    net = loaded(str(original)).net
    for name, example in (("image", torch.zeros(2, 3, 32, 32)), ("text", torch.zeros(2, 16, dtype=torch.long))):
        shapes = ({0: torch.export.Dim("batch")},) if batch else None
        program = torch.export.export(Encode(net, f"encode_{name}").eval(), (example,), dynamic_shapes=shapes)
        torch.export.save(program, folder / f"{name}.pt2")
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the folders of a tiny CLIP and of its exported towers, without a dynamic batch."""
    folder = tmp_path_factory.mktemp("exported")
    original = write_folder(folder / "original", CLIP)
    return original, export(original, folder / "pt2", batch=False)


@pytest.mark.slow
def test_torch_export_keeps_the_original_s_features_and_the_gate_says_so(
    exported: tuple[Path, Path], data: Path, command: Command, tmp_path: Path
) -> None:
    original, folder = exported
    one, other = loaded(str(original)), loaded(f"torch_export::{folder}")
    images = [FileImage(path) for path in sorted((data / "images").glob("*.png"))[:5]]
    assert other.encode_images(images).rows == pytest.approx(one.encode_images(images).rows, abs=1e-5)
    assert other.encode_texts(TEXTS) == pytest.approx(one.encode_texts(TEXTS), abs=1e-5)
    for model, output in ((original, "a"), (f"torch_export::{folder}", "b")):
        words = ["run", "--model", model, "--tasks", data / "name.toml", "--data-root", data]
        result = command(*words, "--output", tmp_path / output)
        assert result.code == 0, result.err
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\ntask = "name"\nmetric = "acc1"\ntolerance = 0.5\n')
    gate = command("gate", "--baseline", tmp_path / "a", "--current", tmp_path / "b", "--rules", rules)
    assert gate.code == 0, gate.err
    assert "name" in gate.out


@pytest.mark.slow
def test_onnx_export_keeps_the_original_s_features(exported: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    original, _ = exported
    shutil.copy(original / CONFIG, tmp_path)
    net = loaded(str(original)).net
    for name, example in (("image", torch.zeros(2, 3, 32, 32)), ("text", torch.zeros(2, 16, dtype=torch.long))):
        program = torch.onnx.export(Encode(net, f"encode_{name}").eval(), (example,), dynamo=True, verbose=False)
        program.save(tmp_path / f"{name}.onnx")
    one, other = loaded(str(original)), loaded(f"onnx::{tmp_path}")
    images = [FileImage(path) for path in sorted((data / "images").glob("*.png"))[:5]]
    assert other.encode_images(images).rows == pytest.approx(one.encode_images(images).rows, abs=1e-5)
    assert other.encode_texts(TEXTS) == pytest.approx(one.encode_texts(TEXTS), abs=1e-5)


def test_the_signature_changes_with_every_file_of_weights(tmp_path: Path) -> None:
    by_hand(tmp_path / "m")
    text = f"onnx::{tmp_path / 'm'}"

    def signature() -> dict[str, Any]:
        (source,) = model_sources(parse_models(text))
        return dict(source.signature())

    before = signature()
    assert before["exported"] == ".onnx"
    (tmp_path / "m" / "README.md").write_text("words")
    assert signature() == before
    (tmp_path / "m" / "image.onnx.data").write_bytes(b"1")
    assert signature()["weights"] != before["weights"]


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def no_text(folder: Path) -> None:
    (folder / "text.onnx").unlink()


def no_graph(folder: Path) -> None:
    (folder / "image.onnx").write_bytes(b"no graph")


def one_axis(folder: Path) -> None:
    node = helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["k", 3, 32, 32])]
    graph = helper.make_graph([node], "tower", given, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(folder / "image.onnx"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_folder, "no such folder; wanted a folder with open_clip_config.json, image.onnx and text.onnx"),
        (no_text, "no text.onnx in the folder"),
        (no_graph, "image.onnx: ONNX Runtime cannot load it"),
        (one_axis, "image.onnx: outputs of shape (); wanted features (k, d)"),
    ],
)
def test_bad_folders_are_one_line(
    command: Command, data: Path, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    by_hand(tmp_path / "m")
    damage(tmp_path / "m")
    words = ["run", "--model", f"onnx::{tmp_path / 'm'}", "--tasks", data / "name.toml", "--data-root", data]
    result = command(*words, "--output", tmp_path / "r")
    assert result.code in (1, 2)
    assert said in result.err
    assert "Traceback" not in result.err


def test_archives_that_can_run_code_must_be_typed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    by_hand(tmp_path / "m")
    for name in ("image.pt2", "text.pt2"):
        (tmp_path / "m" / name).write_bytes(b"no archive")
    text = f"torch_export::{tmp_path / 'm'}"
    (refused,) = model_sources(parse_models(text))
    with pytest.raises(ModelError, match="one that stands on the command line, since torch's loader can run code"):
        refused.load(hardware(device="cpu", precision="fp32", workers=0))
    with pytest.raises(ModelError, match=r"image.pt2: torch.export cannot load it"):
        loaded(text)
    assert "Traceback" not in capfd.readouterr().err, "torch logs one"


def test_a_graph_for_other_inputs_or_with_other_outputs_is_one_line_that_names_it(tmp_path: Path) -> None:
    pixels, _ = by_hand(tmp_path / "folder")
    model, image = loaded(f"onnx::{tmp_path / 'folder'}"), tmp_path / "folder" / "image.onnx"
    with pytest.raises(
        ModelError, match=r"image\.onnx: cannot run on inputs \(2, 3, 16, 16\).*wanted a graph exported"
    ):
        model.encode_image_batch(torch.zeros(2, 3, 16, 16))
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    more = [numpy_helper.from_array(pixels, "w"), numpy_helper.from_array(np.array([0]), "axes")]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["k", 3, 32, 32]), ("y", [1, 8]))
    ]
    graph = helper.make_graph(nodes, "pooled over the batch", ends[:1], ends[1:], more)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(image))
    model = loaded(f"onnx::{tmp_path / 'folder'}")
    with pytest.raises(ModelError, match=r"image\.onnx: output \(1, 8\).*wanted features \(2, d\)"):
        model.encode_image_batch(torch.zeros(2, 3, 32, 32))
