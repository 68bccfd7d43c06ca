"""Questions about images: open answers by generation, multiple choice by likelihood, yes or no."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, JsonValue, field_validator, model_validator

from cocabench.core.errors import DataError
from cocabench.core.types import (
    Ability,
    Chance,
    Context,
    Dataset,
    ImageSource,
    Machine,
    Model,
    Note,
    SampleScore,
)
from cocabench.data.questions import QUESTION, TEMPLATE, Question, check_template, questions_of
from cocabench.kinds.base import Kind, one_answer
from cocabench.kinds.likelihoods import likelihoods
from cocabench.kinds.shown import Choices, Column, Groups, Part, Presentation, Row, TableSpec, View
from cocabench.metrics.answers import (
    FEWEST_ANSWERS,
    Agreement,
    Array,
    Normalise,
    accuracy,
    few_said_yes,
    few_yes,
    is_yes_or_no,
    matches,
    normalised,
    says_yes,
    yes_f1,
    yes_precision,
)
from cocabench.metrics.base import Metric, Samples
from cocabench.metrics.statistics import Hits, Mean, Smooth
from cocabench.specs.decoding import ANSWER_TOKENS, MAX_SEQ_LEN, MEANINGS, OPTIONS, UNREAD, DecodingOptions

Form = Literal["open", "choices", "yes_no"]
Scoring = Literal["generation", "likelihood", "likelihood_per_token"]
SCORINGS: Mapping[Form, tuple[Scoring, ...]] = {
    "open": ("generation",),
    "choices": ("likelihood", "likelihood_per_token"),
    "yes_no": ("generation", "likelihood", "likelihood_per_token"),
}
"""How each form of question may be answered; the first is the default."""

YES, NO = "yes", "no"

FEWEST_ANSWER_WORDS = 3
"""A question that leaves no room for so many words is not asked."""


def _yes_right(samples: Samples) -> Array:
    return np.asarray(samples["truth_yes"] == samples["says_yes"], np.float64)


OPEN = (
    Metric(
        "vqa_accuracy",
        "Mean over questions of what the generated answer is worth by the human answers, 0-1; the protocol names the "
        "normalisation and the rule of agreement (VQAv2: official, leave_one_out).",
        Mean("accuracy"),
        ("accuracy",),
        label="accuracy",
    ),
)
CHOICES = (
    Metric(
        "choice_accuracy",
        "Share of questions whose right choice is likelier than every other; a tie is wrong.",
        Hits("right"),
        ("right",),
        label="accuracy",
    ),
)
YES_NO = (
    Metric(
        "yes_no_accuracy",
        "Share of questions rightly answered with yes or no.",
        Hits(_yes_right),
        ("truth_yes", "says_yes"),
        label="accuracy",
    ),
    Metric(
        "yes_precision",
        "Share of answers yes that are right.",
        Smooth(yes_precision, few_said_yes),
        ("truth_yes", "says_yes"),
        label="precision",
    ),
    Metric(
        "yes_recall",
        "Share of questions whose right answer is yes that are answered with yes.",
        Hits("says_yes"),
        ("truth_yes", "says_yes"),
        where=("truth_yes", 1),
        label="recall",
    ),
    Metric(
        "yes_f1",
        "Harmonic mean of the precision and recall of yes.",
        Smooth(yes_f1, few_yes),
        ("truth_yes", "says_yes"),
        label="F1",
    ),
    Metric(
        "yes_share",
        "Answer health: share of questions answered with yes; best near the share whose right answer it is",
        Hits("says_yes"),
        ("says_yes",),
        role="health",
    ),
)
UNREAD_SHARE = Metric(
    "unread_share",
    "Answer health: generated answers with neither yes nor no, which POPE's rule reads as yes; lower is better",
    Mean("unread"),
    ("unread",),
    role="health",
    higher_is_better=False,
)
TRUNCATED = Metric(
    "truncated_answers",
    "Answer health: generated answers cut at the length limit; lower is better",
    Mean("truncated"),
    ("truncated",),
    role="health",
    higher_is_better=False,
)


def right_choice(row: Row) -> list[bool]:
    return [k == row["right_place"] for k in range(len(row["choices"]))]


class Asked(NamedTuple):
    """A question with its image, and the words before its answer."""

    image_id: str
    image: ImageSource
    question: Question
    prompt: str


class Vqa(DecodingOptions, Kind):
    """Answer questions about images.

    form: ``open`` (generated answers, compared with human ones), ``choices`` (the likeliest of a question's choices)
    or ``yes_no``. scoring: ``generation``; ``likelihood``, log p(answer | image, question) summed over the answer's
    tokens, the end token included; or ``likelihood_per_token``, its mean. By default generation, for choices
    likelihood. template: the words before the answer, with {question}. normalise, agreement: of open answers
    (``metrics.answers``). answer_tokens: the longest generated answer in tokens, the end token included. The other
    fields are decoding options (``specs.decoding``); seq_len limits prompt and answer together.
    """

    name = "vqa"
    declared = (*OPEN, *CHOICES, *YES_NO, UNREAD_SHARE, TRUNCATED)
    primaries = ("vqa_accuracy", "choice_accuracy", "yes_no_accuracy")
    samples = (
        Column("question", "text", "The question"),
        Column("question_type", "text", "Its type, as the data have it"),
        Column("answer_type", "text", "The type of its answer, as the data have it"),
        Column("answer", "text", "The model's answer"),
        Column("answers", "texts", "The right answers: those of humans, or the right choice"),
        Column("accuracy", "float", "What an open answer is worth, 0-1"),
        Column("matches", "int", "Human answers that it equals"),
        Column("right", "int", "1 if the right choice is likelier than every other"),
        Column("choices", "texts", "The choices"),
        Column("right_place", "int", "The place of the right one, from 0"),
        Column("scores", "floats", "Log-probability of each choice, or its mean per token; zeros if it was not asked"),
        Column("truth_yes", "int", "1 if the right answer is yes, 0 if it is no"),
        Column("says_yes", "int", "1 if the answer is read as yes"),
        Column("unread", "int", "1 if a generated answer holds neither yes nor no"),
        Column("decoder_score", "float", "The decoder's own score of a generated answer"),
        Column("truncated", "int", "1 if a generated answer was cut at the length limit"),
        Column("unanswered", "int", "1 if the question left no room for an answer: not asked, and wrong"),
    )
    shown = Presentation(
        title="Questions",
        does="answers questions",
        order=45,
        legend=("Questions: those of one image are resampled together.",),
        tables=(
            TableSpec("{kind}", "Answers to questions"),
            TableSpec("{kind}_health", "Answer health", role="health"),
        ),
        views=(
            View(
                "vqa",
                "Questions and answers",
                ("vqa_accuracy", "choice_accuracy", "yes_no_accuracy"),
                Choices("answer"),
                says=("vqa_accuracy",),
                heading="question",
                query=True,
                truth="answers",
                answer="answer",
                about="The model's answer; the right ones stand beside the image.",
            ),
            View(
                "vqa_choices",
                "Questions with their choices",
                ("choice_accuracy",),
                Choices("choices", "scores", right=right_choice),
                heading="question",
                query=True,
                answer="answer",
                about="The choices by their likelihood after the question.",
            ),
        ),
        breakdowns=(
            *(
                Groups(
                    f"{short}_question_type", "By type of question", name, "question_type", "type", rest="all others"
                )
                for short, name in (("open", "vqa_accuracy"), ("choice", "choice_accuracy"), ("yes", "yes_no_accuracy"))
            ),
            Groups("open_answer_type", "By type of answer", "vqa_accuracy", "answer_type", "type"),
        ),
    )
    parts: ClassVar = {
        "form": Part("form of the questions: open, choices or yes_no"),
        "scoring": Part("how answers are found: generation, or the likelihood of each"),
        "template": Part("words before the answer"),
        "normalise": Part("when answers are normalised before they are compared"),
        "agreement": Part("what an answer is worth by the number of humans who gave it"),
        "reading": Part("how a generated answer is read as yes or no"),
        "decoding": Part("option of the decoder"),
        **{f"decoding.{key}": Part(words) for key, words in MEANINGS.items()},
        f"decoding.{ANSWER_TOKENS}": Part("longest answer, in tokens"),
    }

    form: Form = "open"
    scoring: Scoring | None = None
    template: str = TEMPLATE
    normalise: Normalise = "official"
    agreement: Agreement = "leave_one_out"
    answer_tokens: Annotated[int, Field(ge=2)] = 10
    generation_type: Literal["beam_search", "greedy", "top_k", "top_p"] = "greedy"
    seq_len: Annotated[int, Field(ge=1, strict=True)] = MAX_SEQ_LEN
    min_seq_len: Annotated[int, Field(ge=0)] = 0

    @field_validator("template")
    @classmethod
    def _check_template(cls, template: str) -> str:
        check_template(template)
        return template

    @model_validator(mode="after")
    def _check_scoring(self) -> Vqa:
        if self.scoring is not None and self.scoring not in (known := SCORINGS[self.form]):
            raise ValueError(f"scoring: got {self.scoring}; with form = {self.form!r} wanted {' or '.join(known)}")
        if self.form != "open" and (unread := sorted({"normalise", "agreement"} & self.model_fields_set)):
            raise ValueError(f"{' and '.join(unread)}: of open answers only; form is {self.form!r}")
        return self

    @property
    def by(self) -> Scoring:
        """How answers are found."""
        return self.scoring or SCORINGS[self.form][0]

    @classmethod
    def decodes(cls, protocol: Mapping[str, JsonValue]) -> bool:
        return True

    def needs(self) -> frozenset[Ability]:
        return frozenset({"caption" if self.by == "generation" else "score_captions"})

    def work(self, data: Dataset) -> dict[str, int]:
        """Return what is to be done: a caption for each question, or one for each of its choices."""
        found = [question for example in data.examples for question in questions_of(example)]
        texts = len(found) if self.by == "generation" else sum(len(self._candidates(question)) for question in found)
        return {"images": len(found), "texts": 0, "captions": texts}

    def protocol(self, data: Dataset, machine: Machine) -> dict[str, JsonValue]:
        made: dict[str, JsonValue] = {"form": self.form, "scoring": self.by, "template": self.template}
        if self.form == "open":
            made |= {"normalise": self.normalise, "agreement": self.agreement}
        if self.by != "generation":
            return made
        if self.form == "yes_no":
            made |= {"reading": "POPE"}
        options: dict[str, JsonValue] = {
            name: getattr(self, name) for name in OPTIONS if name not in UNREAD[self.generation_type]
        }
        return {**made, "decoding": {**options, ANSWER_TOKENS: self.answer_tokens}}

    def metrics(self, data: Dataset | None = None) -> Sequence[Metric]:
        own = {"open": OPEN, "choices": CHOICES, "yes_no": YES_NO}[self.form]
        if self.by != "generation":
            return own
        return (*own, UNREAD_SHARE, TRUNCATED) if self.form == "yes_no" else (*own, TRUNCATED)

    def check(self, data: Dataset, further: Mapping[str, Dataset]) -> None:
        for example in data.examples:
            found = questions_of(example)
            if not found:
                fix = "the loaders vqa, gqa and questions read such data"
                raise DataError(data.name, f"no questions about {example.id}", wanted="questions with answers", fix=fix)
            for question in found:
                self._check(question, data.name)

    def _check(self, question: Question, where: str) -> None:
        place, n = f"{where}: question {question.id}", len(question.answers)
        if self.form == "choices":
            if len(question.choices) < 2:
                raise DataError(place, f"{len(question.choices)} choices", wanted="2 or more")
            if question.right is None:
                raise DataError(place, "no right choice", wanted="its place or its text")
        elif not n:
            raise DataError(place, "no answers", wanted='right answers; of choices, form = "choices"')
        elif self.form == "yes_no" and _truth(question) is None:
            raise DataError(place, f"the answer {question.answers[0]!r}", wanted="yes or no, the same by all")
        elif self.form == "open" and self.agreement == "leave_one_out" and n < FEWEST_ANSWERS:
            fix = 'agreement = "any" counts an answer that any of them gave'
            wanted = f"{FEWEST_ANSWERS} or more for leave_one_out, usually ten"
            raise DataError(place, f"{n} answers", wanted=wanted, fix=fix)

    def chance(self, data: Dataset) -> Mapping[str, Chance]:
        found = [question for example in data.examples for question in questions_of(example)]
        if not found or self.form == "open":
            return {}
        if self.form == "choices":
            return {"choice_accuracy": Chance(float(np.mean([1 / len(question.choices) for question in found])))}
        share = float(np.mean([_truth(question) == 1 for question in found]))
        return {"yes_no_accuracy": Chance(max(share, 1 - share), "the same answer to all questions scores as much")}

    @classmethod
    def chance_level(cls, metric: str, protocol: Mapping[str, JsonValue], samples: Samples) -> float | None:
        if metric == "choice_accuracy" and "choices" in samples and len(samples):
            return float(np.mean([1 / len(choices) for choices in samples["choices"]]))
        return None

    def data_notes(self, data: Dataset) -> Iterator[Note]:
        found = [question for example in data.examples for question in questions_of(example)]
        if self.form == "choices" and (same := sum(len(set(q.choices)) < len(q.choices) for q in found)):
            yield Note("equal_captions", f"{same} of {len(found)} questions have equal choices, which tie")

    def sample_notes(self, data: Dataset, samples: Samples) -> Iterable[Note]:
        if self.form == "choices":
            return []
        answers = samples["answer"].tolist()
        right = [Counter(own).most_common(1)[0][0] for own in samples["answers"]]
        text = "{n} of {total} questions are answered with {answer}"
        said = one_answer([normalised(a) for a in answers], [normalised(r) for r in right], text)
        cut = int(samples["truncated"].sum()) if "truncated" in samples else 0
        if 2 * cut > len(samples):
            note = f"{cut} of {len(samples)} answers were cut at {self.answer_tokens} tokens"
            said.append(Note("truncated_captions", note))
        return said

    def score(self, model: Model, data: Dataset, context: Context) -> Iterator[SampleScore]:
        self.check(data, {})
        asked = [
            Asked(example.id, example.image, question, self.template.replace(QUESTION, question.text))
            for example in data.examples
            for question in questions_of(example)
        ]
        long = self._too_long(model, asked, context)
        short = [k for k in range(len(asked)) if k not in long]
        answer = self._generated if self.by == "generation" else self._rated
        answers = answer(model, [asked[k] for k in short], context) if short else {}
        found = {short[place]: stats for place, stats in answers.items()}
        found |= {k: self._unanswered(asked[k].question) for k in long}
        for k in sorted(found):
            one = asked[k]
            types = {"question_type": one.question.type, "answer_type": one.question.answer_type}
            shared = {"question": one.question.text, **types, "unanswered": int(k in long)}
            yield SampleScore(one.question.id, one.image_id, {**shared, **found[k]})

    def _too_long(self, model: Model, asked: Sequence[Asked], context: Context) -> set[int]:
        """Return which questions leave no room for an answer, as far as a model says so, and note their number."""
        counter = getattr(model, "count_tokens", None)  # a library may not say
        if counter is None or (reading := counter([])) is None:
            return set()
        unused = max(0, reading.context - self.seq_len) if self.by == "generation" else 0
        words = " a" * (unused + FEWEST_ANSWER_WORDS)
        cut = counter([one.prompt + words for one in asked]).cut
        if long := [k for k, is_cut in enumerate(cut) if is_cut]:
            said = f"{len(long)} of {len(asked)} questions leave no room for an answer in"
            more = f"{reading.context - unused} tokens and count as wrong; the first is {asked[long[0]].question.id}"
            context.note(Note("unanswered_questions", f"{said} {more}"))
        return set(long)

    def _unanswered(self, question: Question) -> dict[str, Any]:
        """Return the statistics of a question that was not asked: wrong, whatever the right answer is."""
        if self.form == "choices":
            return self._chosen(question, question.choices, np.zeros(len(question.choices)))
        found: dict[str, Any] = {"answer": "", "answers": list(question.answers)}
        if self.form == "yes_no":
            truth = _truth(question)
            found |= {"truth_yes": truth, "says_yes": 1 - int(truth or 0)}
            found |= {"unread": 0} if self.by == "generation" else {}
        else:
            found |= {"matches": 0, "accuracy": 0.0}
        return {**found, "decoder_score": None, "truncated": 0} if self.by == "generation" else found

    def _generated(self, model: Model, asked: Sequence[Asked], context: Context) -> dict[int, dict[str, Any]]:
        """Return the statistics of each question whose image could be read, from generated answers.

        Questions about one image follow each other, so that a batch encodes it once.
        """
        options = {**{name: getattr(self, name) for name in OPTIONS}, ANSWER_TOKENS: self.answer_tokens}
        images, prompts = [one.image for one in asked], [one.prompt for one in asked]
        written = model.caption(images, options, prompts=prompts, progress=context.progress)
        cut = written.truncated or [False] * len(written.texts)
        parts = zip(written.kept.tolist(), written.texts, written.scores, cut, strict=True)
        return {
            k: {**self._answered(asked[k].question, text), "decoder_score": score, "truncated": int(was_cut)}
            for k, text, score, was_cut in parts
        }

    def _answered(self, question: Question, answer: str) -> dict[str, Any]:
        """Return the statistics of a generated answer."""
        found: dict[str, Any] = {"answer": answer, "answers": list(question.answers)}
        if self.form == "yes_no":
            yes = {"truth_yes": _truth(question), "says_yes": int(says_yes(answer))}
            return {**found, **yes, "unread": int(not is_yes_or_no(answer))}
        n = matches(answer, question.answers, self.normalise)
        return {**found, "matches": n, "accuracy": accuracy(n, len(question.answers), self.agreement)}

    def _rated(self, model: Model, asked: Sequence[Asked], context: Context) -> dict[int, dict[str, Any]]:
        """Return the statistics of each question whose image could be read, from the likelihoods of its candidates."""
        texts = [self._candidates(one.question) for one in asked]
        rated = likelihoods(
            model,
            [one.image for one in asked],
            texts,
            context.progress,
            scoring="likelihood" if self.by == "likelihood" else "likelihood_per_token",
            prefixes=[one.prompt for one in asked],
        )
        return {k: self._chosen(asked[k].question, texts[k], scores) for k, scores in rated}

    def _candidates(self, question: Question) -> tuple[str, ...]:
        return question.choices if self.form == "choices" else (YES, NO)

    def _chosen(self, question: Question, texts: Sequence[str], scores: Array) -> dict[str, Any]:
        """Return the statistics of a question by the scores of its candidates; a tie counts against the model."""
        if self.form == "yes_no":
            truth = _truth(question)
            says = int(scores[0] > scores[1]) if scores[0] != scores[1] else 1 - int(truth or 0)
            answer, own = (NO, YES)[says], list(question.answers)
            return {"answer": answer, "answers": own, "truth_yes": truth, "says_yes": says}
        right = int(question.right or 0)
        others = np.delete(scores, right)
        hit = bool(scores[right] > others.max())
        best = right if hit else int(np.where(np.arange(len(scores)) == right, -np.inf, scores).argmax())
        return {
            "answer": texts[best],
            "answers": [texts[right]],
            "right": int(hit),
            "choices": list(texts),
            "right_place": right,
            "scores": scores.tolist(),
        }


def _truth(question: Question) -> int | None:
    """Return 1 if the right answer is yes, 0 if it is no; None if it is neither or both."""
    words = {normalised(answer) for answer in question.answers}
    return {frozenset({YES}): 1, frozenset({NO}): 0}.get(frozenset(words))
