"""Writes test/reference/torch-file-old/: a dictionary of tensors as torch.save wrote it before PyTorch 1.6, and the same as safetensors.

    python scripts/make-torch-file-references.py    needs torch and safetensors
"""

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

folder = Path(__file__).parent.parent / "test/reference/torch-file-old"
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
shared = torch.randn(6, 5)
tensors = OrderedDict(
    weight=torch.nn.Parameter(torch.randn(3, 4)),
    half=torch.randn(3).half(),
    # three elements of two bytes leave the numbers behind them at odd places
    counted=torch.tensor(7),
    turned=torch.randn(4, 2).t(),
    brain=torch.randn(2, 2, 3).bfloat16(),
    rows=shared[2:4],
    whole=shared,
    empty=torch.zeros(0, 3),
)
torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
save_file({key: value.detach().clone().contiguous() for key, value in tensors.items()}, folder / "expected.safetensors")
