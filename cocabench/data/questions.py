"""Questions about images with their answers or choices: VQAv2, OK-VQA, GQA, and tables (VizWiz, ScienceQA, POPE)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cocabench.core.errors import DataError
from cocabench.core.formatting import plural
from cocabench.core.types import Dataset, Example, ImageSource, Note
from cocabench.data.base import LocalLoader, checked, short_ids
from cocabench.data.files import Item, images_of, read_json, some
from cocabench.data.images import FileImage
from cocabench.data.inputs import note_file
from cocabench.data.tables import Csv, Tsv, json_lines

QUESTIONS = "questions"
"""The key of Example.metadata that holds the questions of an image, whose texts are the example's texts."""

QUESTION = "{question}"
TEMPLATE = f"question: {QUESTION} answer:"
"""The words before an answer, as a model is asked and fine-tuned."""

COCO_FOLDERS = ("{split}", "images/{split}", "images", "../coco/{split}", "../coco/images/{split}")
"""Where COCO's images are looked for; split is the data_subtype of the file of questions."""


class Question(NamedTuple):
    """A question about an image.

    answers: those of humans, as written, or the one right answer. choices: the candidates of a multiple choice, and
    right: the place of the right one. type: of the question; answer_type: of the answer; '' if there are none.
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    right: int | None = None
    type: str = ""
    answer_type: str = ""


class Asked(NamedTuple):
    """A question with its image. key: names the image."""

    key: str
    image: ImageSource
    question: Question


def by_image(asked: Iterable[Asked], where: Path) -> list[Example]:
    """Return an example for each image with all its questions, which depend on each other, in order of appearance."""
    found: dict[str, list[Asked]] = {}
    for one in asked:
        found.setdefault(one.key, []).append(one)
    counts = Counter(one.question.id for own in found.values() for one in own)
    if repeated := [name for name, n in counts.items() if n > 1]:
        raise DataError(str(where), f"{len(repeated)} ids of questions occur more than once: {some(repeated)}")
    return [
        Example(
            key,
            own[0].image,
            tuple(one.question.text for one in own),
            metadata={QUESTIONS: [_stored(one.question) for one in own]},
        )
        for key, own in found.items()
    ]


def questions_of(example: Example) -> list[Question]:
    """Return an example's questions; none if it has no such metadata.

    >>> questions_of(Example("1", None, ("Is it red?",)))
    []
    """
    texts = example.texts
    rows: Sequence[Mapping[str, Any]] = example.metadata.get(QUESTIONS, ())
    return (
        [
            Question(**{**row, "text": text, "answers": tuple(row["answers"]), "choices": tuple(row["choices"])})
            for text, row in zip(texts, rows, strict=True)
        ]
        if rows
        else []
    )


def answered(example: Example, template: str = TEMPLATE) -> tuple[str, ...]:
    """Return the captions that an example's questions make with their answers: none where it has no questions.

    Of several answers the most frequent is taken, of equally frequent ones the first; of choices the right one.
    template: the words before the answer, with {question} in it once, else ValueError.

    >>> question = _stored(Question("7", "", ("no", "yes", "no")))
    >>> answered(Example("1", None, ("Is it red?",), metadata={QUESTIONS: [question]}))
    ('question: Is it red? answer: no',)
    """
    check_template(template)
    found = []
    for question in questions_of(example):
        of_choices = question.choices and question.right is not None
        right = question.choices[question.right or 0] if of_choices else Counter(question.answers).most_common(1)[0][0]
        found.append(f"{template.replace(QUESTION, question.text)} {right}")
    return tuple(found)


def check_template(template: str) -> None:
    """Raise ValueError unless a template has the question's place once."""
    if template.count(QUESTION) != 1:
        raise ValueError(f"got {template!r}; wanted {QUESTION} in it, once")


def _stored(question: Question) -> dict[str, Any]:
    row = {key: value for key, value in question._asdict().items() if key != "text"}
    return {**row, "answers": list(question.answers), "choices": list(question.choices)}


