import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import torch
from measure import main, show
from models import VOCABULARY, smollm2
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

PROMPT, NEW = 128, 64


def prepare(folder):
    model = LlamaForCausalLM(smollm2())
    for dtype in ("bfloat16", "float32"):
        # The same values on both sides and in both precisions: rounded once.
        model = model.to(getattr(torch, dtype))
        model.save_pretrained(folder / dtype)
    save_file({"ids": torch.randint(0, VOCABULARY, (1, PROMPT))}, folder / "data.safetensors")


def run(folder, dtype):
    ids = load_file(folder / "data.safetensors")["ids"]
    model = LlamaForCausalLM.from_pretrained(folder / dtype, dtype=getattr(torch, dtype), attn_implementation="sdpa").eval()

    def generate(count):
        start = time.perf_counter()
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count, do_sample=False)
        return time.perf_counter() - start, out[0, PROMPT:].tolist()

    generate(4)
    firsts, alls = [], []
    for _ in range(3):
        firsts.append(generate(1)[0])
        seconds, tokens = generate(NEW + 1)
        alls.append(seconds)
    first = sorted(firsts)[1]
    show({"prefill": PROMPT / first, "decode": NEW / (sorted(alls)[1] - first)}, tokens[:8])


main(prepare, run)
