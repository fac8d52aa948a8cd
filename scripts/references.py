"""What the scripts that write references share: random parameters, packed inputs, the loss, the folder."""

import os
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from safetensors.torch import save_file

IMAGE = 60  # the placeholder's token id


def randomise(model, seed, gain=1):
    """Every parameter gets values that matter: transformers starts biases at zero and most weights near it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(gain + 0.2 * noise)
            elif parameter.dim() == 1 or "embed" in name:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
    model.tie_weights()
    return model.eval()


def total_loss(logits, labels):
    """Mean cross-entropy over every labelled token of every sequence; position t predicts labels[t + 1]."""
    losses = [torch.nn.functional.cross_entropy(x[:-1], y[1:], reduction="sum", ignore_index=-100) for x, y in zip(logits, labels)]
    return sum(losses) / sum(int((y[1:] != -100).sum()) for y in labels)


def random_labels(sequences, generator):
    labels = []
    for ids in sequences:
        supervised = (torch.rand(ids.shape, generator=generator) < 0.6) & (ids != IMAGE)
        labels.append(torch.where(supervised, ids, -100))
    return labels


def packed(sequences, labels, logits, loss):
    return {
        "input_ids": torch.cat(sequences),
        "labels": torch.cat(labels),
        "lengths": torch.tensor([len(ids) for ids in sequences]),
        "logits": torch.cat(logits),
        "loss": loss.reshape(1),
    }


def write(folder, model, tensors, **options):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **options)
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, folder / "expected.safetensors")
