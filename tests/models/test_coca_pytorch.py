"""lucidrains' CoCa: its own losses and logits are the referees; its file runs only from the command line."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cocabench.core.errors import CocabenchError, ModelError
from cocabench.core.types import ImageSource
from cocabench.data.images import FileImage
from cocabench.models.coca_pytorch import CoCaPytorchSource, Padded, sources
from cocabench.models.hardware import hardware
from cocabench.specs.registry import FailedSource, model_sources
from cocabench.specs.spec import parse_models
from tests.conftest import Command

pytest.importorskip("coca_pytorch")
BUILD = Path(__file__).parent / "data" / "coca_pytorch_build.py"
CPU = hardware(device="cpu", workers=0, batch_size=5)
TEXTS = ["a photo of a cat", "two dogs", "a picture of thing 3 number 0, much too long"]


def source(path: Path = BUILD, *, typed: bool = True) -> Any:
    (found,) = model_sources(parse_models(f"coca_pytorch::{path}", typed=typed))
    return found


@pytest.fixture(scope="module")
def model() -> Any:
    return source().load(CPU)


@pytest.fixture(scope="module")
def images(data: Path) -> list[ImageSource]:
    return [FileImage(path) for path in sorted((data / "images").iterdir())[:6]]


def pixels_of(model: Any, images: list[ImageSource]) -> torch.Tensor:
    return torch.stack([model.transform(image.open()) for image in images])


def test_features_are_those_that_its_contrastive_loss_compares(model: Any, images: list[ImageSource]) -> None:
    """The loss drops the last token, so that the text's CLS stands one position before the padded length."""
    tokens, pixels = model.tokenizer(TEXTS), pixels_of(model, images[:3])
    assert tokens.shape == (3, 24)
    net = model.net
    with torch.no_grad():
        net.caption_loss_weight, net.temperature.data[:] = 0.0, 2.0
        loss = net(text=tokens, images=pixels, return_loss=True)
        net.caption_loss_weight = 1.0
        unprojected = net(text=tokens, images=pixels, return_embeddings=True)
    sim = torch.from_numpy(model.encode_texts(TEXTS) @ model.encode_images(images[:3]).rows.T) * math.exp(2.0)
    right = torch.arange(3)
    ours = (torch.nn.functional.cross_entropy(sim, right) + torch.nn.functional.cross_entropy(sim.T, right)) / 2
    assert float(ours) == pytest.approx(float(loss), abs=1e-5)
    assert unprojected[0].shape[1] == 32 != model.encode_texts(TEXTS).shape[1], "return_embeddings is another space"


def test_unnormalized_and_pooled_rows(model: Any, images: list[ImageSource]) -> None:
    rows, raw = model.encode_images(images).rows, model.encode_images(images, normalize=False).rows
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), rows, atol=1e-6)
    with torch.no_grad():
        pooled = model.net.embed_image(images=pixels_of(model, images))[0]
    np.testing.assert_allclose(model.encode_images(images, output="pooled", normalize=False).rows, pooled, atol=1e-5)


def test_features_depend_on_the_padded_length_so_it_is_fixed(model: Any) -> None:
    short = torch.tensor([model.tokenizer._inner([TEXTS[1]])[0]])
    with torch.no_grad():
        other = torch.nn.functional.normalize(model.net.text_to_latents(model.net.embed_text(short)[0]), dim=-1)
    alone, beside = model.encode_texts([TEXTS[1]]), model.encode_texts(TEXTS)[1:2]
    np.testing.assert_allclose(alone, beside, atol=1e-6)
    assert np.abs(alone - other.numpy()).max() > 1e-3
    assert source().signature()["texts"]["length"] == 24


def test_caption_likelihood_is_its_own_caption_loss(model: Any, images: list[ImageSource]) -> None:
    """The mean over the labels that are not padding, of one caption; its loss drops the last token of the input."""
    found = model.score_captions(images[:2], [TEXTS, TEXTS])
    words = model.score_words([images[0]] * len(TEXTS), TEXTS)
    assert [sum(word.logprob for word in own) for own in words] == pytest.approx(found.logprobs[0].tolist(), rel=1e-4)
    net = model.net
    for image, logprobs, counts in zip(images, found.logprobs, found.n_tokens, strict=False):
        for text, logprob, count in zip(TEXTS, logprobs, counts, strict=True):
            tokens = model.tokenizer([text])
            with torch.no_grad():
                net.contrastive_loss_weight = 0.0
                loss = net(text=tokens, images=pixels_of(model, [image]), return_loss=True)
                net.contrastive_loss_weight = 1.0
            assert logprob / count == pytest.approx(-float(loss), abs=1e-5)
            assert count == int((tokens[:, 1:] != 0).sum())


