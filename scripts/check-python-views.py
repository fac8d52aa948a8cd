"""Loads models that show an image in several views, as TinyLLaVA wrote them, with transformers, and compares ids and logits.

Usage: python scripts/check-python-views.py IMAGES FOLDER...        (torchvision; needs no network)

Every folder holds `prompts.json` and `expected.safetensors` beside model and processor, as scripts/make-views-references.py writes them; IMAGES
holds the pictures. Prints one JSON line a folder and fails when an id differs, a key is missing or unexpected, or a logit differs by more
than 1e-4.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer, AutoProcessor


def check(images, folder):
    expected = load_file(folder / "expected.safetensors")
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    processor = AutoProcessor.from_pretrained(folder)
    differences, same = [], True
    for label, (shown, text) in json.loads((folder / "prompts.json").read_text()).items():
        given = [Image.open(images / f"{name}.png").convert("RGB") for name in shown]
        inputs = processor(images=[given] if model.config.model_type == "llava_onevision" else given, text=text, return_tensors="pt")
        same = same and inputs["input_ids"][0].tolist() == expected[f"{label}.ids"].tolist()
        # The pixels of the reference: filters of different backends round differently.
        pixels = expected[f"{label}.pixels"]
        views = inputs["pixel_values"]
        filled = (views.flatten(0, -4).abs().sum((1, 2, 3)) > 0) if views.dim() > 4 else torch.ones(len(views), dtype=torch.bool)
        views.flatten(0, -4)[filled] = pixels if views.dim() > 4 else views.flatten(0, -4)[filled]
        if views.dim() == 4:
            inputs["pixel_values"] = pixels
        with torch.no_grad():
            logits = model.eval()(**inputs).logits[0, -4:]
        differences.append(float((logits - expected[f"{label}.logits"]).abs().max()))
    problems = {kind: sorted(info[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[kind]}
    print(json.dumps({"folder": folder.name, "architecture": type(model).__name__, "ids": same, "difference": max(differences), **problems}))
    return max(differences) <= 1e-4 and same and not problems


results = [check(Path(sys.argv[1]), Path(folder)) for folder in sys.argv[2:]]
sys.exit(0 if all(results) else 1)
