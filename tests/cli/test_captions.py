"""cocabench caption and score: captions of images, how likely texts are, scores of captions in files."""

import json
import math
from pathlib import Path

import pytest
from PIL import Image

import cocabench
from tests.conftest import Command
from tests.models.tiny import CLIP, COCA, write_architecture


def test_score_gives_less_for_shuffled_captions(command: Command, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"1": "a red bus on the street", "2": "two dogs play in snow"}))
    references = {"1": ["a red bus on a street", "the bus is red"], "2": ["two dogs playing in the snow"]}
    (tmp_path / "r.json").write_text(json.dumps(references))
    result = command(
        "score",
        "--candidates",
        tmp_path / "c.json",
        "--references",
        tmp_path / "r.json",
        "--metrics",
        "bleu,cider",
        "--json",
    )
    found = json.loads(result.out)["metrics"]
    assert set(found) == {"BLEU@1", "BLEU@2", "BLEU@3", "BLEU@4", "CIDEr"}
    assert 0.5 < found["BLEU@1"]["value"] <= 1
    shuffled = {"1": "two dogs play in snow", "2": "a red bus on the street"}
    (tmp_path / "c.json").write_text(json.dumps(shuffled))
    result = command(
        "score", "--candidates", tmp_path / "c.json", "--references", tmp_path / "r.json", "--metrics", "bleu", "--json"
    )
    assert json.loads(result.out)["metrics"]["BLEU@1"]["value"] < found["BLEU@1"]["value"]


@pytest.mark.parametrize(
    ("metrics", "code", "message"), [("blue", 2, "did you mean BLEU"), ("bleu", 2, "no references for 1 of 1 ids")]
)
def test_score_errors_name_the_metric_or_the_ids(
    command: Command, tmp_path: Path, metrics: str, code: int, message: str
) -> None:
    (tmp_path / "c.json").write_text('{"1": "a"}')
    (tmp_path / "r.json").write_text('{"2": ["b"]}')
    result = command(
        "score", "--candidates", tmp_path / "c.json", "--references", tmp_path / "r.json", "--metrics", metrics
    )
    assert result.code == code
    assert message in result.err