def greedy(model: Any, image: ImageSource, start: list[int], *, seq_len: int, least: int) -> list[int]:
    """A plain loop over the network's own forward."""
    ids, pixels = list(start), pixels_of(model, [image])
    while len(ids) < seq_len - 1:
        with torch.no_grad():
            logits = model.net(text=torch.tensor([ids]), images=pixels)[0, -1]
        if len(ids) < least:
            logits[2] = -math.inf
        ids.append(int(logits.argmax()))
        if ids[-1] in (0, 2):
            return ids
    return [*ids, 2]


@pytest.mark.parametrize("prompt", ["", "a photo"])
def test_greedy_captions_are_those_of_a_plain_loop(model: Any, images: list[ImageSource], prompt: str) -> None:
    start = model.tokenizer._inner([prompt])[0][:-1]
    rows = [greedy(model, image, start, seq_len=16, least=11) for image in images]
    options = {"generation_type": "greedy", "seq_len": 16, "min_seq_len": 11}
    made = model.caption(images, options, prompts=prompt or None)
    assert list(made.texts) == [model.tokenizer.decode([i for i in row if i > 2]).strip() for row in rows]
    assert made.features is not None
    assert made.features.tobytes() == model.encode_images(images).rows.tobytes()


@pytest.mark.slow
def test_beams_of_log_probabilities_find_the_best_short_caption(model: Any, images: list[ImageSource]) -> None:
    """With as many beams as tokens, two steps are searched exhaustively."""
    options = {"decoding": "logprob", "num_beams": 40, "num_beam_groups": 1, "seq_len": 4, "min_seq_len": 3}
    (caption,) = model.caption(images[:1], options).texts
    pixels, best = pixels_of(model, images[:1]), (-math.inf, ())
    with torch.no_grad():
        first = model.net(text=torch.tensor([[1]]), images=pixels)[0, -1].log_softmax(-1)
        for a in range(len(first)):
            second = model.net(text=torch.tensor([[1, a]]), images=pixels)[0, -1].log_softmax(-1)
            third = second.topk(3)
            for value, b in zip(third.values.tolist(), third.indices.tolist(), strict=True):
                if 2 not in (a, b):
                    best = max(best, (float(first[a]) + value, (a, b)))
    text = model.tokenizer.decode([i for i in best[1] if i > 2]).strip()
    assert caption[: len(text)] == text


@pytest.mark.slow
def test_a_run_from_the_command_line(command: Command, data: Path, tmp_path: Path) -> None:
    tasks = ",".join(str(data / f"{task}.toml") for task in ("find", "tell", "prefer"))
    given = ("--tasks", tasks, "--data-root", data, "--output", tmp_path)
    result = command("run", "--model", f"coca_pytorch::{BUILD}", *given, "--json")
    assert result.code == 0, result.err
    records = json.loads(result.out)
    assert {record["task"] for record in records} == {"find", "tell", "prefer"}
    assert records[0]["signature"]["model"]["packages"].keys() == {"CoCa-pytorch", "einops", "pillow", "torch"}
    assert "already done" in command("run", "--model", f"coca_pytorch::{BUILD}", *given).err
    plan = tmp_path / "plan.json"
    plan.write_text(command("run", "--model", f"coca_pytorch::{BUILD}", *given, "--dry-run", "--json").out)
    refused = command("run", "--plan", plan)
    assert refused.code != 0
    assert "a Python file, named by a task file, a recipe or a plan; wanted one that stands on the command line" in (
        refused.err + refused.out
    )


def marked(tmp_path: Path) -> Path:
    """Write a file that leaves a mark when it runs."""
    path = tmp_path / "build.py"
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n{BUILD.read_text()}")
    return path


