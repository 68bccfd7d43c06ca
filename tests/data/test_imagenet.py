from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from cocabench.core.errors import DataError, MissingDataError
from cocabench.data.base import fingerprint
from cocabench.data.imagenet import ImageNet, meta_synsets
from cocabench.data.prompts import class_names, synsets
from tests.data.drawing import draw, write

TRUE = {"ILSVRC2012_val_00000001": "n01751748", "ILSVRC2012_val_00000002": "n09193705"}
"""The first two validation images with their synsets, whose labels are 65 and 970."""
LABELS = [("ILSVRC2012_val_00000001", 65), ("ILSVRC2012_val_00000002", 970)]


def flat(root: Path, folder: str = "val") -> Path:
    draw(*(root / "in" / folder / f"{stem}.JPEG" for stem in TRUE))
    return root / "in"


def write_meta(path: Path, wnids: list[str]) -> None:
    """Write a meta.mat like the devkit's: ids from 1 in the order given, and one inner node of the tree."""
    fields = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O"), ("num_children", "f8")]
    rows = [(k, wnid, "words", 0) for k, wnid in enumerate(wnids, 1)] + [(len(wnids) + 1, "n00001740", "entity", 9)]
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"synsets": np.array(rows, dtype=fields).reshape(-1, 1)})


def devkit(top: Path, wnids: list[str]) -> Path:
    """Write a devkit whose ground truth numbers the true synsets by their places among wnids."""
    folder = top / "ILSVRC2012_devkit_t12/data"
    lines = "".join(f"{wnids.index(wnid) + 1}\n" for wnid in TRUE.values())
    write(folder / "ILSVRC2012_validation_ground_truth.txt", lines)
    write_meta(folder / "meta.mat", wnids)
    return folder


SHUFFLED = list(np.random.default_rng(0).permutation(synsets("imagenet1k")))


def labels(root: Path, **options: str) -> list[tuple[str, object]]:
    return [(e.id, e.label) for e in ImageNet(path="in", **options).build(root).examples]


class TestLayouts:
    def test_synset_folders(self, tmp_path: Path) -> None:
        draw(*(tmp_path / "in/val" / synset / f"{stem}.JPEG" for stem, synset in TRUE.items()))
        data = ImageNet(path="in").build(tmp_path)
        assert [(e.id, e.label) for e in data.examples] == LABELS
        assert (len(data.classes), data.classes[65], len(data.templates)) == (1000, "sea snake", 80)

    @pytest.mark.parametrize("folder", ["val", "ILSVRC/Data/CLS-LOC/val", ""])
    def test_flat_with_kaggles_solution(self, tmp_path: Path, folder: str) -> None:
        rows = "".join(f'{stem},"{synset} 85 1 499 272 {synset} 1 2 3 4 "\r\n' for stem, synset in TRUE.items())
        write(flat(tmp_path, folder) / "LOC_val_solution.csv", "\ufeffImageId,PredictionString\r\n" + rows)
        assert labels(tmp_path) == LABELS

    def test_flat_with_the_devkit(self, tmp_path: Path) -> None:
        devkit(flat(tmp_path), SHUFFLED)
        assert labels(tmp_path) == LABELS

    def test_all_layouts_have_one_fingerprint(self, tmp_path: Path) -> None:
        devkit(flat(tmp_path / "a"), SHUFFLED)
        draw(*(tmp_path / "b/in/val" / synset / f"{stem}.JPEG" for stem, synset in TRUE.items()))
        a, b = (fingerprint(ImageNet(path="in").build(tmp_path / root)) for root in "ab")
        assert a == b

    @pytest.mark.parametrize("name", ["ImageNetV2-matched-frequency", "imagenetv2-matched-frequency-format-val"])
    def test_v2s_numbered_folders_sort_by_number(self, tmp_path: Path, name: str) -> None:
        draw(*(tmp_path / "in" / name / str(k) / "hash.jpeg" for k in (2, 10, 999)))
        found = labels(tmp_path, split="matched-frequency", synsets="imagenetv2")
        assert found == [("10/hash", 10), ("2/hash", 2), ("999/hash", 999)]

    def test_a_subset_counts_its_own_classes(self, tmp_path: Path) -> None:
        first, last = synsets("imagenet-r")[0], synsets("imagenet-r")[-1]
        draw(*(tmp_path / "in" / synset / "art_0.jpg" for synset in (first, last)))
        data = ImageNet(path="in", split="test", synsets="imagenet-r").build(tmp_path)
        assert [(e.id, e.label) for e in data.examples] == [(f"{first}/art_0", 0), (f"{last}/art_0", 199)]
        assert data.classes == class_names("imagenet-r")


