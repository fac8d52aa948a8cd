"""Writes test/reference/scaling-flops.json: what PyTorch's dispatcher counts for a forward and a backward pass of the six models of TinyLLaVA's paper
at full size, on the meta device. Attention is eager, so that its products are counted whole, causal or not.

    python scripts/make-scaling-references.py
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
import references  # noqa: F401  (offline)

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, PhiConfig, SiglipVisionConfig, SiglipVisionModel, StableLmConfig
from transformers import AutoModelForCausalLM

TEXT, SUPERVISED = 70, 33

# One layer less than published and without the pooling head: what is behind the features is never run here.
towers = {
    "SigLIP-so400m/14-384": (
        SiglipVisionModel,
        SiglipVisionConfig(hidden_size=1152, intermediate_size=4304, num_hidden_layers=26, num_attention_heads=16, image_size=384, patch_size=14, vision_use_head=False),
    ),
    "CLIP-L/14-336": (
        CLIPVisionModel,
        CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16, image_size=336, patch_size=14),
    ),
}
languages = {
    "TinyLlama-1.1B": LlamaConfig(vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4),
    "StableLM-2-1.6B": StableLmConfig(vocab_size=100352, hidden_size=2048, intermediate_size=5632, num_hidden_layers=24, num_attention_heads=32, num_key_value_heads=32, use_qkv_bias=True, partial_rotary_factor=0.25),
    "Phi-2": PhiConfig(vocab_size=51200, hidden_size=2560, intermediate_size=10240, num_hidden_layers=32, num_attention_heads=32, partial_rotary_factor=0.4),
}


def counted(counter):
    counts = {str(op).rsplit(".", 1)[-1]: n for op, n in counter.get_flop_counts()["Global"].items()}
    attention = counts.pop("bmm", 0)
    return {"products": sum(counts.values()), "attention": attention}


def measure(tower, connector, language, learns):
    for module, learn in ((tower, False), (connector, True), (language, learns)):
        module.requires_grad_(learn)
        module.zero_grad()
    side = tower.config.image_size
    with FlopCounterMode(display=False) as forward:
        with torch.no_grad():
            features = tower(torch.empty(1, 3, side, side, device="meta")).last_hidden_state
        if isinstance(tower, CLIPVisionModel):
            features = features[:, 1:]
        embedded = language.get_input_embeddings()(torch.empty(1, TEXT, dtype=torch.long, device="meta"))
        x = torch.cat([embedded, connector(features)], 1)
        # Making a mask would read values, which meta tensors lack.
        mask = torch.zeros(1, 1, x.shape[1], x.shape[1], device="meta")
        hidden = language.base_model(inputs_embeds=x, attention_mask=mask, use_cache=False).last_hidden_state
        logits = language.lm_head(hidden[0, -SUPERVISED:])
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    return {"tokens": x.shape[1], "forward": counted(forward), "backward": counted(backward)}


found = []
for tower_name, (kind, vision) in towers.items():
    for language_name, text in languages.items():
        with torch.device("meta"):
            vision._attn_implementation = text._attn_implementation = "eager"
            tower, language = kind(vision), AutoModelForCausalLM.from_config(text, attn_implementation="eager")
            connector = torch.nn.Sequential(
                torch.nn.Linear(vision.hidden_size, text.hidden_size), torch.nn.GELU(), torch.nn.Linear(text.hidden_size, text.hidden_size)
            )
        for stage, learns in (("align", False), ("instruct", True)):
            found.append({"tower": tower_name, "language": language_name, "stage": stage, **measure(tower, connector, language, learns)})

path = os.path.join(os.path.dirname(__file__), "../test/reference/scaling-flops.json")
with open(path, "w") as file:
    json.dump({"supervised": SUPERVISED, "found": found}, file, indent=1)
    file.write("\n")
