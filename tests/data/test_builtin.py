"""Data sets without files of the user's: the demo's emoji, and noise."""

from pathlib import Path

from cocabench.data.builtin import Emoji, Synthetic


def test_an_emojis_class_is_its_name_within_its_group() -> None:
    flags = Emoji(group="flags").build(Path("/nowhere"))
    names = {e.id: flags.classes[e.label] for e in flags.examples if isinstance(e.label, int)}
    assert names["1f1f0-1f1f7"] == "flag: South Korea"
    assert len(flags) == len(flags.classes) == len(set(flags.classes))


def test_an_emoji_lies_on_white() -> None:
    image = Emoji(group="symbols").build(Path()).examples[0].image.open()
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (64, 64), (255, 255, 255))


def test_emoji_captions_and_subgroups() -> None:
    subset = Emoji(target="captions", caption_subset=True).build(Path())
    assert len(subset) == 300
    assert all(example.texts and example.label is None for example in subset.examples)
    assert "face smiling" in Emoji(target="subgroup", group="smileys-emotion").build(Path()).classes


def test_an_emojis_pair_differs_in_one_word_and_is_another_emojis_name() -> None:
    pairs = Emoji(target="pairs").build(Path())
    names = {text for example in pairs.examples for text in example.texts}
    for example in pairs.examples:
        ((other,),) = example.negatives
        differing = [(a, b) for a, b in zip(example.texts[0].split(), other.split(), strict=True) if a != b]
        assert len(differing) == 1
        assert other in names


def test_noise_depends_on_its_seed_and_has_captions_of_the_length_asked_for() -> None:
    first, again, other = (Synthetic(images=2, size=8, words=4, seed=seed).build(Path()) for seed in (0, 0, 5))
    pixels = [[example.image.open().tobytes() for example in data.examples] for data in (first, again, other)]
    assert pixels[0] == pixels[1] != pixels[2]
    assert len(set(pixels[0])) == 2
    assert all(len(example.texts[0].split()) == 4 for example in first.examples)