def test_score_of_a_record_equals_the_stored_metrics(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    result = command(
        "run",
        "--model",
        models / "coca",
        "--tasks",
        data / "tell.toml",
        "--data-root",
        data,
        "--output",
        tmp_path / "r",
    )
    (record,) = cocabench.load(tmp_path / "r")
    path = cocabench.load(tmp_path / "r").path(record)
    assert path is not None
    for name in (path, path.with_name(record.samples_file)):
        result = command("score", "--candidates", name, "--metrics", "bleu", "--json")
        found = json.loads(result.out)
        assert found["metrics"]["BLEU@4"] == record.metrics["BLEU@4"].model_dump()
        assert found["health"]["distinct_captions"]["value"] == record.metrics["distinct_captions"].value
    result = command("score", "--candidates", next(path.parent.glob("*.captions.json")))
    assert result.code == 2
    assert "--references: missing" in result.err


def test_score_computes_clipscore_with_a_model_and_images_only(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.json").write_text(json.dumps({f"{i:02}": f"thing {i}" for i in range(12)}))
    (tmp_path / "r.json").write_text(json.dumps({f"{i:02}": [f"a thing {i}", "no"] for i in range(12)}))
    order = ["score", "--candidates", tmp_path / "c.json", "--references", tmp_path / "r.json"]
    scorer = ["--metrics", "clipscore", "--clipscore", models / "clip"]
    result = command(*order, *scorer, "--images", data / "images", "--json")
    found = json.loads(result.out)["metrics"]
    assert set(found) == {"CLIPScore", "RefCLIPScore"}
    assert found["CLIPScore"]["n"] == 12
    for wrong, message in (
        (scorer, "--clipscore: given without --images DIR"),
        (["--images", data], "--images: given without --clipscore MODEL"),
        (["--metrics", "refclipscore"], "wanted --clipscore MODEL and --images DIR"),
    ):
        result = command(*order, *wrong)
        assert result.code == 2
        assert message in result.err


def test_caption_reads_files_and_folders(command: Command, models: Path, data: Path) -> None:
    result = command(
        "caption", "--model", models / "coca", data / "images", data / "images" / "03.png", "--seq-len", 8, "--json"
    )
    assert result.code == 0, result.err
    rows = json.loads(result.out)
    assert len(rows) == 13
    assert rows[3]["caption"] == rows[12]["caption"]
    plain = command("caption", "--model", models / "coca", data / "images" / "03.png", "--seq-len", 8).out
    assert rows[3]["caption"] in plain


def test_caption_rejects_a_clip_a_missing_file_and_a_text_file(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    result = command("caption", "--model", models / "clip", data / "images" / "03.png")
    assert result.code == 2
    assert "clip: a model that cannot caption; wanted a CoCa" in result.err
    assert "no such file" in command("caption", "--model", models / "coca", tmp_path / "x.png").err
    (tmp_path / "x.png").write_text("text")
    assert "x.png" in command("caption", "--model", models / "coca", tmp_path / "x.png").err


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("more", "message"), [((), "cannot caption"), (("--text", "a dog"), "cannot score captions")])
def test_caption_rejects_a_plugins_model_in_one_line(
    command: Command, data: Path, more: tuple[str, ...], message: str
) -> None:
    result = command("caption", "--model", "toy::one", data / "images" / "03.png", *more)
    assert result.code == 2
    assert result.err.startswith(f"error --model toy::one: a model that {message}")
    assert result.err.count("\n") == 1


def test_caption_names_skipped_images(command: Command, models: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("text")
    (tmp_path / "notes.txt").write_text("no image, and not looked at")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "good.png").write_bytes((data / "images" / "03.png").read_bytes())
    result = command("caption", "--model", models / "coca", tmp_path, "--seq-len", 8, "--skip-bad-images", "--json")
    assert [Path(row["image"]).name for row in json.loads(result.out)] == ["good.png"]
    assert "bad.png" in result.err
    assert "notes.txt" not in result.err


def test_caption_starts_with_the_prompt(command: Command, models: Path, data: Path) -> None:
    shared = ("caption", "--model", models / "coca", data / "images" / "03.png", "--seq-len", 9, "--json")
    for kind in ("beam_search", "top_k"):
        (row,) = json.loads(command(*shared, "--prompt", "A photo of", "--generation-type", kind).out)
        assert row["caption"].startswith("a photo of ")
    result = command(*shared, "--prompt", "a photo of a very very long thing")
    assert result.code == 2
    assert "prompt: 8 tokens; wanted at most 7" in result.err


def test_caption_text_ranks_texts_by_likelihood(command: Command, models: Path, data: Path) -> None:
    texts = ("a dog", "a red bus on the street", "cat")
    flags = [flag for text in texts for flag in ("--text", text)]
    images = (data / "images" / "03.png", data / "images" / "04.png")
    result = command("caption", "--model", models / "coca", *images, *flags, "--json")
    rows = json.loads(result.out)
    assert [row["image"] for row in rows] == [str(image) for image in images for _ in texts]
    assert {row["text"]: row["n_tokens"] for row in rows} == {"a dog": 3, "a red bus on the street": 7, "cat": 2}
    for three in (rows[:3], rows[3:]):
        assert [row["logprob"] for row in three] == sorted((row["logprob"] for row in three), reverse=True)
    assert all(
        row["perplexity"] == pytest.approx(math.exp(-row["logprob"] / row["n_tokens"]), rel=1e-2) for row in rows
    )
    assert "wanted one of the two" in command("caption", "--model", "x", *images, *flags, "--prompt", "a").err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--top-k", 5), "--top-k: given with --generation-type beam_search; wanted --generation-type top_k"),
        (("--generation-type", "greedy", "--num-beams", 3), "--num-beams: given with --generation-type greedy"),
        (("--generation-type", "top_p", "--top-p", 7), "top_p: got 7.0, wanted between 0 and 1"),
        (("--num-beams", 4, "--num-beam-groups", 3), "num_beam_groups: got 3, wanted a divisor of 4 beams"),
        (("--diversity-penalty", 1), "diversity_penalty: got 1.0, wanted 0 in legacy decoding"),
    ],
)
def test_caption_rejects_options_without_effect(
    command: Command, models: Path, data: Path, flags: tuple[object, ...], message: str
) -> None:
    result = command("caption", "--model", models / "coca", data / "images" / "03.png", "--seq-len", 8, *flags)
    assert result.code == 2
    assert message in result.err