class TestTheMapIsNeverGuessed:
    """The devkit's numbers are not the order of sorted synsets: read so, accuracy is 0.1 %."""

    def test_without_meta_it_is_refused(self, tmp_path: Path) -> None:
        (devkit(flat(tmp_path), SHUFFLED) / "meta.mat").unlink()
        with pytest.raises(
            MissingDataError, match=r"meta\.mat is not beside it.*devkit's ids, not the order of sorted"
        ):
            labels(tmp_path)

    def test_a_map_to_other_synsets_is_refused(self, tmp_path: Path) -> None:
        devkit(flat(tmp_path), ["n00000001", *SHUFFLED[1:]])
        with pytest.raises(DataError, match=r"a map to 1000 synsets, 1 of them not ImageNet-1k's \(n00000001\)"):
            labels(tmp_path)

    def test_a_map_that_is_cut_short_is_refused(self, tmp_path: Path) -> None:
        folder = devkit(flat(tmp_path), SHUFFLED)
        write_meta(folder / "meta.mat", SHUFFLED[:900])
        with pytest.raises(DataError, match="a map to 900 synsets"):
            labels(tmp_path)

    def test_a_file_that_is_no_map_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="not the devkit's table of synsets"):
            meta_synsets(write(tmp_path / "meta.mat", b"x" * 200))
        savemat(tmp_path / "other.mat", {"a": 1})
        with pytest.raises(DataError, match="not the devkit's table of synsets"):
            meta_synsets(tmp_path / "other.mat")

    def test_inner_nodes_are_no_classes(self, tmp_path: Path) -> None:
        write_meta(tmp_path / "meta.mat", ["n02", "n01"])
        assert meta_synsets(tmp_path / "meta.mat") == {1: "n02", 2: "n01"}

    def test_ground_truth_of_other_ids(self, tmp_path: Path) -> None:
        write(devkit(flat(tmp_path), SHUFFLED) / "ILSVRC2012_validation_ground_truth.txt", "1\n1001\n")
        with pytest.raises(DataError, match=r"1 lines that are no id of meta\.mat: '1001'"):
            labels(tmp_path)

    def test_ground_truth_of_fewer_images(self, tmp_path: Path) -> None:
        write(devkit(flat(tmp_path), SHUFFLED) / "ILSVRC2012_validation_ground_truth.txt", "1\n")
        with pytest.raises(DataError, match="no label for 1 of 2 images: ILSVRC2012_val_00000002"):
            labels(tmp_path)


class TestErrors:
    def test_another_split_or_variant_is_not_taken_for_it(self, tmp_path: Path) -> None:
        draw(tmp_path / "in/train/n01440764/1.jpg", tmp_path / "in/imagenetv2-top-images-format-val/0/1.jpg")
        for split in ("test", "matched-frequency"):
            with pytest.raises(MissingDataError, match=f"no folder {split}, no synset folders"):
                labels(tmp_path, split=split)

    def test_images_without_any_labels(self, tmp_path: Path) -> None:
        flat(tmp_path)
        with pytest.raises(MissingDataError, match=r"images without labels; wanted synset folders, LOC_val_solution"):
            labels(tmp_path)

    def test_a_folder_that_is_no_class(self, tmp_path: Path) -> None:
        draw(tmp_path / "in/val/n01440764/1.jpg", tmp_path / "in/val/n99999999/1.jpg")
        with pytest.raises(DataError, match="1 folder not among the 1000 classes: n99999999"):
            labels(tmp_path)

    def test_a_class_outside_the_subset(self, tmp_path: Path) -> None:
        outside = next(s for s in synsets("imagenet1k") if s not in synsets("imagenet-a"))
        draw(tmp_path / "in" / outside / "1.jpg")
        with pytest.raises(DataError, match=f"1 folder not among the 200 classes: {outside}"):
            labels(tmp_path, split="test", synsets="imagenet-a")

    def test_loose_images(self, tmp_path: Path) -> None:
        draw(tmp_path / "in/val/n01440764/1.jpg", tmp_path / "in/val/2.jpg")
        with pytest.raises(DataError, match=r"1 image outside of the class folders: 2\.jpg"):
            labels(tmp_path)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        with pytest.raises(MissingDataError, match="no folder val, no synset folders and no images"):
            labels(tmp_path)
        (tmp_path / "in/val/n01440764").mkdir(parents=True)
        with pytest.raises(DataError, match="no images"):
            labels(tmp_path)

    def test_a_solution_row_without_synset(self, tmp_path: Path) -> None:
        write(flat(tmp_path) / "LOC_val_solution.csv", "ImageId,PredictionString\na,\n")
        with pytest.raises(DataError, match="1 row without a synset, first in line 2"):
            labels(tmp_path)