def test_the_file_runs_from_no_config(command: Command, data: Path, tmp_path: Path) -> None:
    path = marked(tmp_path)
    found = source(path, typed=False)
    assert isinstance(found, FailedSource)
    task = (
        (data / "tell.toml")
        .read_text()
        .replace('metrics = ["BLEU@4"]', f'metrics = ["CLIPScore"]\nclipscore_model = "coca_pytorch::{path}"')
    )
    (tmp_path / "scored.toml").write_text(task.replace('"BLEU@4"', '"CLIPScore"').replace('"tell"', '"scored"'))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'name = "r"\nmodel = "coca_pytorch::{path}"\nsummary = "s"\nsource = "s"\n[trainer]\n')
    given = ("--tasks", tmp_path / "scored.toml", "--data-root", data, "--output", tmp_path / "output")
    scored, trained = command("run", "--model", "demo/coca", *given), command("train", recipe, "--dry-run")
    assert "CLIPScore skipped" in scored.out
    assert "wanted one that stands on the command line, since it runs" in scored.out
    assert trained.code == 2
    assert "wanted an architecture of open_clip" in trained.err
    assert not (tmp_path / "ran").exists()
    assert isinstance(source(path), CoCaPytorchSource)
    assert (tmp_path / "ran").exists(), "the mark is left when it does run"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1", r"no function build\(\) in it"),
        ("def build(): return 3", r"build\(\) returned a int; wanted cocabench.models.coca_pytorch.Parts"),
        ("import nothing_here", "line 1: ModuleNotFoundError: No module named 'nothing_here'"),
        ("def build(:", "line 0: SyntaxError|SyntaxError"),
        ("def build(): raise ValueError('no weights')", r"build\(\) failed: ValueError: no weights"),
        ("@net=torch.nn.Linear(1, 1)", "net: a Linear; wanted a coca_pytorch.CoCa"),
        ("@text_length=2", "text_length: 2; wanted a whole number, 4 or more"),
        ("@end=None", "one of start and end; wanted both"),
        ("@tokenizer=list", "a tokenizer without decode"),
        ("#img_encoder = None", "net: no img_encoder"),
        ("#temperature.data[:] = torch.nan", "NaN or infinity in temperature"),
    ],
)  # fmt: skip
def test_unusable_files_are_one_line(code: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "build.py"
    changed = f"from dataclasses import replace\n{BUILD.read_text()}\nown = build\n"
    if code.startswith("@"):  # other Parts
        code = f"{changed}def build(): return replace(own(), {code[1:]})"
    if code.startswith("#"):  # another network
        code = f"{changed}def build():\n    parts = own()\n    parts.net.{code[1:]}\n    return parts"
    path.write_text(code)
    (spec,) = parse_models(f"coca_pytorch::{path}", typed=True)
    with pytest.raises(ModelError, match=message) as caught:
        sources(spec)
    assert "\n" not in str(caught.value)


def test_other_names_and_missing_files_are_one_line() -> None:
    for name, message in (
        ("no/such/file.py", "no such file"),
        ("mine", r"no such entry point \(installed: none\); wanted a Python file, or an entry point"),
    ):
        (spec,) = parse_models(f"coca_pytorch::{name}", typed=True)
        with pytest.raises(CocabenchError, match=message):
            sources(spec)


def test_an_installed_package_may_offer_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed code is trusted, so a task file may name it."""
    info = tmp_path / "letters-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: letters\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cocabench.coca_pytorch]\nletters = coca_pytorch_letters:build\n")
    (tmp_path / "coca_pytorch_letters.py").write_text(BUILD.read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    (found,) = model_sources(parse_models("coca_pytorch::letters"))
    own = source().signature()
    assert {key for key, value in found.signature().items() if own[key] != value} == {"id", "code"}


def test_the_signature_follows_what_the_parts_do(tmp_path: Path) -> None:
    own = source().signature()
    path, text = tmp_path / "build.py", BUILD.read_text()
    for part, old, new in (
        ({"weights"}, "manual_seed(0)", "manual_seed(1)"),
        ({"preprocess"}, "v2.Resize((16, 16))", "v2.CenterCrop((16, 16))"),
        ({"vocabulary"}, "text.lower()", "text"),
        ({"texts"}, "text_length=24", "text_length=20"),
        (set(), "START, END = 1, 2", "START, END = 1, 2  # a comment"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        other = source(path).signature()
        assert {key for key in own if own[key] != other[key]} == {"id", "code", *part}


class Blue:
    """A transform with a factor of its last channel, which its repr does not show."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, image: Any) -> torch.Tensor:
        pixels = torch.from_numpy(np.array(image.resize((96, 96)))).permute(2, 0, 1) / 255
        return pixels * torch.tensor([1, 1, self.factor]).view(3, 1, 1)


def test_the_signature_follows_every_channel_of_a_large_transform() -> None:
    own = source()
    one, other, again = (
        replace(own, parts=replace(own.parts, transform=Blue(factor))).signature()["preprocess"]
        for factor in (1.0, 0.5, 1.0)
    )
    assert one != other
    assert one == again


def test_long_texts_are_cut_with_their_end_token(model: Any) -> None:
    row = model.tokenizer(["a" * 50])[0].tolist()
    assert (len(row), row[0], row[-1]) == (24, 1, 2)
    assert isinstance(model.tokenizer, Padded)


def test_ids_out_of_range_are_one_line(images: list[ImageSource], tmp_path: Path) -> None:
    path = tmp_path / "build.py"
    path.write_text(BUILD.read_text().replace("num_tokens=len(LETTERS) + 3", "num_tokens=20"))
    other = source(path).load(CPU)
    for verb in (lambda: other.encode_texts(["z"]), lambda: other.score_captions(images, [["z"]] * len(images))):
        with pytest.raises(ModelError, match="token id 28, and the network's vocabulary has 20"):
            verb()


def test_a_transform_of_the_file_itself_stays_in_this_process(images: list[ImageSource], tmp_path: Path) -> None:
    path = tmp_path / "build.py"
    own = "def mine(image): return torch.zeros(3, 16, 16)\n"
    path.write_text(
        BUILD.read_text().replace("def build()", f"{own}\n\ndef build()").replace("net, transform,", "net, mine,")
    )
    rows = source(path).load(hardware(device="cpu", workers=2, batch_size=2)).encode_images(images).rows
    assert np.abs(rows - rows[0]).max() < 1e-6
