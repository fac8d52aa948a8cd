import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import torch
from measure import main, milliseconds, show
from safetensors.torch import load_file, save_file
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
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True)
    losses = []

    def step():
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())

    show({"step": milliseconds(step, times=5, warmup=2)}, losses)


main(prepare, run)
