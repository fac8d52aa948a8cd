import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import torch
from measure import main, milliseconds, show
from models import save_llava, siglip_base, smollm2
from training import autocast, captions, open_llava, open_rows, padded, save_rows, stepping

LENGTHS, IMAGE_TOKENS = [15, 47, 26, 36], 49


def prepare(folder):
    save_llava(folder, siglip_base(224, 32), smollm2())
    save_rows(folder / "data.safetensors", captions(LENGTHS, IMAGE_TOKENS), 224)


def run(folder, stage, precision):
    rows, _ = open_rows(folder / "data.safetensors")
    dtype = torch.bfloat16 if precision == "bfloat16-pure" else torch.float32
    model, trained = open_llava(folder, stage, dtype)
    batch = padded(rows)
    batch["pixel_values"] = batch["pixel_values"].to(dtype)

    def loss():
        with autocast(precision):
            return model(**batch, use_cache=False).loss

    step, losses = stepping(trained, loss, lr=1e-4)
    show({"throughput": 1000 * len(rows) / milliseconds(step, times=7, warmup=3)}, losses)


main(prepare, run)
