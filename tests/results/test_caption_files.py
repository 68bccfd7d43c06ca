import json
from pathlib import Path

import pytest

from cocabench.core.errors import CocabenchError
from cocabench.results.caption_files import Pairs, read_pairs

ROWS = [{"image_id": 2, "caption": "a dog"}, {"image_id": 10, "caption": "a cat"}]
ANNOTATIONS = {
    "images": [{"id": 2}, {"id": 10}],
    "annotations": [*ROWS, {"image_id": 2, "caption": "two dogs", "id": 3}, {"image_id": 7, "caption": "a bird"}],
}
EXPECTED = Pairs(["2", "10"], ["a dog", "a cat"], [["a dog", "two dogs"], ["a cat"]])


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("candidates", [ROWS, {"2": "a dog", "10": ["a cat"]}])
@pytest.mark.parametrize(
    "references", [ANNOTATIONS, ANNOTATIONS["annotations"], {"10": ["a cat"], "2": ["a dog", "two dogs"]}]
)
def test_dictionaries_and_coco_files_are_read(candidates: object, references: object, tmp_path: Path) -> None:
    found = read_pairs(written(tmp_path, "c", candidates), written(tmp_path, "r", references))
    assert found._replace(missing=()) == EXPECTED
    assert len(found.missing) == (0 if isinstance(references, dict) and "annotations" not in references else 1)


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ({"1": "a"}, {"2": ["b"]}, "no references for 1 of 1 ids in c.json, the first is 1"),
        ({"1": "a"}, {"1": []}, "no references for 1 of 1 ids"),
        ({"1": ["a", "b"]}, {"1": ["b"]}, "2 captions for id 1; wanted one"),
        ([ROWS[0], ROWS[0]], {"2": ["b"]}, "2 captions for id 2; wanted one"),
        ({"1": None}, {"1": ["b"]}, "id 1 has null; wanted {id: caption}"),
        ({"1": "a"}, {"1": ["b", 3]}, 'id 1 has ["b", 3]; wanted {id: [captions]}'),
        ([{"id": 1}], {"1": ["b"]}, 'row 0 is {"id": 1}; wanted'),
        (["a dog"], {"1": ["b"]}, 'row 0 is "a dog"; wanted'),
        ([], {"1": ["b"]}, "c.json: empty; wanted"),
        ("7", {"1": ["b"]}, "a int; wanted"),
        ('{"1": "a", "1": "b"}', {"1": ["b"]}, "key '1' occurs twice"),
        ('{"1": ', {"1": ["b"]}, "not JSON: Expecting value in line 1, column 7"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    candidates: object, references: object, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CocabenchError) as error:
        read_pairs(written(tmp_path, "c.json", candidates), written(tmp_path, "r.json", references))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CocabenchError, match=r"nowhere\.json: no such file"):
        read_pairs(tmp_path / "nowhere.json", tmp_path / "nowhere.json")
