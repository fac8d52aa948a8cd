"""Writes tiny random vision towers and connectors and what Python computes with them, for the parity tests.

Usage: python scripts/make-vision-references.py test/reference [name …]      (torch 2.15, transformers 5.23; needs no network)

The towers and connectors that transformers has come out of transformers; the rest is written here from the formulas, with the file that
was followed. A folder holds the part as `save_pretrained` writes it and `expected.safetensors`: inputs, outputs, and gradients of
(output · probe) under the keys of the checkpoint. All in float32.
"""

import copy
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
import transformers
from safetensors.torch import load_file, save_file

transformers.utils.logging.disable_progress_bar()


def randomise(model, seed):
    """Every parameter gets values that matter: many start at zero, at one, or near them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if ("norm" in name and name.endswith("weight")) or "lambda" in name:
                parameter.copy_(1 + 0.2 * noise)
            elif parameter.dim() == 1 or "embed" in name or "token" in name:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return model.eval()


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def own(tensors):
    return {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}


def stored_gradients(model):
    """The gradients under the names that `save_pretrained` gives the parameters."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for (name, parameter), source in zip(twin.named_parameters(), model.parameters()):
            parameter.copy_(torch.full_like(parameter, torch.nan) if source.grad is None else source.grad)
    with tempfile.TemporaryDirectory() as folder:
        twin.save_pretrained(folder)
        return {name: grad for name, grad in load_file(Path(folder) / "model.safetensors").items() if not grad.isnan().any()}


def chosen(grads):
    """One of each kind of parameter: the first block stands for all."""
    return {f"grad.{name}": grad for name, grad in grads.items() if grad.numel() and not any(f".{i}." in f".{name}" for i in range(1, 9))}


def tower(root, name, model, seed, side, larger=(), prefix="", run=None):
    """Hidden states at the tower's own size, and those of the last layer at other sizes."""
    run = run or (lambda pixels, **options: model(pixels, output_hidden_states=True, **options).hidden_states)
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    randomise(model, seed)
    pixels = draw(2, 3, side, side, seed=1)
    states = run(pixels)
    probe = draw(*states[-2].shape, seed=2)
    (states[-2] * probe).sum().backward()
    tensors = {"pixel_values": pixels, "probe": probe, **{f"hidden.{i}": state for i, state in enumerate(states)}}
    for other in larger:
        values = draw(1, 3, other, other, seed=3)
        options = dict(interpolate_pos_encoding=True) if name.startswith(("vision-clip", "vision-siglip-")) else {}
        tensors.update({f"pixel_values.{other}": values, f"hidden.at.{other}": run(values, **options)[-1]})
    grads = {key if key.startswith(f"grad.{prefix}") else key.replace("grad.", f"grad.{prefix}"): grad for key, grad in chosen(stored_gradients(model)).items()}
    model.save_pretrained(folder)
    save_file(own({**tensors, **grads}), folder / "expected.safetensors")


EVEN = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=2)
# Sizes that share no factor: a swapped dimension must not fit, and the last pixels of an image are left over.
ODD = dict(hidden_size=15, num_hidden_layers=2, num_attention_heads=3)


def siglip2_patches(pixels, patch):
    """What Siglip2ImageProcessor makes of an image whose sides are multiples of the patch."""
    batch, channels, height, width = pixels.shape
    grid = pixels.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * channels)


def siglip2(root, name, config, seed, side, larger):
    model = transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**config))
    patch = config["patch_size"]

    def run(pixels):
        count = pixels.shape[-1] // patch
        whole = pixels[..., : count * patch, : count * patch]
        shapes = torch.tensor([[count, count]] * len(pixels))
        mask = torch.ones(len(pixels), count * count)
        return model(siglip2_patches(whole, patch), mask, shapes, output_hidden_states=True).hidden_states

    tower(root, name, model, seed, side, larger, prefix="vision_model.", run=run)


def towers(root, wanted):
    t = transformers
    clip = lambda **config: t.CLIPVisionModel(t.CLIPVisionConfig(**config))
    siglip = lambda **config: t.SiglipVisionModel(t.SiglipVisionConfig(vision_use_head=False, **config))
    dinov2 = lambda **config: t.Dinov2Model(t.Dinov2Config(**config))
    registers = lambda **config: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**config))
    dinov3 = lambda **config: t.DINOv3ViTModel(t.DINOv3ViTConfig(**config))
    four = dict(ODD, hidden_size=24)  # DINOv3 wants heads of a multiple of four
    makers = {
        "vision-clip-resized": lambda name: tower(root, name, clip(**ODD, intermediate_size=28, image_size=13, patch_size=4), 40, 13, (16, 22), "vision_model."),
        "vision-siglip-resized": lambda name: tower(root, name, siglip(**ODD, intermediate_size=28, image_size=13, patch_size=4), 41, 13, (16, 22), "vision_model."),
        "vision-siglip2": lambda name: siglip2(root, name, dict(EVEN, intermediate_size=20, patch_size=4, num_patches=16), 42, 16, (12, 24)),
        "vision-siglip2-odd": lambda name: siglip2(root, name, dict(ODD, intermediate_size=28, patch_size=3, num_patches=9, vision_use_head=False), 43, 9, (17,)),
        "vision-dinov2": lambda name: tower(root, name, dinov2(**EVEN, image_size=16, patch_size=4, mlp_ratio=2), 44, 16, (12, 24)),
        "vision-dinov2-odd": lambda name: tower(root, name, dinov2(**ODD, image_size=13, patch_size=4, mlp_ratio=2, qkv_bias=False, use_mask_token=False), 45, 13, (19,)),
        "vision-dinov2-swiglu": lambda name: tower(root, name, dinov2(**ODD, image_size=8, patch_size=4, use_swiglu_ffn=True, mlp_ratio=2), 46, 8),
        "vision-dinov2-registers": lambda name: tower(root, name, registers(**EVEN, image_size=16, patch_size=4, mlp_ratio=2), 47, 16, (12, 24)),
        "vision-dinov2-registers-odd": lambda name: tower(root, name, registers(**ODD, image_size=13, patch_size=4, num_register_tokens=3, mlp_ratio=2), 48, 13, (19, 9)),
        "vision-dinov3": lambda name: tower(root, name, dinov3(**dict(EVEN, hidden_size=16), intermediate_size=20, image_size=16, patch_size=4), 49, 16, (12,)),
        "vision-dinov3-odd": lambda name: tower(root, name, dinov3(**four, intermediate_size=20, image_size=13, patch_size=4, num_register_tokens=3, use_gated_mlp=True, hidden_act="silu", rope_theta=37.0, mlp_bias=False), 50, 13, (22,)),
    }
    for name, make in makers.items():
        if not wanted or name in wanted:
            make(name)


