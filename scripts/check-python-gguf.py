"""Reads GGUF files that TinyLLaVA wrote with the `gguf` package and, where it knows the architecture, transformers.

Usage: python scripts/check-python-gguf.py FILE.gguf FOLDER...        (pairs of a file and the Hugging Face folder it came from; needs no network)

Every tensor must be one that llama.cpp knows for the architecture. transformers must find the weights of the folder in the file: logits with
them may differ by 1e-4 (settings that transformers does not read from GGUF are the folder's). Prints one JSON line a pair.
"""

import json
import os
import re
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import gguf
import torch
from transformers import AutoModelForCausalLM
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING


def unknown_tensors(reader, architecture):
    """Names that llama.cpp's table of the architecture lacks, and blocks that are missing."""
    by_name = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}
    table = gguf.MODEL_TENSORS[by_name[architecture]]
    patterns = [re.escape(gguf.TENSOR_NAMES[kind]).replace(r"\{bid\}", r"\d+") + r"\.(weight|bias)" for kind in table]
    names = [tensor.name for tensor in reader.tensors]
    return [name for name in names if not any(re.fullmatch(pattern, name) for pattern in patterns)]


def check(path, folder):
    reader = gguf.GGUFReader(path)
    architecture = reader.get_field("general.architecture").contents()
    result = {"file": path.name, "architecture": architecture, "unknown": unknown_tensors(reader, architecture)}
    good = not result["unknown"]
    if architecture in GGUF_CONFIG_MAPPING:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ids = torch.arange(1, 14)[None] % model.config.vocab_size
        with torch.no_grad():
            expected = model(ids).logits
            read = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, config=model.config, dtype=torch.float32)
            # transformers does not see that a Llama has biases; those of the folder then stay
            missing = model.load_state_dict(read.state_dict(), strict=False).missing_keys
            result["missing"] = [key for key in missing if not key.endswith(".bias")]
            result["difference"] = float((model(ids).logits - expected).abs().max())
        good = good and result["difference"] <= 1e-4 and not result["missing"]
    print(json.dumps(result))
    return good


pairs = list(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
results = [check(Path(path), Path(folder)) for path, folder in pairs]
sys.exit(0 if all(results) else 1)
