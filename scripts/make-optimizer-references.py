"""Writes what torch.optim's Adafactor and Muon make of a few parameters, and what AdamW with moments in eight bits makes of one, for the tests of ours.

Usage: python scripts/make-optimizer-references.py test/reference        (torch 2.15)

`optimizers.safetensors` holds the parameters' starts, their gradients in twelve steps, and the ends. Gradients grow and shrink over the steps, so that
clipped and unclipped updates both come up. Adafactor runs with weight decay and without, Muon as `match_rms_adamw`.

`adamw-8bit.safetensors` holds the ends alone: starts and gradients are numbers that the tests make again. It is written out here from the paper
(Dettmers et al. 2022, arXiv:2110.02861), with the nearest code found by trying all of them; as in ours, a square that is not zero stays above zero.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

STEPS = 12
SHAPES = {"wide": (5, 19), "tall": (33, 6), "square": (16, 16), "vector": (21,), "kernel": (4, 3, 5, 2)}


def run(starts, gradients, make):
    parameters = {name: torch.nn.Parameter(start.clone()) for name, start in starts.items()}
    optimizer = make(list(parameters.values()))
    for step in range(STEPS):
        for name, parameter in parameters.items():
            parameter.grad = gradients[name][step].clone()
        optimizer.step()
    return {name: parameter.detach() for name, parameter in parameters.items()}


BLOCK = 256
COUNT = 5000


def shares(signed):
    """The dynamic map: seven decades with ever more pieces, 0 and 1."""
    found = [0.0, 1.0]
    for decade in range(7):
        borders = np.linspace(0.1, 1, 2**decade + 1 if signed else 2 ** (decade + 1) + 1)
        middles = 10.0 ** (decade - 6) * (borders[:-1] + borders[1:]) / 2
        found += [*middles, *(-middles if signed else [])]
    assert len(found) == 256
    return np.sort(np.array(found)).astype(np.float32)


def encode(values, code, positive):
    scale = np.abs(values).max(1)
    part = values / np.where(scale == 0, 1, scale)[:, None]
    nearest = np.abs(part[..., None].astype(np.float64) - code.astype(np.float64)).argmin(-1)
    return np.where(positive & (part > 0), np.maximum(nearest, 1), nearest).astype(np.uint8), scale


def in_blocks(values):
    return np.pad(values, (0, -len(values) % BLOCK)).reshape(-1, BLOCK)


def gradient(step):
    """Sixteen bits of a mixed word, halved up to twelve times by the element's place, so that blocks have many sizes in them; the fourth block has none."""
    place = np.arange(COUNT, dtype=np.uint64)
    word = (place + 1) * 2654435761 ^ np.uint64((step + 1) * 2246822519)
    word &= 0xFFFFFFFF
    word ^= word >> 15
    word = word * 2246822519 & 0xFFFFFFFF
    word ^= word >> 13
    size = 2.0 ** -(place * 11 % 13).astype(np.float64)
    values = ((word & 0xFFFF).astype(np.float64) - 32768) / 32768 * size
    values[3 * BLOCK : 4 * BLOCK] = 0
    return values.astype(np.float32)


def eight_bit(learning_rate=1e-3, beta1=0.9, beta2=0.99, eps=1e-8, decay=0.1):
    f = np.float32
    weight = ((np.arange(COUNT) * 37 % 101 - 50) / 64).astype(f)
    codes = {"mean": shares(True), "square": shares(False)}
    zeros = in_blocks(np.zeros(COUNT, f))
    state = {"mean": encode(zeros, codes["mean"], False), "square": encode(zeros, codes["square"], True)}
    for step in range(STEPS):
        g = in_blocks(gradient(step))
        mean, square = (codes[name][code] * scale[:, None] for name, (code, scale) in state.items())
        mean = mean + (g - mean) * f(1 - beta1)
        square = square * f(beta2) + g * g * f(1 - beta2)
        root = f(np.sqrt(1 - beta2 ** (step + 1)))
        change = f(learning_rate / (1 - beta1 ** (step + 1))) * (mean / (np.sqrt(square) / root + f(eps)))
        weight = weight - weight * f(learning_rate * decay) - change.reshape(-1)[:COUNT]
        state = {"mean": encode(mean, codes["mean"], False), "square": encode(square, codes["square"], True)}
    ends = {f"{name}{part}": value.reshape(-1)[:COUNT] for name, pair in state.items() for part, value in zip(("", "Scale"), pair)}
    return {"weight": weight, **ends}


def main(root):
    generator = torch.Generator().manual_seed(6)
    starts = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    sizes = torch.logspace(-3, 1, STEPS)
    gradients = {
        name: torch.randn((STEPS, *shape), generator=generator) * sizes.view(-1, *[1] * len(shape)) for name, shape in SHAPES.items()
    }
    written = {f"start.{name}": start for name, start in starts.items()} | {f"gradient.{name}": value for name, value in gradients.items()}
    adafactor = lambda decay: lambda parameters: torch.optim.Adafactor(parameters, lr=0.02, weight_decay=decay, foreach=False)
    muon = lambda parameters: torch.optim.Muon(parameters, lr=3e-3, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    matrices = {name: start for name, start in starts.items() if start.dim() == 2}
    for kind, chosen, make in (("adafactor", starts, adafactor(0.0)), ("decayed", starts, adafactor(0.1)), ("muon", matrices, muon)):
        written |= {f"{kind}.{name}": end for name, end in run(chosen, gradients, make).items()}
    save_file({name: tensor.contiguous().clone() for name, tensor in written.items()}, root / "optimizers.safetensors")
    save_file({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in eight_bit().items()}, root / "adamw-8bit.safetensors")


main(Path(sys.argv[1]))
