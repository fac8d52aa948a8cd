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
    if name.startswith("vision-siglip-"):
        tensors["last_hidden_state"] = model(pixels).last_hidden_state
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


def naflex(root, name, config, seed, grids):
    """Images of unequal grids in one batch, padded as Siglip2ImageProcessor pads; only what is an image's own is kept. And to what sizes images are resized."""
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    patch = config["patch_size"]
    model = randomise(transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**config)), seed)
    images = [draw(3, h * patch, w * patch, seed=i) for i, (h, w) in enumerate(grids)]
    counts = [h * w for h, w in grids]
    rows = torch.zeros(len(grids), max(counts), 3 * patch * patch)
    for row, image, count in zip(rows, images, counts):
        row[:count] = siglip2_patches(image[None], patch)[0]
    mask = (torch.arange(max(counts))[None] < torch.tensor(counts)[:, None]).long()
    states = model(rows, mask, torch.tensor(grids), output_hidden_states=True).hidden_states
    own_rows = lambda state: torch.cat([row[:count] for row, count in zip(state, counts)])
    probe = draw(sum(counts), config["hidden_size"], seed=99)
    (own_rows(states[-2]) * probe).sum().backward()
    tensors = {"probe": probe, **{f"image.{i}": image for i, image in enumerate(images)}}
    tensors |= {f"hidden.{i}": own_rows(state) for i, state in enumerate(states)}
    grads = {key.replace("grad.", "grad.vision_model."): grad for key, grad in chosen(stored_gradients(model)).items()}
    model.save_pretrained(folder)
    save_file(own({**tensors, **grads}), folder / "expected.safetensors")
    from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches as size

    cases = [(1, 1), (17, 3), (480, 640), (640, 480), (1080, 1920), (3000, 20), (20, 3000), (224, 224), (333, 777), (5000, 4999)]
    sizes = [dict(from_=list(case), patch=p, most=most, to=list(size(*case, p, most))) for case in cases for p, most in ((16, 256), (14, 729), (16, 1024))]
    (folder / "sizes.json").write_text(json.dumps(sizes) + "\n")


def towers(root, wanted):
    t = transformers
    clip = lambda **config: t.CLIPVisionModel(t.CLIPVisionConfig(**config))
    siglip = lambda **config: t.SiglipVisionModel(t.SiglipVisionConfig(vision_use_head=False, **config))
    dinov2 = lambda **config: t.Dinov2Model(t.Dinov2Config(**config))
    registers = lambda **config: t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**config))
    dinov3 = lambda **config: t.DINOv3ViTModel(t.DINOv3ViTConfig(**config))
    internvl = lambda **config: t.InternVLVisionModel(t.InternVLVisionConfig(**config))
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
    makers |= {
        "naflex-siglip2": lambda name: naflex(
            root, name, dict(ODD, intermediate_size=28, patch_size=4, num_patches=16), 80, [(2, 5), (4, 4), (4, 4), (1, 7), (8, 2), (3, 3)]),
        "vision-internvl": lambda name: tower(root, name, internvl(**EVEN, intermediate_size=20, image_size=[16, 16], patch_size=[4, 4]), 78, 16, (12, 24)),
        "vision-internvl-odd": lambda name: tower(
            root, name, internvl(**ODD, intermediate_size=28, image_size=[13, 13], patch_size=[4, 4], attention_bias=True, use_qk_norm=True, norm_type="rms_norm"), 79, 13, (19,)),
    }
    for name, make in makers.items():
        if not wanted or name in wanted:
            make(name)


def plain(root, name, module, config, seed, inputs, rename=lambda key: key):
    """A module that is no PreTrainedModel: its weights under their own names, inputs, output and gradients."""
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    randomise(module, seed)
    inputs = inputs.requires_grad_()
    output = module(inputs)
    probe = draw(*output.shape, seed=2)
    (output * probe).sum().backward()
    grads = {rename(key): value.grad for key, value in module.named_parameters() if value.grad is not None}
    tensors = {"input": inputs, "output": output, "probe": probe, "grad_of_input": inputs.grad, **{f"grad.{key}": grad for key, grad in grads.items()}}
    weights = {rename(key): value for key, value in module.state_dict().items() if value.dim()}
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


