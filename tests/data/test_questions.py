"""Loaders of questions on files in the published layouts: VQAv2, OK-VQA, GQA, VizWiz, ScienceQA, POPE, own tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from cocabench.core.errors import CocabenchError, DataError, MissingDataError
from cocabench.data.base import fingerprint
from cocabench.data.questions import Gqa, Question, Questions, Vqa, questions_of
from tests.data.drawing import draw, write, write_json


def ten(*answers: str) -> list[dict[str, Any]]:
    """Return ten human answers as VQAv2 has them; the last is repeated."""
    filled = [*answers, *[answers[-1]] * (10 - len(answers))]
    return [{"answer": answer, "answer_confidence": "yes", "answer_id": k} for k, answer in enumerate(filled, 1)]


V2 = {
    "questions": "v2_OpenEnded_mscoco_val2014_questions.json",
    "annotations": "v2_mscoco_val2014_annotations.json",
}


def vqav2(root: Path) -> Path:
    """Write two images of VQAv2's validation set with three questions; return the folder."""
    asked = [
        {"image_id": 458752, "question": "What is this photo taken looking through?", "question_id": 458752000},
        {"image_id": 262146, "question": "Is the sky blue?", "question_id": 262146000},
        {"image_id": 458752, "question": "What position is this man playing?", "question_id": 458752001},
    ]
    head = {"info": {"version": "2.0"}, "data_type": "mscoco", "data_subtype": "val2014", "license": {}}
    write_json(root / "vqav2" / V2["questions"], {**head, "task_type": "Open-Ended", "questions": asked})
    answers = [("net", "netting"), ("yes", "yes"), ("pitcher", "catcher")]
    kinds = [("what is this", "other"), ("is the", "yes/no"), ("what", "other")]
    notes = [
        {
            "question_type": kind,
            "multiple_choice_answer": own[0],
            "answers": ten(*own),
            "image_id": row["image_id"],
            "answer_type": of_answer,
            "question_id": row["question_id"],
        }
        for row, own, (kind, of_answer) in zip(asked, answers, kinds, strict=True)
    ]
    write_json(root / "vqav2" / V2["annotations"], {**head, "annotations": notes[::-1]})
    for number in (458752, 262146):
        draw(root / f"vqav2/val2014/COCO_val2014_{number:012}.jpg")
    return root / "vqav2"


