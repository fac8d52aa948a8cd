"""Small tables in the form of Hugging Face's image data sets and of VLMEvalKit, for test/evaluate/tables.test.ts and test/data/forms.test.ts. Needs pyarrow, pandas, openpyxl and pillow."""

import io
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

here = os.path.join(os.path.dirname(__file__), "../test/reference")


def picture(colour):
    file = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
rows = {
    "question_id": pa.array([7, 8, 9], pa.int64()),
    "question": ["what?", "Ωhere?", "who?"],
    "answers": [["a", "b"], [], ["c"]],
    "types": [{"structural": "query", "semantic": "rel"}, None, {"structural": "verify", "semantic": "obj"}],
    "image": pa.array([picture("red"), None, picture("blue")], image),
    "images": pa.array([[picture("red"), picture("green")], [], None], pa.list_(image)),
}
for compression in ("snappy", "zstd"):
    pq.write_table(pa.table(rows), f"{here}/images-{compression}.parquet", row_group_size=2, compression=compression)

folder = f"{here}/hugging-face"
questions = {
    "pope/Full/adversarial-00000-of-00001.parquet": {
        "id": ["0", "1"],
        "question_id": ["1", "2"],
        "question": ["Is there a dog in the image?", "Is there a cat in the image?"],
        "answer": ["yes", "no"],
        "image_source": ["COCO_1", "COCO_1"],
        "image": pa.array([picture("red"), picture("red")], image),
        "category": ["adversarial", "adversarial"],
    },
    "mmmu/data/validation-00000-of-00001.parquet": {
        "id": ["validation_Math_1", "validation_Art_2"],
        "question": ["What is in <image 2> and <image 1>?", "How much?"],
        "options": ["['$6', \"that's it\"]", "[]"],
        "answer": ["B", "['24/7', '3.429']"],
        "question_type": ["multiple-choice", "open"],
        **{f"image_{i}": pa.array([picture(colour), None], image) for i, colour in enumerate(["red", "green", "blue"], 1)},
    },
    "gqa/testdev_balanced_instructions/testdev-00000-of-00001.parquet": {
        "id": ["q1"],
        "imageId": ["n7"],
        "question": ["Is it?"],
        "answer": ["yes"],
        "types": [{"structural": "verify", "semantic": "rel", "detailed": "x"}],
    },
    "gqa/testdev_balanced_images/testdev-00000-of-00001.parquet": {"id": ["n6", "n7"], "image": pa.array([picture("red"), picture("blue")], image)},
    "refcoco/data/val-00000-of-00001.parquet": {
        "question_id": ["5"],
        "image": pa.array([picture("red")], image),
        "bbox": pa.array([[1.0, 0.0, 2.0, 3.0]], pa.list_(pa.float32())),
        "answer": [["the cat", "left one"]],
    },
    "seed_bench/data/test-00000-of-00001.parquet": {
        "question_id": ["v1"],
        "question": ["What?"],
        **{f"choice_{letter}": [letter] for letter in "abcd"},
        "answer": ["C"],
        "data_type": ["video"],
        "data_id": ["x"],
        "question_type_id": pa.array([10], pa.int64()),
        "image": pa.array([[picture("red"), picture("blue")]], pa.list_(image)),
    },
    "docvqa/DocVQA/test-00000-of-00001.parquet": {
        "questionId": ["57344"],
        "question": ["Who?"],
        "image": pa.array([picture("red")], image),
        "answers": pa.array([None], pa.list_(pa.string())),
    },
    "mmbench-en/en/dev-00000-of-00001.parquet": {
        "index": pa.array([241], pa.int64()),
        "question": ["Which?"],
        "hint": ["nan"],
        "A": ["one"],
        "B": ["two"],
        "C": ["nan"],
        "D": ["nan"],
        "answer": ["A"],
        "category": ["ocr"],
        "L2-category": ["fine"],
        "image": pa.array([picture("red")], image),
    },
    "textvqa/data/validation-00000-of-00001.parquet": {
        "question_id": pa.array([34602], pa.int64()),
        "image_id": ["003a8ae2ef43b901"],
        "question": ["what IS it?"],
        "answers": [["stop"] * 10],
        "ocr_tokens": [["STOP", "4"]],
        "image": pa.array([picture("red")], image),
    },
}
for name, columns in questions.items():
    os.makedirs(os.path.dirname(f"{folder}/{name}"), exist_ok=True)
    pq.write_table(pa.table(columns), f"{folder}/{name}")

# A result file of VLMEvalKit, which writes them by pandas.
pd.DataFrame(
    {
        "index": [241, 1000241, 252],
        "question": ['Which "one"?\nSay ü.'] * 3,
        "A": ["one", "two", "1"],
        "B": ["two", "one", None],
        "answer": ["A", "B", "A"],
        "category": ["ocr"] * 3,
        "prediction": ["A", None, "00123"],
    }
).to_excel(f"{here}/vlmevalkit.xlsx", index=False)

# Training data: The Cauldron's columns, FineVision's, LLaVA's with images in the table, and captions; the last image of the captions is cut off.
colours = ["red", "green", "blue", "yellow"]
text = pa.struct([("user", pa.string()), ("assistant", pa.string()), ("source", pa.string())])
turn = pa.struct([("from", pa.string()), ("value", pa.string())])
images = [[picture("red")], [picture("green"), picture("blue")], [], [picture("yellow")]]
texts = [
    [{"user": "what color is it?", "assistant": "red", "source": "a"}, {"user": "is it green?", "assistant": "no", "source": "a"}],
    [{"user": "are they red?", "assistant": "no", "source": "a"}],
    [{"user": "is water wet?", "assistant": "yes", "source": "b"}],
    [{"user": "so <image> is?", "assistant": "yellow", "source": "b"}],
]
cauldron = {"images": pa.array(images, pa.list_(image)), "texts": pa.array(texts, pa.list_(text))}
# Of the last quality only the row's rating is there.
ratings = {
    "relevance_ratings": [[5, 4], [5], [3], [1]],
    "relevance_min": [4, 5, 3, 1],
    "visual_dependency_ratings": pa.array([[1, 5], [None], None, [4]], pa.list_(pa.int64())),
    "formatting_min": [5, 2, None, 5],
    "source": ["a", "a", "b", "b"],
}
llava = {
    "id": ["r", "t", "p"],
    "image": pa.array([picture("red"), None, {"bytes": None, "path": "green.png"}], image),
    "conversations": pa.array(
        [
            [{"from": "human", "value": "<image>\nwhat color is it?"}, {"from": "gpt", "value": "red"}],
            [{"from": "human", "value": "is water wet?"}, {"from": "gpt", "value": "yes"}],
            [{"from": "human", "value": "<image>\nis it red?"}, {"from": "gpt", "value": "no"}],
        ],
        pa.list_(turn),
    ),
    "relevance_ratings": pa.array([[5], [2, 5], None], pa.list_(pa.int64())),
}
pictures = [picture(colour) for colour in colours]
captions = {"image": pa.array(pictures, image), "text": [f"a {colour} square" for colour in colours]}
broken = {**captions, "image": pa.array([*pictures[:3], {**pictures[3], "bytes": pictures[3]["bytes"][:40]}], image)}
tables = {"cauldron": cauldron, "finevision": {**cauldron, **ratings}, "llava": llava, "captions": captions, "broken": broken}
os.makedirs(f"{here}/data", exist_ok=True)
for name, columns in tables.items():
    pq.write_table(pa.table(columns), f"{here}/data/{name}.parquet", row_group_size=3)
