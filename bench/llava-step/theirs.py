import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from measure import main, milliseconds, show
from models import save_llava
from training import captions, open_llava, open_rows, padded, save_rows, stepping
from transformers import LlamaConfig, SiglipVisionConfig

IMAGE, VOCABULARY, IMAGE_TOKENS = 31999, 32000, 196
LENGTHS = [10, 50, 18, 42, 27, 33, 22, 38]


def prepare(folder):
    vision = SiglipVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4, image_size=224, patch_size=16, vision_use_head=False
    )
    text = LlamaConfig(
        hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8, intermediate_size=1408, vocab_size=VOCABULARY
    )
    save_llava(folder, vision, text, IMAGE)
    save_rows(folder / "data.safetensors", captions(LENGTHS, IMAGE_TOKENS, IMAGE), 224, IMAGE)


def run(folder, stage):
    rows, _ = open_rows(folder / "data.safetensors", IMAGE)
    model, trained = open_llava(folder, stage)
    batch = padded(rows)
    step, losses = stepping(trained, lambda: model(**batch, use_cache=False).loss, lr=1e-3)
    show({"throughput": 1000 * len(rows) / milliseconds(step, times=5, warmup=2)}, losses)


main(prepare, run)
