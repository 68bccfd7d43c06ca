"""Questions with a model that gives given answers, and with the demo's CoCa: metrics, groups, wrong data, tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from cocabench.core.errors import CocabenchError, DataError
from cocabench.core.types import Captions, Context, Dataset, Example, Likelihoods, Machine, Note
from cocabench.data.questions import Asked, Question, by_image
from cocabench.kinds.base import notes_of
from cocabench.kinds.testing import check_kind
from cocabench.kinds.vqa import CHOICES, OPEN, YES_NO, Vqa
from cocabench.metrics.base import estimate, stack
from cocabench.models.hardware import hardware
from cocabench.models.open_clip.captions import prompt_tokens, special_ids
from cocabench.models.open_clip.decoding.options import DecodeOptions
from cocabench.models.open_clip.model import OpenClip
from cocabench.specs.decoding import OPTIONS
from cocabench.specs.registry import find_tasks, model_sources
from cocabench.specs.spec import parse_models


class Plain:
    def open(self) -> Image.Image:
        return Image.new("RGB", (4, 4))


class Answers:
    """Answers each prompt as told; the images at lost cannot be read."""

    notes = ()
    parameters: Mapping[str, int] = {}

    def __init__(self, by_prompt: Mapping[str, str], lost: Sequence[int] = ()) -> None:
        self.by_prompt, self.lost = by_prompt, set(lost)

    def caption(
        self, images: Sequence[Any], options: Mapping[str, Any], *, prompts: Sequence[str], progress: Any
    ) -> Captions:
        self.options, self.prompts = dict(options), list(prompts)
        kept = [k for k in range(len(images)) if k not in self.lost]
        return Captions([self.by_prompt[prompts[k]] for k in kept], [0.5] * len(kept), np.array(kept), [])


class Likely:
    """Scores texts by a table, each text of one token a letter and an end token."""

    notes = ()
    parameters: Mapping[str, int] = {}

    def __init__(self, by_text: Mapping[tuple[str, str], float]) -> None:
        self.by_text = by_text

    def score_captions(
        self, images: Sequence[Any], texts: Sequence[Sequence[str]], *, prefixes: Sequence[str], progress: Any
    ) -> Likelihoods:
        rows = [[self.by_text[prefix, text] for text in own] for prefix, own in zip(prefixes, texts, strict=True)]
        counts = [[len(text) + 1 for text in own] for own in texts]
        return Likelihoods(np.array(rows, np.float32), np.array(counts), np.arange(len(images)))


def data(*questions: tuple[str, Question]) -> Dataset:
    """Return a data set of (image, question)."""
    return Dataset("toy", "test", by_image((Asked(key, Plain(), q) for key, q in questions), Path("toy")))


OPEN_DATA = data(
    ("a", Question("1", "What is it?", ("cat",) * 6 + ("dog",) * 4, type="what", answer_type="other")),
    ("a", Question("2", "How many dogs are there?", ("2",) * 2 + ("3",) * 8, type="how many", answer_type="number")),
    ("b", Question("3", "Is it red?", ("yes",) * 10, type="is it", answer_type="yes/no")),
)
TOLD = {"What is it?": "A cat.", "How many dogs are there?": "two", "Is it red?": "Yes"}


def scored(kind: Vqa, model: Any, dataset: Dataset) -> pd.DataFrame:
    samples = stack(kind.score(model, dataset, Context()))
    check_kind(kind, samples)
    return samples


class TestOpen:
    def test_questions_of_an_image_are_scored_alone_and_keep_their_order(self) -> None:
        model = Answers(TOLD)
        samples = scored(Vqa(template="{question}"), model, OPEN_DATA)
        assert samples["id"].tolist() == ["1", "2", "3"]
        assert samples["image_id"].tolist() == ["a", "a", "b"]
        assert samples["accuracy"].tolist() == [1, pytest.approx(0.6), 0]  # "Yes" is not "yes", since all ten agree
        assert samples["matches"].tolist() == [6, 2, 0]
        assert estimate(OPEN[0], samples).value == pytest.approx(1.6 / 3)
        nothing = estimate(OPEN[0], pd.concat([samples.assign(accuracy=0.0, image_id=f"{k}") for k in range(30)]))
        assert (nothing.value, nothing.low) == (0, pytest.approx(0, abs=1e-9))
        assert nothing.high == pytest.approx(0.12, abs=0.03), (
            "that of 0 of 30 images: all wrong is not known for certain"
        )
        assert model.prompts == ["What is it?", "How many dogs are there?", "Is it red?"], (
            "an image's follow each other"
        )

    @pytest.mark.parametrize(
        ("params", "wanted"),
        [
            ({"normalise": "always"}, [1, 0.6, 1]),
            ({"normalise": "earlier"}, [1, 0.6, 1]),
            ({"normalise": "spaces"}, [0, 0, 0]),
            ({"agreement": "min_n_3"}, [1, 2 / 3, 0]),
            ({"agreement": "any"}, [1, 1, 0]),
        ],
    )
    def test_a_variant_gives_its_own_numbers_and_is_in_the_signature(
        self, params: dict[str, Any], wanted: list[float]
    ) -> None:
        kind = Vqa(template="{question}", **params)
        assert scored(kind, Answers(TOLD), OPEN_DATA)["accuracy"].tolist() == pytest.approx(wanted)
        made = kind.protocol(OPEN_DATA, Machine())
        assert made.items() >= params.items()
        assert made != Vqa(template="{question}").protocol(OPEN_DATA, Machine())

    def test_options_reach_the_decoder(self) -> None:
        model = Answers({f"Q: {question} A:": answer for question, answer in TOLD.items()})
        kind = Vqa(template="Q: {question} A:", answer_tokens=4, generation_type="beam_search", num_beams=4)
        scored(kind, model, OPEN_DATA)
        assert (model.options["answer_tokens"], model.options["num_beams"]) == (4, 4)
        assert model.options.keys() == {*OPTIONS, "answer_tokens"}
        decoding = kind.protocol(OPEN_DATA, Machine())["decoding"]
        assert isinstance(decoding, dict)
        assert decoding["answer_tokens"] == 4

    def test_an_image_that_cannot_be_read_is_left_out(self) -> None:
        samples = scored(Vqa(template="{question}"), Answers(TOLD, lost=[2]), OPEN_DATA)
        assert samples["id"].tolist() == ["1", "2"]

    def test_shuffled_answers_score_nothing(self) -> None:
        """Must fail: the answers of other questions."""
        wrong = dict(zip(TOLD, ["two", "Yes", "A cat."], strict=True))
        assert scored(Vqa(template="{question}"), Answers(wrong), OPEN_DATA)["accuracy"].sum() == 0

    def test_one_answer_to_all_questions_gets_a_note(self) -> None:
        questions = [(str(k), Question(str(k), f"{k}?", (["cat", "dog"][k % 2],) * 10)) for k in range(20)]
        kind, many = Vqa(template="{question}"), data(*questions)
        samples = scored(kind, Answers({f"{k}?": "cat" for k in range(20)}), many)
        notes = notes_of(kind, many, samples, kind.metrics(many))
        assert "20 of 20 questions are answered with 'cat'" in [note.text for note in notes]


CHOICE_DATA = data(
    ("a", Question("1", "What?", choices=("cat", "elephant"), right=1)),
    ("b", Question("2", "What?", choices=("ox", "cow", "elephant"), right=0)),
)
RATED = {("What?", "cat"): -4.0, ("What?", "elephant"): -6.0, ("What?", "ox"): -3.0, ("What?", "cow"): -3.0}


class TestChoices:
    def test_longer_choices_lose_by_the_sum_and_not_by_the_mean_per_token(self) -> None:
        by_sum = scored(Vqa(form="choices", template="{question}"), Likely(RATED), CHOICE_DATA)
        kind = Vqa(form="choices", template="{question}", scoring="likelihood_per_token")
        by_mean = scored(kind, Likely(RATED), CHOICE_DATA)
        assert by_sum["answer"].tolist() == ["cat", "cow"], "a tie of the right one is wrong"
        assert by_sum["right"].tolist() == [0, 0]
        assert by_mean["answer"].tolist() == ["elephant", "elephant"]  # -6/9 against -4/4 and -3/3
        assert by_mean["right"].tolist() == [1, 0]
        assert by_mean["answers"].tolist() == [["elephant"], ["ox"]]
        assert estimate(CHOICES[0], by_mean).value == 0.5

    def test_chance_is_the_mean_of_one_by_the_number_of_choices(self) -> None:
        kind = Vqa(form="choices")
        assert kind.chance(CHOICE_DATA)["choice_accuracy"].rate == pytest.approx((1 / 2 + 1 / 3) / 2)
        samples = scored(Vqa(form="choices", template="{question}"), Likely(RATED), CHOICE_DATA)
        assert Vqa.chance_level("choice_accuracy", {}, samples) == pytest.approx((1 / 2 + 1 / 3) / 2)

    def test_equal_choices_get_a_note(self) -> None:
        same = data(("a", Question("1", "What?", choices=("cat", "cat"), right=0)))
        assert [note.code for note in Vqa(form="choices").data_notes(same)] == ["equal_captions"]


def yes_no(truth: Sequence[int]) -> Dataset:
    rows = enumerate(truth)
    return data(*((str(k // 2), Question(str(k), f"{k}?", (("no", "yes")[yes],))) for k, yes in rows))


class TestYesNo:
    @pytest.mark.parametrize("seed", range(3))
    def test_all_numbers_are_scikit_learns(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        truth, said = rng.integers(0, 2, 40), rng.integers(0, 2, 40)
        words = {f"{k}?": ("No, it is not.", "Yes, it is.")[yes] for k, yes in enumerate(said)}
        samples = scored(Vqa(form="yes_no", template="{question}"), Answers(words), yes_no(truth.tolist()))
        found = {metric.name: estimate(metric, samples).value for metric in YES_NO}
        assert found == {
            "yes_no_accuracy": pytest.approx(accuracy_score(truth, said)),
            "yes_precision": pytest.approx(precision_score(truth, said)),
            "yes_recall": pytest.approx(recall_score(truth, said)),
            "yes_f1": pytest.approx(f1_score(truth, said)),
            "yes_share": pytest.approx(said.mean()),
        }

    def test_by_likelihood_and_a_tie_is_wrong(self) -> None:
        table = {("0?", "yes"): -1.0, ("0?", "no"): -2.0, ("1?", "yes"): -1.0, ("1?", "no"): -1.0}
        samples = scored(Vqa(form="yes_no", scoring="likelihood", template="{question}"), Likely(table), yes_no([1, 0]))
        assert samples["says_yes"].tolist() == [1, 1]
        assert samples["answer"].tolist() == ["yes", "yes"]

    def test_answers_that_say_neither_are_counted(self) -> None:
        kind = Vqa(form="yes_no", template="{question}")
        samples = scored(kind, Answers({"0?": "a car", "1?": "no"}), yes_no([1, 0]))
        health = {m.name: estimate(m, samples).value for m in kind.metrics() if m.role == "health"}
        assert health == {"yes_share": 0.5, "unread_share": 0.5, "truncated_answers": 0}

    def test_chance_is_the_more_frequent_answer(self) -> None:
        assert Vqa(form="yes_no").chance(yes_no([1, 1, 1, 0]))["yes_no_accuracy"].rate == 0.75


@pytest.mark.parametrize(
    ("params", "dataset", "wanted"),
    [
        (
            {},
            Dataset("toy", "test", [Example("7", Plain(), ("a cat",))]),
            "toy: no questions about 7; wanted questions",
        ),
        ({}, data(("a", Question("1", "Why?"))), "toy: question 1: no answers; wanted right answers; of choices, form"),
        (
            {},
            data(("a", Question("1", "Why?", ("cat",)))),
            "1 answers; wanted 4 or more for leave_one_out, usually ten",
        ),
        (
            {"form": "choices"},
            data(("a", Question("1", "Why?", choices=("cat",), right=0))),
            "toy: question 1: 1 choices; wanted 2 or more",
        ),
        ({"form": "choices"}, data(("a", Question("1", "Why?", ("cat",)))), "toy: question 1: 0 choices; wanted 2 or"),
        (
            {"form": "choices"},
            data(("a", Question("1", "Why?", choices=("cat", "dog")))),
            "toy: question 1: no right choice; wanted its place or its text",
        ),
        (
            {"form": "yes_no"},
            data(("a", Question("1", "Why?", ("cat",)))),
            "the answer 'cat'; wanted yes or no, the same",
        ),
        ({"form": "yes_no"}, data(("a", Question("1", "Why?", ("yes", "no")))), "the answer 'yes'; wanted yes or no"),
    ],
)
def test_data_that_do_not_fit_are_an_error_of_one_line(params: dict[str, Any], dataset: Dataset, wanted: str) -> None:
    with pytest.raises(DataError, match=wanted) as error:
        Vqa(**params).check(dataset, {})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ({"template": "Q: A:"}, r"got 'Q: A:'; wanted \{question\} in it, once"),
        (
            {"form": "choices", "scoring": "generation"},
            "with form = 'choices' wanted likelihood or likelihood_per_token",
        ),
        ({"scoring": "likelihood"}, "with form = 'open' wanted generation"),
        ({"answer_tokens": 1}, "greater than or equal to 2"),
    ],
)
def test_params_that_do_not_fit(params: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        Vqa(**params)


@pytest.fixture(scope="module")
def coca() -> OpenClip:
    (source,) = model_sources(parse_models("demo/coca"))
    model = source.load(hardware(device="cpu"))
    assert isinstance(model, OpenClip)
    return model


def in_a_plain_loop(coca: OpenClip, image: Image.Image, prompt: str, answer_tokens: int) -> str:
    """Return the greedy answer by the network's own forward pass over all tokens, one image and token at a time."""
    ids = special_ids(coca.tokenizer, coca.net)
    tokens = prompt_tokens(coca.tokenizer, prompt, ids, DecodeOptions(generation_type="greedy", seq_len=30))
    first, pixels = tokens.shape[1], coca.transform(image)[None]
    coca.net.eval()
    while tokens.shape[1] < first + answer_tokens - 1:
        with torch.no_grad():
            logits = coca.net(pixels, tokens, output_labels=False)["logits"][:, -1]
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
        if tokens[0, -1] in (ids.eos_token_id, ids.pad_token_id):
            break
    words = [token for token in tokens[0, first:].tolist() if token != ids.eos_token_id]
    return str(coca.tokenizer.decode(words)).strip()


