"""The shipped checkpoints, and the parts that trained them."""

import gzip
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.loss import CoCaLoss

from cocabench.data.builtin import read_shards
from cocabench.demo import MODELS, PAIR, data_files, model_folder
from tools.demo.model import (
    CONTEXT_LENGTH,
    IMAGE_SIZE,
    learn_merges,
    load,
    model_config,
    new_model,
    read_tokenizer,
    write_merges,
)
from tools.demo.pictures import STYLES, Batches, TrainingSet, augment, shrunk
from tools.demo.recipes import RECIPES, SEEDS, SHIPPED, Muon, Settings, has_bf16
from tools.demo.ship import LOG
from tools.demo.train import LINES, Trainer, contrastive_loss, losses, recall_at_5, train, twemoji


def test_merges_take_the_most_frequent_pair_first_and_the_smaller_one_on_a_tie() -> None:
    assert learn_merges(["ab ab b", "cd"], 2) == [("a", "b</w>"), ("c", "d</w>")]


def test_merges_file_gives_the_same_bytes_and_no_extra_merge(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_merges(tmp_path / name, [("a", "b</w>")])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert gzip.decompress((tmp_path / "a").read_bytes()) == b"#version: 0.2\na b</w>"
    assert read_tokenizer(tmp_path / "a", 8).vocab_size == 512 + 1 + 2


@pytest.mark.parametrize("name", MODELS)
def test_no_caption_holds_the_pad_id(name: str) -> None:
    """Id 0 is the token "!" too; CoCa's loss would skip it and its mask would hide the next token."""
    tokenizer = read_tokenizer(model_folder(name) / "bpe_merges.txt.gz", CONTEXT_LENGTH)
    for record, _ in read_shards(data_files()):
        for caption in record["captions"]:
            assert 0 not in tokenizer.encode(caption)


@pytest.mark.parametrize("name", MODELS)
def test_open_clip_loads_the_folder_as_it_is(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = open_clip.create_model(f"local-dir:{model_folder(name)}").eval()
    images = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs, ours = model.encode_image(images), load(model_folder(name), name).encode_image(images)
    torch.testing.assert_close(theirs, ours)
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_what_is_shipped_is_the_seed_that_was_chosen_beforehand() -> None:
    logs = json.loads((model_folder("coca").parent / LOG).read_text(encoding="utf-8"))
    assert set(logs) == set(MODELS)
    assert logs["coca"].keys() == logs["clip"].keys() <= {str(seed) for seed in SEEDS}
    for runs in logs.values():
        for seed, run in runs.items():
            assert run["settings"] == runs[str(SHIPPED)]["settings"] | {"seed": int(seed)}
            assert run["settings"]["styles"] == list(STYLES), "Twemoji is measured only if every style is trained on"
            assert len(run["log"]) == LINES
        assert str(SHIPPED) in runs


def test_coca_and_clip_are_trained_alike() -> None:
    assert RECIPES["coca"] == RECIPES["clip"]
    assert model_config("coca")["vision_cfg"].items() >= model_config("clip")["vision_cfg"].items()
    assert model_config("coca")["text_cfg"].items() >= model_config("clip")["text_cfg"].items()


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIR)
def test_checkpoint_carries_concepts_over_to_the_unseen_style(name: str) -> None:
    check = twemoji(read_tokenizer(model_folder(name) / "bpe_merges.txt.gz", CONTEXT_LENGTH))
    chance = 5 / len(check.pixels)
    assert min(check(load(model_folder(name), name)).values()) > 75 * chance
    torch.manual_seed(0)
    assert max(check(new_model(name).eval()).values()) < 5 * chance, "must fail: untrained"


def test_recall_counts_any_own_caption_and_fails_on_shuffled_ones() -> None:
    images = torch.eye(20)
    owner = torch.arange(20).repeat_interleave(2)
    assert recall_at_5(images, images[owner], owner) == {"i2t_recall@5": 1.0, "t2i_recall@5": 1.0}
    assert recall_at_5(images, -images[owner], owner)["t2i_recall@5"] < 0.5


def test_coca_starts_from_the_seed_alone() -> None:
    """open_clip leaves text_decoder.text_projection uninitialised."""
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        weights.append(new_model("coca").state_dict()["text_decoder.text_projection"])
    torch.testing.assert_close(*weights)
    assert 0.05 < weights[0].std() < 0.2


def test_augmenting_depends_on_the_seed_and_stays_in_range() -> None:
    alpha = torch.randint(0, 256, (8, 1, 50, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pictures = torch.cat([alpha // 2, alpha // 3, alpha, alpha], dim=1)
    flippable = torch.tensor([True, False] * 4)
    first, same, other = (augment(pictures, flippable, 40, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first.shape == (8, 3, 40, 40)
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def six_emoji() -> TrainingSet:
    """All white, and missing from the last style but for the first."""
    pictures = np.full((6, len(STYLES), 64, 64, 4), 255, dtype=np.uint8)
    pictures[1:, -1] = 0
    captions = [["cat"], ["dog", "hound"], ["cow"], ["pig"], ["hen"], ["owl"]]
    return TrainingSet(list("abcdef"), captions, pictures, np.ones(6, dtype=np.bool_))


def some_batches(settings: Settings) -> Batches:
    data = six_emoji()
    return Batches(
        data, shrunk(data), read_tokenizer(model_folder("coca") / "bpe_merges.txt.gz", CONTEXT_LENGTH), settings
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("coca", {"contrastive_loss", "image_loss", "caption_loss"}), ("clip", {"contrastive_loss", "image_loss"})],
)
def test_losses_reach_every_parameter(name: str, expected: set[str]) -> None:
    settings = Settings(steps=1, batch=8, views=2, image_weight=1.0)
    images, tokens = some_batches(settings)[0]
    torch.manual_seed(0)
    model = new_model(name).train()
    found = losses(model, images, tokens, settings)
    assert found.keys() == expected
    sum(found.values()).backward()
    assert all(value.grad is not None for value in model.parameters())


def test_losses_are_open_clips() -> None:
    torch.manual_seed(0)
    model, settings = new_model("coca"), Settings(steps=1, batch=4, precision="fp32")
    images, tokens = some_batches(settings)[0]
    theirs = CoCaLoss(caption_loss_weight=2, clip_loss_weight=1)(**model(images, tokens), output_dict=True)
    ours = losses(model, images, tokens, settings)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value)
    captioner = losses(model, images, tokens, replace(RECIPES["coca-captioner"], batch=4))
    assert captioner["contrastive_loss"] == 0
    assert captioner["caption_loss"] == ours["caption_loss"] / 2


def test_batches_keep_to_the_styles_that_have_the_emoji() -> None:
    tokenizer = read_tokenizer(model_folder("coca") / "bpe_merges.txt.gz", CONTEXT_LENGTH)
    batches = some_batches(Settings(steps=1, batch=1, styles=STYLES[-1:]))
    for number in range(3):
        assert torch.equal(batches[number][1], tokenizer(["cat"]))


def test_views_are_of_different_styles_where_there_are_two() -> None:
    data = six_emoji()
    for column in range(len(STYLES)):
        data.pictures[:, column, ..., :3] = 30 * column  # a style's gray; the last style has the first emoji only
    settings = Settings(steps=1, batch=12, views=2)
    tokenizer = read_tokenizer(model_folder("coca") / "bpe_merges.txt.gz", CONTEXT_LENGTH)
    batches = Batches(data, shrunk(data), tokenizer, settings)
    images, tokens = batches[0]
    assert (len(images), len(tokens)) == (12, 6)
    drawn = torch.from_numpy(data.drawn)
    for number in range(5):
        styles = batches._styles(torch.arange(6), torch.Generator().manual_seed(number))
        assert drawn.gather(1, styles).all()
        assert (styles[:, 0] != styles[:, 1]).all()


def test_a_batch_depends_on_seed_and_number_alone_and_an_epoch_has_each_emoji_once() -> None:
    first, again, other = (some_batches(Settings(steps=9, batch=2, seed=seed)) for seed in (0, 0, 1))
    first[0]
    torch.testing.assert_close(first[7], again[7])
    assert not torch.equal(first[7][0], other[7][0])
    epoch = torch.cat([first[number][1][:, 1] for number in range(3)])
    assert len(epoch) == 6
    with pytest.raises(ValueError, match="6 emoji in these styles; wanted a batch of 8"):
        some_batches(Settings(steps=1, batch=8))


def test_views_of_one_emoji_are_drawn_together() -> None:
    """The loss between views is 0 where each view finds its twin, and large where twins are shuffled."""
    views = torch.eye(4)[None].repeat(2, 1, 1)
    assert contrastive_loss(views[:1], views[1], torch.tensor(50.0)) < 1e-6
    assert contrastive_loss(views[:1], views[1].roll(1, 0), torch.tensor(50.0)) > 10


def test_muon_is_torchs_in_fp32() -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((6, 4), (4, 6), (6, 4))]
    ours, theirs = ([torch.nn.Parameter(value.clone()) for value in start] for _ in range(2))
    steps = (
        Muon(ours, rate=0.02, decay=0.1),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        for optimiser in steps:
            optimiser.step()
    for a, b, before in zip(ours, theirs, start, strict=True):
        torch.testing.assert_close(a - before, b - before, rtol=0.1, atol=1e-3)  # theirs iterates in bf16
        assert (a - before).abs().mean() > 5e-3


@pytest.mark.parametrize(("flags", "expected"), [("fpu avx512_bf16", True), ("fpu avx2", False), ("", False)])
def test_bf16_is_chosen_by_the_cpus_flags(flags: str, expected: bool) -> None:
    assert has_bf16(flags.split()) is expected


def test_an_interrupted_training_resumes_and_ends_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.demo.train.STEPS_PER_SAVE", 2)
    settings = Settings(steps=12, batch=4, views=2, image_weight=1.0, precision="fp32")
    weights, logs = [], []

    def stop(model: torch.nn.Module) -> dict[str, float]:
        raise KeyboardInterrupt

    for check in (lambda model: {}, stop):
        torch.manual_seed(0)
        model, state = new_model("clip"), tmp_path / f"{len(weights)}.pt"
        if check is stop:
            with pytest.raises(KeyboardInterrupt):
                train(model, some_batches(settings), settings, check, state)
            model = new_model("clip")  # other weights: the saved ones replace them
        logs.append(train(model, some_batches(settings), settings, lambda model: {}, state))
        weights.append(model.state_dict())
    for one, other in zip(weights[0].values(), weights[1].values(), strict=True):
        assert torch.equal(one, other)
    assert [line["step"] for line in logs[0]] == [line["step"] for line in logs[1]]


def test_a_run_is_trained_logged_read_back_and_not_made_twice(tmp_path: Path) -> None:
    data = six_emoji()
    file = tmp_path / "training.npz"
    np.savez(
        file,
        ids=np.array(data.ids),
        captions=np.array(json.dumps(data.captions)),
        flippable=data.flippable,
        pictures=data.pictures,
    )
    trainer = Trainer(file, tmp_path)
    settings = Settings(steps=12, batch=2, styles=STYLES[1:])
    for name in ("coca", "coca-captioner"):
        trainer.run(name, settings)
    lines = json.loads((tmp_path / "coca-0" / "log.json").read_text())["log"]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert ["t2i_recall@5" in line for line in lines] == [False, False, True] * 4
    before = (tmp_path / "coca-0" / "open_clip_model.safetensors").read_bytes()
    trainer.run("coca", replace(settings, steps=1))
    assert (tmp_path / "coca-0" / "open_clip_model.safetensors").read_bytes() == before
    first, then = (load(tmp_path / f"{name}-0", name).state_dict() for name in ("coca", "coca-captioner"))
    assert not torch.equal(first["text_decoder.text_projection"], then["text_decoder.text_projection"])
