"""The codes of notes, each declared once: what it means and what to do. Logic reads codes; sentences are for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Code(NamedTuple):
    """What a note of this code means for the numbers beside it, and what to do about it."""

    meaning: str
    advice: str


CODES: Mapping[str, Code] = {
    # of the outcomes
    "near_chance": Code(
        "A score is no better than guessing, or cannot be told from guessing.",
        "Check data, prompts, tokenizer and weights: such scores are more often a broken run than a bad model.",
    ),
    "interval_withheld": Code(
        "A number has no interval: of so few images no method tells how far it may be off.",
        "Measure more images before comparing it.",
    ),
    "empty_captions": Code("Some captions are empty.", "Look at them in the gallery; check weights and tokenizer."),
    "few_distinct_captions": Code(
        "Many images have the same caption.", "Look at them in the gallery; the decoder may ignore the image."
    ),
    "repeated_phrases": Code(
        "Many captions say a phrase twice in a row.", "Try beam search or a repetition penalty; check the weights."
    ),
    "truncated_captions": Code(
        "Many captions ran into the length limit before they ended.", "Raise seq_len, or check the end token."
    ),
    # of the data
    "not_standard": Code(
        "The counts of the data are not those of the standard protocol.",
        "Compare with results on the same data only; for published numbers, get the standard data.",
    ),
    "limited": Code("A random subset was measured (--limit).", "Run without --limit before quoting the number."),
    "data": Code("The loader has something to say of the files.", "Read the sentence; the files may need a repair."),
    "left_out_files": Code(
        "Files that may be images were not read.", "Convert them, or give them the ending of their format; run again."
    ),
    "class_order": Code(
        "The classes are in another order than another program would have them.",
        "Read the sentence, where labels or class names come from that program.",
    ),
    "not_rgb": Code(
        "Some images have a palette, transparency or other colours than RGB.",
        "Compare with programs that convert them at the same step, or store the images as RGB.",
    ),
    "scaled_images": Code(
        "Some images are of 16-bit grey, which others clip to white.", "Store them with 8 bits to compare elsewhere."
    ),
    "classes_without_images": Code(
        "Some classes have no image in the data.", "Compare with results on the same data only."
    ),
    "equal_captions": Code(
        "Some items have equal captions to choose among; they tie and count as wrong.", "Nothing: it is in the data."
    ),
    "skipped_images": Code(
        "Some images could not be read and were left out.", "Repair or replace the files, then run again."
    ),
    # of the model and the machine
    "model": Code("The model has something to say of how it ran.", "Read the sentence."),
    "preprocess_assumed": Code(
        "A checkpoint file does not tell how its images were prepared, and every published one of its architecture was "
        "prepared otherwise than was assumed.",
        "Say it with --preprocess TAG.",
    ),
    "left_out_weights": Code("Some weights of the checkpoint file were not used.", "Check that the right ones were."),
    "resized_positions": Code(
        "A positional embedding was interpolated to another image size or context length.",
        "Expect lower scores than at the size that it was trained with; name the architecture of that size.",
    ),
    "random_weights": Code("The weights are random: nothing was trained.", "Use the number as a lower bound only."),
    "not_causal": Code(
        "The text tower is not causal, so the caption loss saw the words that it was to predict.",
        "Do not expect good captions of this model.",
    ),
    "halved_batch": Code(
        "Memory ran out, and the run went on with a smaller batch.",
        "Nothing, or set --batch-size to that number; scores move by rounding alone.",
    ),
    "not_profiled": Code("A cost could not be measured on this machine.", "Free memory, or use a larger machine."),
    "cache": Code(
        "The cache was not used fully; the numbers are not affected.", "Check the cache folder's disk and permissions."
    ),
    "changed_images": Code(
        "Image files changed while they were read.", "Run again once nothing writes to the data any more."
    ),
    "no_pictures": Code(
        "Reports of this result have no pictures.", "Check the results folder's disk and permissions, run with --fresh."
    ),
    # of results from elsewhere, and of comparisons
    "published": Code("The source says this beside its number.", "Read the sentence before comparing."),
    "imported": Code(
        "The number was read from another program's file.", "Run the task here for samples and the whole protocol."
    ),
    "protocol_part_unknown": Code(
        "One side's signature holds a part of the protocol that the other's lacks: whether it differs is unknown.",
        "Measure both sides with the same version of cocabench.",
    ),
    "other": Code("A sentence from a Record of an older version whose code is not known.", "Read the sentence."),
}
"""Every code that a Note may have."""