class TestVqa:
    def test_an_images_questions_are_one_example_with_ten_answers_each(self, tmp_path: Path) -> None:
        vqav2(tmp_path)
        data = Vqa(path="vqav2", **V2).build(tmp_path)
        assert [e.id for e in data.examples] == ["458752", "262146"]
        first, second = data.examples
        assert first.texts == ("What is this photo taken looking through?", "What position is this man playing?")
        found = questions_of(first)
        assert [q.id for q in found] == ["458752000", "458752001"]
        assert found[0].answers == ("net", *["netting"] * 9)
        assert (found[0].type, found[0].answer_type, found[0].right) == ("what is this", "other", None)
        assert questions_of(second)[0].answers == ("yes",) * 10
        assert str(first.image).endswith("val2014/COCO_val2014_000000458752.jpg")
        counts = fingerprint(data)
        assert (counts["images"], counts["texts"]) == (2, 3)

    def test_another_answer_is_another_data_set(self, tmp_path: Path) -> None:
        folder = vqav2(tmp_path)
        before = fingerprint(Vqa(path="vqav2", **V2).build(tmp_path))["hash"]
        file = folder / V2["annotations"]
        file.write_text(file.read_text().replace("netting", "fence"))
        assert fingerprint(Vqa(path="vqav2", **V2).build(tmp_path))["hash"] != before

    def test_ok_vqas_types_have_names(self, tmp_path: Path) -> None:
        root = tmp_path / "okvqa"
        asked = {"image_id": 297147, "question": "What sport can you use this for?", "question_id": 2971475}
        answers = [{**row, "raw_answer": "racing"} for row in ten("race")]
        notes = {
            "image_id": 297147,
            "answer_type": "other",
            "question_type": "four",
            "question_id": 2971475,
            "answers": answers,
            "confidence": 3,
        }
        kinds = {"four": "Sports and Recreation"}
        names = {
            "questions": "OpenEnded_mscoco_val2014_questions.json",
            "annotations": "mscoco_val2014_annotations.json",
        }
        write_json(root / names["questions"], {"questions": [asked], "data_subtype": "val2014"})
        write_json(root / names["annotations"], {"annotations": [notes], "question_types": kinds})
        draw(tmp_path / "coco/val2014/COCO_val2014_000000297147.jpg")
        ((question,),) = map(questions_of, Vqa(path="okvqa", **names).build(tmp_path).examples)
        assert (question.type, question.answers) == ("Sports and Recreation", ("race",) * 10)

    def test_annotations_of_another_split(self, tmp_path: Path) -> None:
        folder = vqav2(tmp_path)
        write_json(folder / V2["annotations"], {"annotations": []})
        wanted = "no answers to 3 of 3 questions: 458752000, 262146000, 458752001; the annotations are of another split"
        with pytest.raises(DataError, match=wanted):
            Vqa(path="vqav2", **V2).build(tmp_path)

    @pytest.mark.parametrize("name", [*V2.values(), "val2014"])
    def test_a_missing_file_or_folder(self, name: str, tmp_path: Path) -> None:
        (vqav2(tmp_path) / name).rename(tmp_path / "elsewhere")
        with pytest.raises(MissingDataError, match="--data-root DIR") as error:
            Vqa(path="vqav2", **V2).build(tmp_path)
        assert name in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_missing_image(self, tmp_path: Path) -> None:
        (vqav2(tmp_path) / "val2014/COCO_val2014_000000262146.jpg").unlink()
        with pytest.raises(DataError, match="no image for 1 of 2 ids: 262146"):
            Vqa(path="vqav2", **V2).build(tmp_path)


def gqa(root: Path) -> None:
    row = {
        "semantic": [{"operation": "select", "dependencies": [], "argument": "scene"}],
        "entailed": [],
        "equivalent": ["201307251"],
        "question": "Is it overcast?",
        "imageId": "n161313",
        "isBalanced": True,
        "groups": {"global": None, "local": "06-weather"},
        "answer": "no",
        "semanticStr": "select: scene->verify weather: overcast [0]",
        "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
        "types": {"detailed": "weatherVerify", "semantic": "global", "structural": "verify"},
        "fullAnswer": "No, it is clear.",
    }
    write_json(root / "gqa/testdev_balanced_questions.json", {"201307251": row})
    draw(root / "gqa/images/n161313.jpg")


class TestGqa:
    def test_the_structural_type_is_the_questions(self, tmp_path: Path) -> None:
        gqa(tmp_path)
        data = Gqa(path="gqa").build(tmp_path)
        (example,) = data.examples
        wanted = Question("201307251", "Is it overcast?", ("no",), type="verify", answer_type="global")
        assert questions_of(example) == [wanted]
        assert (example.id, data.split) == ("n161313", "testdev")

    def test_a_missing_image(self, tmp_path: Path) -> None:
        gqa(tmp_path)
        (tmp_path / "gqa/images/n161313.jpg").unlink()
        with pytest.raises(MissingDataError, match=r"1 of 1 images missing: n161313\.jpg"):
            Gqa(path="gqa").build(tmp_path)


