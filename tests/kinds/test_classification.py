"""Which class a label is, where the task file names the classes and the data do, too."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cocabench.core.errors import DataError
from cocabench.core.types import Context, Dataset, Features, ImageFeatures, ImageSource, Likelihoods, Machine
from cocabench.data.folders import ImageFolder
from cocabench.data.tables import Csv
from cocabench.kinds.classification import Classification
from cocabench.kinds.likelihoods import Scoring
from cocabench.metrics.base import Samples, estimate, stack
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


class Telling(Knowing):
    """A decoder: log p(text | image) by the text's length, and 10 more where the image's class is in it."""

    def __init__(self, seen: bool = True) -> None:
        self.seen, self.asked = seen, 0

    def score_captions(self, images: Sequence[ImageSource], texts: Sequence[Sequence[str]], **_: Any) -> Likelihoods:
        self.asked += sum(map(len, texts))
        kept = [i for i, image in enumerate(images) if "unread" not in str(image)]
        known = [Path(str(images[i])).parent.name if self.seen else "" for i in kept]
        rows = [
            [10.0 * (own in text.split()) - len(text) for text in texts[i]] for i, own in zip(kept, known, strict=True)
        ]
        logprobs = np.array(rows, np.float32)
        return Likelihoods(logprobs, np.full(logprobs.shape, 2), np.array(kept))


def four(tmp_path: Path) -> Dataset:
    draw(*(tmp_path / f"all/{name}/a.png" for name in NAMES))
    return ImageFolder(path="all").build(tmp_path)


def by_likelihood(
    tmp_path: Path, model: Telling, templates: str = "a {c}", scoring: Scoring = "likelihood"
) -> tuple[dict[str, float | None], Samples]:
    data = four(tmp_path)
    kind = Classification(templates=str(write(tmp_path / "t.txt", templates)), scoring=scoring)
    samples = stack(kind.score(model, data, Context()))  # type: ignore[arg-type]
    return {metric.name: estimate(metric, samples).value for metric in kind.metrics(data)}, samples


def test_likelihoods_of_prompts_by_hand(tmp_path: Path) -> None:
    """Of the image "bug", "a bug" has 10 - 5, "a time" 0 - 6; of two templates the mean counts."""
    found, samples = by_likelihood(tmp_path, Telling(), "a {c}\nthis is a {c}")
    assert found["acc1"] == 1
    bug = samples.set_index("label_name").loc["bug"]
    assert bug["top5_names"] == ["bug", "time", "arrow", "zodiac"]
    assert bug["top5_scores"] == [10 - (5 + 13) / 2, -(6 + 14) / 2, -(7 + 15) / 2, -(8 + 16) / 2]
    mean = by_likelihood(tmp_path, Telling(), scoring="likelihood_per_token")[1].set_index("label_name").loc["bug"]
    assert mean["top5_scores"] == [5 / 2, -6 / 2, -7 / 2, -8 / 2]


def test_a_decoder_that_sees_nothing_names_the_likeliest_class_and_gains_nothing(tmp_path: Path) -> None:
    found, samples = by_likelihood(tmp_path, Telling(seen=False))
    assert found["acc1"] == 1 / 4, "always the shortest name"
    assert [names[0] for names in samples["top5_names"]] == ["bug"] * 4
    found, samples = by_likelihood(tmp_path, Telling(seen=False), scoring="likelihood_gain")
    assert found["acc1"] == 0, "all classes tie"
    assert set(samples["tied_negatives"]) == {3}
    assert by_likelihood(tmp_path, Telling(), scoring="likelihood_gain")[0]["acc1"] == 1


def test_classes_of_one_prompt_are_scored_once_and_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    data = four(tmp_path)
    names = write(tmp_path / "n.txt", "bug\nbug\ntime\nzodiac")
    twice = replace(data, classes=(), examples=[*data.examples, replace(data.examples[0], id="x", image=Unread())])
    kind = Classification(
        classnames=str(names), templates=str(write(tmp_path / "t.txt", "a {c}")), scoring="likelihood"
    )
    model = Telling()
    samples = stack(kind.score(model, twice, Context()))  # type: ignore[arg-type]
    assert len(samples) == 4
    assert model.asked == 5 * 3
    assert kind.work(twice)["captions"] == 5 * 3
    by_label = samples.set_index("label")
    assert by_label.loc[0, "identical"] == by_label.loc[1, "identical"] == 1, "two classes of one name share hits"


class Unread:
    def __str__(self) -> str:
        return "unread"


def test_the_protocol_says_how_and_that_of_cosines_stays(tmp_path: Path) -> None:
    data = four(tmp_path)
    assert sorted(Classification().protocol(data, Machine())) == ["classes", "prompts"]
    protocol = Classification(scoring="likelihood_gain").protocol(data, Machine())
    assert protocol["scoring"] == "likelihood_gain"
    assert protocol["prior"] == "zeros after normalisation"
    assert Classification.decodes(protocol)
    assert Classification(scoring="likelihood").needs() == {"score_captions"}
