import numpy as np
import pytest

from cocabench.captioneval import corenlp, jvm, spice, tokens
from tests.captioneval.sentences import pictures
from tests.conftest import CORENLP

NAN = float("nan")

PUBLISHED = [
    (0.4444444444444444, 0.6666666666666666, 0.5, 0.16666666666666669, 0.0, 0.6666666666666666, 0.0),
    (0.2, 0.5, 0.0, 0.0, 0.0, NAN, 0.0),
    (0.4615384615384615, 0.75, 0.2222222222222222, 0.4444444444444444, 0.0, NAN, NAN),
    (0.2222222222222222, 0.6, 0.0, 0.0, 0.0, NAN, 0.0),
    (0.19354838709677416, 0.6, 0.0, 0.0, 0.0, 0.0, NAN),
    (0.45454545454545453, 0.6666666666666665, 0.0, 0.5, NAN, 0.0, 1.0),
    (0.2, 0.4444444444444445, 0.0, 0.0, 0.0, NAN, NAN),
    (0.4, 0.5714285714285715, 0.5, 0.0, 0.0, NAN, 0.0),
    (0.16666666666666666, 0.2222222222222222, 0.0, 0.18181818181818182, 0.0, 0.0, NAN),
    (0.3870967741935483, 0.5454545454545454, 0.4, 0.2, NAN, 0.0, 0.0),
    (0.18181818181818182, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.7272727272727272, 0.888888888888889, 0.8571428571428571, 0.3333333333333333, NAN, NAN, 1.0),
]
"""The first pictures' values by pycocoevalcap's ``Spice``: all, object, relation, attribute, colour, cardinality, size.

Its jar needs a JavaScript engine, which Java 15 dropped, so it ran once on Java 17 with Nashorn 15.4 on its class path.
"""

needs_corenlp = [
    pytest.mark.slow,
    pytest.mark.skipif(CORENLP is None, reason=f"SPICE: Stanford CoreNLP 3.6.0 is not installed; {corenlp.REMEDY}"),
]


@pytest.mark.parametrize(
    ("tp", "fp", "fn", "undefined", "expected"),
    [
        (2, 1, 2, 0.0, 2 * (2 / 3 * 1 / 2) / (2 / 3 + 1 / 2)),
        (0, 3, 2, NAN, 0.0),
        (0, 0, 2, NAN, 0.0),
        (0, 3, 0, NAN, NAN),
        (0, 3, 0, 0.0, 0.0),
        # Two of the candidate's tuples match the references' only one: its recall is 2/1, as SPICE 1.0 has it.
        (2, 0, -1, 0.0, 2 * (1 * 2) / (1 + 2)),
    ],
)
def test_f1_worked_by_hand(tp: int, fp: int, fn: int, undefined: float, expected: float) -> None:
    value = spice.f1(np.array([[tp, fp, fn]]), undefined=undefined)[0]
    assert value == pytest.approx(expected, nan_ok=True)


class TestReal:
    pytestmark = needs_corenlp

    def test_equals_the_published_program(self, runner: jvm.Runner) -> None:
        some = pictures()[: len(PUBLISHED)]
        candidates = tokens.tokenise([p.candidate for p in some], runner)
        references = [tokens.tokenise(p.references, runner) for p in some]
        columns = spice.statistics(candidates, references, runner)
        for name, expected in zip(spice.SCORES, np.array(PUBLISHED).T, strict=True):
            assert columns[name] == pytest.approx(expected, abs=1e-9, nan_ok=True), name

    def test_captions_with_unusual_characters(self, runner: jvm.Runner) -> None:
        """Too long is undefined, and takes no other caption with it."""
        candidates = ["", "dog " * 2500, "a red dog", "a | | | b", "x" * 10_000, "狗 naïve"]
        columns = spice.statistics(candidates, [["a red dog"]] * len(candidates), runner)
        assert columns["spice"] == pytest.approx([0, NAN, 1, 0, 0, 0], nan_ok=True)
        assert columns["spice_colour"][2] == 1

    def test_known_captions_are_not_parsed_again(self, runner: jvm.Runner) -> None:
        first = spice.parse(["a red dog", "two cats on a sofa"], runner)
        runner.close()
        assert spice.parse(["two cats on a sofa", "a red dog"], runner) == first[::-1]