class ConvVit(torch.nn.Module):
    """Convolutions of stride two, then blocks of a vision transformer, which are SigLIP's."""

    def __init__(self, image_size, stem_channels, hidden_size, layer_norm_eps, **blocks):
        super().__init__()
        config = transformers.SiglipVisionConfig(hidden_size=hidden_size, layer_norm_eps=layer_norm_eps, **blocks)
        sides = [3, *stem_channels]
        self.stem = torch.nn.ModuleList(torch.nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(sides, stem_channels))
        if stem_channels[-1] != hidden_size:
            self.projection = torch.nn.Conv2d(stem_channels[-1], hidden_size, 1)
        self.stem_norm = torch.nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.position_embedding = torch.nn.Parameter(torch.empty((image_size >> len(stem_channels)) ** 2, hidden_size))
        self.encoder = transformers.models.siglip.modeling_siglip.SiglipEncoder(config)
        self.post_layernorm = torch.nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.activation = transformers.activations.ACT2FN[config.hidden_act]

    def forward(self, x):
        convolutions = [*self.stem, *([self.projection] if hasattr(self, "projection") else [])]
        for i, convolution in enumerate(convolutions):
            x = convolution(x if i == 0 else self.activation(x))
        x = self.stem_norm(x.flatten(2).transpose(1, 2)) + self.position_embedding
        return self.post_layernorm(self.encoder(inputs_embeds=x).last_hidden_state)


def conv_vit(root, name, seed, image_size, stem_channels, blocks):
    config = dict(image_size=image_size, stem_channels=stem_channels, num_hidden_layers=2, **blocks)
    pixels = draw(2, 3, image_size, image_size, seed=1)
    plain(root, name, ConvVit(**{"layer_norm_eps": 1e-6, **config}), {"model_type": "conv_vit", **config}, seed, pixels)


class Mof(torch.nn.Module):
    """tinyllava/model/vision_tower/mof.py of TinyLLaVA Factory, its two results side by side; DINOv2 at CLIP's resolution."""

    def __init__(self, clip, dinov2, layer):
        super().__init__()
        self.clip = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**clip))
        self.dinov2 = transformers.Dinov2Model(transformers.Dinov2Config(**dinov2, use_mask_token=False))
        self.layer = layer

    def forward(self, x):
        return torch.cat([tower(x, output_hidden_states=True).hidden_states[self.layer][:, 1:] for tower in (self.clip, self.dinov2)], -1)

    @staticmethod
    def stored(key):
        """As the two towers' own `save_pretrained` writes it; CLIP with the level that all versions read."""
        if key.startswith("clip."):
            return key.replace("clip.", "clip.vision_model.", 1)
        for name, spelling in dict(q_proj="attention.query", k_proj="attention.key", v_proj="attention.value", o_proj="output.dense").items():
            key = key.replace(f"attention.{name}", f"attention.{spelling}")
        return key


def mof(root, name, clip, dinov2, seed, side, layer):
    config = {"model_type": "mof", "clip": clip, "dinov2": dict(dinov2, use_mask_token=False), "vision_feature_layer": layer}
    plain(root, name, Mof(clip, dinov2, layer), config, seed, draw(2, 3, side, side, seed=1), Mof.stored)


def llava(root, name, vision, strategy, layer, seed, extra):
    """The whole of LlavaForConditionalGeneration with a tower: an image amid text."""
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    text = transformers.LlamaConfig(vocab_size=31, hidden_size=12, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = transformers.LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=30, image_seq_length=extra,
        vision_feature_layer=layer, vision_feature_select_strategy=strategy,
    )
    model = randomise(transformers.LlavaForConditionalGeneration(config), seed)
    pixels = draw(1, 3, vision.image_size, vision.image_size, seed=1)
    features = torch.stack(list(model.get_image_features(pixels).pooler_output))
    ids = torch.tensor([3, 4, *[30] * features.shape[1], 5])
    logits = model(ids[None], pixel_values=pixels).logits[0]
    model.save_pretrained(folder)
    save_file(own({"input_ids": ids, "pixel_values": pixels, "image_features": features, "logits": logits}), folder / "expected.safetensors")