def test_answers_in_batches_with_a_cache_are_those_of_a_plain_loop(coca: OpenClip) -> None:
    (task,) = find_tasks(["emoji_captions"])
    images = [example.image for example in task.loader.build(Path()).examples[::40]][:6]
    prompts = ["what is it?", "a", "the face", "what is it?", "red", "the face"]
    options = {**{name: getattr(Vqa(seq_len=30), name) for name in OPTIONS}, "answer_tokens": 5}
    found = coca.caption(images, options, prompts=prompts)
    wanted = [in_a_plain_loop(coca, image.open(), p, 5) for image, p in zip(images, prompts, strict=True)]
    assert found.texts == wanted
    assert any(wanted), "a model that says nothing tells nothing"
    assert not any(text.startswith(p) for text, p in zip(found.texts, prompts, strict=True)), "without the prompt"
    longest = coca.caption(images, {**options, "answer_tokens": 2}, prompts=prompts).texts
    ids = [len(coca.tokenizer.encode(text)) for text in longest]
    assert max(ids) <= 1, "one token and the end token"


def test_a_question_that_leaves_no_room_is_an_error_of_one_line(coca: OpenClip) -> None:
    options = {**{name: getattr(Vqa(), name) for name in OPTIONS}, "answer_tokens": 6}
    with pytest.raises(CocabenchError, match=r"prompt: .* tokens or more; wanted at most") as error:
        coca.caption([Plain()], options, prompts=["word " * 100])
    assert "\n" not in str(error.value)


