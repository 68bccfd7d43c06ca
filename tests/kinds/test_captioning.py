"""The captioning evaluator with a captioner that returns given captions: domains, limits, metrics that cannot run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cocabench import captioneval as caption_metrics
from cocabench.core.cache import DiskCache
from cocabench.core.errors import DataError
from cocabench.core.types import Captions, Context, Dataset, Example, Machine, Note
from cocabench.data.base import limited
from cocabench.kinds.captioning import Captioning
from cocabench.metrics.base import Samples, estimate, stack

SENTENCES = [
    "a red bus drives down the street",
    "two dogs play in the snow",
    "a man rides a wave on a surfboard",
    "a plate of food with rice and beans",
    "an old clock on a brick tower",
    "three people walk on the beach at sunset",
]


class Plain:
    def open(self) -> Image.Image:
        return Image.new("RGB", (4, 4))


class Parrot:
    """Captions image i with its i-th sentence."""

    notes = ()
    parameters: Mapping[str, int] = {}

    def __init__(self, sentences: Sequence[str]) -> None:
        self.sentences = list(sentences)
        self.truncated: list[bool] = []

    def caption(
        self, images: Sequence[Any], options: Mapping[str, Any], *, prompts: str | None = None, progress: Any
    ) -> Captions:
        self.options = {**options, **({"prompt": prompts} if prompts else {})}
        return Captions(self.sentences[: len(images)], [0.0] * len(images), np.arange(len(images)), self.truncated)


def data(domains: Sequence[str] = ("",) * 6) -> Dataset:
    references = [(s, s.replace("a ", "the ")) for s in SENTENCES]
    examples = [Example(f"{i}", Plain(), t, domain=d) for i, (t, d) in enumerate(zip(references, domains, strict=True))]
    return Dataset("toy", "test", examples)


def notes_of(evaluator: Captioning, dataset: Dataset, samples: Samples) -> list[str]:
    return [note.text for note in evaluator.sample_notes(dataset, samples)]


def scores(dataset: Dataset, sentences: Sequence[str], *metrics: str) -> dict[str, float | None]:
    evaluator = Captioning(metrics=metrics)  # type: ignore[call-arg]
    samples = stack(evaluator.score(Parrot(sentences), dataset, Context()))  # type: ignore[arg-type]
    return {m.name: estimate(m, samples).value for m in evaluator.metrics(dataset)}


def test_a_perfect_captioner_scores_one_and_a_shuffled_one_much_less() -> None:
    right, wrong = scores(data(), SENTENCES, "BLEU@4", "CIDEr"), scores(data(), SENTENCES[::-1], "BLEU@4", "CIDEr")
    assert right["BLEU@4"] == pytest.approx(1.0, abs=1e-6)
    assert right["CIDEr"] > 5  # type: ignore[operator]
    assert wrong["BLEU@4"] < 0.01  # type: ignore[operator]


def test_nocaps_domains_are_scored_alone_with_their_own_document_frequencies() -> None:
    domains = ["in-domain"] * 3 + ["out-domain"] * 3
    sentences = [*SENTENCES[:3], *SENTENCES[:3]]
    found = scores(data(domains), sentences, "BLEU@1", "CIDEr")
    assert found["BLEU@1[in-domain]"] == pytest.approx(1.0)
    assert found["BLEU@1[out-domain]"] < 0.6  # type: ignore[operator]
    inside = Dataset("in", "test", data().examples[:3])
    assert found["CIDEr[in-domain]"] == pytest.approx(scores(inside, sentences, "CIDEr")["CIDEr"])


def test_a_limited_run_keeps_the_document_frequencies_of_the_whole_set() -> None:
    whole = data()
    part = limited(whole, 3, seed=0)
    sentences = [e.texts[1] for e in part.examples]
    kind = Captioning(metrics=("CIDEr",))  # type: ignore[call-arg]
    everything = stack(kind.score(Parrot([e.texts[1] for e in whole.examples]), whole, Context()))  # type: ignore[arg-type]
    limited_samples = stack(kind.score(Parrot(sentences), part, Context()))  # type: ignore[arg-type]
    expected = everything.set_index("id")["cider"][[e.id for e in part.examples]].tolist()
    assert limited_samples["cider"].tolist() == pytest.approx(expected)
    protocols = [Captioning().protocol(d, Machine())["document_frequencies"] for d in (whole, part)]
    assert protocols[0] == protocols[1]


def test_unavailable_metrics_do_not_prevent_captioning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_metrics, "unavailable", lambda names, **_: dict.fromkeys(names, "no Java"))
    evaluator = Captioning()
    samples = stack(evaluator.score(Parrot(SENTENCES), data(), Context()))  # type: ignore[arg-type]
    assert samples["caption"].tolist() == SENTENCES
    assert set(evaluator.unavailable(Machine())) == {*caption_metrics.NAMES, *caption_metrics.SUBSCORES}


def test_an_image_without_references_is_named() -> None:
    dataset = Dataset("toy", "test", [*data().examples, Example("bare", Plain())])
    with pytest.raises(DataError, match="no reference caption for bare"):
        list(Captioning().score(Parrot(SENTENCES), dataset, Context()))  # type: ignore[arg-type]


def test_one_caption_for_all_images_gives_a_note() -> None:
    evaluator, dataset = Captioning(metrics=("BLEU@1",)), data()  # type: ignore[call-arg]
    same = stack(evaluator.score(Parrot(["a dog"] * 6), dataset, Context()))  # type: ignore[arg-type]
    assert notes_of(evaluator, dataset, same) == ["1 distinct caption for 6 images, most often 'a dog'"]
    assert notes_of(evaluator, dataset, stack(evaluator.score(Parrot(SENTENCES), dataset, Context()))) == []  # type: ignore[arg-type]
    blank = stack(evaluator.score(Parrot([*SENTENCES[:5], ""]), dataset, Context()))  # type: ignore[arg-type]
    assert notes_of(evaluator, dataset, blank) == ["1 of 6 captions is empty"]


def test_health_is_measured_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_metrics, "unavailable", lambda names, **_: dict.fromkeys(names, "no Java"))
    found = scores(data(), [*SENTENCES[:4], "a dog a dog", SENTENCES[0]])
    assert found["distinct_captions"] == pytest.approx(5 / 6)
    assert found["repetitive_captions"] == pytest.approx(1 / 6)
    assert found["truncated_captions"] is None


def test_truncated_captions_are_recorded() -> None:
    cut = Parrot(SENTENCES)
    cut.truncated = [True] * 3 + [False] * 3
    evaluator = Captioning(metrics=())  # type: ignore[call-arg]
    samples = stack(evaluator.score(cut, data(), Context()))  # type: ignore[arg-type]
    values = {m.name: estimate(m, samples).value for m in evaluator.metrics(data())}
    assert values["truncated_captions"] == pytest.approx(0.5)
    assert notes_of(evaluator, data(), samples) == [
        f"3 of 6 captions are cut at the length limit, for example {SENTENCES[0]!r}"
    ]


def test_a_prompt_reaches_the_captioner_and_the_signature() -> None:
    parrot, plain = Parrot(SENTENCES), Captioning(metrics=["CIDEr"])  # type: ignore[call-arg]
    prompted = Captioning(metrics=["CIDEr"], prompt="a photo of")  # type: ignore[call-arg]
    list(prompted.score(parrot, data(), Context()))  # type: ignore[arg-type]
    assert parrot.options["prompt"] == "a photo of"
    protocols = [kind.protocol(data(), Machine())["decoding"] for kind in (prompted, plain)]
    assert protocols[0] == {**protocols[1], "prompt": "a photo of"}  # type: ignore[dict-item]


@pytest.mark.parametrize("names", [["CIDEr"], pytest.param(["METEOR"], marks=pytest.mark.slow)])
def test_a_full_disk_gives_one_note_and_unchanged_caption_scores(tmp_path: Path, names: list[str]) -> None:
    sentences = [f"{sentence} (a #tag)" for sentence in SENTENCES[::-1]]  # these are tokenised by Java
    expected = scores(data(), sentences, *names)
    (tmp_path / "file").write_text("")
    evaluator = Captioning(metrics=names)  # type: ignore[call-arg]
    for _ in range(2):
        notes: list[Note] = []
        context = Context(cache=DiskCache(tmp_path / "file" / "cache", 10**9, notes.append))
        samples = stack(evaluator.score(Parrot(sentences), data(), context))  # type: ignore[arg-type]
        assert {m.name: estimate(m, samples).value for m in evaluator.metrics(data())} == expected
        (note,) = notes
        assert note.code == "cache"
        assert "cache disabled" in note.text


def test_the_share_of_references_beyond_the_context_is_noted() -> None:
    class Short(Parrot):
        def count_tokens(self, texts: Sequence[str]) -> Any:
            return type("Cut", (), {"context": 5, "cut": [len(text.split()) > 7 for text in texts]})

    notes: list[Note] = []
    for kind in (Captioning(metrics=()), Captioning(metrics=(), lengths=True)):  # type: ignore[call-arg]
        stack(kind.score(Short(SENTENCES), data(), Context(note=notes.append)))  # type: ignore[arg-type]
    said = "5 of 10 distinct references (50.0 %) are longer than the context of 5 tokens and cannot be written whole"
    assert [note.text for note in notes] == [said]


def test_chair_is_measured_where_the_data_say_which_objects_are_there(tmp_path: Path) -> None:
    words = {
        "bus": "bus",
        "dog": "dog",
        "man": "person",
        "people": "person",
        "clock": "clock",
        "surfboard": "surfboard",
    }
    examples = [Example(f"{i}", Plain(), ("a thing",), metadata={"objects": ["dog"]}) for i in range(6)]
    dataset = Dataset("toy", "test", examples, objects=words)
    kind = Captioning(metrics=())  # type: ignore[call-arg]
    samples = stack(kind.score(Parrot(SENTENCES), dataset, Context(cache=DiskCache(tmp_path, 1 << 20))))  # type: ignore[arg-type]
    found = {m.name: estimate(m, samples).value for m in kind.metrics(dataset)}
    assert found["CHAIRi"] == pytest.approx(5 / 6), "bus, man, surfboard, clock and people are not there"
    assert found["CHAIRs"] == pytest.approx(4 / 6)
    assert samples["hallucinated"].tolist()[:3] == [["bus"], [], ["man", "surfboard"]]
    protocol = kind.protocol(dataset, Machine())["caption_metrics"]
    assert isinstance(protocol, dict)
    assert "synonyms" in str(protocol["CHAIR"])
    assert "CHAIR" not in kind.protocol(data(), Machine())["caption_metrics"]  # type: ignore[operator]
    assert not {"CHAIRi", "CHAIRs"} & {m.name for m in kind.metrics(data())}
    assert Captioning.concerns("caption_metrics.CHAIR", "CHAIRi")
    assert not Captioning.concerns("caption_metrics.CHAIR", "CIDEr")
    assert not Captioning.concerns("caption_metrics.METEOR", "CHAIRs")