def test_caption_sampling_depends_on_the_seed(command: Command, models: Path, data: Path) -> None:
    sampled = ("caption", "--model", models / "coca", data / "images", "--seq-len", 9, "--json")
    sampled += ("--generation-type", "top_k", "--top-k", 50, "--temperature", 2, "--seed")
    first, again, other = (command(*sampled, seed).out for seed in (1, 1, 2))
    assert first == again != other


def test_caption_reads_transparent_and_grey_images(command: Command, models: Path, tmp_path: Path) -> None:
    for mode in ("L", "RGBA", "P", "I;16", "1"):
        Image.new(mode, (20, 10)).save(tmp_path / f"{mode.replace(';', '')}.png")
    result = command("caption", "--model", models / "coca", tmp_path, "--seq-len", 8, "--json")
    assert len(json.loads(result.out)) == 5, result.err


def test_score_says_which_images_have_no_caption(command: Command, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"1": "a dog", "3": "a cat"}))
    references = {str(i): [f"a thing {i}", "a dog"] for i in range(8)}
    (tmp_path / "r.json").write_text(json.dumps(references))
    words = ["score", "--candidates", tmp_path / "c.json", "--references", tmp_path / "r.json", "--metrics", "rouge"]
    said = "captions for 2 of the 8 images with references; missing: 0, 2, 4"
    assert said in command(*words).out
    notes = json.loads(command(*words, "--json").out)["notes"]
    assert notes[0].startswith(said)
    (tmp_path / "r.json").write_text(json.dumps({key: references[key] for key in ("1", "3")}))
    assert "missing" not in command(*words).out


def test_caption_and_score_take_the_preprocessing_of_a_checkpoint_file(
    command: Command, models: Path, data: Path, tmp_path: Path
) -> None:
    image, weights = data / "images" / "03.png", models / "coca" / "open_clip_model.safetensors"
    arch = write_architecture(tmp_path / "arch.json", COCA)
    words = ["caption", "--model", f"{arch}:{weights}", "--text", "a thing", "--json"]
    plain, other = (command(*words, *more, image) for more in ((), ("--preprocess", "ViT-B-16-SigLIP:webli")))
    assert (plain.code, other.code) == (0, 0), other.err
    (one,), (two,) = json.loads(plain.out), json.loads(other.out)
    assert one["logprob"] != two["logprob"], "another mean and std"
    assert "did you mean" in command(*words, "--preprocess", "ViT-B-16-SigLIP:webl", image).err

    (tmp_path / "c.json").write_text(json.dumps({"03": "a thing"}))
    (tmp_path / "r.json").write_text(json.dumps({"03": ["a thing"]}))
    arch = write_architecture(tmp_path / "clip.json", CLIP)
    words = ["score", "--candidates", tmp_path / "c.json", "--references", tmp_path / "r.json", "--json"]
    words += ["--metrics", "clipscore"]
    scorer = ["--images", data / "images", "--clipscore", f"{arch}:{models / 'clip' / 'open_clip_model.safetensors'}"]
    plain, other = (command(*words, *scorer, *more) for more in ((), ("--preprocess", "ViT-B-16-SigLIP:webli")))
    assert (plain.code, other.code) == (0, 0), other.err
    values = [json.loads(result.out)["metrics"]["CLIPScore"]["value"] for result in (plain, other)]
    assert values[0] != values[1]
    refused = command(*words, "--preprocess", "webli")
    assert (refused.code, "given without --clipscore MODEL" in refused.err) == (2, True)
