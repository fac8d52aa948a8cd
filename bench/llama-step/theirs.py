import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import torch
from measure import main, milliseconds, show
from safetensors.torch import load_file, save_file
from training import stepping
from transformers import LlamaConfig, LlamaForCausalLM


def prepare(folder):
    config = LlamaConfig(
        hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8, intermediate_size=1408, vocab_size=8192
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    save_file({"ids": torch.randint(0, 8192, (8, 256))}, folder / "data.safetensors")


def run(folder):
    ids = load_file(folder / "data.safetensors")["ids"]
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").train()
    step, losses = stepping(list(model.parameters()), lambda: model(input_ids=ids, labels=ids, use_cache=False).loss, lr=1e-3, weight_decay=0.01)
    show({"step": milliseconds(step, times=5, warmup=2)}, losses)


main(prepare, run)