LONG = "word " * 100


@pytest.mark.parametrize(
    ("params", "long", "wrong"),
    [
        ({"agreement": "any"}, Question("2", LONG, ("",)), {"accuracy": 0, "answer": ""}),
        ({"form": "yes_no"}, Question("2", LONG, ("no",)), {"says_yes": 1, "unread": 0}),
        ({"form": "yes_no", "scoring": "likelihood"}, Question("2", LONG, ("yes",)), {"says_yes": 0}),
        ({"form": "choices"}, Question("2", LONG, choices=("cat", "dog"), right=0), {"right": 0, "answer": "dog"}),
    ],
)
def test_a_question_without_room_for_an_answer_is_wrong_and_counted(
    coca: OpenClip, params: dict[str, Any], long: Question, wrong: dict[str, Any]
) -> None:
    short, notes = long._replace(id="1", text="What?"), list[Note]()
    kind, both = Vqa(template="{question}", **params), data(("a", short), ("b", long))
    samples = stack(kind.score(coca, both, Context(note=notes.append)))
    check_kind(kind, samples)
    assert samples["unanswered"].tolist() == [0, 1]
    assert samples.iloc[1][list(wrong)].to_dict() == wrong
    (note,) = notes
    assert note.code == "unanswered_questions"
    assert note.text == "1 of 2 questions leave no room for an answer in 12 tokens and count as wrong; the first is 2"
    alone = stack(kind.score(coca, data(("a", short)), Context()))
    assert samples.iloc[:1].drop(columns=["image_id"]).equals(alone.drop(columns=["image_id"])), (
        "the others are asked as ever"
    )


