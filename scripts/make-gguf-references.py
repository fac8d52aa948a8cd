"""Writes tiny GGUF files, and what the `gguf` package and transformers read in them.

Usage: python scripts/make-gguf-references.py test/reference        (torch 2.15, transformers 5.23, gguf 0.19; needs no network)

`gguf/types.gguf` has a tensor of every type that is read and `types.safetensors` its values; `quantized.safetensors` has values and the bytes of their blocks. `gguf/NAME.gguf` is a tiny random language model, written as
llama.cpp's convert_hf_to_gguf.py does it, and `NAME.safetensors` the logits of the model that it was written from; the weights that transformers' own
reader finds have to give them too. `gguf/tokenizer-NAME.gguf` is a tokenizer of make-processor-references.py.
"""

import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file
from transformers import AutoConfig, AutoModelForCausalLM

# The numbers of a block's float16 fields, counted in float16.
HALVES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 1], Type.Q5_0: [0], Type.Q5_1: [0, 1], Type.Q8_0: [0], Type.Q4_K: [0, 1], Type.Q5_K: [0, 1],
    Type.Q6_K: [104],
}
TINY = dict(vocab_size=45, hidden_size=16, intermediate_size=12, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
FAMILIES = {
    "llama": dict(TINY, model_type="llama", rope_theta=500.0, rms_norm_eps=1e-5, tie_word_embeddings=False),
    "llama3": dict(
        TINY, model_type="llama", num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, tie_word_embeddings=True,
        rope_parameters=dict(
            rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=8192,
        ),
    ),
    "qwen2": dict(TINY, model_type="qwen2", tie_word_embeddings=True),
    "qwen3": dict(TINY, model_type="qwen3", num_hidden_layers=1, head_dim=8, tie_word_embeddings=False),
    "phi3": dict(TINY, model_type="phi3", pad_token_id=0, eos_token_id=1, sliding_window=5, tie_word_embeddings=False),
    # the sequence below is longer than the original length, so the long factors turn it
    "phi3-longrope": dict(
        TINY, model_type="phi3", pad_token_id=0, eos_token_id=1, num_hidden_layers=1, max_position_embeddings=64,
        original_max_position_embeddings=8, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.3], long_factor=[1.2, 9.5]),
    ),
    "gemma3": dict(
        TINY, model_type="gemma3_text", num_hidden_layers=6, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        query_pre_attn_scalar=8, sliding_window=4, tie_word_embeddings=True,
    ),
}
NAMES = {
    "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm", "q_proj": "attn_q",
    "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "qkv_proj": "attn_qkv", "post_attention_layernorm": "ffn_norm",
    "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down", "gate_up_proj": "ffn_up", "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
}
GEMMA = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
}


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_types(folder):
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(folder / "types.gguf", "types")
    expected = {}
    for kind in [Type.F32, Type.F16, Type.BF16, *HALVES]:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows, blocks = 3, 2 if block == 256 else 64 // block
        data = random.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
        if kind in HALVES:
            halves = data.view(np.float16)
            halves[..., HALVES[kind]] = random.uniform(-0.1, 0.1, halves[..., HALVES[kind]].shape)
        else:
            values = random.standard_normal((rows, blocks)).astype(np.float32)
            data = gguf.quants.quantize(values, kind).view(np.uint8)
        data = data.reshape(rows, -1)
        writer.add_tensor(kind.name, data.view(np.float32) if kind == Type.F32 else data, raw_dtype=None if kind == Type.F32 else kind)
        expected[kind.name] = np.ascontiguousarray(gguf.quants.dequantize(data, kind).astype(np.float32).reshape(rows, -1))
    finish(writer)
    save_file(expected, folder / "types.safetensors")


def write_quantized(folder):
    """Values, and the bytes that `gguf` makes of them: of every size, with ties between two levels, and blocks of one value."""
    random = np.random.default_rng(3)
    rows = [
        random.standard_normal((12, 64)) * np.exp(random.uniform(-9, 3, (12, 1))),
        np.round(random.uniform(-127, 127, (6, 64)) * 2) / 2,
        np.zeros((1, 64)), np.full((1, 64), 0.37), np.full((1, 64), -2.0),
    ]
    values = np.concatenate(rows).astype(np.float32)
    kinds = [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]
    made = {kind.name: np.ascontiguousarray(gguf.quants.quantize(values, kind).view(np.uint8)) for kind in kinds}
    save_file({"values": values, **made}, folder / "quantized.safetensors")


