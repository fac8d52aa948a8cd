"""Writes test/reference/captions.json: captions drawn from few words, with the scores that pycocoevalcap 1.2 gives them.

    python scripts/make-caption-references.py    needs numpy and PyPI pycocoevalcap; no Java, for the captions are words already
"""

import json
import random
import re
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

words = "a an the red green small big dog cat hat tree of with on and two".split()


def caption(draw, most):
    return " ".join(draw.choice(words) for _ in range(draw.randint(1, most)))


def scored(seed, pictures, references, most):
    draw = random.Random(seed)
    truth = {i: [caption(draw, most) for _ in range(draw.randint(1, references))] for i in range(pictures)}
    # some are right, some nearly so, some made up
    said = {}
    for i, texts in truth.items():
        kind = draw.randrange(4)
        copy = draw.choice(texts)
        said[i] = [copy if kind == 0 else copy.rsplit(" ", 1)[0] if kind == 1 else f"{copy} {draw.choice(words)}" if kind == 2 else caption(draw, most)]
    return {
        "pairs": [{"candidate": said[i][0], "references": texts} for i, texts in truth.items()],
        "cider": list(map(float, Cider().compute_score(truth, said)[1])),
        "bleu": list(map(float, Bleu(4).compute_score(truth, said, verbose=0)[0])),
        "rouge": list(map(float, Rouge().compute_score(truth, said)[1])),
    }


sets = [scored(0, 12, 5, 9), scored(1, 40, 1, 5), scored(2, 7, 3, 14)]
text = json.dumps({"sets": sets}, indent=1)
# a list of numbers on one line each
text = re.sub(r"\[\s+((?:-?[\d.e+-]+,\s+)*-?[\d.e+-]+)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)
Path(__file__).parent.parent.joinpath("test/reference/captions.json").write_text(text + "\n")