class Vqa(LocalLoader):
    """VQAv2's two files, as OK-VQA has them too: the questions, and the annotations with ten answers each.

    questions, annotations: the files below path, {"questions": [{question_id, image_id, question}]} and
    {"annotations": [{question_id, answers: [{answer}], question_type, answer_type}]}.
    images: the folder of COCO's images below path; by default the first that exists of those where COCO has them.
    The images' names end with image_id (COCO_val2014_000000458752.jpg). OK-VQA's question_types name its types.
    """

    questions: str
    annotations: str
    images: str = ""

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images in the order of their first question."""
        folder = self.folder(root)
        asked, answered = folder / self.questions, folder / self.annotations
        for file in (asked, answered):
            if not note_file(file).is_file():
                raise self.missing(file, "no such file")
        table = Item(asked, read_json(asked))
        rows = table["questions"].items()
        notes = Item(answered, read_json(answered))
        types = notes["question_types"].value if notes.has("question_types") else {}
        answers = {row["question_id"].name(): row for row in notes["annotations"].items()}
        if lost := [row["question_id"].name() for row in rows if row["question_id"].name() not in answers]:
            got = f"no answers to {len(lost)} of {len(rows)} questions: {some(lost)}"
            raise DataError(str(answered), got, fix="the annotations are of another split")
        keys = [row["image_id"].name() for row in rows]
        distinct = list(dict.fromkeys(keys))
        split = str(table["data_subtype"].value) if table.has("data_subtype") else "val2014"
        images = dict(zip(distinct, images_of(distinct, self._image_folder(folder, split)), strict=True))
        found = [
            Asked(key, images[key], _annotated(row, answers[row["question_id"].name()], types))
            for key, row in zip(keys, rows, strict=True)
        ]
        return checked(Dataset(self.name, split, by_image(found, asked)), asked, texts=True)

    def _image_folder(self, folder: Path, split: str) -> Path:
        names = [self.images] if self.images else [name.format(split=split) for name in COCO_FOLDERS]
        if found := next((folder / name for name in names if note_file(folder / name).is_dir()), None):
            return found
        raise self.missing(folder, "no images", wanted=f"COCO's {split} in {some(names, 5)}")


def _annotated(row: Item, notes: Item, types: Mapping[str, str]) -> Question:
    kind = notes["question_type"].name() if notes.has("question_type") else ""
    return Question(
        row["question_id"].name(),
        row["question"].text(),
        tuple(answer["answer"].text() for answer in notes["answers"].items()),
        type=str(types.get(kind, kind)),
        answer_type=notes["answer_type"].text() if notes.has("answer_type") else "",
    )


class Gqa(LocalLoader):
    """GQA's questions: {question id: {imageId, question, answer, types: {structural, semantic}}}.

    questions: the file below path. images: the images' folder, whose names are imageId with .jpg.
    A question's type is the structural one (verify, query, choose …), the type of its answer the semantic one.
    """

    questions: str = "testdev_balanced_questions.json"
    images: str = "images"

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images in the order of their first question."""
        folder = self.folder(root)
        file = folder / self.questions
        if not note_file(file).is_file():
            raise self.missing(file, "no such file")
        content = Item(file, read_json(file))
        rows = list(zip(content.value, content.values(), strict=True))
        paths = [folder / self.images / f"{row['imageId'].name()}.jpg" for _, row in rows]
        self.require(paths)
        found = [
            Asked(
                row["imageId"].name(),
                FileImage(path),
                Question(
                    key,
                    row["question"].text(),
                    (row["answer"].text(),),
                    type=row["types"]["structural"].text() if row.has("types") else "",
                    answer_type=row["types"]["semantic"].text() if row.has("types") else "",
                ),
            )
            for (key, row), path in zip(rows, paths, strict=True)
        ]
        return checked(Dataset(self.name, file.stem.partition("_")[0], by_image(found, file)), file, texts=True)


