"""Which class a label is, where the task file names the classes and the data do, too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cocabench.core.errors import DataError
from cocabench.core.types import Context, Dataset, Features, ImageFeatures, ImageSource, Machine
from cocabench.data.folders import ImageFolder
from cocabench.data.tables import Csv
from cocabench.kinds.classification import Classification
from cocabench.metrics.base import estimate, stack
from tests.data.drawing import draw, write

NAMES = ("time", "arrow", "bug", "zodiac")


class Knowing:
    """A model that knows each class by its name, and of an image the folder that it lies in."""

    def encode_images(self, images: Sequence[ImageSource], **_: Any) -> ImageFeatures:
        rows = self.encode_texts([Path(str(image)).parent.name for image in images])
        return ImageFeatures(rows, np.arange(len(rows)))

    def encode_texts(self, texts: Sequence[str], **_: Any) -> Features:
        return np.eye(len(NAMES), dtype=np.float32)[[NAMES.index(text) for text in texts]]


def measured(data: Dataset, names: Path, tmp_path: Path) -> tuple[float | None, list[str], list[str], dict[str, Any]]:
    """Return acc1, the class names of the samples, the notes, and the protocol."""
    kind = Classification(classnames=str(names), templates=str(write(tmp_path / "t.txt", "{c}")))
    samples = stack(kind.score(Knowing(), data, Context()))  # type: ignore[arg-type]
    acc1 = next(metric for metric in kind.metrics(data) if metric.name == "acc1")
    notes = [note.text for note in kind.data_notes(data)]
    return estimate(acc1, samples).value, list(samples["label_name"]), notes, kind.protocol(data, Machine())


@pytest.fixture
def names(tmp_path: Path) -> Path:
    return write(tmp_path / "names.txt", "\n".join(NAMES))


def test_an_absent_class_folder_moves_no_label(names: Path, tmp_path: Path) -> None:
    draw(*(tmp_path / f"eleven/{name}/a.png" for name in NAMES if name != "arrow"))
    acc1, labels, notes, protocol = measured(ImageFolder(path="eleven").build(tmp_path), names, tmp_path)
    assert (acc1, labels) == (1.0, ["bug", "time", "zodiac"])
    assert notes == ["1 class without images, such as 'arrow': not counted in mean_per_class_recall"]
    assert protocol["labels"] == "by class name"


def test_an_absent_label_of_a_table_moves_no_label(names: Path, tmp_path: Path) -> None:
    draw(*(tmp_path / name / "a.png" for name in NAMES))
    write(tmp_path / "t.csv", "filepath,label\n" + "".join(f"{name}/a.png,{name}\n" for name in NAMES[1:]))
    data = Csv(path="t.csv", label_key="label").build(tmp_path)
    assert measured(data, names, tmp_path)[:2] == (1.0, ["arrow", "bug", "zodiac"])


def test_labels_that_are_in_the_order_of_the_names_are_as_before(names: Path, tmp_path: Path) -> None:
    """What a finished Record of 0.1 holds: nothing of its protocol changes."""
    draw(*(tmp_path / f"all/{name}/a.png" for name in NAMES))
    listed = ImageFolder(path="all", classes=str(names)).build(tmp_path)
    acc1, _, _, protocol = measured(listed, names, tmp_path)
    assert (acc1, sorted(protocol)) == (1.0, ["classes", "prompts"])


def test_classes_of_other_names_must_be_as_many(names: Path, tmp_path: Path) -> None:
    draw(*(tmp_path / f"three/n{k}/a.png" for k in range(3)))
    data = ImageFolder(path="three").build(tmp_path)
    with pytest.raises(DataError, match="three: 3 classes in the data, 4 class names, without 'n0', 'n1', 'n2'"):
        Classification(classnames=str(names)).protocol(data, Machine())
