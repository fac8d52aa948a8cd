"""Expected values of test/evaluate/python.test.ts: what CPython makes of odd texts and numbers."""

import json
import os
import random
import unicodedata

draw = random.Random(1)
characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and unicodedata.category(chr(code)) != "Cn"]


def number(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else str(value)


odd = [c for c in characters if c.capitalize() != c.upper() or c.capitalize() != c.title() or len(c.lower()) != len(c)]
floats = ["", "1_000", "inf", "-Infinity", "nan", "0x10", " 5 ", "1__0", "_1", "1_", "1.", ".5", ".", "1e5", "1e", "+.5e-3", "1_0.0_1", "1._0", "\u20091\u2009"]
floats += ["１２.５", "1e1_0", "1 0", "--1", "+nan", "infinit", "1d5", "1,000", "50%", "\ufeff1", "٣٫٥", "½", "²", "\x1c1\x1f", "1\x00", "٣\x1e", "\x1c٣", "\x851\u2003", "\xa01\x1f"]
floats += [c for c in characters if unicodedata.category(c) == "Nd"][::7]
numbers = [draw.choice([draw.uniform(-1000, 1000), draw.randint(-(10**6), 10**6) / 2 ** draw.randint(0, 12), draw.randint(0, 10**4) / 200]) for _ in range(300)]
numbers += [2.675, 0.5, 1.5, 2.5, -0.5, -2.5, 0.125, 1e20, 1e-9, 0.0]
around = [c for c in characters if c.isspace()] + ["\ufeff", "\u200b", "\u180e", "\x1b"]

result = {
    "capitalize": [[text, text.capitalize()] for text in odd + ["ΑΣ ΣΑΣ", "hELLO wORLD", "", "éA"]],
    "float": [[text, number(text)] for text in floats],
    "round": [[value, digits, round(value, digits)] for value in numbers for digits in (0, 1, 2, 3)],
    "split": [[text, text.split(), text.strip()] for text in (f"{c}a{c}{c}b{c}" for c in around)],
}
with open(os.path.join(os.path.dirname(__file__), "../test/reference/python-text.json"), "w") as file:
    json.dump(result, file, separators=(",", ":"))
