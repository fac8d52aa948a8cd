"""What evaluations are compared on: a LLaVA with random weights, and questions in the shape of POPE's and MME's, in lmms-eval's Parquet."""

import io
import json
import re

import numpy
import pyarrow
import pyarrow.parquet
import torchvision  # Resizes for transformers where it is there, to the same bits as ours; Pillow comes within two levels of 255.
from models import VOCABULARY, save_llava, siglip_base, smollm2
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import (
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
)

ANSWER = 2
SUFFIX = "\nAnswer the question using a single word or phrase."
# Side and patch of the tower by the image tokens that they give.
TOWERS = {196: (224, 16), 729: (378, 14)}
# Images and questions about each: POPE asks 18, MME 2.
SHAPES = {"pope": {196: (20, 18), 729: (10, 18)}, "mme": {196: (60, 2), 729: (20, 2)}}

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<image>"]
ENGLISH = "Is there a in the image ? Answer question using single word or phrase . yes no USER ASSISTANT :".split()
TEMPLATE = """{% for message in messages %}{{ message['role'].upper() }}: {% if message['content'] is string %}{{ message['content'] }}{% else %}
{%- for part in message['content'] %}{{ '<image>\n' if part['type'] == 'image' else part['text'] }}{% endfor %}
{%- endif %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"""


def tokenizer():
    words = SPECIAL + ENGLISH
    words += [f"w{i}" for i in range(len(words), VOCABULARY)]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    made.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, extra_special_tokens={"image_token": "<image>"}, **names)


def save_model(folder, side, patch):
    text = smollm2(pad_token_id=0, bos_token_id=2, eos_token_id=3)
    save_llava(folder, siglip_base(side, patch), text, SPECIAL.index("<image>"))
    LlavaProcessor(
        image_processor=SiglipImageProcessor(size={"height": side, "width": side}),
        tokenizer=tokenizer(),
        patch_size=patch,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)


def save_questions(folder, shape, images, asked, seed):
    draw = numpy.random.default_rng(seed)
    rows = []
    for i in range(images):
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=numpy.uint8))
        png = io.BytesIO()
        coarse.resize((640, 480), Image.BICUBIC).save(png, "PNG")
        for q in range(asked):
            things = " ".join(f"w{n}" for n in draw.integers(100, VOCABULARY, draw.integers(2, 8)))
            rows.append(
                {
                    "question_id": str(len(rows)) if shape == "pope" else str(i),
                    "question": f"Is there a {things} in the image?",
                    "answer": ["yes", "no"][q % 2],
                    "category": ["adversarial", "popular", "random"][q // 6] if shape == "pope" else "existence",
                    "image": {"bytes": png.getvalue(), "path": f"{i}.png"},
                }
            )
    # As in POPE's file: each split asks 6 questions about every image.
    rows.sort(key=lambda row: row["category"])
    features = {name: {"dtype": "string", "_type": "Value"} for name in rows[0]} | {"image": {"_type": "Image"}}
    table = pyarrow.Table.from_pylist(rows).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    folder.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(table, folder / "test.parquet")


def prepare(folder):
    for tokens, (side, patch) in TOWERS.items():
        save_model(folder / str(tokens), side, patch)
        for shape, sizes in SHAPES.items():
            save_questions(folder / f"{shape}-{tokens}", shape, *sizes[tokens], seed=tokens)


def numbers(answers):
    """The answers as numbers, one for each word; words that have none are -1."""
    return [int(word[1:]) if re.fullmatch(r"w\d+", word) else -1 for answer in answers for word in answer.split()]
