"""pycocoevalcap's own scorers, as a program: references and candidates from standard input, their values to a file.

``python referee.py OUTPUT`` with ``java`` on PATH. A process of its own, because those scorers print, leave pipes open,
and stop for good where Java fails.
"""

import json
import sys

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer


def main() -> None:
    candidates, references = json.load(sys.stdin)
    theirs = PTBTokenizer().tokenize({i: [{"caption": c} for c in group] for i, group in enumerate(references)})
    mine = PTBTokenizer().tokenize({i: [{"caption": c}] for i, c in enumerate(candidates)})
    bleu, bleus = Bleu(4).compute_score(theirs, mine)
    answers = {f"BLEU@{k}": (bleu[k - 1], bleus[k - 1]) for k in range(1, 5)}
    for name, scorer in (("METEOR", Meteor()), ("ROUGE-L", Rouge()), ("CIDEr", Cider())):
        value, values = scorer.compute_score(theirs, mine)
        answers[name] = (float(value), [float(v) for v in values])
    tokens = [mine[i][0] for i in range(len(candidates))]
    with open(sys.argv[1], "w") as file:
        json.dump({"scores": answers, "tokens": tokens}, file)


if __name__ == "__main__":
    main()
