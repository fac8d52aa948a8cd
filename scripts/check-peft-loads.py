"""Puts adapters that TypeScript wrote on their bases with PEFT and compares logits: `python check-peft-loads.py FOLDER...`.

Each folder holds `expected.safetensors` with packed `input_ids`, `lengths`, `logits` and, for a LLaVA, `pixel_values`. Prints one line a folder.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlavaForConditionalGeneration
from transformers.utils import logging

logging.disable_progress_bar()
TOLERANCE = 2e-5


def check(folder):
    base = folder / json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    is_llava = json.loads((base / "config.json").read_text())["model_type"] == "llava"
    kind = LlavaForConditionalGeneration if is_llava else AutoModelForCausalLM
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(kind.from_pretrained(base, dtype=torch.float32), folder).eval()
    complaints = [str(w.message) for w in caught if "adapter" in str(w.message).lower()]
    expected = load_file(folder / "expected.safetensors")
    images, worst = iter(expected.get("pixel_values", [])), 0.0
    per_image = getattr(model.config, "image_seq_length", 0)
    with torch.no_grad():
        for ids, logits in zip(*(expected[key].split(expected["lengths"].tolist()) for key in ("input_ids", "logits"))):
            count = int((ids == model.config.image_token_id).sum()) // per_image if is_llava else 0
            pixels = {"pixel_values": torch.stack([next(images) for _ in range(count)])} if count else {}
            worst = max(worst, (model(input_ids=ids[None].long(), **pixels).logits[0] - logits).abs().max().item())
    print(f"{folder.name}: {worst:.2e}", *complaints)
    return worst <= TOLERANCE and not complaints


sys.exit(0 if all([check(Path(folder)) for folder in sys.argv[1:]]) else 1)
