"""Loads checkpoints that TinyLLaVA wrote with transformers and compares the logits.

Usage: python scripts/check-python-loads.py FOLDER...        (needs no network)

Every folder holds `expected.safetensors` beside the model: `input_ids`, `lengths`, `logits` and, with images, `pixel_values`. Prints one
JSON line a folder and fails when a key is missing or unexpected, or a logit differs by more than 1e-4.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, LlavaForConditionalGeneration


def check(folder):
    expected = load_file(folder / "expected.safetensors")
    config = AutoConfig.from_pretrained(folder)
    kind = LlavaForConditionalGeneration if config.model_type == "llava" else AutoModelForCausalLM
    model, info = kind.from_pretrained(folder, output_loading_info=True)
    model = model.float().eval()
    logits, image = [], 0
    for ids in expected["input_ids"].split(expected["lengths"].tolist()):
        images = int((ids == config.image_token_index).sum()) // config.image_seq_length if config.model_type == "llava" else 0
        pixels = {"pixel_values": expected["pixel_values"][image : image + images]} if images else {}
        image += images
        with torch.no_grad():
            logits.append(model(ids[None].long(), **pixels).logits[0])
    difference = float((torch.cat(logits) - expected["logits"]).abs().max())
    problems = {kind: sorted(info[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[kind]}
    print(json.dumps({"folder": folder.name, "architecture": type(model).__name__, "difference": difference, **problems}))
    return difference <= 1e-4 and not problems


results = [check(Path(folder)) for folder in sys.argv[1:]]
sys.exit(0 if all(results) else 1)
