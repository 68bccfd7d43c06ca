"""Objects with encode_images and encode_texts as models: their rows, their identity, and what they may not return."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cocabench
from cocabench.core.errors import ModelError, NumericsError, UsageError
from cocabench.core.types import ImageSource
from cocabench.data.images import FileImage
from cocabench.models.hardware import hardware
from cocabench.models.open_clip.model import OpenClip
from cocabench.models.plain import in_memory
from cocabench.specs.registry import one_model

CPU = hardware(device="cpu", batch_size=5, workers=0)


class Colours:
    """Mean colours, projected; a text's row is made of its letters."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.images, self.letters = rng.normal(size=(3, 8)), rng.normal(size=(128, 8))
        self.net = torch.nn.Dropout()

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        assert not self.net.training, "in evaluation mode"
        return np.stack([np.asarray(image).mean((0, 1)) @ self.images for image in images])

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        return torch.tensor(np.stack([self.letters[[ord(c) % 128 for c in text]].sum(0) for text in texts]))


@pytest.fixture(scope="module")
def images(data: Path) -> list[ImageSource]:
    return [FileImage(path) for path in sorted((data / "images").iterdir())]


def test_rows_of_an_object_are_normalised_in_order_and_equal_texts_tie(images: list[ImageSource]) -> None:
    given = Colours()
    model = in_memory(given, name="mine").load(CPU)
    own = given.encode_texts(["thing", "a"]).numpy()
    found = model.encode_texts(["thing", "a", "thing"])
    np.testing.assert_allclose(found, (own / np.linalg.norm(own, axis=1, keepdims=True))[[0, 1, 0]], rtol=1e-6)
    given.net.eval()
    rows = given.encode_images([image.open() for image in images])
    wanted = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode_images(images).rows, wanted, rtol=1e-5)


def test_a_loaded_checkpoint_and_an_object_around_it_score_as_the_checkpoint(models: Path, data: Path) -> None:
    loaded = one_model(str(models / "clip")).load(CPU)
    assert isinstance(loaded, OpenClip)

    class Around:
        net = None

        def __init__(self) -> None:
            self.net = loaded.net

        def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
            return loaded.net.encode_image(pixels)

        def encode_texts(self, texts: list[str]) -> torch.Tensor:
            return loaded.net.encode_text(loaded.tokenizer(texts))

    task = str(data / "find.toml")
    (stored,) = cocabench.evaluate(str(models / "clip"), task, data_root=data)
    loaded.net.train()
    (around,) = cocabench.evaluate(Around(), task, preprocess=loaded.transform, name="around", data_root=data)
    assert loaded.net.training
    loaded.net.eval()
    (as_it_is,) = cocabench.evaluate(loaded, task, data_root=data)
    assert around.metrics == stored.metrics == as_it_is.metrics
    assert (around.model, as_it_is.model) == ("around", loaded.id)
    with pytest.raises(ModelError, match=r"around on tell: the model cannot caption; leave the task out"):
        cocabench.evaluate(Around(), str(data / "tell.toml"), name="around", data_root=data)


def test_an_object_is_left_as_it_was_and_identified_by_its_weights(data: Path, tmp_path: Path) -> None:
    given = Colours()
    task = str(data / "find.toml")
    results = [cocabench.evaluate(one, task, data_root=data, output=tmp_path)[0] for one in (given, given, Colours(1))]
    assert given.net.training
    assert results[0].created == results[1].created, "found in the results folder"
    assert results[2].created != results[0].created
    weights = [result.signature.model["weights"] for result in results]
    assert weights[0] == weights[1] != weights[2]
    other = copy.deepcopy(given)
    other.scale = 3  # type: ignore[attr-defined]
    assert in_memory(other).signature() != in_memory(given).signature()


def test_an_object_without_weights_is_evaluated_but_kept_only_with_a_signature(data: Path, tmp_path: Path) -> None:
    class Blind:
        def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
            return torch.ones(len(images), 2)

        def encode_texts(self, texts: list[str]) -> torch.Tensor:
            return torch.tensor([[1.0, len(text)] for text in texts])

    task = str(data / "find.toml")
    first, second = (cocabench.evaluate(Blind(), task, data_root=data)[0] for _ in range(2))
    assert first.metrics == second.metrics
    assert first.signature.model["weights"] != second.signature.model["weights"], "unknown is equal to nothing"
    for kept in ({"output": tmp_path}, {"cache": tmp_path}):
        with pytest.raises(UsageError, match=r"given with an object that holds no weights.* a method signature\(\)"):
            cocabench.evaluate(Blind(), task, data_root=data, **kept)  # type: ignore[arg-type]
    Blind.signature = lambda self: {"weights": "none"}  # type: ignore[attr-defined]
    (stored,) = cocabench.evaluate(Blind(), task, data_root=data, output=tmp_path)
    assert stored.signature.model["weights"] == "none"


class Towers(torch.nn.Module):
    """Two projections with dropout, and positions that are computed once, as rotary embeddings are."""

    def __init__(self) -> None:
        super().__init__()
        self.colours, self.letters, self.dropout = torch.nn.Linear(3, 4), torch.nn.Linear(1, 4), torch.nn.Dropout()
        self.positions: torch.Tensor | None = None

    def embed(self, images: list[Image.Image]) -> torch.Tensor:
        means = torch.tensor(np.stack([np.asarray(image).mean((0, 1)) / 255 for image in images])).float()
        if self.positions is None:
            self.positions = torch.ones(4)
        return self.colours(self.dropout(means)) * self.positions

    def read(self, texts: list[str]) -> torch.Tensor:
        return self.letters(torch.tensor([[float(len(text))] for text in texts]))


