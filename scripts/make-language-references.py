"""Writes tiny random checkpoints of the language model families and what transformers computes with them.

Usage: python scripts/make-language-references.py test/reference [NAME...]        (torch 2.15, transformers 5.23; needs no network)

Every family comes in usual and in odd sizes. Folders are as those of make-references.py. OpenELM is not in transformers: what it should
compute is written out below, after its paper (Mehta et al. 2024, arXiv:2404.14619) and its published configurations.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from references import packed, random_labels, randomise, total_loss, write  # first: it sets the environment

import torch
from safetensors.torch import save_model
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY = 45
# Longer than every window below, than the lengths that rotary settings know, and of one token.
LENGTHS = (6, 6, 1, 19)

TINY = dict(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
ODD = dict(vocab_size=VOCABULARY, hidden_size=18, intermediate_size=10, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=3)
FAMILIES = {
    "qwen2": dict(TINY, use_sliding_window=False, sliding_window=3),
    "qwen2-windows": dict(
        ODD, num_key_value_heads=1, tie_word_embeddings=True, use_sliding_window=True, sliding_window=4, max_window_layers=1,
        rope_parameters=dict(rope_type="default", rope_theta=1e6), rms_norm_eps=1e-5,
    ),
    "qwen3": dict(TINY, head_dim=8),
    "qwen3-windows": dict(
        ODD, head_dim=10, num_key_value_heads=1, tie_word_embeddings=True, attention_bias=True, use_sliding_window=True, sliding_window=5,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
    "phi": dict(TINY, num_key_value_heads=4),
    "phi-norms": dict(
        ODD, hidden_size=30, num_key_value_heads=1, num_hidden_layers=2, partial_rotary_factor=0.4, qk_layernorm=True,
        tie_word_embeddings=True,
    ),
    "phi3": dict(TINY, pad_token_id=0, eos_token_id=1),
    "phi3-longrope": dict(
        ODD, hidden_size=24, num_key_value_heads=1, tie_word_embeddings=True, partial_rotary_factor=0.75, sliding_window=5,
        max_position_embeddings=64, original_max_position_embeddings=8, pad_token_id=0, eos_token_id=[1, 2],
        rope_parameters=dict(
            rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.1, 1.3], long_factor=[1.2, 3.0, 9.5],
            partial_rotary_factor=0.75,
        ),
    ),
    "stablelm": dict(TINY, hidden_size=32, use_qkv_bias=True),
    "stablelm-parallel": dict(
        ODD, num_key_value_heads=1, partial_rotary_factor=0.7, qk_layernorm=True, use_parallel_residual=True, tie_word_embeddings=True,
    ),
    "gemma": dict(TINY, head_dim=8, num_key_value_heads=1),
    "gemma-untied": dict(ODD, head_dim=4, tie_word_embeddings=False, attention_bias=True),
    "gemma2": dict(TINY, head_dim=8, query_pre_attn_scalar=5, sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "gemma2-uncapped": dict(
        ODD, intermediate_size=26, head_dim=6, num_key_value_heads=1, query_pre_attn_scalar=10, sliding_window=3, attn_logit_softcapping=None,
        final_logit_softcapping=None, tie_word_embeddings=False, layer_types=["full_attention", "sliding_attention", "sliding_attention"],
    ),
    "gemma3_text": dict(
        TINY, num_hidden_layers=3, head_dim=8, query_pre_attn_scalar=6, sliding_window=4,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
    "gemma3_text-scaled": dict(
        ODD, head_dim=4, num_hidden_layers=2, query_pre_attn_scalar=9, sliding_window=5, final_logit_softcapping=2.0,
        tie_word_embeddings=False, layer_types=["full_attention", "sliding_attention"],
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", rope_theta=5e5, factor=8.0),
            sliding_attention=dict(rope_type="default", rope_theta=500.0),
        ),
    ),
    "smollm3": dict(TINY, no_rope_layer_interval=2, pad_token_id=0),
    "smollm3-windows": dict(
        ODD, num_key_value_heads=1, tie_word_embeddings=False, no_rope_layers=[0, 1, 0], use_sliding_window=True, sliding_window=4,
        attention_bias=True, mlp_bias=True, pad_token_id=0,
    ),
    "openelm": dict(
        vocab_size=VOCABULARY, model_dim=32, head_dim=4, num_transformer_layers=3, num_gqa_groups=2, qkv_multipliers=[0.5, 1.0],
        ffn_multipliers=[0.5, 2.0], ffn_dim_divisor=8, normalize_qk_projections=True, share_input_output_layers=True,
    ),
    "openelm-plain": dict(
        vocab_size=VOCABULARY, model_dim=18, head_dim=6, num_transformer_layers=2, num_gqa_groups=3, qkv_multipliers=1.0,
        ffn_multipliers=[0.9, 1.7], ffn_dim_divisor=5, ffn_with_glu=False, activation_fn_name="gelu", normalize_qk_projections=False,
        share_input_output_layers=False, rope_freq_constant=100,
    ),
}


class OpenElmNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, 1e-6)


class OpenElm(nn.Module):
    """Layer-wise scaling: every layer has its own heads and inner width, interpolated between two multipliers."""

    def __init__(self, config):
        super().__init__()
        self.values = config
        layers, width, head = config["num_transformer_layers"], config["model_dim"], config["head_dim"]
        groups = config["num_gqa_groups"]
        spread = lambda value: [value] * layers if not isinstance(value, list) else self.between(*value, layers)
        self.transformer = nn.Module()
        self.transformer.token_embeddings = nn.Embedding(config["vocab_size"], width)
        self.transformer.layers = nn.ModuleList()
        self.transformer.norm = OpenElmNorm(width)
        for queries, inner in zip(spread(config["qkv_multipliers"]), spread(config["ffn_multipliers"])):
            heads = self.divisible(queries * width, head * groups) // head
            inner = self.divisible(inner * width, config["ffn_dim_divisor"])
            layer = nn.ModuleDict({"attn": nn.Module(), "ffn": nn.Module(), "attn_norm": OpenElmNorm(width), "ffn_norm": OpenElmNorm(width)})
            layer["attn"].heads = (heads, heads // groups)
            layer["attn"].qkv_proj = nn.Linear(width, (heads + 2 * (heads // groups)) * head, bias=False)
            layer["attn"].out_proj = nn.Linear(heads * head, width, bias=False)
            if config["normalize_qk_projections"]:
                layer["attn"].q_norm, layer["attn"].k_norm = OpenElmNorm(head), OpenElmNorm(head)
            layer["ffn"].proj_1 = nn.Linear(width, inner * (2 if config.get("ffn_with_glu", True) else 1), bias=False)
            layer["ffn"].proj_2 = nn.Linear(inner, width, bias=False)
            self.transformer.layers.append(layer)
        if not config["share_input_output_layers"]:
            self.lm_head = nn.Linear(width, config["vocab_size"], bias=False)

    @staticmethod
    def between(first, last, count):
        return [round(float(value), 2) for value in torch.linspace(first, last, count, dtype=torch.float64)]

    @staticmethod
    def divisible(value, divisor):
        nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
        return nearest + divisor if nearest < 0.9 * value else nearest

    def rotate(self, x):
        size = x.shape[-1]
        frequencies = self.values.get("rope_freq_constant", 10000) ** -(torch.arange(0, size, 2) / size)
        angles = torch.outer(torch.arange(x.shape[-2]).float(), frequencies)
        first, second = x.chunk(2, dim=-1)
        turned = torch.cat((first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()), dim=-1)
        return turned

    def attention(self, attn, x):
        heads, kv_heads = attn.heads
        qkv = attn.qkv_proj(x).unflatten(-1, (-1, self.values["head_dim"])).transpose(1, 2)
        q, k, v = qkv.split([heads, kv_heads, kv_heads], dim=1)
        if hasattr(attn, "q_norm"):
            q, k = attn.q_norm(q), attn.k_norm(k)
        y = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=True, enable_gqa=True)
        return attn.out_proj(y.transpose(1, 2).flatten(2))

    def feed_forward(self, ffn, x):
        activation = {"swish": F.silu, "gelu": F.gelu}[self.values.get("activation_fn_name", "swish")]
        if not self.values.get("ffn_with_glu", True):
            return ffn.proj_2(activation(ffn.proj_1(x)))
        gate, up = ffn.proj_1(x).chunk(2, dim=-1)
        return ffn.proj_2(activation(gate) * up)

    def forward(self, ids):
        x = self.transformer.token_embeddings(ids)
        for layer in self.transformer.layers:
            x = x + self.attention(layer["attn"], layer["attn_norm"](x))
            x = x + self.feed_forward(layer["ffn"], layer["ffn_norm"](x))
        x = self.transformer.norm(x)
        return SimpleNamespace(logits=self.lm_head(x) if hasattr(self, "lm_head") else F.linear(x, self.transformer.token_embeddings.weight))

    def tie_weights(self):
        pass

    def save_pretrained(self, folder):
        folder.mkdir(parents=True)
        config = {"architectures": ["OpenELMForCausalLM"], "model_type": "openelm", **self.values}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        save_model(self, folder / "model.safetensors", metadata={"format": "pt"})


def make(name, config):
    family = name.split("-")[0]
    return OpenElm(config) if family == "openelm" else AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **config))


def probes(model):
    """The embeddings, the first and the last matrix of the layers, all vectors of the last layer, and what comes behind the layers."""
    names = [name for name, _ in model.named_parameters()]
    layers = [name for name in names if ".layers." in name]
    last = layers[-1].split(".layers.")[1].split(".")[0]
    shapes = {name: parameter.dim() for name, parameter in model.named_parameters()}
    matrices = [name for name in layers if shapes[name] == 2]
    vectors = [name for name in layers if shapes[name] == 1 and f".layers.{last}." in name]
    return [name for name in names if name not in layers] + [matrices[0], matrices[-1]] + vectors


def language(folder, model):
    generator = torch.Generator().manual_seed(3)
    sequences = [torch.randint(0, VOCABULARY, (length,), generator=generator) for length in LENGTHS]
    labels = random_labels(sequences, generator)
    logits = [model(ids[None]).logits[0] for ids in sequences]
    loss = total_loss(logits, labels)
    loss.backward()
    parameters = dict(model.named_parameters())
    tensors = {**packed(sequences, labels, logits, loss), **{f"grad.{name}": parameters[name].grad for name in probes(model)}}
    write(folder, model, tensors)
    (folder / "generation_config.json").unlink(missing_ok=True)


def main(root, *names):
    for seed, (name, config) in enumerate(FAMILIES.items(), 40):
        if not names or name in names:
            gain = 0 if name.startswith("gemma") else 1  # theirs is 1 + weight
            language(root / name, randomise(make(name, config), seed, gain))


main(Path(sys.argv[1]), *sys.argv[2:])
