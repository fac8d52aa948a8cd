import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import torch
from measure import main, milliseconds, show
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

IMAGE, VOCABULARY, IMAGE_TOKENS, SAMPLES = 31999, 32000, 196, 8


def prepare(folder):
    vision = SiglipVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4, image_size=224, patch_size=16, vision_use_head=False
    )
    text = LlamaConfig(
        hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8, intermediate_size=1408, vocab_size=VOCABULARY
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE, vision_feature_layer=-1, vision_feature_select_strategy="full"
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    lengths = torch.tensor([10, 50, 18, 42, 27, 33, 22, 38])
    captions = torch.randint(3, IMAGE, (SAMPLES, 50))
    save_file({"lengths": lengths, "captions": captions, "pixels": torch.randn(SAMPLES, 3, 224, 224)}, folder / "data.safetensors")


def run(folder, stage):
    data = load_file(folder / "data.safetensors")
    ids = torch.zeros(SAMPLES, IMAGE_TOKENS + int(data["lengths"].max()), dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, length in enumerate(data["lengths"].tolist()):
        caption = data["captions"][i, :length]
        ids[i, :IMAGE_TOKENS] = IMAGE
        ids[i, IMAGE_TOKENS : IMAGE_TOKENS + length] = caption
        labels[i, IMAGE_TOKENS : IMAGE_TOKENS + length] = caption
        mask[i, : IMAGE_TOKENS + length] = 1
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").train()
    learns = ["multi_modal_projector"] if stage == "align" else ["multi_modal_projector", "language_model", "lm_head"]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in learns))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, fused=True)
    losses = []

    def step():
        loss = model(input_ids=ids, attention_mask=mask, pixel_values=data["pixels"], labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())

    show({"throughput": 1000 * SAMPLES / milliseconds(step, times=5, warmup=2)}, losses)


main(prepare, run)
