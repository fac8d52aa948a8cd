"""Writes LoRA adapters as PEFT, TinyLLaVA Factory and LLaVA leave them, and what the models with them compute, for the tests of adapters.

Usage: python scripts/make-adapter-references.py test/reference    (torch 2.15, transformers 5.23, peft 0.21; after make-references.py,
       make-language-references.py, make-dialect-references.py and make-train-references.py; needs no network)

Bases of `adapter-*` are other references. TinyLLaVA Factory (53f12c7) and LLaVA (c121f04) save what training_recipe/lora_recipe.py and
train/train.py say; their models are towers and language models of transformers. `train-lora` holds six steps of a plain loop over PEFT's model on the
batches of `train-llava`.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

from references import packed, randomise, total_loss  # first: it sets the environment

import peft
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

spec = importlib.util.spec_from_file_location("dialects", Path(__file__).parent / "make-dialect-references.py")
STEPS, LEARNING_RATES, MAX_NORM, WEIGHT_DECAY = 6, {"multi_modal_projector": 2e-2, "lora_": 1e-2}, 0.7, 0.1


def dialects():
    """The module, without its last line, which writes."""
    source = Path(spec.origin).read_text().rsplit("\nmain(", 1)[0]
    module = importlib.util.module_from_spec(spec)
    exec(compile(source, spec.origin, "exec"), module.__dict__)
    return module


def fill(model, seed):
    """Values for what the adapter holds; PEFT starts B at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + 0.3 * torch.rand(parameter.shape, generator=generator))
            elif "lora_" in name or ".modules_to_save." in name or parameter.requires_grad:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def write(root, name, base, model, expected):
    folder = root / name
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = base
    file.write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").unlink(missing_ok=True)
    save_file({key: value.detach().contiguous().clone() for key, value in expected.items()}, folder / "expected.safetensors")


def sequences(root, name):
    expected = load_file(root / name / "expected.safetensors")
    return list(expected["input_ids"].split(expected["lengths"].tolist())), expected


def language(root, name, base, seed, options, safe=True):
    kind = hf.AutoModelForCausalLM.from_pretrained(root / base)
    model = fill(peft.get_peft_model(kind, peft.LoraConfig(task_type="CAUSAL_LM", **options)), seed)
    ids, _ = sequences(root, base)
    model.save_pretrained(root / name, safe_serialization=safe)
    if not safe:
        torch.save(peft.get_peft_model_state_dict(model), root / name / "adapter_model.bin")
        (root / name / "adapter_model.safetensors").unlink(missing_ok=True)
    write(root, name, f"../{base}", model, {"logits": torch.cat([model(x[None]).logits[0] for x in ids])})


def llava(root):
    model = hf.LlavaForConditionalGeneration.from_pretrained(root / "llava-clip")
    options = dict(
        r=3, lora_alpha=5, target_modules=r"model\.(language_model\..*_proj|vision_tower\..*q_proj)", modules_to_save=["multi_modal_projector"],
        rank_pattern={"q_proj": 2, r"layers\.1\.mlp\.up_proj": 1}, alpha_pattern={"mlp.down_proj": 7}, lora_dropout=0.1,
    )
    model = fill(peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **options)), 80)
    model.save_pretrained(root / "adapter-llava")
    ids, expected = sequences(root, "llava-clip")
    images, logits = iter(expected["pixel_values"]), []
    for x in ids:
        count = int((x == 60).sum()) // 9
        pixels = torch.stack([next(images) for _ in range(count)]) if count else None
        logits.append(model(input_ids=x[None], pixel_values=pixels).logits[0])
    write(root, "adapter-llava", "../llava-clip", model, {"logits": torch.cat(logits)})


class Factory(torch.nn.Module):
    """The names in TinyLlavaForConditionalGeneration."""

    def __init__(self, language, tower, connector):
        super().__init__()
        self.language_model, self.vision_tower, self.connector = language, torch.nn.Module(), torch.nn.Module()
        self.vision_tower._vision_tower, self.connector._connector = tower, connector


def adapter_only(model):
    return {key: value for key, value in model.named_parameters() if "lora_" in key}


def others(module, level=""):
    return {level + key: value.detach().half() for key, value in module.named_parameters() if "lora_" not in key}


def linear_names(module, prefix):
    return [f"{prefix}{key}" for key, inner in module.named_modules() if isinstance(inner, torch.nn.Linear) and "head" not in key]