class Around:
    """The methods of a model, around a network that is somewhere in it."""

    net: Any

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        assert not self.net.training, "in evaluation mode"
        return self.net.embed(images)

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        return self.net.read(texts)


class Attribute(Around):
    def __init__(self, net: Towers) -> None:
        self.net = net


class InAList(Around):
    def __init__(self, net: Towers) -> None:
        self.several, self.mean = [{"main": net}], np.zeros(3)

    @property
    def net(self) -> Towers:  # type: ignore[override]
        return self.several[0]["main"]


class InAnObject(Around):
    def __init__(self, net: Towers) -> None:
        self.inner, self.mean = Attribute(net), np.zeros(3)

    @property
    def net(self) -> Towers:  # type: ignore[override]
        return self.inner.net


class InASlot(Around):
    __slots__ = ("net",)

    def __init__(self, net: Towers) -> None:
        self.net = net


class ByMethods:
    def __init__(self, net: Towers) -> None:
        self.encode_images, self.encode_texts = net.embed, net.read


class ByClosures:
    def __init__(self, net: Towers) -> None:
        self.encode_images, self.encode_texts = (lambda images: net.embed(images)), (lambda texts: net.read(texts))


class UnregisteredInAModule(torch.nn.Module):
    def __init__(self, net: Towers) -> None:
        super().__init__()
        self.scale, self.experts = torch.nn.Parameter(torch.ones(1)), [net]

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        return self.experts[0].embed(images)

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        return self.experts[0].read(texts)


_kept: dict[str, Towers] = {}


class ByAGlobalName:
    def __init__(self, net: Towers) -> None:
        _kept["net"] = net

    def encode_images(self, images: list[Image.Image]) -> torch.Tensor:
        return _kept["net"].embed(images)

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        return _kept["net"].read(texts)


PLACES = (
    Attribute, InAList, InAnObject, InASlot, ByMethods, ByClosures, UnregisteredInAModule, ByAGlobalName,
)  # fmt: skip


@pytest.mark.parametrize("kind", PLACES)
def test_a_network_is_found_wherever_an_object_holds_it(kind: Any, images: list[ImageSource]) -> None:
    """In evaluation mode without dropout, in its own afterwards, identified, and fit for training."""
    torch.manual_seed(0)
    net = Towers()
    given = kind(net)
    source = in_memory(given, name="mine")
    assert not source.unknown
    before = source.signature()
    assert before == in_memory(given, name="mine").signature()
    model = source.load(CPU)
    first, second = (model.encode_images(images).rows for _ in range(2))
    np.testing.assert_array_equal(first, second, "no dropout")
    assert net.training
    net.embed([image.open() for image in images]).sum().backward()  # what was computed on the way allows gradients
    with torch.no_grad():
        net.colours.weight += 1
    assert in_memory(given, name="mine").signature()["weights"] != before["weights"]


class Session:
    """What a library of compiled code may give: it cannot be looked into, nor pickled."""

    __slots__ = ()

    def __reduce_ex__(self, _: object) -> str:
        raise TypeError("cannot pickle a Session")


def test_an_object_that_holds_what_cannot_be_identified_is_not_kept(data: Path, tmp_path: Path) -> None:
    given = Colours()
    given.session = Session()  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"given with an object whose session cannot be identified.* signature\(\)"):
        cocabench.evaluate(given, str(data / "find.toml"), data_root=data, output=tmp_path)
    assert len(cocabench.evaluate(given, str(data / "find.toml"), data_root=data)) == 1


def test_settings_of_parts_identify_an_object() -> None:
    class Tokenizer:
        length = 77

    one, other = Attribute(Towers()), None
    one.tokenizer = Tokenizer()  # type: ignore[attr-defined]
    other = copy.deepcopy(one)
    assert in_memory(one).signature() == in_memory(other).signature()
    other.tokenizer.length = 32  # type: ignore[attr-defined]
    assert in_memory(one).signature() != in_memory(other).signature()


@pytest.mark.parametrize(
    ("verb", "returned", "error", "message"),
    [
        ("encode_images", np.ones((5, 0)), ModelError, r"m: features of shape \(5, 0\) of 5 images; wanted a tensor"),
        ("encode_images", np.ones((4, 2)), ModelError, r"features of shape \(4, 2\) of 5 images; .*\(5, d\)"),
        ("encode_images", np.full((5, 8), np.nan), NumericsError, r"00.png: NaN or infinity in the features"),
        ("encode_images", [1, 2], ModelError, r"m: encode_images returns a list; wanted a tensor or array"),
        ("encode_texts", torch.ones(8), ModelError, r"m: features of shape \(8,\) of 2 texts"),
        (
            "encode_texts",
            ZeroDivisionError("by\nzero"),
            ModelError,
            r"fails on a batch of 2 \(ZeroDivisionError: by\);",
        ),
    ],
)
def test_what_an_object_may_not_return_is_one_line(
    verb: str, returned: Any, error: type[Exception], message: str, images: list[ImageSource]
) -> None:
    def broken(batch: list[Any]) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    given = Colours()
    setattr(given, verb, broken)
    model = in_memory(given, name="m").load(CPU)
    with pytest.raises(error, match=message) as raised:
        model.encode_images(images[:5]) if verb == "encode_images" else model.encode_texts(["a", "b"])
    assert "\n" not in str(raised.value)
