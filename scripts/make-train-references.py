"""Writes what a plain PyTorch loop over transformers' Llava gives, for the tests of the training step.

Usage: python scripts/make-train-references.py test/reference        (torch 2.15, transformers 5.23; after make-references.py)

`train-llava/expected.safetensors` holds twelve batches of four conversations (packed), and per step the loss, the gradients' norm and the
learning rate; the start is the checkpoint `llava-clip`. Each conversation is run alone and gradients accumulate, the loss being the mean
over the supervised tokens of all four; weight decay, clipping and the schedule are those of the Hugging Face Trainer.
"""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from safetensors.torch import save_file
from transformers import LlavaForConditionalGeneration, Trainer, get_cosine_schedule_with_warmup

IMAGE, IMAGE_TOKENS, SIDE, STEPS, WARMUP = 60, 9, 12, 12, 3
LEARNING_RATES = {"model.multi_modal_projector.": 2e-2, "": 5e-3}
OPTIONS = dict(betas=(0.9, 0.95), eps=1e-8)
WEIGHT_DECAY, MAX_NORM = 0.1, 0.7


def conversation(generator, images):
    """Image placeholders, a few unsupervised tokens, then supervised ones whose successor follows a rule that can be learned."""
    length = int(torch.randint(3, 9, (), generator=generator))
    start = int(torch.randint(0, IMAGE, (), generator=generator))
    answer = [(start + 7 * i) % IMAGE for i in range(length)]
    ids = [IMAGE] * (IMAGE_TOKENS * images) + [1, start] + answer
    return torch.tensor(ids), torch.tensor([-100] * (len(ids) - length) + answer)


def groups(model):
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    made = []
    for name, parameter in model.named_parameters():
        rate = next(rate for prefix, rate in LEARNING_RATES.items() if name.startswith(prefix))
        made.append(dict(params=[parameter], lr=rate, weight_decay=WEIGHT_DECAY if name in decayed else 0.0))
    return made


def main(root):
    model = LlavaForConditionalGeneration.from_pretrained(root / "llava-clip", attn_implementation="sdpa").train()
    optimizer = torch.optim.AdamW(groups(model), **OPTIONS)
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP, STEPS)
    generator = torch.Generator().manual_seed(50)
    written, losses, norms, rates = {}, [], [], []
    for step in range(STEPS):
        batch = [conversation(generator, images) for images in (1, 0, 2, 1)]
        pixels = torch.randn(4, 3, SIDE, SIDE, generator=generator)
        supervised = sum(int((labels[1:] != -100).sum()) for _, labels in batch)
        total = 0.0
        for (ids, labels), chosen in zip(batch, (pixels[:1], None, pixels[1:3], pixels[3:])):
            logits = model(ids[None], pixel_values=chosen).logits[0]
            loss = torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum") / supervised
            loss.backward()
            total += loss.item()
        losses.append(total)
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM).item())
        rates.append(schedule.get_last_lr()[-1])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        written[f"{step}.ids"] = torch.cat([ids for ids, _ in batch]).int()
        written[f"{step}.labels"] = torch.cat([labels for _, labels in batch]).int()
        written[f"{step}.lengths"] = torch.tensor([len(ids) for ids, _ in batch]).int()
        written[f"{step}.pixels"] = pixels
    written |= {"loss": torch.tensor(losses), "norm": torch.tensor(norms), "learning_rate": torch.tensor(rates)}
    named = dict(model.named_parameters())
    for name in ("model.multi_modal_projector.linear_1.weight", "model.language_model.layers.1.mlp.down_proj.weight", "model.language_model.norm.weight"):
        written[f"final.{name}"] = named[name].detach()
    (root / "train-llava").mkdir(exist_ok=True)
    save_file({name: tensor.contiguous().clone() for name, tensor in written.items()}, root / "train-llava" / "expected.safetensors")
    print(losses, norms, rates, sep="\n")


main(Path(sys.argv[1]))
