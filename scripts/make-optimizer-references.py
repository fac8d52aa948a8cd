"""Writes what torch.optim's Adafactor and Muon make of a few parameters, for the tests of ours.

Usage: python scripts/make-optimizer-references.py test/reference        (torch 2.15)

`optimizers.safetensors` holds the parameters' starts, their gradients in twelve steps, and the ends. Gradients grow and shrink over the steps, so that
clipped and unclipped updates both come up. Adafactor runs with weight decay and without, Muon as `match_rms_adamw`.
"""

import sys
from pathlib import Path

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


main(Path(sys.argv[1]))
