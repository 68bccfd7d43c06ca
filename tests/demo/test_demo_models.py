"""The shipped checkpoints, and the parts that trained them."""

import gzip
import warnings
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from cocabench.demo import MODELS, data_files, model_folder
from cocabench.demo.augment import augment
from cocabench.demo.batches import Batches, shrunk
from cocabench.demo.bpe import learn_merges, read_tokenizer, write_merges
from cocabench.demo.checkpoint import load
from cocabench.demo.configs import CONTEXT_LENGTH, IMAGE_SIZE, new_model
from cocabench.demo.measure import held_out, recall_at_5, retrieval, twemoji
from cocabench.demo.pictures import STYLES, TrainingSet
from cocabench.demo.recipes import RECIPES, Settings
from cocabench.demo.shards import read_shards
from cocabench.demo.train import losses


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


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_checkpoint_carries_concepts_over_to_the_unseen_style(name: str) -> None:
    tokenizer = read_tokenizer(model_folder(name) / "bpe_merges.txt.gz", CONTEXT_LENGTH)
    trained = twemoji(load(model_folder(name), name), tokenizer)
    chance = 5 / trained["n"]
    assert min(trained["i2t_recall@5"], trained["t2i_recall@5"]) > 20 * chance
    torch.manual_seed(0)
    assert twemoji(new_model(name).eval(), tokenizer)["t2i_recall@5"] < 5 * chance, "must fail: untrained"


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
    pictures = torch.randint(0, 256, (4, 64, 64, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    flippable = torch.tensor([True, False, True, False])
    first, same, other = (augment(pictures, flippable, 48, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first.shape == (4, 3, 48, 48)
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("name", "expected"), [("coca", {"contrastive_loss", "caption_loss"}), ("clip", {"contrastive_loss"})]
)
def test_losses_reach_every_parameter(name: str, expected: set[str]) -> None:
    pictures = np.full((4, len(STYLES), 64, 64, 4), 255, dtype=np.uint8)
    data = TrainingSet(
        list("abcd"), [["cat"], ["dog", "hound"], ["cow"], ["pig"]], pictures, np.ones(4, dtype=np.bool_)
    )
    tokenizer = read_tokenizer(model_folder(name) / "bpe_merges.txt.gz", CONTEXT_LENGTH)
    images, tokens = next(iter(Batches(data, tokenizer, Settings(steps=1, batch=4))))
    torch.manual_seed(0)
    model = new_model(name).train()
    found = losses(model, images, tokens)
    assert found.keys() == expected
    sum(found.values()).backward()
    assert all(value.grad is not None for value in model.parameters())
