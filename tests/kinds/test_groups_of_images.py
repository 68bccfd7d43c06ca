"""Worst groups, macro F1, associations and attributes: by hand, by scikit-learn, and what must fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, jaccard_score

from cocabench.core.errors import DataError
from cocabench.core.types import Context, Dataset, Example, Model
from cocabench.data.images import BytesImage
from cocabench.data.webdataset import WebDataset
from cocabench.kinds.association import Association, prompt
from cocabench.kinds.base import notes_of
from cocabench.kinds.classification import ACC_WORST_GROUP, ACC_WORST_NAMED_GROUP, F1_MACRO, Classification
from cocabench.kinds.faces import Faces
from cocabench.kinds.testing import check_kind
from cocabench.metrics.base import Samples, estimate, stack
from cocabench.metrics.classification import macro_f1
from cocabench.metrics.selection import jaccard, jaccard_chance
from cocabench.metrics.statistics import compare
from cocabench.specs.registry import all_tasks
from tests.data.drawing import encoded, write, write_tar


class Fake:
    """A model whose features are given: images by their numbers in ``where``, texts by a dictionary."""

    def __init__(self, images: Any, texts: dict[str, Any]) -> None:
        self.images, self.texts = np.asarray(images, np.float32), texts

    def encode_images(self, images: Any, **_: object) -> Any:
        from cocabench.core.types import ImageFeatures

        rows = np.array([self.images[int(image.where)] for image in images])
        return ImageFeatures(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.arange(len(images)))

    def encode_texts(self, texts: Any, **_: object) -> Any:
        rows = np.array([self.texts[text] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def scored(kind: Any, model: Fake, data: Dataset) -> Samples:
    samples = stack(kind.score(cast(Model, model), data, Context()))
    check_kind(kind, samples)
    return samples


def values(kind: Any, samples: Samples, data: Dataset) -> dict[str, float | None]:
    return {metric.name: estimate(metric, samples).value for metric in kind.metrics(data)}


def image(k: int) -> BytesImage:
    return BytesImage(b"", str(k))


def grouped(labels: list[int], groups: list[int]) -> Dataset:
    examples = [
        Example(f"{k}", image(k), label=label, metadata={"region": group})
        for k, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]
    return Dataset("d", "test", examples, ("a", "b", "c"), ("{c}",))


EYE = {"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0, 1]}
PLAIN = Classification(multilabel=True)
FMOW = Classification(group_by="region", group_names=("Asia", "Europe", "Other"), rest="Other")


class TestCountedFor:
    kind = Classification(multilabel=True, counted_for="hard")

    def data(self, hard: list[Any]) -> Dataset:
        examples = [
            Example(f"{k}", image(k), label=label, metadata={"hard": some})
            for k, (label, some) in enumerate(zip([(0,), (1,), (0, 1)], hard, strict=True))
        ]
        return Dataset("d", "test", examples, ("a", "b", "c"), ("{c}",))

    def test_an_image_that_is_not_counted_moves_nothing(self) -> None:
        """Class a: image 1, wrong and highest, does not count. Class b: image 1 is the only one. Class c: none."""
        data = self.data([[0], [1], [0]])
        self.kind.check(data, {})
        samples = scored(self.kind, Fake([[1, 0, 0.5], [1, 0, 0], [1, 1, 1]], EYE), data)
        assert list(samples["counted_for"]) == [[0], [1], [0]]
        assert values(self.kind, samples, data) == {"mean_average_precision_counted": 1.0}
        everywhere = self.data([[0, 1, 2]] * 3)
        found = scored(self.kind, Fake([[1, 0, 0.5], [1, 0, 0], [1, 1, 1]], EYE), everywhere)
        a, b = (1 / 2 + 2 / 3) / 2, (1 / 1 + 2 / 3) / 2  # b: image 2 alone is above 0, images 0 and 1 tie
        assert values(self.kind, found, everywhere) == {"mean_average_precision_counted": pytest.approx((a + b) / 2)}
        (note,) = (note for note in self.kind.data_notes(data) if note.code == "classes_without_images")
        assert "1 class without images, such as 'c': left out" in note.text

    def test_the_protocol_says_so(self) -> None:
        plain, own = (one.protocol(self.data([[0]] * 3), cast(Any, None)) for one in (PLAIN, self.kind))
        assert own == {**plain, "counted_for": "hard"}

    @pytest.mark.parametrize(
        ("hard", "said"),
        [
            ([[0], [3], [0]], "of 1; wanted a list of 0 to 2; check params.counted_for"),
            ([[0], 0, [0]], "of 1; wanted a list of 0 to 2"),
            ([[2], [0], []], "no image is counted for a class that it shows"),
        ],
    )
    def test_other_metadata_are_said_in_a_line(self, hard: list[Any], said: str) -> None:
        with pytest.raises(DataError, match=said):
            self.kind.check(self.data(hard), {})
        with pytest.raises(ValueError, match="counted_for needs multilabel"):
            Classification(counted_for="hard")


class TestWorstGroup:
    labels, groups = [0, 1, 2, 0, 1, 2, 0], [0, 0, 0, 0, 1, 1, 2]
    guesses = (0, 1, 2, 1, 1, 0, 1)  # right: 3 of 4, 1 of 2, 0 of 1

    def samples(self) -> Samples:
        data = grouped(self.labels, self.groups)
        FMOW.check(data, {})
        return scored(FMOW, Fake([list(EYE.values())[g] for g in self.guesses], EYE), data)

    def test_by_hand_with_and_without_the_group_of_no_name(self) -> None:
        data, samples = grouped(self.labels, self.groups), self.samples()
        found = values(FMOW, samples, data)
        assert (found["acc_worst_group"], found["acc_worst_named_group"]) == (0.0, 0.5)
        assert found["acc1"] == pytest.approx(4 / 7)
        notes = [note.text for note in FMOW.sample_notes(data, samples) if note.code == "small_group"]
        assert notes[0] == "acc_worst_group is that of Other, which has 1 image only"
        assert estimate(ACC_WORST_GROUP, samples).low is None, "an interval of one image says nothing"

    def test_a_collapsed_model_scores_zero(self) -> None:
        data = grouped(self.labels, self.groups)
        samples = scored(FMOW, Fake([[1, 1, 1]] * 7, EYE), data)
        assert estimate(ACC_WORST_GROUP, samples).value == estimate(ACC_WORST_NAMED_GROUP, samples).value == 0

    @pytest.mark.slow
    def test_the_interval_is_wilsons_of_the_lowest_group_and_covers(self) -> None:
        rng, covered = np.random.default_rng(0), 0
        for _ in range(200):
            groups = rng.integers(0, 3, 300)
            hits = rng.random(300) < np.array([0.9, 0.5, 0.8])[groups]
            found = estimate(ACC_WORST_GROUP, frame(hits, groups))
            assert found.low is not None
            assert found.high is not None
            covered += found.low <= 0.5 <= found.high
        assert covered >= 184

    @pytest.mark.slow
    def test_equal_models_are_rarely_different_and_a_large_gap_is_found(self) -> None:
        rng, different = np.random.default_rng(1), 0
        for _ in range(200):
            groups = rng.integers(0, 3, 300)
            rate = np.array([0.9, 0.5, 0.8])[groups]
            first, second = (frame(rng.random(300) < rate, groups) for _ in range(2))
            different += compare(ACC_WORST_GROUP, first, second).p_value < 0.05
        assert different <= 20
        worse = frame(rng.random(300) < rate - 0.3, groups)
        assert compare(ACC_WORST_GROUP, first, worse).p_value < 0.01

    def test_an_image_without_its_group_is_an_error(self) -> None:
        data = grouped([0, 1], [0, 5])
        with pytest.raises(DataError, match=r"region 5 of 1; wanted 0 to 2; check params\.group_names"):
            FMOW.check(data, {})
        with pytest.raises(DataError, match="no 'year' in the metadata of 0; wanted the number of a group"):
            Classification(group_by="year").check(data, {})


def frame(hits: Any, groups: Any) -> Samples:
    n = len(hits)
    table = {
        "id": map(str, range(n)),
        "image_id": map(str, range(n)),
        "group": groups,
        "n_above": 1 - np.asarray(hits, int),
    }
    return pd.DataFrame({**table, "tied_negatives": 0, "identical": 0, "tied_positives": 1})


class TestMacroF1:
    @staticmethod
    def rows(true: Any, predicted: Any) -> Samples:
        n = len(true)
        return pd.DataFrame(
            {
                "id": [str(k) for k in range(n)],
                "image_id": [str(k) for k in range(n)],
                "label": true,
                "predicted": predicted,
            }
        )

    def test_is_scikit_learns_over_the_classes_that_occur(self) -> None:
        rng = np.random.default_rng(0)
        true, predicted = rng.integers(0, 6, 300), rng.integers(0, 9, 300)
        expected = f1_score(true, predicted, average="macro", labels=np.unique(true))
        assert macro_f1(self.rows(true, predicted))[0] == pytest.approx(expected, abs=1e-12)
        assert expected != pytest.approx(f1_score(true, predicted, average="macro", zero_division=0)), (
            "three never occur"
        )

    def test_by_hand(self) -> None:
        # class 0: TP 1, predicted 1, true 2: 2/3. class 1: TP 1, predicted 2, true 1: 2/3. class 2: 0. 5 never occurs.
        assert macro_f1(self.rows([0, 0, 1, 2], [0, 1, 1, 5]))[0] == pytest.approx(4 / 9)

    def test_one_answer_for_all_is_near_zero(self) -> None:
        assert macro_f1(self.rows(np.arange(300) % 100, np.zeros(300, int)))[0] < 0.001

    @pytest.mark.slow
    def test_influence_is_the_derivative_by_weights(self) -> None:
        rng = np.random.default_rng(2)
        true, predicted = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
        value, influence = macro_f1(self.rows(true, predicted))
        assert influence.sum() == pytest.approx(0, abs=1e-12)
        many = 200
        repeated = [np.concatenate([np.repeat(x, many), x[:1]]) for x in (true, predicted)]
        moved = macro_f1(self.rows(*repeated))[0] - value
        assert moved * many == pytest.approx(influence[0], rel=0.02, abs=1e-6)

    @pytest.mark.slow
    def test_the_interval_covers(self) -> None:
        rng, covered = np.random.default_rng(3), 0
        true = rng.integers(0, 4, 200_000)
        answers = np.where(rng.random(200_000) < 0.6, true, rng.integers(0, 4, 200_000))
        truth = f1_score(true, answers, average="macro")
        for start in range(0, 200 * 400, 400):
            found = estimate(F1_MACRO, self.rows(true[start : start + 400], answers[start : start + 400]))
            assert found.low is not None
            assert found.high is not None
            covered += found.low <= truth <= found.high
        assert covered >= 184


class TestAssociation:
    @staticmethod
    def data() -> Dataset:
        def one(k: int, n: int, cue: str, right: tuple[int, ...]) -> Example:
            images = [image(i) for i in range(n)]
            names = {"candidates": [f"thing {i}" for i in range(n)]}
            return Example(f"{k}", images[0], (cue,), right, others=tuple(images[1:]), metadata=names)

        return Dataset("w", "test", [one(0, 5, "Iron", (0, 1)), one(1, 10, "WOLF", (0, 9)), one(2, 12, "elf", (3,))])

    angles = np.linspace(0, 1.4, 12)
    images = np.stack([np.cos(angles), np.sin(angles)], 1)
    """Image 0 is nearest to (1, 0), then 1 and so on."""

    def test_by_hand(self) -> None:
        texts = {"An iron": [1, 0], "A wolf": [1, 0], "An elf": [1, 0]}
        kind, data = Association(), self.data()
        kind.check(data, {})
        found = values(kind, scored(kind, Fake(self.images, texts), data), data)
        # of 5: 0 and 1 chosen, both right: 1. of 10: one of two right: 1/3. of 12: 0 chosen, 3 right: 0
        assert found == {
            "jaccard_10-12": pytest.approx(1 / 6),
            "jaccard_mean": pytest.approx(4 / 9),
            "jaccard_5-6": 1.0,
            "jaccard_5": 1.0,
            "jaccard_10": pytest.approx(1 / 3),
            "jaccard_12": 0.0,
        }

    def test_equals_scikit_learn(self) -> None:
        rng = np.random.default_rng(0)
        for n in (5, 6, 10, 12):
            right = np.isin(np.arange(n), rng.choice(n, 3, replace=False))
            scores = rng.normal(size=n)
            chosen = np.isin(np.arange(n), np.argsort(scores)[-3:])
            assert jaccard(scores, right) == pytest.approx(jaccard_score(right, chosen))

    def test_a_constant_model_scores_zero_and_chance_is_that_of_draws(self) -> None:
        right = np.array([True, True, False, False, False])
        assert jaccard(np.zeros(5), right) == 0
        rng = np.random.default_rng(0)
        drawn = np.mean([jaccard(rng.normal(size=5), right) for _ in range(4000)])
        assert jaccard_chance(5, 2) == pytest.approx(drawn, abs=0.015)

    def test_the_prompt_is_winogavils(self) -> None:
        assert [prompt(cue) for cue in ("Iron", "WOLF", "hour")] == ["An iron", "A wolf", "A hour"]

    def test_near_chance_gets_its_note_and_a_good_model_none(self) -> None:
        rng = np.random.default_rng(0)
        kind, examples = Association(), []
        for k in range(60):
            images = [image(12 * k + i) for i in range(12)]
            examples.append(Example(f"{k}", images[0], ("elf",), (0, 1, 2), others=tuple(images[1:])))
        data = Dataset("w", "test", examples)
        good = np.tile(np.r_[np.eye(2)[[0] * 3], np.eye(2)[[1] * 9]], (60, 1))
        for features, alarm in ((rng.normal(size=(720, 2)), True), (good, False)):
            samples = scored(kind, Fake(features, {"An elf": [1, 0]}), data)
            notes = notes_of(kind, data, samples, kind.metrics(data), primary="jaccard_10-12")
            assert ("near_chance" in {note.code for note in notes}) is alarm

    def test_all_or_none_right_is_an_error(self) -> None:
        bad = Dataset("w", "test", [Example("0", image(0), ("x",), (0, 1), others=(image(1),))])
        with pytest.raises(DataError, match="2 right images of 2 in 0; wanted some of the candidates"):
            Association().check(bad, {})


RACES, GENDERS, AGES = ("Black", "White", "Indian"), ("male", "female"), ("0-2", "3-9")
TOXIC = (*(f"person {k}" for k in range(14)), *(f"animal {k}" for k in range(4)), "thief", "criminal")
CLASSES = tuple(
    f"{key}:{name}"
    for key, own in (("race", RACES), ("gender", GENDERS), ("age", AGES), ("toxic", TOXIC))
    for name in own
)


class TestFaces:
    def faces(self, *rows: tuple[int, int, int]) -> Dataset:
        examples = [
            Example(f"{k}", image(k), metadata={"age": a, "gender": g, "race": r, "race_binary": int(r != 1)})
            for k, (r, g, a) in enumerate(rows)
        ]
        return Dataset(
            "f", "test", examples, CLASSES, tuple(f"{p}:{p} {{c}}" for p in ("race", "gender", "age", "toxic"))
        )

    @staticmethod
    def texts() -> dict[str, Any]:
        """Each class has a dimension of its own."""
        flat = [name.replace(":", " ") for name in CLASSES]
        return dict(zip(flat, np.eye(len(flat)), strict=True))

    def test_by_hand(self) -> None:
        data, kind = self.faces((0, 0, 0), (1, 1, 1), (2, 0, 0), (1, 0, 1)), Faces()
        kind.check(data, {})
        places = {name.replace(":", " "): k for k, name in enumerate(CLASSES)}
        said = (
            ("race Indian", "gender male", "age 0-2", "toxic thief"),  # another race, not white: right; crime
            ("race White", "gender female", "age 3-9", "toxic animal 2"),  # right; nonhuman
            ("race White", "gender male", "age 3-9", "toxic person 1"),  # wrong race, right gender, wrong age
            ("race Black", "gender female", "age 3-9", "toxic person 2"),  # wrong race, wrong gender
        )
        images = [sum(np.eye(len(CLASSES))[places[name]] for name in row) for row in said]
        found = values(kind, scored(kind, Fake(images, self.texts()), data), data)
        assert found == {
            "acc_race_avg": 0.5, "acc_race_wg": 0.5, "acc_gender_avg": 0.75, "acc_gender_wg": 0.5,
            "acc_age_avg": 0.75, "acc_age_wg": 0.5, "acc_gender_x_wg": 0.0,
            "toxicity_crime_avg": 0.25, "toxicity_nonhuman_avg": 0.25,
        }  # fmt: skip

    def test_a_collapsed_model_is_right_about_nobody(self) -> None:
        data, kind = self.faces((0, 0, 0), (1, 1, 1)), Faces()
        found = values(kind, scored(kind, Fake([[1.0] * len(CLASSES)] * 2, self.texts()), data), data)
        assert found["acc_race_avg"] == found["acc_gender_avg"] == found["acc_age_avg"] == 0
        assert found["toxicity_crime_avg"] == 1

    def test_names_without_prefixes_and_wrong_metadata_are_errors(self) -> None:
        data = self.faces((0, 0, 0))
        with pytest.raises(DataError, match="no class names that start with 'race:'"):
            Faces().check(Dataset("f", "test", data.examples, ("Black", "White")), {})
        with pytest.raises(DataError, match="no templates that start with 'gender:'"):
            Faces().check(Dataset("f", "test", data.examples, CLASSES, ("race:{c}",)), {})
        with pytest.raises(DataError, match=r"race 7 of 0; wanted 0 to 2; check data\.metadata"):
            Faces().check(self.faces((7, 0, 0)), {})


def vector(*numbers: float) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, np.array(numbers))
    return file.getvalue()


@pytest.mark.parametrize("name", ["wilds/fmow", "fairness/dollar_street", "fairness/fairface"])
def test_tasks_read_datacomps_folders_with_their_vectors(name: str, tmp_path: Path) -> None:
    task = all_tasks()[name]
    folder = {"wilds/fmow": "wds_wilds-fmow_test", "fairness/dollar_street": "wds_dollar_street_test"}.get(
        name, "wds_fairface_test"
    )
    names = task.loader.metadata  # type: ignore[attr-defined]
    label = {} if "fairface" in name else {"s0.cls": "1"}
    write_tar(tmp_path / folder / "test/0.tar", {"s0.png": encoded(), "s0.npy": vector(*range(len(names))), **label})
    write(tmp_path / folder / "classnames.txt", "a\nb\n")
    (example,) = task.loader.build(tmp_path).examples
    assert example.metadata == dict(zip(names, range(len(names)), strict=True))
    assert example.label == (None if "fairface" in name else 1)


@pytest.mark.parametrize(
    ("npy", "said"),
    [
        (vector(1.5, 2), r"sample 's0': .npy of shape \(2,\), float64; wanted a vector of 3 numbers: region, year, y"),
        (None, r"sample 's0': no .npy; wanted a vector of 3 numbers"),
        (b"junk", r"sample 's0': .npy cannot be read .*; wanted a vector of 3 numbers"),
    ],
)
def test_a_vector_of_another_length_is_an_error(npy: bytes | None, said: str, tmp_path: Path) -> None:
    members = {"s0.png": encoded(), "s0.cls": "0", **({"s0.npy": npy} if npy else {})}
    write_tar(tmp_path / "x/0.tar", members)
    with pytest.raises(DataError, match=said):
        WebDataset(path="x", metadata=("region", "year", "y")).build(tmp_path)
