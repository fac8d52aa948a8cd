"""Writes tiny models that show an image in several views, with their processors, and what transformers makes of prompts with images.

Usage: python scripts/make-views-references.py test/reference        (torch 2.15, torchvision, transformers 5.23, Pillow 13; needs no network)

It takes the byte-level tokenizer and rgb.png that make-processor-references.py wrote.
"""

import importlib
import json
import shutil
import sys
from pathlib import Path

from references import randomise  # first: it sets the environment

import numpy as np
import torch
import transformers as hf
from PIL import Image
from safetensors.torch import save_file
from tokenizers import AddedToken

module = importlib.import_module(f"{Path(__file__).stem.replace('views', 'processor')}")
module.left_to_right_first()

SIDE = 12
CLIP = dict(hidden_size=16, intermediate_size=20, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=4)
LLAMA = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, max_position_embeddings=512)


def tokenizer(folder, tokens, named={}):
    made = hf.AutoTokenizer.from_pretrained(folder / "processor-tokenizer-byte-level", extra_special_tokens=named)
    made.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return made


def pictures(folder):
    """A picture that is wide, one that is tall and one that fits into a single view."""
    target = folder / "views-images"
    target.mkdir(exist_ok=True)
    for name, size in {"wide": (14, 45), "tall": (41, 17), "small": (11, 12)}.items():
        Image.fromarray(module.photo(*size, seed=len(name))).save(target / f"{name}.png")
    return {name: Image.open(target / f"{name}.png").convert("RGB") for name in ("wide", "tall", "small")}


def llava_next(folder):
    words = tokenizer(folder, ["<image>"])
    vision = hf.CLIPVisionConfig(**CLIP)
    text = hf.LlamaConfig(vocab_size=len(words), **LLAMA)
    pinpoints = [[12, 24], [24, 12], [24, 24], [36, 12], [12, 36]]
    config = hf.LlavaNextConfig(vision_config=vision, text_config=text, image_grid_pinpoints=pinpoints, image_token_index=words.convert_tokens_to_ids("<image>"))
    images = hf.LlavaNextImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=pinpoints)
    processor = hf.LlavaNextProcessor(images, words, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1)
    return hf.LlavaNextForConditionalGeneration(config), processor, "<image>"


def llava_onevision(folder):
    words = tokenizer(folder, ["<image>", "<video>"])
    vision = hf.SiglipVisionConfig(**CLIP | dict(num_attention_heads=4), vision_use_head=False)
    text = hf.Qwen2Config(vocab_size=len(words), **LLAMA)
    pinpoints = [[height, width] for height in (12, 24, 36) for width in (12, 24, 36, 48)]
    ids = dict(image_token_index=words.convert_tokens_to_ids("<image>"), video_token_index=words.convert_tokens_to_ids("<video>"))
    config = hf.LlavaOnevisionConfig(vision_config=vision, text_config=text, image_grid_pinpoints=pinpoints, vision_aspect_ratio="anyres_max_2", **ids)
    images = hf.LlavaOnevisionImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=pinpoints)
    videos = hf.LlavaOnevisionVideoProcessor(size={"height": SIDE, "width": SIDE})
    options = dict(num_image_tokens=9, vision_feature_select_strategy="full", vision_aspect_ratio="anyres_max_2")
    return hf.LlavaOnevisionForConditionalGeneration(config), hf.LlavaOnevisionProcessor(images, words, videos, **options), "<image>"


def idefics3(folder):
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    words = tokenizer(folder, ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *rows])
    vision = dict(CLIP, image_size=16)
    text = hf.LlamaConfig(vocab_size=len(words), **LLAMA)
    config = hf.Idefics3Config(vision_config=vision, text_config=text, scale_factor=2, image_token_id=words.convert_tokens_to_ids("<image>"))
    images = hf.Idefics3ImageProcessorPil(size={"longest_edge": 48}, max_image_size={"longest_edge": 16})
    return hf.Idefics3ForConditionalGeneration(config), hf.Idefics3Processor(images, words, image_seq_len=4), "<image>"


def smolvlm(folder):
    """The same under the names of SmolVLM, with a tied head, and images that are not split."""
    words = tokenizer(folder, ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"])
    text = hf.LlamaConfig(vocab_size=len(words), **LLAMA)
    config = hf.SmolVLMConfig(vision_config=dict(CLIP, image_size=12), text_config=text, scale_factor=3, image_token_id=words.convert_tokens_to_ids("<image>"), tie_word_embeddings=True)
    images = hf.SmolVLMImageProcessorPil(size={"longest_edge": 24}, max_image_size={"longest_edge": 12}, do_image_splitting=False)
    videos = hf.SmolVLMVideoProcessor(size={"longest_edge": 24}, max_image_size={"longest_edge": 12}, video_sampling={"fps": 1, "max_frames": 4, "video_size": {"longest_edge": 24}})
    return hf.SmolVLMForConditionalGeneration(config), hf.SmolVLMProcessor(images, words, videos, image_seq_len=1), "<image>"


def internvl(folder, **odd):
    named = dict(start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>")
    words = tokenizer(folder, list(named.values()), named)
    vision = hf.InternVLVisionConfig(**CLIP | dict(image_size=[16, 16], patch_size=[4, 4]), **odd)
    text = hf.Qwen2Config(vocab_size=len(words), **LLAMA)
    config = hf.InternVLConfig(vision_config=vision, text_config=text, image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"), image_seq_length=4, tie_word_embeddings=False)
    images = hf.GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, min_patches=1, max_patches=6)
    videos = hf.InternVLVideoProcessor(size={"height": 16, "width": 16})
    return hf.InternVLForConditionalGeneration(config), hf.InternVLProcessor(images, words, videos, image_seq_length=4), "<IMG_CONTEXT>"


def internvl_odd(folder):
    return internvl(folder, attention_bias=True, use_qk_norm=True, norm_type="rms_norm")


def prompts(token):
    return {
        "wide": (["wide"], f"What is {token}?"),
        "tall": (["tall"], f"{token}\nWhat color is the shape?"),
        "small": (["small"], f"USER: {token} it"),
        "two": (["tall", "wide"], f"Is {token} like\n{token}\n?"),
    }


def run(folder, name, make, images):
    target = folder / f"views-{name}"
    shutil.rmtree(target, ignore_errors=True)
    model, processor, token = make(folder)
    randomise(model, sum(map(ord, name)))
    expected = {}
    for label, (shown, text) in prompts(token).items():
        given = [images[each] for each in shown]
        nested = [given] if name == "llava_onevision" else given
        inputs = processor(images=nested, text=text, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        pixels = inputs["pixel_values"].flatten(0, -4)
        if pixels.dim() == 3:
            pixels = inputs["pixel_values"]
        kept = [view for view in pixels if view.abs().sum() > 0]  # views that only fill a batch are zeros
        expected |= {f"{label}.ids": inputs["input_ids"][0].int(), f"{label}.pixels": torch.stack(kept), f"{label}.logits": logits[-4:]}
    model.save_pretrained(target)
    processor.save_pretrained(target)
    save_file({key: value.contiguous().clone() for key, value in expected.items()}, target / "expected.safetensors")
    for written in target.iterdir():
        written.chmod(0o644)
    (target / "prompts.json").write_text(json.dumps(prompts(token)))


if __name__ == "__main__":
    reference = Path(sys.argv[1])
    shown = pictures(reference)
    for make in (llava_next, llava_onevision, idefics3, smolvlm, internvl, internvl_odd):
        run(reference, make.__name__, make, shown)
