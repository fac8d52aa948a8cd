"""Small tables in the form of Hugging Face's image data sets, for test/evaluate/tables.test.ts. Needs pyarrow and pillow."""

import io
import os

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
