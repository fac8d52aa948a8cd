import json
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import numpy
import torch
from measure import main, show
from PIL import Image
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

IMAGE, VOCABULARY, ANSWER, BATCH = 49151, 49152, 2, 16
# Side and patch of the tower by the image tokens that they give.
TOWERS = {196: (224, 16), 729: (378, 14)}
# Images and questions about each: POPE asks 18, MME 2.
SHAPES = {"pope": {196: (6, 18), 729: (2, 18)}, "mme": {196: (30, 2), 729: (9, 2)}}


def prepare(folder):
    text = LlamaConfig(
        hidden_size=576,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        intermediate_size=1536,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        initializer_range=0.041666666666666664,
        rope_theta=100000.0,
        rms_norm_eps=1e-5,
        eos_token_id=None,
    )
    for tokens, (side, patch) in TOWERS.items():
        vision = SiglipVisionConfig(
            hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4, image_size=side, patch_size=patch, vision_use_head=False
        )
        config = LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=IMAGE,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
            tie_word_embeddings=True,
        )
        LlavaForConditionalGeneration(config).save_pretrained(folder / str(tokens))
        for shape, sizes in SHAPES.items():
            images, asked = sizes[tokens]
            draw = numpy.random.default_rng(tokens)
            for i in range(images):
                Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=numpy.uint8)).save(folder / f"{shape}-{tokens}-{i}.png")
            # As a template has it: words before the image, a question that begins like the others and has 6 to 14 words of its own, words that end the turn.
            begin, like, end = (draw.integers(3, IMAGE, n).tolist() for n in (12, 5, 6))
            questions = [
                {"image": i, "ids": begin + [IMAGE] * tokens + like + draw.integers(3, IMAGE, draw.integers(6, 15)).tolist() + end}
                for i in range(images)
                for _ in range(asked)
            ]
            (folder / f"{shape}-{tokens}.json").write_text(json.dumps(questions))


def pixels(path):
    values = torch.from_numpy(numpy.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1).float()
    return (values / 255 - 0.5) / 0.5


@torch.inference_mode()
def run(folder, shape, tokens):
    model = LlavaForConditionalGeneration.from_pretrained(folder / tokens, dtype=torch.float32, attn_implementation="sdpa").eval()
    questions = json.loads((folder / f"{shape}-{tokens}.json").read_text())

    def answer(batch):
        longest = max(len(one["ids"]) for one in batch)
        ids = torch.tensor([[0] * (longest - len(one["ids"])) + one["ids"] for one in batch])
        mask = torch.tensor([[0] * (longest - len(one["ids"])) + [1] * len(one["ids"]) for one in batch])
        images = torch.stack([pixels(folder / f"{shape}-{tokens}-{one['image']}.png") for one in batch])
        out = model.generate(
            input_ids=ids, attention_mask=mask, pixel_values=images, max_new_tokens=ANSWER, min_new_tokens=ANSWER, do_sample=False, pad_token_id=0
        )
        return out[:, longest:].flatten().tolist()

    answer(questions[:1])
    start = time.perf_counter()
    answers = [id for i in range(0, len(questions), BATCH) for id in answer(questions[i : i + BATCH])]
    show({"questions": len(questions) / (time.perf_counter() - start)}, answers)


main(prepare, run)