def plain(root, name, module, config, seed, inputs, shown=()):
    """A module that is no PreTrainedModel: its weights under their own names, inputs, output and gradients."""
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    randomise(module, seed)
    inputs = inputs.requires_grad_()
    output = module(inputs)
    probe = draw(*output.shape, seed=2)
    (output * probe).sum().backward()
    grads = {key: value.grad for key, value in module.named_parameters() if value.grad is not None}
    tensors = {"input": inputs, "output": output, "probe": probe, "grad_of_input": inputs.grad, **{f"grad.{key}": grad for key, grad in grads.items()}}
    weights = {key: value for key, value in module.state_dict().items() if value.dim()}
    save_file(own(weights), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(own(tensors), folder / "expected.safetensors")


class SameConv(torch.nn.Conv2d):
    """TensorFlow's SAME padding."""

    def forward(self, x):
        missing = [max((-(-side // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - side, 0) for side in x.shape[2:]]
        down, right = missing
        return super().forward(torch.nn.functional.pad(x, [right // 2, right - right // 2, down // 2, down - down // 2]))


class MobileBlock(torch.nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, expand, eps):
        super().__init__()
        wide = inputs * expand
        norm = lambda channels: torch.nn.BatchNorm2d(channels, eps=eps)
        if expand != 1:
            self._expand_conv, self._bn0 = SameConv(inputs, wide, 1, bias=False), norm(wide)
        self._depthwise_conv, self._bn1 = SameConv(wide, wide, kernel, stride, groups=wide, bias=False), norm(wide)
        self._project_conv, self._bn2 = SameConv(wide, outputs, 1, bias=False), norm(outputs)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x):
        y = torch.nn.functional.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = torch.nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skip else y


class EfficientNetLite(torch.nn.Module):
    """`extract_features` of efficientnet_lite_pytorch/model.py (PyPI efficientnet_lite_pytorch 0.1.0) as tokens."""

    def __init__(self, stem_channels, stages, hidden_size, batch_norm_eps=1e-3, **_):
        super().__init__()
        norm = lambda channels: torch.nn.BatchNorm2d(channels, eps=batch_norm_eps)
        self._conv_stem, self._bn0 = SameConv(3, stem_channels, 3, 2, bias=False), norm(stem_channels)
        self._blocks = torch.nn.ModuleList()
        inputs = stem_channels
        for stage in stages:
            for index in range(stage["repeats"]):
                stride = stage["stride"] if index == 0 else 1
                self._blocks.append(MobileBlock(inputs, stage["channels"], stage["kernel"], stride, stage["expand"], batch_norm_eps))
                inputs = stage["channels"]
        self._conv_head, self._bn1 = SameConv(inputs, hidden_size, 1, bias=False), norm(hidden_size)

    def forward(self, x):
        x = torch.nn.functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return torch.nn.functional.relu6(self._bn1(self._conv_head(x))).flatten(2).transpose(1, 2)


def efficientnet(root, name, seed, side, eps, stages):
    keys = ("repeats", "kernel", "stride", "expand", "channels")
    config = dict(image_size=side, stem_channels=6, hidden_size=10, batch_norm_eps=eps, stages=[dict(zip(keys, stage)) for stage in stages])
    plain(root, name, EfficientNetLite(**config), {"model_type": "efficientnet_lite", **config}, seed, draw(2, 3, side, side, seed=1))


def networks(root, wanted):
    makers = {
        "vision-efficientnet": lambda name: efficientnet(root, name, 51, 24, 1e-3, [(1, 3, 1, 1, 4), (2, 3, 2, 3, 6), (2, 5, 2, 2, 10)]),
        "vision-efficientnet-odd": lambda name: efficientnet(root, name, 52, 29, 0.1, [(2, 3, 2, 1, 5), (1, 5, 1, 3, 7), (2, 3, 2, 2, 7)]),
    }
    for name, make in makers.items():
        if not wanted or name in wanted:
            make(name)


def main(root, wanted):
    towers(root, wanted)
    networks(root, wanted)


if __name__ == "__main__":
    main(Path(sys.argv[1]), set(sys.argv[2:]))
