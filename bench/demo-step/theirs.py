import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import torch
from measure import main, milliseconds, show
from models import IMAGE, smollm2
from safetensors.torch import load_file, save_file
from training import captions, learn, open_rows, padded, save_rows, stepping
from transformers import LlamaForCausalLM

# EfficientNet-Lite0: repeats, kernel, stride, expansion and channels of its stages
STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
LENGTHS, IMAGE_TOKENS = [15, 47, 26, 36], 49
F = torch.nn.functional


class SameConv(torch.nn.Conv2d):
    """TensorFlow's SAME padding."""

    def forward(self, x):
        missing = max((-(-x.shape[2] // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - x.shape[2], 0)
        before = missing // 2
        return super().forward(F.pad(x, [before, missing - before] * 2))


class Block(torch.nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, expand):
        super().__init__()
        wide = inputs * expand
        norm = lambda channels: torch.nn.BatchNorm2d(channels, eps=1e-3)
        if expand != 1:
            self._expand_conv, self._bn0 = SameConv(inputs, wide, 1, bias=False), norm(wide)
        self._depthwise_conv, self._bn1 = SameConv(wide, wide, kernel, stride, groups=wide, bias=False), norm(wide)
        self._project_conv, self._bn2 = SameConv(wide, outputs, 1, bias=False), norm(outputs)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x):
        y = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)))))
        return x + y if self.skip else y


class Tower(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2, bias=False), torch.nn.BatchNorm2d(32, eps=1e-3)
        widths = [32, *(channels for repeats, *_, channels in STAGES for _ in range(repeats))]
        shapes = [(kernel, stride if i == 0 else 1, expand) for repeats, kernel, stride, expand, _ in STAGES for i in range(repeats)]
        self._blocks = torch.nn.ModuleList(Block(widths[i], widths[i + 1], *shape) for i, shape in enumerate(shapes))
        self._conv_head, self._bn1 = SameConv(320, 1280, 1, bias=False), torch.nn.BatchNorm2d(1280, eps=1e-3)

    def forward(self, x):
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).flatten(2).transpose(1, 2)


class Model(torch.nn.Module):
    """LLaVA as transformers computes it, with a tower that transformers lacks."""

    def __init__(self):
        super().__init__()
        self.vision_tower = Tower().eval()
        self.multi_modal_projector = torch.nn.ModuleDict({"linear_1": torch.nn.Linear(1280, 576), "linear_2": torch.nn.Linear(576, 576)})
        self.language_model = LlamaForCausalLM(smollm2(attn_implementation="sdpa"))

    def forward(self, input_ids, attention_mask, pixel_values, labels):
        with torch.no_grad():
            features = self.vision_tower(pixel_values)
        projector = self.multi_modal_projector
        images = projector["linear_2"](F.gelu(projector["linear_1"](features)))
        embeddings = self.language_model.get_input_embeddings()(input_ids)
        embeddings = embeddings.masked_scatter((input_ids == IMAGE)[..., None], images)
        return self.language_model(inputs_embeds=embeddings, attention_mask=attention_mask, labels=labels, use_cache=False).loss


def prepare(folder):
    model = Model()
    language = {key.removeprefix("model."): value for key, value in model.language_model.state_dict().items() if not key.startswith("lm_head")}
    groups = {
        "vision_tower": {key: value for key, value in model.vision_tower.state_dict().items() if value.dim()},
        "multi_modal_projector": model.multi_modal_projector.state_dict(),
        "language_model": language,
    }
    weights = {f"model.{name}.{key}": value.contiguous().clone() for name, group in groups.items() for key, value in group.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    text = model.language_model.config.to_dict()
    config = {
        "model_type": "tinyllava",
        "image_token_index": IMAGE,
        "text_config": {key: value for key, value in text.items() if value is not None},
        "vision_config": {"model_type": "efficientnet_lite"},
        "connector_config": {"model_type": "mlp", "layers": 2, "hidden_act": "gelu", "bias": True},
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_rows(folder / "data.safetensors", captions(LENGTHS, IMAGE_TOKENS), 224)


def run(folder, stage):
    rows, _ = open_rows(folder / "data.safetensors")
    model = Model()
    stored = {key.removeprefix("model."): value for key, value in load_file(folder / "model.safetensors").items()}
    stored = {key.replace("language_model.", "language_model.model."): value for key, value in stored.items()}
    model.load_state_dict(stored, strict=False)
    batch = padded(rows)
    step, losses = stepping(learn(model, stage), lambda: model(**batch), lr=1e-4)
    show({"throughput": 1000 * len(rows) / milliseconds(step, times=5, warmup=2)}, losses)


main(prepare, run)