def test_seq_len_leaves_less_room_than_the_context(coca: OpenClip) -> None:
    notes = list[Note]()
    kind = Vqa(template="{question}", agreement="any", seq_len=7)
    asked = data(("a", Question("1", "a face", ("cat",))), ("b", Question("2", "a small red face", ("cat",))))
    samples = stack(kind.score(coca, asked, Context(note=notes.append)))
    assert samples["unanswered"].tolist() == [0, 1]
    assert "in 7 tokens" in notes[0].text


class Opened:
    """A picture that counts how often it is opened."""

    def __init__(self, colour: str) -> None:
        self.colour, self.times = colour, 0

    def open(self) -> Image.Image:
        self.times += 1
        return Image.new("RGB", (40, 40), self.colour)


@pytest.mark.parametrize(
    ("form", "given"), [("open", {"answers": ("a",)}), ("choices", {"choices": ("a", "b"), "right": 0})]
)
def test_an_image_is_read_and_encoded_once_for_all_its_questions(
    coca: OpenClip, monkeypatch: pytest.MonkeyPatch, form: Any, given: dict[str, Any]
) -> None:
    pictures = [Opened(colour) for colour in ("red", "blue")]
    asked = [Asked(p.colour, p, Question(f"{p.colour}{k}", f"is {k}?", **given)) for p in pictures for k in range(3)]
    encoded, visual = list[int](), coca.net.visual.forward

    def counted(pixels: torch.Tensor) -> Any:
        encoded.append(len(pixels))
        return visual(pixels)

    monkeypatch.setattr(coca.net.visual, "forward", counted)
    kind = Vqa(form=form, template="{question}", **({"agreement": "any"} if form == "open" else {}))
    samples = stack(kind.score(coca, Dataset("toy", "test", by_image(asked, Path("toy"))), Context()))
    assert ([p.times for p in pictures], encoded) == ([1, 1], [2])
    monkeypatch.undo()
    alone = [stack(kind.score(coca, Dataset("toy", "test", by_image([one], Path("toy"))), Context())) for one in asked]
    assert samples["answer"].tolist() == [own["answer"].item() for own in alone], "as if each were asked alone"


@pytest.mark.parametrize("key", ["normalise", "agreement"])
def test_what_only_open_answers_have_is_refused_with_other_forms(key: str) -> None:
    value = {"normalise": "spaces", "agreement": "any"}[key]
    assert getattr(Vqa.model_validate({key: value}), key) == value
    with pytest.raises(ValueError, match=rf"{key}: of open answers only; form is 'choices'"):
        Vqa.model_validate({"form": "choices", key: value})
