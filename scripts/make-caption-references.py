"""Writes test/reference/captions.json: captions drawn from few words with the scores, and odd ones with the words, that pycocoevalcap 1.2 gives them.

    python scripts/make-caption-references.py    needs numpy, PyPI pycocoevalcap, and Java for the words
"""

import json
import random
import re
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

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


odd = """A pink flamingo.|It's a cep, or they are two ceps?|The knight’s helmet doesn't fit; cannot!|A “Jack-o-lantern” (lit) -- 3.5 cm, e.g. 1,000!
A clock [broken] shows 5:30, or 12:45pm.|Mr. Smith, Dr. X and St. Louis, etc.|No. 5 of the U.S. Army at 10 a.m.|Wow!! What?! Really?|**bold** and _thin_ ___|@home #tag x@y.com
See http://a.b/c. or www.a.com, or a.com|a sign.The end|It's gonna rain; I wanna, gotta, gimme, lemme|'Tis the '90s, the 50's, y'all|rock 'n' roll, rock'n'roll, get 'em|a naïve café, cafe\u0301 au lait
A 3.5-inch, 1,000-year-old, 2-year-old t-shirt|$5, €5, £3, 5¢, 10%, 1½ cups|U.S.-made, 1-2, -5 and 10:30-11:00|a <br> b </s>|black/white and/or AT&T w/ me|a cat 🙂 on\u200ba mat…|5'10" tall|vitamin C. Yes
The dogs' bowls, James's, o'clock, O'Brien, ma'am|中国 and 日本語|{x} = a+b *|a man.\nA dog.|the letter B.|mid-1990s, x-ray.|He'd've said they'll, we've, I'm|a—b – c -- d - e|""".replace("\n", "|", 5).split("|")
words_of = PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in enumerate(odd)})

sets = [scored(0, 12, 5, 9), scored(1, 40, 1, 5), scored(2, 7, 3, 14)]
text = json.dumps({"tokens": [[text, words_of[i][0]] for i, text in enumerate(odd)], "sets": sets}, indent=1)
# a list of numbers on one line each
text = re.sub(r"\[\s+((?:-?[\d.e+-]+,\s+)*-?[\d.e+-]+)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)
Path(__file__).parent.parent.joinpath("test/reference/captions.json").write_text(text + "\n")