def factory(root, d):
    folder = root / "adapter-factory"
    vision = dict(d.CLIP, model_type="clip_vision_model")
    tower, model = randomise(hf.CLIPVisionModel(hf.CLIPVisionConfig(**d.CLIP)), 81), d.language(d.LLAMA, 82)
    connector = d.fill(d.perceptron(16, 8), 83)
    d.halve(tower, model, connector)
    whole = Factory(model, tower, connector)
    targets = linear_names(model, "language_model.") + linear_names(connector, "connector._connector.")
    adapted = fill(peft.get_peft_model(whole, peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.05, target_modules=targets)), 84)
    d.halve(*[m for m in [adapted]])
    d.save(folder, d.factory(d.LLAMA, vision, "mlp2x_gelu"), d.run(d.features(tower, connector), model, 9))
    for name, state, config in [
        ("language_model", others(model), d.LLAMA),
        ("vision_tower", others(tower, "vision_model."), vision),
        ("connector", others(connector, "_connector."), None),
    ]:
        (folder / name).mkdir()
        torch.save(state, folder / name / "pytorch_model.bin")
        if config:
            (folder / name / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    adapted.save_pretrained(folder, state_dict=adapter_only(adapted))
    (folder / "README.md").unlink(missing_ok=True)


def llava15(root, d):
    folder = root / "adapter-llava15"
    tower, model = randomise(hf.CLIPVisionModel(hf.CLIPVisionConfig(**d.WIDE)), 85), d.language(d.LLAMA, 86)
    connector = d.fill(d.perceptron(64, 8), 87)
    d.halve(tower, model, connector)
    model.save_pretrained(folder / "base")
    (folder / "tower").mkdir(parents=True)
    (folder / "tower" / "config.json").write_text(json.dumps(dict(d.WIDE, model_type="clip_vision_model")) + "\n")
    save_file(d.half(d.named(tower, "", True)), folder / "tower" / "model.safetensors")
    adapted = fill(peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "up_proj"])), 88)
    config = dict(d.LLAMA, model_type="llava_llama", mm_vision_tower="tower", mm_hidden_size=64, mm_projector_type="mlp2x_gelu",
                  mm_vision_select_layer=-1, mm_vision_select_feature="patch", image_aspect_ratio="pad")
    shutil.copytree(folder, folder.with_name("kept"))
    shutil.rmtree(folder)
    d.save(folder, config, d.run(d.features(tower, connector, -1), model, 9, 6))
    for name in ("base", "tower"):
        shutil.move(folder.with_name("kept") / name, folder / name)
    shutil.rmtree(folder.with_name("kept"))
    adapted.save_pretrained(folder, state_dict=adapter_only(adapted))
    torch.save({f"base_model.model.model.mm_projector.{key}": value.half() for key, value in connector.state_dict().items()},
               folder / "non_lora_trainables.bin")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(base_model_name_or_path="base"), indent=2) + "\n")
    (folder / "README.md").unlink(missing_ok=True)


def train(root):
    model = hf.LlavaForConditionalGeneration.from_pretrained(root / "llava-clip", attn_implementation="sdpa")
    options = dict(r=4, lora_alpha=8, target_modules=r"model\.language_model\..*_proj", modules_to_save=["multi_modal_projector"])
    torch.manual_seed(90)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **options)).train()
    folder = root / "train-lora"
    model.save_pretrained(folder)
    names = {name: rate for name, _ in model.named_parameters() for part, rate in LEARNING_RATES.items() if part in name}
    groups = [
        dict(params=[p], lr=names[n], weight_decay=0.0 if n.endswith("bias") else WEIGHT_DECAY) for n, p in model.named_parameters() if p.requires_grad
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8)
    data, losses, norms = load_file(root / "train-llava" / "expected.safetensors"), [], []
    for step in range(STEPS):
        lengths = data[f"{step}.lengths"].tolist()
        ids, labels, pixels = (data[f"{step}.{key}"] for key in ("ids", "labels", "pixels"))
        rows = list(zip(ids.long().split(lengths), labels.long().split(lengths)))
        supervised = sum(int((y[1:] != -100).sum()) for _, y in rows)
        total = 0.0
        for (x, y), chosen in zip(rows, (pixels[:1], None, pixels[1:3], pixels[3:])):
            logits = model(input_ids=x[None], pixel_values=chosen).logits[0]
            loss = torch.nn.functional.cross_entropy(logits[:-1], y[1:], reduction="sum") / supervised
            loss.backward()
            total += loss.item()
        losses.append(total)
        if step == 0:
            gradients = {f"grad.{n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        norms.append(torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], MAX_NORM).item())
        optimizer.step()
        optimizer.zero_grad()
    plain = lambda state: {key.replace(".default", "").replace(".modules_to_save", ""): value for key, value in state.items()}
    final = {f"final.{key}": value for key, value in peft.get_peft_model_state_dict(model).items()}
    write(root, "train-lora", "../llava-clip", model, {"loss": torch.tensor(losses), "norm": torch.tensor(norms)} | final | plain(gradients))
    print(losses, norms, sep="\n")


def main(root):
    for name in root.glob("adapter-*"):
        shutil.rmtree(name)
    shutil.rmtree(root / "train-lora", ignore_errors=True)
    d = dialects()
    with torch.no_grad():
        llava(root)
        language(root, "adapter-biases", "llama-tied-biases", 91,
                 dict(r=2, lora_alpha=3, use_rslora=True, bias="lora_only", target_modules=["q_proj", "v_proj", "down_proj"]), safe=False)
        language(root, "adapter-dora", "phi", 92, dict(r=3, lora_alpha=4, use_dora=True, target_modules="all-linear"))
        language(root, "adapter-fused", "phi3", 93, dict(r=2, lora_alpha=4, target_modules=["qkv_proj", "gate_up_proj", "lm_head"], layers_to_transform=None))
        factory(root, d)
        llava15(root, d)
    train(root)


main(Path(sys.argv[1]))
