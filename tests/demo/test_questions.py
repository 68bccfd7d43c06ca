"""The toy of questions: what is asked, the images, and the training half, which no test image is of."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cocabench.data.builtin import Emoji, in_grid
from cocabench.data.questions import questions_of
from cocabench.demo import data_file, data_files
from tools.demo.pictures import TrainingSet
from tools.demo.questions import cells_of, colour_of, training_rows, write_questions
from tools.demo.sources import STYLES


@pytest.mark.parametrize(
    ("rgb", "wanted"),
    [
        ((221, 46, 68), "red"),
        ((244, 144, 12), "orange"),
        ((255, 204, 77), "yellow"),
        ((119, 178, 85), "green"),
        ((85, 172, 238), "blue"),
        ((170, 142, 214), "purple"),
        ((234, 89, 110), "red"),
        ((244, 171, 186), "pink"),
        ((138, 75, 56), "brown"),
        ((41, 47, 51), "black"),
        ((150, 155, 160), "gray"),
        ((255, 255, 255), ""),  # no question about white
    ],
)
def test_colours_of_twemojis_palette(rgb: tuple[int, int, int], wanted: str) -> None:
    assert colour_of(Image.new("RGBA", (4, 4), (*rgb, 255))) == wanted


def test_a_drawing_of_two_colours_has_a_clear_one_only_if_it_covers_half() -> None:
    drawing = Image.new("RGBA", (4, 4), (0, 0, 255, 255))
    drawing.paste((255, 0, 0, 255), (0, 0, 4, 1))
    drawing.paste((0, 255, 0, 255), (0, 1, 3, 2))  # 4 red, 3 green, 9 blue
    assert colour_of(drawing) == "blue"
    drawing.paste((0, 255, 0, 255), (0, 2, 2, 3))
    assert colour_of(drawing) == ""
    assert colour_of(Image.new("RGBA", (4, 4), (255, 0, 0, 0))) == "", "what is transparent has no colour"


def test_cells_are_one_to_four_and_each_number_is_as_likely() -> None:
    cells = [cells_of(f"key {k}") for k in range(2000)]
    assert all(own == sorted(set(own)) and set(own) <= set(range(4)) for own in cells)
    assert min(Counter(map(len, cells)).values()) > 440
    assert cells == [cells_of(f"key {k}") for k in range(2000)]


def test_a_grid_shows_a_drawing_in_its_cells() -> None:
    grid = np.asarray(in_grid(Image.new("RGB", (2, 2), "red"), (1, 2)))
    assert grid.shape == (4, 4, 3)
    assert (grid[:2, 2:] == (255, 0, 0)).all()
    assert (grid[2:, :2] == (255, 0, 0)).all()
    assert (grid[:2, :2] == 255).all()
    assert (grid[2:, 2:] == 255).all()


def test_three_questions_about_each_of_300_images_of_the_test_half() -> None:
    examples = Emoji(target="questions").build(Path()).examples
    assert {example.id for example in examples} <= {one.id for one in Emoji(split="test").build(Path()).examples}
    assert len(examples) == 300
    assert all(example.texts == ("what colour?", "how many?", "what kind?") for example in examples)
    answers = [tuple(question.answers[0] for question in questions_of(example)) for example in examples]
    for example, (colour, count, _) in zip(examples, answers, strict=True):
        image = example.image.open()
        corners = [image.crop((x, y, x + 64, y + 64)) for y in (0, 64) for x in (0, 64)]
        filled = [cell for cell in corners if np.asarray(cell).min() < 255]
        assert len(filled) == ("one", "two", "three", "four").index(count) + 1
        assert colour != "white"
    most = [max(Counter(own).values()) for own in zip(*answers, strict=True)]
    assert most == [103, 81, 54], "what the most frequent answer to each question would score"


def test_the_file_is_what_the_script_writes_of_the_shards(tmp_path: Path) -> None:
    first, *_ = data_files()
    (tmp_path / first.name).symlink_to(first)
    made = json.loads(write_questions(tmp_path).read_text())
    shipped = json.loads(data_file("questions").read_text())
    assert made.items() <= shipped.items()
    assert list(made) == list(shipped)[: len(made)]
    assert len(made) > 50


def test_the_training_half_has_other_emoji_and_is_drawn_in_training_styles() -> None:
    train = [example.id for example in Emoji(split="train").build(Path()).examples][:2]
    test = [example.id for example in Emoji(split="test").build(Path()).examples][:2]
    pictures = np.zeros((4, len(STYLES), 4, 4, 4), np.uint8)
    pictures[:, :3] = (0, 0, 255, 255)
    rows = list(training_rows(TrainingSet([*train, *test], [[]] * 4, pictures, np.zeros(4, bool))))
    assert {name.rpartition("-")[0].removesuffix("-openmoji") for name, _, _ in rows} <= {*train}
    assert len(rows) == 4, "two styles of each"
    assert all(captions[0] == "what colour? blue" for _, _, captions in rows)
