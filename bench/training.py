"""What the Python sides of training benchmarks share: rows as batches, what learns, and the step of a plain loop."""

import torch
from models import IMAGE
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration


def open_llava(folder, stage, dtype=torch.float32):
    """The model with what learns in the stage, and that."""
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").train()
    return model, learn(model, stage)


def learn(model, stage):
    parts = ["multi_modal_projector"] if stage == "align" else ["multi_modal_projector", "language_model", "lm_head"]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def captions(lengths, image_tokens, image=IMAGE):
    """Random captions behind an image's tokens, supervised."""
    rows = [torch.cat([torch.full((image_tokens,), image), torch.randint(3, image, (length,))]) for length in lengths]
    return [(ids, ids.masked_fill(ids == image, -100)) for ids in rows]


def save_rows(path, rows, side, image=IMAGE, batches=None):
    """Rows of ids and labels, with a random image for each that has the placeholder; in one batch unless said otherwise."""
    pictured = sum(bool((ids == image).any()) for ids, _ in rows)
    save_file(
        {
            "ids": torch.cat([ids for ids, _ in rows]),
            "labels": torch.cat([labels for _, labels in rows]),
            "lengths": torch.tensor([len(ids) for ids, _ in rows]),
            "batches": torch.tensor(batches or [len(rows)]),
            "pixels": torch.randint(0, 256, (pictured, 3, side, side), dtype=torch.uint8),
        },
        path,
    )


def open_rows(path, image=IMAGE):
    """The rows, and how many are in each batch."""
    data = load_file(path)
    lengths, images, rows = data["lengths"].tolist(), list(data["pixels"]), []
    for ids, labels in zip(data["ids"].split(lengths), data["labels"].split(lengths)):
        pixels = images.pop(0) if (ids == image).any() else None
        rows.append({"ids": ids, "labels": labels, "pixels": pixels})
    return rows, data["batches"].tolist()


def pixel_values(rows):
    pixels = [row["pixels"] for row in rows if row["pixels"] is not None]
    return torch.stack(pixels).float() / 255 * 2 - 1 if pixels else None


def padded(rows):
    """A batch as transformers' collators make it: padded on the right to the longest."""
    pad = lambda name, value: torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True, padding_value=value)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row["ids"]) for row in rows], batch_first=True)
    return {"input_ids": pad("ids", 0), "attention_mask": mask, "labels": pad("labels", -100), "pixel_values": pixel_values(rows)}


def stepping(trained, loss, lr, weight_decay=0.0):
    """The step of a plain loop, and the losses that it writes down."""
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay, fused=True)
    losses = []

    def step(*batch):
        value = loss(*batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(value.item())

    return step, losses


def autocast(precision):
    """What Trainer's bf16=True does: float32 weights, autocast around the forward pass."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