class TestQuestions:
    def test_vizwiz_with_an_unanswerable_question(self, tmp_path: Path) -> None:
        answers = [
            {"answer_confidence": "yes", "answer": text}
            for text in ["unanswerable"] * 7 + ["unsuitable image"] * 2 + ["grey"]
        ]
        row = {
            "image": "VizWiz_val_00000000.jpg",
            "question": "Ok. There is another picture I hope it is a better one.",
            "answers": answers,
            "answer_type": "unanswerable",
            "answerable": 0,
        }
        write_json(tmp_path / "vizwiz/val.json", [row])
        draw(tmp_path / "vizwiz/val/VizWiz_val_00000000.jpg")
        data = Questions(path="vizwiz/val.json", images="val").build(tmp_path)
        ((question,),) = map(questions_of, data.examples)
        assert question.answers == ("unanswerable",) * 7 + ("unsuitable image",) * 2 + ("grey",)
        assert (question.answer_type, question.id) == ("unanswerable", "1")

    def test_popes_json_lines_in_a_file_json(self, tmp_path: Path) -> None:
        rows = [
            {"question_id": k, "image": "COCO_val2014_000000310196.jpg", "text": text, "label": label}
            for k, (text, label) in enumerate(
                [("Is there a snowboard in the image?", "yes"), ("Is there a car in the image?", "no")], 1
            )
        ]
        write(tmp_path / "pope/coco_pope_random.json", "\n".join(map(json.dumps, rows)))
        draw(tmp_path / "pope/val2014/COCO_val2014_000000310196.jpg")
        keys = {"question_key": "text", "answer_key": "label", "images": "val2014"}
        (example,) = Questions(path="pope/coco_pope_random.json", **keys).build(tmp_path).examples
        assert [(q.id, q.answers) for q in questions_of(example)] == [("1", ("yes",)), ("2", ("no",))]
        assert example.id == "COCO_val2014_000000310196"

    def test_scienceqa_like_rows_of_a_split_with_an_image(self, tmp_path: Path) -> None:
        row = {
            "question": "Which of these states is farthest north?",
            "choices": ["West Virginia", "Louisiana", "Arizona", "Oklahoma"],
            "answer": 0,
            "hint": "",
            "image": "1/image.png",
            "subject": "social science",
            "split": "test",
        }
        rows = [row, row | {"image": None}, row | {"split": "train", "image": "9/image.png"}]
        write(tmp_path / "scienceqa/problems.jsonl", "\n".join(map(json.dumps, rows)))
        draw(tmp_path / "scienceqa/images/1/image.png")
        loader = Questions(
            path="scienceqa/problems.jsonl", images="images", type_key="subject", where=("split", "test")
        )
        data = loader.build(tmp_path)
        ((question,),) = map(questions_of, data.examples)
        assert (question.choices[0], question.right, question.type) == ("West Virginia", 0, "social science")
        assert question.answers == ()
        assert [note.text for note in data.notes] == ["1 question of 2 without an image left out"]

    def test_scienceqas_own_problems_json(self, tmp_path: Path) -> None:
        row = {"question": "Which is north?", "choices": ["A", "B"], "answer": 1, "image": "image.png", "split": "test"}
        write_json(tmp_path / "scienceqa/problems.json", {"7": row, "9": row | {"image": None}})
        draw(tmp_path / "scienceqa/test/7/image.png")
        keys = {"path": "scienceqa/problems.json", "id_key": "id", "where": ("split", "test")}
        loader = Questions(**keys, image_path="{split}/{id}/{image}")
        (example,) = loader.build(tmp_path).examples
        assert str(example.image).endswith("scienceqa/test/7/image.png")
        assert [(q.id, q.right) for q in questions_of(example)] == [("7", 1)]
        with pytest.raises(DataError, match="row 1: no 'folder'; wanted the columns of image_path"):
            Questions(**keys, image_path="{folder}/{image}").build(tmp_path)

    @pytest.mark.parametrize(
        ("cell", "wanted"),
        [("red|dark red", ("red", "dark red")), ('"[""red"", ""|""]"', ("red", "|")), ("red", ("red",))],
    )
    def test_a_users_csv(self, cell: str, wanted: tuple[str, ...], tmp_path: Path) -> None:
        write(tmp_path / "mine.csv", f"image,question,answers\na.png,Which colour?,{cell}\n")
        draw(tmp_path / "a.png")
        ((question,),) = map(questions_of, Questions(path="mine.csv").build(tmp_path).examples)
        assert question == Question("1", "Which colour?", wanted)

    @pytest.mark.parametrize(("answer", "right"), [("dog", 1), ("1", 1), ("0", 0)])
    def test_a_right_choice_by_its_text_or_place(self, answer: str, right: int, tmp_path: Path) -> None:
        write(tmp_path / "mine.csv", f"image,question,choices,answer\na.png,What?,cat|dog,{answer}\n")
        draw(tmp_path / "a.png")
        ((question,),) = map(questions_of, Questions(path="mine.csv").build(tmp_path).examples)
        assert (question.choices, question.right) == (("cat", "dog"), right)

    def test_a_number_that_is_a_choice_is_no_place(self, tmp_path: Path) -> None:
        write(tmp_path / "mine.csv", "image,question,choices,answer\na.png,How many?,2|1|0,1\n")
        draw(tmp_path / "a.png")
        ((question,),) = map(questions_of, Questions(path="mine.csv").build(tmp_path).examples)
        assert question.right == 1

    @pytest.mark.parametrize(
        ("content", "wanted"),
        [
            (
                "picture,question,answers\na.png,What?,cat\n",
                "no column 'image' in row 1, which has 'answers', 'picture', 'question'; image_key",
            ),
            ("image,question,answers\na.png,,cat\n", "row 1: no question; fill it in, or leave the row out"),
            ("image,question,answers\na.png,What?,\n", "row 1: no answer in 'answers' or 'answer'; wanted it in"),
            ("image,question,answers\n,What?,cat\n", "no row with an image; wanted its path in the column 'image'"),
            ("image,question,choices,answer\na.png,What?,cat|dog,\n", "row 1: no right choice; wanted it in 'answer'"),
            (
                "image,question,choices,answer\na.png,What?,cat|dog,cow\n",
                "answer 'cow' is none of 2 choices; wanted one of their texts, or a place from 0 to 1",
            ),
            ("image,question,choices,answer\na.png,What?,cat|dog,2\n", "answer '2' is none of 2 choices"),
            ("image,question,choices,answer\na.png,What?,cat|cat,cat\n", "answer 'cat' is several choices"),
            (
                "image,question,answers,question_id\na.png,What?,cat,7\na.png,Why?,dog,7\n",
                "1 ids of questions occur more than once: 7",
            ),
            ("image,question,answers\nb.png,What?,cat\n", r"1 of 1 images missing: b\.png"),
        ],
    )
    def test_a_wrong_table_is_an_error_of_one_line(self, content: str, wanted: str, tmp_path: Path) -> None:
        write(tmp_path / "mine.csv", content)
        draw(tmp_path / "a.png")
        with pytest.raises(CocabenchError, match=wanted) as error:
            Questions(path="mine.csv").build(tmp_path)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("answers", "wanted"),
        [
            (3, "row 1: answers is a int; wanted a list of texts"),
            (["cat", None], "row 1: answers holds None; wanted texts"),
            ([["cat"]], "row 1: answers holds .'cat'.; wanted texts"),
            ([], "row 1: no answer in 'answers' or 'answer'"),
        ],
    )
    def test_wrong_answers_in_json_lines(self, answers: object, wanted: str, tmp_path: Path) -> None:
        write(tmp_path / "mine.jsonl", json.dumps({"image": "a.png", "question": "What?", "answers": answers}))
        draw(tmp_path / "a.png")
        with pytest.raises(DataError, match=wanted):
            Questions(path="mine.jsonl").build(tmp_path)

    def test_no_row_of_a_split(self, tmp_path: Path) -> None:
        write(tmp_path / "mine.csv", "image,question,answers,split\na.png,What?,cat,train\n")
        with pytest.raises(DataError, match="no row with split = 'test', but 'train'"):
            Questions(path="mine.csv", where=("split", "test")).build(tmp_path)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(MissingDataError, match=r"mine\.csv: no such file; --data-root DIR"):
            Questions(path="mine.csv").build(tmp_path)
