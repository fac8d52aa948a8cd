"""Writes tiny random Hugging Face checkpoints and what transformers computes with them, for the parity tests.

Usage: python scripts/make-references.py test/reference        (torch 2.15, transformers 5.23; needs no network)

Every folder is what `save_pretrained` writes plus `expected.safetensors`: inputs, outputs, and gradients under the key that the
parameter has in a checkpoint of ours. All in float32.
"""

import sys
from pathlib import Path

from references import IMAGE, packed, random_labels, randomise, total_loss, write  # first: it sets the environment

import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipVisionConfig,
    SiglipVisionModel,
)

# Sizes are odd on purpose: a swapped dimension must not fit.
CLIP = dict(hidden_size=24, intermediate_size=36, num_hidden_layers=3, num_attention_heads=3, image_size=12, patch_size=4)
# 10 is no multiple of 4: the rest of the image is cut off, as 384 / 14 does in the published towers.
SIGLIP = dict(hidden_size=16, intermediate_size=28, num_hidden_layers=3, num_attention_heads=2, image_size=10, patch_size=4)
LLAMA = dict(vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, max_position_embeddings=64)
LLAMAS = {
    # one key/value head for all; sharded on purpose
    "llama-mqa": dict(LLAMA, num_attention_heads=4, num_key_value_heads=1, rms_norm_eps=1e-5),
    "llama-tied-biases": dict(
        LLAMA,
        num_attention_heads=3,
        head_dim=10,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
        rope_parameters=dict(
            rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=16,
        ),
    ),
    "llama-linear-rope": dict(
        LLAMA, num_attention_heads=6, num_key_value_heads=2, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.5)
    ),
}


def our_key(name):
    """transformers 5 dropped the level `vision_model` in memory; files of every version that has it load everywhere."""
    return name.replace("model.vision_tower.", "model.vision_tower.vision_model.")


def gradients(model, names):
    found = dict(model.named_parameters())
    return {f"grad.{our_key(name)}": found[name].grad.clone() for name in names}


def pixels(count, side, seed):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def vision(folder, model, side):
    values = pixels(2, side, 1)
    states = model(values, output_hidden_states=True).hidden_states
    probe = torch.randn(states[-2].shape, generator=torch.Generator().manual_seed(2))
    (states[-2] * probe).sum().backward()
    names = ["embeddings.patch_embedding.weight", "embeddings.position_embedding.weight", "encoder.layers.0.self_attn.q_proj.weight"]
    names += ["encoder.layers.1.mlp.fc2.bias", "encoder.layers.1.layer_norm2.weight"]
    if hasattr(model, "pre_layrnorm"):
        names += ["embeddings.class_embedding", "pre_layrnorm.bias"]
    grads = {f"grad.vision_model.{name}": dict(model.named_parameters())[name].grad for name in names}
    write(folder, model, {"pixel_values": values, "probe": probe, **{f"hidden.{i}": s for i, s in enumerate(states)}, **grads})


def language(folder, model, **options):
    generator = torch.Generator().manual_seed(3)
    sequences = [torch.randint(0, IMAGE, (length,), generator=generator) for length in (7, 7, 1, 40)]
    labels = random_labels(sequences, generator)
    outputs = [model(ids[None], output_hidden_states=True) for ids in sequences]
    logits = [output.logits[0] for output in outputs]
    loss = total_loss(logits, labels)
    loss.backward()
    names = ["model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.gate_proj.weight"]
    names += ["model.layers.1.input_layernorm.weight", "model.norm.weight"]
    names += [name for name, _ in model.named_parameters() if name == "lm_head.weight" or name == "model.layers.0.mlp.down_proj.bias"]
    hidden = torch.cat([output.hidden_states[-1][0] for output in outputs])
    write(folder, model, {**packed(sequences, labels, logits, loss), "hidden": hidden, **gradients(model, names)}, **options)


def multimodal(folder, model, image_tokens, side):
    """Four sequences, each run alone: an image amid text, two images in a row, text only, an image at the very start."""
    generator = torch.Generator().manual_seed(4)
    text = lambda count: torch.randint(0, IMAGE, (count,), generator=generator)
    image = torch.full((image_tokens,), IMAGE)
    sequences = [
        torch.cat([text(3), image, text(5)]),
        torch.cat([text(2), image, image, text(4)]),
        text(6),
        torch.cat([image, text(3)]),
    ]
    labels = random_labels(sequences, generator)
    values = pixels(4, side, 5)
    chosen = [values[:1], values[1:3], None, values[3:]]
    logits = [model(ids[None], pixel_values=pixel).logits[0] for ids, pixel in zip(sequences, chosen)]
    loss = total_loss(logits, labels)
    loss.backward()
    names = ["model.vision_tower.embeddings.patch_embedding.weight", "model.vision_tower.encoder.layers.0.self_attn.q_proj.weight"]
    names += ["model.multi_modal_projector.linear_1.weight", "model.multi_modal_projector.linear_2.weight"]
    names += ["model.language_model.embed_tokens.weight", "model.language_model.layers.0.self_attn.v_proj.weight"]
    features = torch.stack(list(model.get_image_features(values).pooler_output))
    tensors = {**packed(sequences, labels, logits, loss), "pixel_values": values, "image_features": features}
    if not hasattr(model.model.vision_tower, "pre_layrnorm"):
        dropped = model.get_image_features(values, vision_feature_select_strategy="default").pooler_output
        tensors["image_features.first_patch_dropped"] = torch.stack(list(dropped))
    write(folder, model, {**tensors, **gradients(model, names)})


def main(root):
    vision(root / "clip", randomise(CLIPVisionModel(CLIPVisionConfig(**CLIP)), 10), 12)
    vision(root / "siglip", randomise(SiglipVisionModel(SiglipVisionConfig(**SIGLIP)), 11), 10)
    for seed, (name, config) in enumerate(LLAMAS.items(), 20):
        options = dict(max_shard_size="16KB") if name == "llama-mqa" else {}
        language(root / name, randomise(LlamaForCausalLM(LlamaConfig(**config)), seed), **options)

    llava = LlavaConfig(
        vision_config=CLIPVisionConfig(**CLIP), text_config=LlamaConfig(**LLAMAS["llama-mqa"]), image_token_index=IMAGE, image_seq_length=9
    )
    multimodal(root / "llava-clip", randomise(LlavaForConditionalGeneration(llava), 30), 9, 12)
    llava = LlavaConfig(
        vision_config=CLIPVisionConfig(**CLIP), text_config=LlamaConfig(**LLAMAS["llama-linear-rope"]), image_token_index=IMAGE,
        image_seq_length=10, vision_feature_layer=[1, -1], vision_feature_select_strategy="full", multimodal_projector_bias=False,
        projector_hidden_act="quick_gelu",
    )
    multimodal(root / "llava-clip-two-layers", randomise(LlavaForConditionalGeneration(llava), 31), 10, 12)
    llava = LlavaConfig(
        vision_config=SiglipVisionConfig(**SIGLIP, vision_use_head=False), text_config=LlamaConfig(**LLAMAS["llama-tied-biases"]),
        image_token_index=IMAGE, image_seq_length=4, vision_feature_layer=-1, vision_feature_select_strategy="full",
    )
    multimodal(root / "llava-siglip", randomise(LlavaForConditionalGeneration(llava), 32), 4, 10)


main(Path(sys.argv[1]))
