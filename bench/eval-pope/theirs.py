import io
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import pyarrow.parquet
import torch
from evaluation import ANSWER, SUFFIX, numbers, prepare
from measure import main, show
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

BATCH = 16


@torch.inference_mode()
def run(folder, shape, tokens):
    model = LlavaForConditionalGeneration.from_pretrained(folder / tokens, dtype=torch.float32, attn_implementation="sdpa").eval()
    processor = AutoProcessor.from_pretrained(folder / tokens)
    processor.tokenizer.padding_side = "left"
    rows = pyarrow.parquet.read_table(folder / f"{shape}-{tokens}" / "test.parquet").to_pylist()

    def answer(batch):
        texts = [
            processor.apply_chat_template([{"role": "user", "content": f"<image>\n{row['question']}{SUFFIX}"}], add_generation_prompt=True)
            for row in batch
        ]
        images = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in batch]
        inputs = processor(images=images, text=texts, padding=True, return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=ANSWER, do_sample=False)
        return processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    answer(rows[:1])
    start = time.perf_counter()
    answers = [text for i in range(0, len(rows), BATCH) for text in answer(rows[i : i + BATCH])]
    show({"questions": len(rows) / (time.perf_counter() - start)}, numbers(answers))


main(prepare, run)