class Questions(LocalLoader):
    """A table of questions, one a row: CSV, TSV, a JSON list or table, or JSON lines (also in a file .json, as POPE's).

    path: the file below --data-root. A JSON table {id: row} gives its rows the column id, as ScienceQA's problems.json.
    images: the images' folder, relative to the file's. image_path: an image's path in it by the row's columns, such as
        {split}/{id}/{image}; by default {image}, of image_key.
    image_key, question_key: columns of the image's path and of the question.
    answers_key: column of the answers: a list of texts, or of tables with the key answer, as VizWiz has them; in CSV a
        JSON list, or texts with | between them. answer_key: column of the one answer where there is no answers_key, or
        of the right choice: its place from 0, or its text. choices_key: column of the choices, a list as answers are.
    id_key: column of the question's id, else the number of the row. type_key, answer_type_key: columns of the types.
    where: [column, value] of the rows to read, such as ["split", "test"]; by default all.
    Columns that are absent are left out, except for image and question. Rows without an image are left out, with a
    note (half of ScienceQA's questions have none).
    """

    image_key: str = "image"
    question_key: str = "question"
    answers_key: str = "answers"
    answer_key: str = "answer"
    choices_key: str = "choices"
    id_key: str = "question_id"
    type_key: str = "question_type"
    answer_type_key: str = "answer_type"
    images: str = ""
    image_path: str = ""
    where: tuple[str, str] | None = None

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def build(self, root: Path, *, download: bool = False) -> Dataset:
        """Return the images in the order of their first question."""
        file = self.location(root)
        if not note_file(file).is_file():
            raise self.missing(file, "no such file")
        rows = self._rows(file)
        for key in (self.image_key, self.question_key):
            if rows and (lost := [number for number, row in rows if key not in row]):
                columns = some(map(repr, sorted(rows[0][1])), 8)
                got = f"no column {key!r} in row {lost[0]}, which has {columns}"
                raise DataError(str(file), got, fix="image_key, question_key, answers_key … name columns")
        shown = [(number, row) for number, row in rows if _text(row[self.image_key])]
        if not shown:
            raise DataError(str(file), "no row with an image", wanted=f"its path in the column {self.image_key!r}")
        keys = [self._image_of(row, number, file) for number, row in shown]
        distinct = list(dict.fromkeys(keys))
        paths = [file.parent / self.images / key for key in distinct]
        self.require(paths)
        names = dict(zip(distinct, short_ids(distinct), strict=True))
        images = dict(zip(distinct, map(FileImage, paths), strict=True))
        found = [
            Asked(names[key], images[key], self._question(row, number, file))
            for key, (number, row) in zip(keys, shown, strict=True)
        ]
        said = f"{plural(len(rows) - len(shown), 'question')} of {len(rows)} without an image left out"
        notes = (Note("data", said),) if len(shown) < len(rows) else ()
        return checked(Dataset(self.name, "all", by_image(found, file), notes=notes), file, texts=True)

    def _image_of(self, row: Mapping[str, Any], number: int, file: Path) -> str:
        if not self.image_path:
            return _text(row[self.image_key])
        try:
            return self.image_path.format_map({key: _text(value) for key, value in row.items()})
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            wanted = f"the columns of image_path = {self.image_path!r}"
            raise DataError(f"{file}: row {number}", f"no {error}", wanted=wanted) from None

    def _rows(self, file: Path) -> list[tuple[int, Mapping[str, Any]]]:
        """Return the rows to read with their numbers, from 1."""
        if file.suffix in (".csv", ".tsv"):
            table = (Csv if file.suffix == ".csv" else Tsv)(path=self.path, image_key=self.image_key)
            columns = table.columns(file)
            rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        elif file.suffix == ".json" and (listed := _listed(file)) is not None:
            rows = listed
        else:
            rows = json_lines(file)
        numbered: list[tuple[int, Mapping[str, Any]]] = list(enumerate(rows, 1))
        if self.where is None:
            return numbered
        column, value = self.where
        if chosen := [(number, row) for number, row in numbered if _text(row.get(column)) == value]:
            return chosen
        there = sorted({_text(row.get(column)) for row in rows})
        raise DataError(str(file), f"no row with {column} = {value!r}, but {some(map(repr, there))}")

    def _question(self, row: Mapping[str, Any], number: int, file: Path) -> Question:
        place = f"{file}: row {number}"
        text = _text(row[self.question_key])
        if not text:
            raise DataError(place, f"no {self.question_key}", fix="fill it in, or leave the row out")
        choices = _texts(row.get(self.choices_key), place, self.choices_key)
        answers = _texts(row.get(self.answers_key), place, self.answers_key)
        answer = row.get(self.answer_key)
        right = _place(answer, choices, place, self.answer_key) if choices and _text(answer) else None
        if not choices and not answers and _text(answer):
            answers = (_text(answer),)
        if right is None and not answers:
            got = f"no answer in {self.answer_key if choices else self.answers_key!r} or {self.answer_key!r}"
            raise DataError(place, "no right choice" if choices else got, wanted=f"it in {self.answer_key!r}")
        own = _text(row.get(self.id_key)) or str(number)
        types = (_text(row.get(self.type_key)), _text(row.get(self.answer_type_key)))
        return Question(own, text, answers, choices, right, *types)


def _listed(file: Path) -> list[dict[str, Any]] | None:
    """Return the rows of a JSON list or table; None for a file that is not one JSON value, as JSON lines are not."""
    try:
        content = read_json(file)
    except DataError:
        return None
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return content
    if isinstance(content, dict):
        rows = all(isinstance(row, dict) for row in content.values())
        return [{"id": key, **row} for key, row in content.items()] if rows else [content]
    raise DataError(str(file), f"a {type(content).__name__}", wanted="a list of tables, or JSON lines")


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _texts(value: Any, place: str, key: str) -> tuple[str, ...]:
    """Return the texts of a list, of a list of tables with the key answer, or of a cell of CSV; () for none."""
    if isinstance(value, str):
        text = value.strip()
        value = _parsed(text) if text.startswith("[") else [part for part in text.split("|") if part.strip()]
    if value is None:
        return ()
    if not isinstance(value, list):
        raise DataError(place, f"{key} is a {type(value).__name__}", wanted="a list of texts")
    parts = [part.get("answer") if isinstance(part, dict) else part for part in value]
    if odd := [part for part in parts if isinstance(part, list | dict | type(None)) or not _text(part)]:
        raise DataError(place, f"{key} holds {odd[0]!r}", wanted="texts")
    return tuple(map(str, parts))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [text]


def _place(answer: Any, choices: Sequence[str], place: str, key: str) -> int:
    """Return the place of the right choice: of a text that is a choice, or else a whole number from 0."""
    if isinstance(answer, str) and answer in choices:
        if choices.count(answer) > 1:
            raise DataError(place, f"{key} {answer!r} is several choices", wanted="the place of one, from 0")
        return choices.index(answer)
    number = int(answer) if isinstance(answer, int) or (isinstance(answer, str) and answer.strip().isdecimal()) else -1
    if isinstance(answer, bool) or not 0 <= number < len(choices):
        got = f"{key} {answer!r} is none of {plural(len(choices), 'choice')}"
        raise DataError(place, got, wanted=f"one of their texts, or a place from 0 to {len(choices) - 1}")
    return number
