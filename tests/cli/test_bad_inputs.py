"""Bad input is one line with its exit code: a row per cause. (tests/bad_inputs.py generates thousands more.)"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cocabench.captioneval import corenlp, jvm
from cocabench.core.errors import CocabenchError, DataError, UsageError
from cocabench.core.files import ROWS, expanded, parse_json
from cocabench.report.serve import server
from cocabench.results.store import Store
from cocabench.specs.surprise import surprise
from tests.bad_inputs import all_tried, wrong
from tests.conftest import Command, Result, task
from tests.samples import classified, right

LONG = "a" * 300
DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = '{"1": ' + "9" * 5000 + "}"
RUN = "run --model demo/clip --tasks {d}/t.toml --data-root {d} --output {d}/out --quiet"
REFERENCES = '{"1": ["a dog"], "2": ["a cat on a mat"]}'


def one_line(result: Result, code: int, *parts: str) -> None:
    """Check that a command ended with a code and one line that says these things."""
    assert result.code == code, result.err
    assert not wrong(code, result.err), result.err
    assert len(result.err.strip().splitlines()) == 1, result.err
    for part in parts:
        assert part in result.err


@pytest.mark.parametrize(
    ("content", "said"),
    [(DEEP, "nested too deeply"), (DIGITS, "thousands of digits"), ('{"a":' * 2000 + "1" + "}" * 2000, "nested")],
    ids=["deep", "digits", "deep tables"],
)
@pytest.mark.parametrize(
    "words",
    [
        "score --candidates {d}/x.json --references {d}/x.json",
        "show {d}/x.json",
        "compare {d}/x.json",
        "import {d}/x.json",
        "show {d}/m",
        "gate --baseline {d}/m --current {d}/m",
        "report {d}/m --output {d}/r",
        "run --model {d}/x.json:random@0 --tasks emoji_flags --quiet --output {d}/r",
    ],
)
def test_json_that_cannot_be_read_is_one_line(
    command: Command, tmp_path: Path, words: str, content: str, said: str
) -> None:
    (tmp_path / "m").mkdir()
    for name in ("x.json", "m/x-0123456789ab.json"):
        (tmp_path / name).write_text(content)
    one_line(command(*words.format(d=tmp_path).split()), 2, str(tmp_path), said)


@pytest.mark.parametrize(
    ("text", "said"),
    [("x = " + "[" * 100_000, "nested too deeply"), ("x = " + "9" * 5000, "a number with thousands of digits")],
    ids=["deep", "digits"],
)
def test_toml_that_cannot_be_read_is_one_line(command: Command, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    for words in (("run", "--model", "demo/clip", "--tasks"), ("train",)):
        one_line(command(*words, tmp_path / "x.toml"), 2, f"error {tmp_path / 'x.toml'}: not readable as TOML: {said}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"definitions": {}}, "definitions: missing for acc1"),
        ({"metrics": {"acc1": {"value": 1e308, "low": 0, "high": 1, "n": 3}}}, "wanted a number up to 1e+100"),
        ({"metrics": {"acc1": {"value": 1, "low": 0, "high": 1, "n": 10**30}}}, "metrics.acc1.n"),
        ({"metrics": {"acc1": {"value": 1, "low": 0, "high": 1, "n": -1}}}, "metrics.acc1.n"),
        ({"timing": {"seconds": float("inf")}}, "timing.seconds"),
        ({"signature": {"protocol": {"x": float("nan")}, "model": {}}}, "signature"),
    ],
)
@pytest.mark.parametrize("words", ["show {d}", "compare {d}", "gate --baseline {d} --current {d}", "export {d}"])
def test_records_with_impossible_values_are_one_line(
    command: Command, tmp_path: Path, change: dict[str, Any], said: str, words: str
) -> None:
    record = classified(tmp_path, "one", right(3, 5))
    file = Store(tmp_path).file(record)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    one_line(command(*words.format(d=tmp_path).split()), 2, str(file), "not a Record", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"show {LONG}", "file name too long"),
        (f"compare {LONG}", "file name too long"),
        (f"import {LONG}.json", "file name too long"),
        (f"report {LONG}", "file name too long"),
        (f"export results/baselines --output {{d}}/{LONG}", "too long"),
        (f"run --model ViT-B-32:{LONG} --tasks emoji_flags", "too long"),
        (f"run --model demo/clip --tasks emoji_flags --output {{d}}/{LONG}", "too long"),
        (f"caption --model demo/coca {LONG}", "too long"),
        ("run --model ~nouser/x --tasks emoji_flags", "~nouser/x: no user 'nouser'"),
        ("run --model ViT-B-32:~nouser/x.pt --tasks emoji_flags", "no user 'nouser'"),
        ("run --model demo/clip --tasks emoji_flags --data-root ~nouser/x --output {d}", "no user 'nouser'"),
        ("cache info --cache ~nouser/x", "no user 'nouser'"),
        ("run --model coca_pytorch::~nouser/x.py --tasks emoji_flags", "no user 'nouser'"),
        ("run --model mix(a,b,nan:1:0.1) --tasks emoji_flags", "the range nan:1:0.1; wanted FIRST:LAST:STEP"),
        ("run --model mix(a,b,0:1:1e-999999) --tasks emoji_flags", "wanted 101 at most"),
        ("run --model mix(a,b,nan) --tasks emoji_flags", "the share nan"),
        ("run --model open_clip::x --tasks emoji_flags", "open_clip's models have no prefix; write x"),
        (
            "run --model open_clip:8 --tasks emoji_flags",
            "open_clip is a model library; its models have no prefix: write",
        ),
        ("run --model hf-hub:../.. --tasks emoji_flags", "not a repository's name; wanted hf-hub:ORG/REPO"),
        ("run --model hf-hub:a/b/c --tasks emoji_flags", "not a repository's name"),
        ("train coca-scratch --set batch_size=0 --dry-run", "trainer.batch_size: got 0; wanted 1 or more"),
        ("train coca-scratch --set accum_freq=0 --dry-run", "trainer.accum_freq: got 0; wanted 1 or more"),
        ("train coca-scratch --set epochs=0 --dry-run", "trainer.epochs: got 0"),
        ("train coca-scratch --set lr=nan --dry-run", "trainer.lr: got nan"),
        ("train coca-scratch --set workers=-1 --dry-run", "trainer.workers: got -1"),
        ("train coca-scratch --set train_data=5 --dry-run", "trainer.train_data: got 5; wanted text in quotes"),
        ("train coca-scratch --set train_data=[1] --dry-run", "trainer.train_data: got [1]; wanted text in quotes"),
        ("train coca-scratch --set train_data={{a", "{a: unbalanced braces; wanted {000..099}"),
        ("train coca-scratch --set csv_separator=ab", "wanted one character"),
        ("data check cars --data-root https://[/", "an address: Invalid IPv6 URL in https://[; wanted https://HOST"),
        ("run --model ViT-B-32:https://h:99999999/x.pt --tasks emoji_flags", "Port out of range"),
        ("data check cars --data-root s3://", "an address: no host in s3:"),
        ("run --model demo/clip --tasks emoji_flags --seed -1", "--seed: got '-1'; wanted 0 or more"),
    ],
)
def test_words_that_cannot_be_meant_are_one_line(command: Command, tmp_path: Path, words: str, said: str) -> None:
    result = command(*words.format(d=tmp_path).split())
    assert result.code == 2
    progress = ("  ✗", "demo/clip")
    assert not wrong(result.code, "\n".join(line for line in result.err.splitlines() if not line.startswith(progress)))
    (line,) = [line for line in result.err.splitlines() if line.startswith(("error ", "failed "))]
    assert said.lower() in line.lower()


def test_a_current_folder_that_was_removed_is_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intel's library would end the process as soon as something is computed."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    one_line(command("list", "tasks"), 2, "error the current folder: it was removed; change to another")


def test_words_with_line_breaks_or_spaces_are_one_line(command: Command) -> None:
    run = ("run", "--tasks", "emoji_flags", "--limit", "2", "--model")
    one_line(command(*run, "demo/clip", "--device", "\nx"), 2, "error --device x: no device; wanted auto")
    one_line(command(*run, "hf-hub:a b"), 2, "error --model hf-hub:a b: not a repository's name")
    one_line(command("show", "a\0b"), 2, "wanted a path without a NUL character")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text_cfg": None}, "x.json: text_cfg: got null; wanted a table"),
        ({"vision_cfg": []}, "x.json: vision_cfg: got []; wanted a table"),
        ({"embed_dim": 0}, "features of shape (2, 0) of 2 images; wanted a tensor (2, d)"),
        ({"embed_dim": "x"}, "open_clip cannot build it (randn"),
        ({"text_cfg": {"tokenizer_kwargs": {"clean": "zzz"}}}, "no tokenizer (Invalid clean function"),
    ],
)
def test_architectures_that_cannot_be_built_are_one_line(
    command: Command, models: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    config = json.loads((models / "clip" / "open_clip_config.json").read_text())["model_cfg"]
    new = {**config, **change}
    if isinstance(change.get("text_cfg"), dict):
        new["text_cfg"] = {**config["text_cfg"], **change["text_cfg"]}
    (tmp_path / "x.json").write_text(json.dumps(new))
    words = f"run --model {tmp_path}/x.json:random@0 --tasks emoji_flags --limit 2 --quiet --output {tmp_path}/out"
    result = command(*words.split())
    assert result.code in (1, 2)
    assert not wrong(result.code, result.err)
    (line,) = [line for line in result.err.splitlines() if line.startswith("failed ")]
    assert said in line


def coco(**change: Any) -> str:
    images, captions = [{"id": 1, "file_name": "a.png"}], [{"id": 1, "image_id": 1, "caption": "a dog"}]
    return json.dumps({"images": images, "annotations": captions} | change)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (coco(images=[{"id": 1, "file_name": 5}]), "images[0].file_name: got 5; wanted text"),
        (coco(images=[{"id": [1], "file_name": "a.png"}]), "images[0].id: got [1]; wanted text or a whole number"),
        (coco(annotations=[{"image_id": 1, "caption": {"a": 1}}]), "annotations[0].caption: got {'a': 1}; wanted text"),
        (coco(annotations=[{"image_id": 1, "caption": ["a"]}]), "annotations[0].caption: got ['a']; wanted text"),
        (coco(annotations=[{"image_id": 1, "caption": float("nan")}]), "annotations[0].caption: got nan; wanted text"),
        (coco(annotations=[[]]), "annotations[0]: got []; wanted a table with 'image_id'"),
        (coco(images=None), "images: got None; wanted a list"),
        (coco(images=["a"]), "images[0]: got 'a'; wanted a table with 'id'"),
        ("[]", "got []; wanted a table with 'images'"),
        ('{"images": []}', "no 'annotations'"),
        (coco(images=[{"id": 1, "file_name": "a\0.png"}]), "1 of 1 images missing"),
        (coco(images=[{"id": 1, "file_name": LONG}]), "1 of 1 images missing"),
    ],
)
def test_coco_files_with_other_values_are_one_line(command: Command, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "c.json").write_text(content)
    data = 'path = "x"\nannotations = "c.json"\nimages = "."'
    (tmp_path / "t.toml").write_text(task("x", "retrieval", "t2i_recall@1", data, "").replace("tsv", "coco"))
    result = command(*RUN.format(d=tmp_path).split())
    one_line(result, 2, said)
    assert "Error" not in result.err


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('loader = "csv"\npath = "x.csv"\nseparator = ""', "data.separator"),
        ('loader = "csv"\npath = "x.csv"\nseparator = "ab"', "data.separator"),
        ('loader = "csv"\npath = "x.csv"\nseparator = "\\n"', "data.separator"),
        ('loader = "csv"\npath = "~nouser/x"', "nouser"),
        ('loader = "csv"\npath = "a\\u0000b"', "no such file"),
        (f'loader = "csv"\npath = "{LONG}"', "too long"),
        ('loader = "synthetic"\nimages = 1000000000000', "data.images"),
        ('loader = "synthetic"\nsize = 10000000', "data.size"),
        ('loader = "synthetic"\nseed = -1', "data.seed"),
    ],
)
def test_task_files_with_impossible_data_are_one_line(command: Command, tmp_path: Path, data: str, said: str) -> None:
    text = task("x", "retrieval", "t2i_recall@1", data, "").replace('loader = "tsv"\n', "")
    (tmp_path / "t.toml").write_text(text)
    one_line(command(*RUN.format(d=tmp_path).split()), 2, said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resize_mode": "x"}, 'resize_mode: got "x"; wanted shortest or longest or squash'),
        ({"interpolation": [1]}, "interpolation: got [1]"),
        ({"mode": "L"}, 'mode: got "L"; wanted RGB'),
        ({"mean": ["a"]}, 'mean: got ["a"]; wanted three numbers'),
        ({"mean": [0.5, 0.5]}, "mean: got [0.5, 0.5]"),
        ({"std": {"a": 1}}, 'std: got {"a": 1}; wanted three numbers above 0'),
        ({"std": [0, 0, 0]}, "std: got [0, 0, 0]"),
        ({"size": -1}, "size: got -1"),
        ({"size": [1, 2, 3]}, "size: got [1, 2, 3]"),
        ({"fill_color": "red"}, 'fill_color: got "red"'),
    ],
)
def test_preprocessing_that_cannot_be_done_is_one_line(
    command: Command, models: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    shutil.copytree(models / "clip", tmp_path / "m")
    file = tmp_path / "m" / "open_clip_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "preprocess_cfg": {**config.get("preprocess_cfg", {}), **change}}))
    words = f"run --model {tmp_path}/m --tasks emoji_flags --limit 2 --quiet --output {tmp_path}/out"
    result = command(*words.split())
    assert result.code in (1, 2)
    assert f"preprocess_cfg.{said}" in result.err + result.out
    assert "Traceback" not in result.err


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
@pytest.mark.parametrize("content", ["", "\n", "a" * 200_000])
def test_tables_without_rows_are_one_line(command: Command, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    words = f"data csv --from {name.partition('.')[2]} --path {name} --data-root {tmp_path} --output {tmp_path}/o.csv"
    long, what = len(content) > 1, "field larger" if name == "x.csv" else "not JSON"
    one_line(command(*words.split()), 2, f"error {tmp_path / name}: {'line 1: ' + what if long else 'an empty file'}")
    result = command("import", tmp_path / name, "--output", tmp_path / "r")
    one_line(result, 2, f"error {tmp_path / name}:", what if long else "no rows" if name == "x.csv" else "no lines")


def test_arrow_tables_are_validated(tmp_path: Path) -> None:
    """Offsets beyond a buffer end the process, where nobody looks at them."""
    from cocabench.data.composition import _rows

    broken = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 2**30, 5], np.int32)), pa.py_buffer(b"abcde"))
    table = pa.table({"caption_0": broken})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_batch(table.to_batches()[0])
    with pytest.raises(DataError, match="not readable"):
        _rows(tmp_path / "a.arrow")


def score(command: Command, folder: Path, candidates: str, references: str = REFERENCES, *more: str) -> Result:
    (folder / "c.json").write_text(candidates)
    (folder / "r.json").write_text(references)
    return command("score", "--candidates", folder / "c.json", "--references", folder / "r.json", *more)


@pytest.mark.parametrize(
    ("candidates", "references", "said"),
    [
        ('{"1": {"a": 1}}', REFERENCES, 'c.json: id 1 has {"a": 1}; wanted {id: caption}'),
        ('{"1": NaN}', REFERENCES, "c.json: id 1 has NaN; wanted {id: caption}"),
        ('{"1": [["a"]]}', REFERENCES, 'c.json: id 1 has [["a"]]; wanted {id: caption}'),
        (
            '[{"image_id": true, "caption": "a"}]',
            '{"true": ["a"], "True": ["a"]}',
            'c.json: row 0 is {"image_id": true,',
        ),
        ('{"1": "a"}', '{"1": [NaN]}', "r.json: id 1 has [NaN]; wanted {id: [captions]}"),
        ('{"1": "a"}', '{"1": []}', "r.json: no references for 1 of 1 ids in c.json, the first is 1"),
        ('{"\\ud800": "a", "\\ud801": "b"}', '{"\\ud800": ["a"]}', "c.json: two ids are "),
    ],
)
def test_captions_that_are_no_texts_are_one_line(
    command: Command, tmp_path: Path, candidates: str, references: str, said: str
) -> None:
    one_line(score(command, tmp_path, candidates, references), 2, f"error {tmp_path}/{said}")


@pytest.mark.parametrize("caption", [" ", ".", "|\n||"])
def test_captions_without_a_word_are_noted_as_empty(command: Command, tmp_path: Path, caption: str) -> None:
    texts = json.dumps({"1": caption, "2": "a cat"})
    assert "1 of 2 captions is empty" in score(command, tmp_path, texts, REFERENCES, "--metrics", "rouge").out


def test_a_replaced_character_in_a_caption_is_noted(command: Command, tmp_path: Path) -> None:
    result = score(command, tmp_path, '{"1": "a \\ud800 dog", "2": "a"}', REFERENCES, "--metrics", "rouge")
    assert result.code == 0
    assert result.err.strip() == "note � stands for what is no Unicode character in 1 text"


def test_undefined_cider_of_one_image_says_why(command: Command, tmp_path: Path) -> None:
    result = score(command, tmp_path, '{"1": "a dog"}', REFERENCES, "--metrics", "cider")
    assert result.out.count("note CIDEr: undefined for one image") == 1


def test_metrics_none_of_which_can_run_exit_with_1(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corenlp, "find", lambda: None)
    one_line(
        score(command, tmp_path, '{"1": "a"}', REFERENCES, "--metrics", "spice"), 1, "CoreNLP 3.6.0", "setup spice"
    )


def test_a_step_summary_that_is_a_folder_is_a_note(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classified(tmp_path / "r", "one", right(3, 5))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    result = command("gate", "--baseline", tmp_path / "r", "--current", tmp_path / "r")
    assert result.code == 1, "the verdict stands: two metrics of the rules are missing"
    assert "note GITHUB_STEP_SUMMARY" in result.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may search any folder")
def test_an_unsearchable_parent_folder_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    one_line(command("show", tmp_path / "closed" / "x"), 2, "permission denied")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "/x/y"), "/x/y: permission denied"),
        (MemoryError(), "not enough memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: tried 9 bytes"),
            "not enough memory",
        ),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "not enough memory"),
        (ValueError("embedded null byte"), "a path with a NUL character"),
        (OSError(28, "No space left on device"), "here: no space left on device; free space, or choose another"),
        (RuntimeError("unable to write to file </torch_1>: No space left on device (28)"), "no space left on device;"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), "no folder for temporary files"),
    ],
)
def test_what_the_system_refuses_is_no_bug(error: Exception, said: str) -> None:
    assert said in str(surprise("here", error))
    assert "bug" not in str(surprise("here", error))


def test_an_unforeseen_error_names_whose_it_is(plugin: None) -> None:
    import toy_plugin

    source = toy_plugin.Ones("x")
    ours, made = surprise("x", ZeroDivisionError("a")), surprise("x", ZeroDivisionError("a"), source)
    assert str(ours) == "x: ZeroDivisionError: a; this is a bug; report the traceback"
    assert "this is a bug of the plugin toy" in str(made)
    try:
        next(toy_plugin.Norms().score(source, toy_plugin.Blank().build(Path()), None))  # type: ignore[arg-type]
    except AttributeError as error:
        raised = surprise("x", error)
    assert "this is a bug of the plugin toy" in str(raised)


def test_serve_answers_a_host_that_is_none(tmp_path: Path) -> None:
    import threading

    with server(tmp_path, host="127.0.0.1", port=0) as running:
        thread = threading.Thread(target=running.handle_request)
        thread.start()
        with socket.create_connection(running.where) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: [\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(1000), b""))
        thread.join()
    assert answer.startswith(b"HTTP/1.0 421 ")


def test_java_in_this_folder_comes_before_one_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "java").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CocabenchError, match=str(tmp_path)):
        jvm.find(Path("./java"))


def test_a_pycocoevalcap_without_jars_is_named(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pycocoevalcap").mkdir()
    (tmp_path / "pycocoevalcap" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pycocoevalcap", raising=False)  # as another test may have imported it
    result = score(command, tmp_path, '{"1": "a"}', REFERENCES, "--metrics", "bleu")
    one_line(result, 1, str(tmp_path / "pycocoevalcap"), "PYTHONPATH")


def test_cut_off_jars_of_corenlp_do_not_count(own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corenlp, "folder", lambda: tmp_path)
    for jar in corenlp.JARS:
        (tmp_path / jar.name).write_bytes(b"PK\3\4 cut off")
    assert corenlp.find() is None


def test_class_paths_take_a_folder_with_their_separator(tmp_path: Path) -> None:
    (folder := tmp_path / "a:b").mkdir()
    (folder / "x.jar").touch()
    with jvm.Runner(jvm.find(), None) as runner:  # type: ignore[arg-type]
        plain = runner._plain(folder / "x.jar")
        assert os.pathsep not in str(plain)
        assert plain.resolve() == folder / "x.jar"


def test_arrow_tables_have_a_limit_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cocabench.data.composition import _rows

    table = pa.table({"x": list(range(100))})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    assert len(_rows(tmp_path / "a.arrow")) == 100
    monkeypatch.setenv(ROWS.variable, "99")
    with pytest.raises(DataError, match="100 rows in a table"):
        _rows(tmp_path / "a.arrow")


def test_model_libraries_of_plugins_are_listed(command: Command, plugin: None) -> None:
    assert "toy::…" in command("list", "models").out
    result = command("run", "--model", "toy:8", "--tasks", "emoji_flags")
    one_line(result, 2, "did you mean toy::8?")


@pytest.mark.slow
def test_a_reader_that_has_read_enough_ends_the_command_silently() -> None:
    words = f"{sys.executable} -m cocabench list metrics --json | head -c 10; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", words], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) in ((141, ""), (0, ""))


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0.02, 0.3])
def test_ctrl_c_twice_prints_one_line(models: Path, data: Path, tmp_path: Path, gap: float) -> None:
    words = ["run", "--model", models / "coca", "--tasks", data / "tell.toml", "--data-root", data, "--quiet"]
    order = [sys.executable, "-m", "cocabench", *map(str, words), "--output", str(tmp_path), "--no-cache"]
    for wait in (2.0, 3.5, 5.0):
        process = subprocess.Popen(order, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        time.sleep(wait)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(gap)
        err = process.communicate(timeout=30)[1]
        assert "Traceback" not in err
        assert process.returncode in (0, 130, -signal.SIGINT)


def test_ctrl_c_where_python_ends_prints_nothing() -> None:
    code = (
        "import atexit, os, signal, sys\nfrom cocabench.cli import main\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGINT)\nsys.argv[1:] = ['--version']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")
    assert done.stdout.startswith("cocabench"), "what was printed before is kept"


def test_parse_json_takes_what_json_takes() -> None:
    assert parse_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    with pytest.raises(json.JSONDecodeError):
        parse_json("{")


def test_expanded_paths() -> None:
    assert expanded("~") == Path.home()
    with pytest.raises(UsageError, match="no user 'nouser'"):
        expanded("~nouser/x")


@pytest.mark.slow
def test_every_target_of_the_generator_succeeds_on_whole_files() -> None:
    """Where a command fails anyway, a damaged file is never read."""
    order = [sys.executable, "-m", "tests.bad_inputs", "--undamaged"]
    done = subprocess.run(order, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_three_hundred_generated_bad_inputs_are_one_line_each() -> None:
    failures = [found for found in all_tried(range(300), seed=17) if found]
    assert not failures, failures[0]