def networks(root, wanted):
    t = transformers
    clip = lambda width, heads, wide, image, patch: dict(
        hidden_size=width, num_attention_heads=heads, intermediate_size=wide, num_hidden_layers=2, image_size=image, patch_size=patch)
    dino = lambda width, heads, image, patch: dict(
        hidden_size=width, num_attention_heads=heads, num_hidden_layers=2, image_size=image, patch_size=patch, mlp_ratio=2)
    makers = {
        "vision-mof": lambda name: mof(root, name, clip(8, 2, 12, 12, 4), dino(8, 2, 12, 4), 53, 12, -2),
        "vision-mof-odd": lambda name: mof(root, name, clip(10, 2, 7, 13, 4), dino(9, 3, 21, 4), 54, 13, -1),
        "llava-dinov2": lambda name: llava(root, name, t.Dinov2Config(**dino(9, 3, 13, 4)), "default", -2, 55, 9),
        "llava-dinov2-registers": lambda name: llava(
            root, name, t.Dinov2WithRegistersConfig(**dino(9, 3, 13, 4), num_register_tokens=2), "default", -1, 56, 11),
        "llava-dinov3": lambda name: llava(
            root, name, t.DINOv3ViTConfig(**clip(12, 3, 9, 13, 4), num_register_tokens=2), "full", [-2, -1], 57, 12),
        "vision-conv-vit": lambda name: conv_vit(root, name, 58, 16, [4, 8], dict(hidden_size=8, intermediate_size=12, num_attention_heads=2)),
        "vision-conv-vit-odd": lambda name: conv_vit(
            root, name, 59, 24, [5, 7, 6], dict(hidden_size=15, intermediate_size=11, num_attention_heads=3, hidden_act="relu", layer_norm_eps=1e-3)),
        "vision-efficientnet": lambda name: efficientnet(root, name, 51, 24, 1e-3, [(1, 3, 1, 1, 4), (2, 3, 2, 3, 6), (2, 5, 2, 2, 10)]),
        "vision-efficientnet-odd": lambda name: efficientnet(root, name, 52, 29, 0.1, [(2, 3, 2, 1, 5), (1, 5, 1, 3, 7), (2, 3, 2, 2, 7)]),
    }
    for name, make in makers.items():
        if not wanted or name in wanted:
            make(name)


def perceptron(layers, inputs, outputs, bias=True):
    names = {f"linear_{i + 1}": torch.nn.Linear(inputs if i == 0 else outputs, outputs, bias) for i in range(layers)}
    return torch.nn.ModuleDict(names)


def through(perceptron, x):
    for i, layer in enumerate(perceptron.values()):
        x = layer(x if i == 0 else torch.nn.functional.gelu(x))
    return x


class Mlp(torch.nn.Module):
    """mlpNx_gelu of LLaVA-1.5, llava/model/multimodal_projector/builder.py."""

    def __init__(self, layers, vision, language, bias):
        super().__init__()
        for name, layer in perceptron(layers, vision, language, bias).items():
            self.add_module(name, layer)

    def forward(self, x):
        return through(self._modules, x)


class MofMlp(torch.nn.Module):
    """tinyllava/model/connector/mof_mlp.py of TinyLLaVA Factory, for widths that may differ."""

    def __init__(self, layers, widths, language):
        super().__init__()
        self.clip, self.dinov2 = (perceptron(layers, width, language) for width in widths)
        self.widths = widths

    def forward(self, x):
        clip, dinov2 = x.split(self.widths, -1)
        clip, dinov2 = through(self.clip, clip), through(self.dinov2, dinov2)
        merged = torch.empty(len(x), 2 * x.shape[1], clip.shape[-1])
        merged[:, 0::2], merged[:, 1::2] = clip, dinov2
        return merged


class PerceiverAttention(torch.nn.Module):
    def __init__(self, dim, heads, head):
        super().__init__()
        self.norm_media, self.norm_latents = torch.nn.LayerNorm(dim), torch.nn.LayerNorm(dim)
        self.to_q = torch.nn.Linear(dim, heads * head, bias=False)
        self.to_kv = torch.nn.Linear(dim, 2 * heads * head, bias=False)
        self.to_out = torch.nn.Linear(heads * head, dim, bias=False)
        self.heads, self.scale = heads, head**-0.5

    def forward(self, x, latents):
        latents = self.norm_latents(latents)
        k, v = self.to_kv(torch.cat([self.norm_media(x), latents], 1)).chunk(2, -1)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (self.to_q(latents), k, v))
        weights = (q * self.scale @ k.transpose(-1, -2)).softmax(-1)
        return self.to_out((weights @ v).transpose(1, 2).flatten(2))


