"""The codes of notes, with meaning and advice. Code reads the codes; the texts are for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Code(NamedTuple):
    """What a note with this code means for its numbers, and what to do."""

    meaning: str
    advice: str


CODES: Mapping[str, Code] = {
    # outcomes
    "near_chance": Code(
        "A score is not significantly better than chance.",
        "Check data, prompts, tokenizer and weights: a broken run is more likely than a bad model.",
    ),
    "majority_class": Code(
        "A model does no better than one that always answers the most frequent class.",
        "Compare mean_per_class_recall, in which every class counts alike.",
    ),
    "one_answer": Code(
        "A model gives nearly all images or captions the same answer.",
        "Check weights, preprocessing and prompts: its features may have collapsed.",
    ),
    "missing_captions": Code(
        "Some images with references have no caption to score.", "Compare with scores of the same images only."
    ),
    "calibration": Code(
        "Probabilities depend on a temperature, which the note states.",
        "Compare Brier scores and calibration errors at the model's own temperature, or at fitted ones, not across.",
    ),
    "interval_withheld": Code(
        "A number has no interval: of so few images no method tells how far it may be off.",
        "Measure more images before comparing it.",
    ),
    "undefined": Code(
        "A metric has no value for these data: it is not 0, it cannot be computed.",
        "Read the note; measure more images.",
    ),
    "empty_captions": Code("Some captions are empty.", "Look at the report's samples; check weights and tokenizer."),
    "few_distinct_captions": Code(
        "Many images have the same caption.", "Look at the report's samples; the decoder may ignore the image."
    ),
    "repeated_phrases": Code(
        "Many captions repeat a phrase immediately.", "Try beam search or a repetition penalty; check the weights."
    ),
    "unanswered_questions": Code(
        "Some questions leave no room for an answer in the model's context: they were not asked, and count as wrong.",
        "Shorten the template, or compare models of one context length.",
    ),
    "truncated_captions": Code("Many captions were cut at the length limit.", "Raise seq_len, or check the end token."),
    # data
    "not_standard": Code(
        "The data have other counts than the standard protocol.",
        "Compare with results on the same data only; use the standard data to compare with published numbers.",
    ),
    "limited": Code("A random subset was measured (--limit).", "Run without --limit before quoting the number."),
    "data": Code("The loader found something unusual in the files.", "Read the note; the files may need a repair."),
    "left_out_files": Code(
        "Files that may be images were not read.",
        "Convert them, or rename them with the ending of their format; rerun.",
    ),
    "class_order": Code(
        "The classes are in a different order than in another program.",
        "Read the note if labels or class names come from that program.",
    ),
    "other_prompts": Code(
        "A data set's folder has other class names or templates than clip-benchmark has of it.",
        "Compare with results of the same folder, or name classnames and templates in the task file.",
    ),
    "not_rgb": Code(
        "Some images have a palette, transparency or colours other than RGB.",
        "Compare with programs that convert them at the same step, or store the images as RGB.",
    ),
    "scaled_images": Code(
        "Some images are 16-bit grey, which others clip to white.", "Store them with 8 bits to compare elsewhere."
    ),
    "clipped_images": Code(
        "Some images are 32-bit grey: nothing says which value is white, and most may be black or white.",
        "Store them with 8 or 16 bits.",
    ),
    "classes_without_images": Code(
        "Some classes have no images in the data.", "Compare with results on the same data only."
    ),
    "small_group": Code(
        "The lowest accuracy of a group is that of a group of few images.",
        "Do not read it as a model's: one image moves it by points. Look at the groups in the report.",
    ),
    "many_tokens": Code(
        "The texts of a language need more than two tokens per character: the vocabulary has few of its words.",
        "Expect low scores in this language; compare models whose vocabulary was made for it.",
    ),
    "unknown_tokens": Code(
        "Over 1 % of a language's tokens are unknown to the vocabulary, so that different words are read as one.",
        "Use a model whose vocabulary has the language's letters.",
    ),
    "tokenisation": Code(
        "References are in a script without spaces: caption metrics count characters, or clauses if read as English.",
        "Name the captions' language; compare with numbers of the same tokenisation only, which the signature names.",
    ),
    "cut_texts": Code(
        "Some texts are longer than the model's context and are cut; their end token stays.",
        "Compare models of one context length, or read recall against the length of the caption.",
    ),
    "equal_captions": Code(
        "Some items have equal captions, which tie and count as wrong.", "Nothing; it is a property of the data."
    ),
    "training_images": Code(
        "Some of the test images are training images of another set that many models were trained on.",
        "Compare models that saw them with models that did not with care.",
    ),
    "skipped_images": Code(
        "Some images could not be read and were left out.", "Repair or replace the files, then rerun."
    ),
    # model and machine
    "model": Code("A note on how the model ran.", "Read the note."),
    "preprocess_assumed": Code(
        "A checkpoint file does not say how images were preprocessed, and no published checkpoint of its architecture "
        "uses the assumed preprocessing.",
        "Set it with --preprocess TAG.",
    ),
    "fast_resize": Code(
        "Images were resized by torch instead of Pillow (--resize fast): a few pixels differ by 1 of 255.",
        "Compare with results of --resize fast only; run without it to compare with published numbers.",
    ),
    "left_out_weights": Code("Some weights of the checkpoint file were not used.", "Check that the right ones were."),
    "resized_positions": Code(
        "A positional embedding was interpolated to another image size or context length.",
        "Expect lower scores than at the size used in training; use the architecture of that size.",
    ),
    "random_weights": Code("The weights are random, not trained.", "Use the number as a baseline only."),
    "not_causal": Code(
        "The text tower is not causal, so in training the caption loss saw the words to predict.",
        "Do not expect good captions from this model.",
    ),
    "halved_batch": Code(
        "Memory ran out, and the run continued with a smaller batch.",
        "Nothing, or set --batch-size to that number; scores change by rounding only.",
    ),
    "leaked_images": Code(
        "Some test images are training images, too: a probe may know their classes by heart.",
        "Remove them from the training split.",
    ),
    "not_converged": Code(
        "An optimiser stopped before it converged.", "Nothing if it is a point of a search; else compare with care."
    ),
    "not_profiled": Code("A cost could not be measured on this machine.", "Free memory, or use a larger machine."),
    "cache": Code(
        "The cache could not be fully used; the numbers are not affected.",
        "Check the cache folder's disk and permissions.",
    ),
    "pictures_unknown": Code(
        "An older version finished this result and did not record which images it read.",
        "Rerun with --fresh if the images may have changed since.",
    ),
    "changed_images": Code("Image files changed while they were read.", "Rerun when nothing writes to the data."),
    "no_pictures": Code(
        "Reports show no pictures for this result.",
        "Check the results folder's disk and permissions, then rerun with --fresh.",
    ),
    # imported and published results, comparisons
    "published": Code("A note of the source on its number.", "Read the note before comparing."),
    "imported": Code(
        "The number was imported from another program.",
        "Run the task with cocabench for samples and the full protocol.",
    ),
    "unpaired": Code(
        "Some differences could not be tested on the same images.",
        "Keep the samples of both models; unpaired intervals are wider than paired ones.",
    ),
    "lost_skill": Code(
        "A model scores less than half of what other weights of its architecture score.",
        "Fine-tuning may have destroyed this skill; check the weights, and mix the tasks in training.",
    ),
    "left_out_records": Code(
        "Several results of one model and task were found, and one was chosen.",
        "Remove the others, or name them with --baseline to compare them.",
    ),
    "protocol_part_unknown": Code(
        "One result has a part of the protocol that the other lacks; whether it differs is unknown.",
        "Measure both with the same version of cocabench.",
    ),
    "measured_otherwise": Code(
        "Two results were measured with other packages, another precision or on another device; they are compared.",
        "Measure both in one environment where a small difference matters.",
    ),
    "other": Code("A note of an older version, without a known code.", "Read the note."),
}
"""All codes of notes."""