def paired(weight, heads):
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def llama3_factors(rope, head):
    """What every rotary frequency is divided by, as the converter has it."""
    factors = []
    low, high = (rope["original_max_position_embeddings"] / rope[f"{side}_freq_factor"] for side in ("low", "high"))
    for exponent in range(0, head, 2):
        length = 2 * np.pi * rope["rope_theta"] ** (exponent / head)
        smooth = (rope["original_max_position_embeddings"] / length - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
        factors.append(1 if length < high else rope["factor"] if length > low else 1 / ((1 - smooth) / rope["factor"] + smooth))
    return factors


def write_model(folder, name, settings):
    torch.manual_seed(0)
    config = AutoConfig.for_model(**settings)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    path = folder / f"{name}.gguf"
    architecture = {"llama3": "llama"}.get(name, name.split("-")[0])
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if architecture in ("gemma3", "qwen3") or name == "llama3":
        writer.add_key_length(head)
        writer.add_value_length(head)
    if architecture in ("llama", "phi3"):
        writer.add_rope_dimension_count(head)
    if name in ("gemma3", "phi3"):
        writer.add_sliding_window(config.sliding_window)
    if name == "llama3":
        writer.add_tensor("rope_freqs.weight", np.array(llama3_factors(rope, head), dtype=np.float32))
    if name == "phi3-longrope":
        original = config.original_max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(config.max_position_embeddings / original) / np.log(original))))
        for length in ("short", "long"):
            writer.add_tensor(f"rope_factors_{length}.weight", np.array(rope[f"{length}_factor"], dtype=np.float32))
    table = {**NAMES, **(GEMMA if name == "gemma3" else {})}
    for key, weight in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        *_, part, kind = key.split(".")
        layer = f"blk.{key.split('.')[2]}." if ".layers." in key else ""
        values = weight.numpy()
        if architecture == "llama" and part in ("q_proj", "k_proj"):
            values = paired(values, config.num_attention_heads if part == "q_proj" else config.num_key_value_heads)
        if name == "gemma3" and part.endswith("norm"):
            values = values + 1
        writer.add_tensor(f"{layer}{table[part]}.{kind}", np.ascontiguousarray(values))
    finish(writer)
    ids = torch.randint(0, config.vocab_size, (1, 13))
    with torch.no_grad():
        logits = model(ids).logits[0]
        # transformers reads the weights right but not all settings: Phi-3's window and Gemma's scale of scores are not the file's
        if name not in ("qwen3", "phi3-longrope"):  # whose settings it does not read
            read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=path.name, dtype=torch.float32)
            model.load_state_dict(read.state_dict())
            apart = (model(ids).logits[0] - logits).abs().max().item()
            print(f"{name}: with the weights of transformers' reader {apart:.1e} apart")
            assert apart < 1e-5
    save_file({"ids": ids[0].numpy(), "logits": logits.numpy()}, folder / f"{name}.safetensors")


def write_tokenizer(folder, name, source):
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    settings = json.loads((source / "tokenizer_config.json").read_text())
    pieces = name == "prepend"
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    kinds = {token: gguf.TokenType.BYTE if pieces and token.startswith("<0x") else gguf.TokenType.NORMAL for token, _ in vocabulary}
    for added in tokenizer["added_tokens"]:
        kinds[added["content"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    if pieces:
        kinds["<unk>"] = gguf.TokenType.UNKNOWN
    tokens = list(kinds)
    writer = gguf.GGUFWriter(folder / f"tokenizer-{name}.gguf", "llama")
    writer.add_tokenizer_model("llama" if pieces else "gpt2")
    writer.add_tokenizer_pre("default" if pieces else "gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(list(kinds.values()))
    if pieces:
        made = ["".join(merge) for merge in tokenizer["model"]["merges"]]
        writer.add_token_scores([float(-made.index(token)) if token in made else -1e6 for token in tokens])
    else:
        writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    for field, add in dict(bos_token=writer.add_bos_token_id, eos_token=writer.add_eos_token_id, pad_token=writer.add_pad_token_id, unk_token=writer.add_unk_token_id).items():
        if field in settings:
            add(tokens.index(settings[field]))
    writer.add_add_bos_token(pieces)
    writer.add_chat_template("{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}")
    finish(writer)


if __name__ == "__main__":
    reference = Path(sys.argv[1])
    target = reference / "gguf"
    target.mkdir(parents=True, exist_ok=True)
    write_types(target)
    write_quantized(target)
    for each in ("byte-level", "prepend"):
        write_tokenizer(target, each, reference / f"processor-tokenizer-{each}")
    for family, fields in FAMILIES.items():
        write_model(target, family, fields)