class Resampler(torch.nn.Module):
    """tinyllava/model/connector/resampler.py of TinyLLaVA Factory."""

    def __init__(self, queries, layers, heads, head, expansion, vision, language):
        super().__init__()
        self.latents = torch.nn.Parameter(torch.randn(queries, language))
        self.linear = torch.nn.Linear(vision, language)
        inner = int(language * expansion)
        feed = lambda: torch.nn.Sequential(
            torch.nn.LayerNorm(language), torch.nn.Linear(language, inner, bias=False), torch.nn.GELU(), torch.nn.Linear(inner, language, bias=False)
        )
        self.layers = torch.nn.ModuleList(torch.nn.ModuleList([PerceiverAttention(language, heads, head), feed()]) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(language)

    def forward(self, x):
        x = self.linear(x)
        latents = self.latents.expand(len(x), -1, -1)
        for attention, feed in self.layers:
            latents = attention(x, latents) + latents
            latents = feed(latents) + latents
        return self.norm(latents)


class QFormer(torch.nn.Module):
    """transformers' BLIP-2; with a plain norm, tinyllava/model/connector/qformer.py of TinyLLaVA Factory, which is the same model."""

    def __init__(self, config, queries, language, affine=True):
        super().__init__()
        self.query_tokens = torch.nn.Parameter(torch.zeros(1, queries, config.hidden_size))
        self.qformer = transformers.Blip2QFormerModel(config)
        for parameter in self.qformer.layernorm.parameters():
            parameter.requires_grad_(affine)
        self.language_projection = torch.nn.Linear(config.hidden_size, language)
        self.affine = affine

    def forward(self, x):
        if not self.affine:
            torch.nn.init.ones_(self.qformer.layernorm.weight), torch.nn.init.zeros_(self.qformer.layernorm.bias)
        return self.language_projection(self.qformer(query_embeds=self.query_tokens.expand(len(x), -1, -1), encoder_hidden_states=x)[0])

    def state_dict(self):
        return {key: value for key, value in super().state_dict().items() if self.affine or not key.startswith("qformer.layernorm")}


class InternVl(torch.nn.Module):
    def __init__(self, factor, vision, language):
        super().__init__()
        config = transformers.InternVLConfig(
            vision_config=transformers.InternVLVisionConfig(hidden_size=vision, num_attention_heads=1),
            text_config=transformers.Qwen2Config(hidden_size=language, num_attention_heads=1, head_dim=2),
            downsample_ratio=1 / factor,
        )
        self.projector = transformers.models.internvl.modeling_internvl.InternVLMultiModalProjector(config)
        self.factor = factor

    def forward(self, x):
        side = int(x.shape[1] ** 0.5)
        grid = x.reshape(len(x), side, side, -1)
        return self.projector(transformers.InternVLModel.pixel_shuffle(None, grid, 1 / self.factor).flatten(1, 2))


def idefics3(factor, vision, language):
    """Also nanoVLM's models/modality_projector.py."""
    config = transformers.Idefics3Config(
        vision_config=dict(hidden_size=vision), text_config=transformers.LlamaConfig(hidden_size=language, num_attention_heads=1, head_dim=2), scale_factor=factor
    )
    return transformers.models.idefics3.modeling_idefics3.Idefics3Connector(config)


class LdpV2(torch.nn.Module):
    """LDPNetV2Projector of MobileVLM, mobilevlm/model/vision_projector.py."""

    def __init__(self, vision, language, side):
        super().__init__()
        nn = torch.nn
        self.mlp = nn.ModuleDict({"mlp": nn.Sequential(nn.Linear(vision, language), nn.GELU(), nn.Linear(language, language))})
        self.peg = nn.ModuleDict({"peg": nn.Sequential(nn.Conv2d(language, language, 3, 1, 1, groups=language))})
        self.side = side

    def forward(self, x):
        side = int(x.shape[1] ** 0.5)
        grid = self.mlp["mlp"](x).permute(0, 2, 1).unflatten(2, (side, side))
        grid = torch.nn.functional.adaptive_avg_pool2d(grid, self.side)
        return (self.peg["peg"](grid) + grid).flatten(2).transpose(1, 2)


class NormAct(torch.nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RegBlock(torch.nn.Module):
    """Bottleneck of timm/models/regnet.py as Honeybee makes it: SiLU, LayerNorm2d (eps 1e-5 there), groups of one channel."""

    def __init__(self, inputs, outputs):
        super().__init__()
        nn = torch.nn
        unit = lambda i, o, **options: nn.ModuleDict({"conv": nn.Conv2d(i, o, bias=False, **options), "bn": NormAct(o)})
        self.conv1 = unit(inputs, outputs, kernel_size=1)
        self.conv2 = unit(outputs, outputs, kernel_size=3, padding=1, groups=outputs)
        inner = int(round(inputs * 0.25))
        self.se = nn.ModuleDict({"fc1": nn.Conv2d(outputs, inner, 1), "fc2": nn.Conv2d(inner, outputs, 1)})
        self.conv3 = unit(outputs, outputs, kernel_size=1)
        if inputs != outputs:
            self.downsample = unit(inputs, outputs, kernel_size=1)

    def forward(self, x):
        silu = torch.nn.functional.silu
        run = lambda unit, y: unit["bn"](unit["conv"](y))
        y = silu(run(self.conv2, silu(run(self.conv1, x))))
        y = y * self.se["fc2"](silu(self.se["fc1"](y.mean((2, 3), keepdim=True)))).sigmoid()
        return silu(run(self.conv3, y) + (run(self.downsample, x) if hasattr(self, "downsample") else x))


class CAbstractor(torch.nn.Module):
    """honeybee/projectors/projectors.py of Honeybee."""

    def __init__(self, queries, hidden, depth, mlp_depth, tokens, vision, language, eos=0, prenorm=False):
        super().__init__()
        nn = torch.nn
        self.eos_tokens = nn.Parameter(torch.zeros(1, eos, language)) if eos else None
        self.pos_emb = nn.Parameter(torch.zeros(1, tokens, vision))
        self.prenorm = nn.LayerNorm(vision, eps=1e-6) if prenorm else None
        stages = [nn.Sequential(), nn.AdaptiveAvgPool2d(int(queries**0.5)), nn.Sequential()]
        for i in range(depth):
            stages[0].add_module(f"b{i + 1}", RegBlock(vision if i == 0 else hidden, hidden))
            stages[2].add_module(f"b{i + 1}", RegBlock(hidden, hidden))
        self.net = nn.Sequential(*stages)
        layers = [nn.Linear(hidden, language)]
        for _ in range(1, mlp_depth):
            layers += [nn.SiLU(), nn.Linear(language, language)]
        self.readout = nn.Sequential(*layers)

    def forward(self, x):
        x = (self.prenorm(x) if self.prenorm is not None else x) + self.pos_emb
        side = int(x.shape[1] ** 0.5)
        x = self.net(x.transpose(1, 2).unflatten(2, (side, side)))
        x = self.readout(x.flatten(2).transpose(1, 2))
        return x if self.eos_tokens is None else torch.cat([x, self.eos_tokens.expand(len(x), -1, -1)], 1)


class ClassWords(torch.nn.Module):
    """The tower's classifier over the mean feature, its probabilities over spelled names, and a perceptron on pooled features."""

    def __init__(self, vision, language, classes, words, side):
        super().__init__()
        self.classifier = torch.nn.Linear(vision, classes).requires_grad_(False)
        self.names = torch.nn.Parameter(torch.zeros(classes, words, language), requires_grad=False)
        self.mlp = perceptron(2, vision, language)
        self.side = side

    def forward(self, x):
        side = int(x.shape[1] ** 0.5)
        said = torch.einsum("bk,klc->blc", self.classifier(x.mean(1)).softmax(-1), self.names)
        grid = torch.nn.functional.adaptive_avg_pool2d(x.transpose(1, 2).unflatten(2, (side, side)), self.side)
        return torch.cat([said, through(self.mlp, grid.flatten(2).transpose(1, 2))], 1)


def connector(root, name, module, seed, config, tokens, vision, language, rename=lambda key: key):
    context = dict(visionSize=vision, visionTokens=tokens, languageSize=language)
    plain(root, name, module, dict(context=context, connector_config=config), seed, draw(2, tokens, vision, seed=1), rename)


def in_linear(key):
    return key.replace("linear_1", "linear")


def connectors(root, wanted):
    q = lambda width, heads, wide, layers, every, vision: transformers.Blip2QFormerConfig(
        hidden_size=width, num_attention_heads=heads, intermediate_size=wide, num_hidden_layers=layers, cross_attention_frequency=every, encoder_hidden_size=vision
    )
    makers = {
        "connector-linear": lambda name: connector(root, name, Mlp(1, 6, 10, True), 76, dict(model_type="linear"), 4, 6, 10, in_linear),
        "connector-linear-odd": lambda name: connector(root, name, Mlp(1, 7, 5, False), 77, dict(model_type="linear", bias=False), 5, 7, 5, in_linear),
        "connector-mlp1": lambda name: connector(root, name, Mlp(1, 7, 10, True), 60, dict(model_type="mlp", layers=1), 5, 7, 10),
        "connector-mlp3": lambda name: connector(root, name, Mlp(3, 7, 10, False), 61, dict(model_type="mlp", layers=3, bias=False), 5, 7, 10),
        "connector-mof": lambda name: connector(root, name, MofMlp(2, (6, 6), 10), 62, dict(model_type="mof_mlp"), 4, 12, 10),
        "connector-mof-odd": lambda name: connector(root, name, MofMlp(3, (7, 4), 9), 63, dict(model_type="mof_mlp", layers=3, clip_size=7), 5, 11, 9),
        "connector-resampler": lambda name: connector(
            root, name, Resampler(6, 2, 2, 4, 4, 8, 12), 64, dict(model_type="resampler", num_queries=6, num_layers=2, num_attention_heads=2, head_size=4), 9, 8, 12),
        "connector-resampler-odd": lambda name: connector(
            root, name, Resampler(3, 1, 3, 5, 2.5, 7, 11), 65,
            dict(model_type="resampler", num_queries=3, num_layers=1, num_attention_heads=3, head_size=5, expansion=2.5), 10, 7, 11),
        "connector-qformer": lambda name: connector(
            root, name, QFormer(q(12, 2, 20, 3, 2, 10), 5, 8), 66,
            dict(model_type="qformer", num_queries=5, hidden_size=12, num_attention_heads=2, intermediate_size=20, num_hidden_layers=3), 9, 10, 8),
        "connector-qformer-factory": lambda name: connector(
            root, name, QFormer(q(15, 3, 11, 2, 1, 7), 4, 13, affine=False), 67,
            dict(model_type="qformer", num_queries=4, hidden_size=15, num_attention_heads=3, intermediate_size=11, num_hidden_layers=2,
                 cross_attention_frequency=1, query_norm_affine=False), 10, 7, 13),
        "connector-idefics3": lambda name: connector(
            root, name, idefics3(2, 6, 10), 68, dict(model_type="pixel_shuffle", factor=2, layers=1, bias=False), 16, 6, 10,
            lambda key: key.replace("modality_projection.proj", "linear_1")),
        "connector-idefics3-odd": lambda name: connector(
            root, name, idefics3(3, 5, 7), 69, dict(model_type="pixel_shuffle", factor=3, layers=1, bias=False), 36, 5, 7,
            lambda key: key.replace("modality_projection.proj", "linear_1")),
        "connector-internvl": lambda name: connector(
            root, name, InternVl(2, 6, 10), 70, dict(model_type="pixel_shuffle_mlp"), 16, 6, 10, lambda key: key.replace("projector.", "")),
        "connector-internvl-odd": lambda name: connector(
            root, name, InternVl(4, 3, 7), 71, dict(model_type="pixel_shuffle_mlp", factor=4), 64, 3, 7, lambda key: key.replace("projector.", "")),
        "connector-ldp-v2": lambda name: connector(root, name, LdpV2(6, 10, 3), 72, dict(model_type="ldp_v2", side=3), 36, 6, 10),
        "connector-ldp-v2-odd": lambda name: connector(root, name, LdpV2(5, 7, 4), 73, dict(model_type="ldp_v2", side=4), 49, 5, 7),
        "connector-c-abstractor": lambda name: connector(
            root, name, CAbstractor(4, 8, 2, 2, 16, 8, 10), 74,
            dict(model_type="c_abstractor", num_queries=4, hidden_size=8, depth=2), 16, 8, 10),
        "connector-c-abstractor-odd": lambda name: connector(
            root, name, CAbstractor(9, 7, 1, 3, 25, 10, 5, eos=2, prenorm=True), 75,
            dict(model_type="c_abstractor", num_queries=9, hidden_size=7, depth=1, mlp_depth=3, num_eos_tokens=2, prenorm=True), 25, 10, 5),
        "connector-class-words": lambda name: connector(
            root, name, ClassWords(6, 8, 7, 3, 2), 76, dict(model_type="class_words", classes=7, words=3, side=2), 16, 6, 8),
        "connector-class-words-odd": lambda name: connector(
            root, name, ClassWords(5, 9, 4, 1, 3), 77, dict(model_type="class_words", classes=4, words=1, side=3), 49, 5, 9),
    }
    for name, make in makers.items():
        if not wanted or name in wanted:
            make(name)


def main(root, wanted):
    towers(root, wanted)
    connectors(root, wanted)
    networks(root, wanted)


if __name__ == "__main__":
    main(Path(sys.argv[1]), set(sys.argv[2:]))
