import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import torch
from measure import main, milliseconds, show
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

IMAGE, VOCABULARY, IMAGE_TOKENS, SAMPLES, MOST = 49151, 49152, 49, 4, 47


def prepare(folder):
    vision = SiglipVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=224, patch_size=32, vision_use_head=False
    )
    text = LlamaConfig(
        hidden_size=576,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    captions = torch.randint(3, IMAGE, (SAMPLES, MOST))
    lengths = torch.tensor([15, 47, 26, 36])
    save_file({"lengths": lengths, "captions": captions, "pixels": torch.randn(SAMPLES, 3, 224, 224)}, folder / "data.safetensors")


def run(folder, stage, precision):
    """bfloat16 is what Trainer's bf16=True does: float32 weights, autocast around the forward pass."""
    data = load_file(folder / "data.safetensors")
    ids = torch.zeros(SAMPLES, IMAGE_TOKENS + int(data["lengths"].max()), dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, length in enumerate(data["lengths"].tolist()):
        caption = data["captions"][i, :length]
        ids[i, :IMAGE_TOKENS] = IMAGE
        ids[i, IMAGE_TOKENS : IMAGE_TOKENS + length] = caption
        labels[i, IMAGE_TOKENS : IMAGE_TOKENS + length] = caption
        mask[i, : IMAGE_TOKENS + length] = 1
    dtype = torch.bfloat16 if precision == "bfloat16-pure" else torch.float32
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").train()
    learns = ["multi_modal_projector"] if stage == "align" else ["multi_modal_projector", "language_model", "lm_head"]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in learns))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True)
    pixels = data["pixels"].to(dtype)
    losses = []

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model(input_ids=ids, attention_mask=mask, pixel_values=pixels, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())

    show({"throughput": 1000 * SAMPLES / milliseconds(step, times=7, warmup=3)}, losses)


main(prepare, run)
