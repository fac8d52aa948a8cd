"""Writes tiny checkpoints in the layouts that others published, and what their models compute, for the tests of dialects.

Usage: python scripts/make-dialect-references.py test/reference NANOVLM    (torch 2.15, transformers 5.23; needs no network)

NANOVLM is a checkout of huggingface/nanoVLM at 4e0c096, whose own classes run. TinyLLaVA Factory (53f12c7), its TinyLLaVABench (2d2105f) and
LLaVA-1.5 are towers and language models of transformers under other keys; their connectors are written out here. `-200` stands for an image.
"""

import json
import shutil
import sys
import types
from pathlib import Path

from references import randomise  # first: it sets the environment

import torch
import transformers as hf
from safetensors.torch import save_file, save_model

IMAGE, VOCABULARY = -200, 31
CLIP = dict(hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, image_size=12, patch_size=4)
# Towers that published files do not describe: heads of 64 are all that can be known of them.
WIDE = dict(hidden_size=64, intermediate_size=12, num_hidden_layers=1, num_attention_heads=1, image_size=6, patch_size=2)
LLAMA = dict(model_type="llama", vocab_size=VOCABULARY, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
             num_key_value_heads=1, rms_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=64, torch_dtype="float16")
PHI = dict(model_type="phi", vocab_size=VOCABULARY, hidden_size=16, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2,
           partial_rotary_factor=0.5, layer_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=64, torch_dtype="float16")


def language(config, seed):
    config = {key: value for key, value in config.items() if key != "torch_dtype"}
    kind = hf.CONFIG_MAPPING[config["model_type"]]
    return randomise(hf.AutoModelForCausalLM.from_config(kind.from_dict(config)), seed)


def fill(module, seed):
    """Values for a connector: as `references.randomise`, which is for transformers' models."""
    module.tie_weights = lambda: None
    return randomise(module, seed)


def halve(*modules):
    """Rounds to what float16 holds, so that half the bytes say the same."""
    for module in modules:
        for parameter in module.parameters():
            parameter.data = parameter.data.half().float()


def published(key):
    """DINOv2's attention was renamed in memory too."""
    if ".layer." not in key or "attention" not in key:
        return key
    for letter, word in dict(q="query", k="key", v="value").items():
        key = key.replace(f"attention.{letter}_proj", f"attention.attention.{word}")
    return key.replace("attention.o_proj", "attention.output.dense")


def named(module, prefix, tower=False):
    """Keys of a file; transformers 5 dropped the level `vision_model` of CLIP and SigLIP, which every published file has."""
    level = "vision_model." if tower and not isinstance(module, hf.Dinov2Model) else ""
    return {f"{prefix}{level}{published(key)}": value.detach().clone() for key, value in module.state_dict().items()}


def run(encode, model, tokens, side=12):
    """Three sequences, each run alone: an image amid text, an image first, text only."""
    generator = torch.Generator().manual_seed(4)
    text = lambda count: torch.randint(0, VOCABULARY, (count,), generator=generator)
    image = torch.full((tokens,), IMAGE)
    sequences = [torch.cat([text(3), image, text(5)]), torch.cat([image, text(4)]), text(6)]
    pixels = torch.randn(2, 3, side, side, generator=generator)
    features = iter(encode(pixels))
    logits = []
    for ids in sequences:
        embeddings = model.get_input_embeddings()(ids.clamp(min=0))
        if (ids == IMAGE).any():
            embeddings[ids == IMAGE] = next(features)
        logits.append(model(inputs_embeds=embeddings[None]).logits[0])
    lengths = torch.tensor([len(ids) for ids in sequences])
    return {"input_ids": torch.cat(sequences), "lengths": lengths, "pixel_values": pixels, "logits": torch.cat(logits).contiguous()}


def save(folder, config, expected):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(expected, folder / "expected.safetensors")


def half(state):
    return {key: value.half() for key, value in state.items()}


def factory(text, vision, connector, **more):
    """What Factory's TinyLlavaConfig writes."""
    return dict(
        architectures=["TinyLlavaForConditionalGeneration"], model_type="tinyllava", llm_model_name_or_path="some/language-model",
        tokenizer_name_or_path="some/language-model", vision_model_name_or_path="some/vision-tower", vision_model_name_or_path2="",
        connector_type=connector, hidden_size=text["hidden_size"], vocab_size=text["vocab_size"], ignore_index=-100, image_token_index=IMAGE,
        pad_token="<unk>", pad_token_id=0, tokenizer_padding_side="right", tokenizer_model_max_length=3072, tokenizer_use_fast=False,
        vision_hidden_size=vision["hidden_size"], vision_feature_layer=-2, vision_feature_select_strategy="patch",
        image_aspect_ratio="square", resampler_hidden_size=768, num_queries=4, num_resampler_layers=1, tune_type_llm="full",
        tune_type_connector="full", tune_type_vision_tower="frozen", tune_vision_tower_from_layer=0, use_cache=True, cache_dir=None,
        text_config=text, vision_config=dict(vision, model_name_or_path="some/vision-tower", model_name_or_path2=""),
        torch_dtype="float16", transformers_version="4.40.1",
    ) | more


def perceptron(vision, text):
    return torch.nn.Sequential(torch.nn.Linear(vision, text), torch.nn.GELU(), torch.nn.Linear(text, text))


def features(tower, connector, layer=-2, drop=1):
    return lambda pixels: connector(tower(pixels, output_hidden_states=True).hidden_states[layer][:, drop:])


class PerceiverAttention(torch.nn.Module):
    def __init__(self, dim, heads=8, head=64):
        super().__init__()
        self.norm_media, self.norm_latents = torch.nn.LayerNorm(dim), torch.nn.LayerNorm(dim)
        self.to_q = torch.nn.Linear(dim, heads * head, bias=False)
        self.to_kv = torch.nn.Linear(dim, 2 * heads * head, bias=False)
        self.to_out = torch.nn.Linear(heads * head, dim, bias=False)
        self.heads = heads

    def forward(self, x, latents):
        latents = self.norm_latents(latents)
        k, v = self.to_kv(torch.cat([self.norm_media(x), latents], 1)).chunk(2, -1)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (self.to_q(latents), k, v))
        return self.to_out(torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Resampler(torch.nn.Module):
    """tinyllava/model/connector/resampler.py."""

    def __init__(self, queries, layers, vision, text):
        super().__init__()
        linear = lambda a, b: torch.nn.Linear(a, b, bias=False)
        feed = lambda: torch.nn.Sequential(torch.nn.LayerNorm(text), linear(text, 4 * text), torch.nn.GELU(), linear(4 * text, text))
        self.latents, self.linear = torch.nn.Parameter(torch.zeros(queries, text)), torch.nn.Linear(vision, text)
        self.layers = torch.nn.ModuleList(torch.nn.ModuleList([PerceiverAttention(text), feed()]) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(text)

    def forward(self, x):
        x, latents = self.linear(x), self.latents.expand(len(x), -1, -1)
        for attention, feed in self.layers:
            latents = attention(x, latents) + latents
            latents = feed(latents) + latents
        return self.norm(latents)


class QFormer(torch.nn.Module):
    """tinyllava/model/connector/qformer.py by way of transformers' BLIP-2: its query norm without gain and offset is the same model."""

    def __init__(self, queries, vision, text):
        super().__init__()
        config = hf.Blip2QFormerConfig(hidden_size=64, intermediate_size=12, num_hidden_layers=1, num_attention_heads=1, encoder_hidden_size=vision)
        self.query_tokens = torch.nn.Parameter(torch.zeros(1, queries, 64))
        self.bert = hf.Blip2QFormerModel(config)
        self.projector = torch.nn.Linear(64, text)

    def forward(self, x):
        return self.projector(self.bert(query_embeds=self.query_tokens.expand(len(x), -1, -1), encoder_hidden_states=x)[0])

    def published(self):
        keys = {key: key.replace(".attention.query", ".self.query").replace(".attention.key", ".self.key") for key in self.state_dict()}
        rename = lambda key: keys[key].replace(".attention.value", ".self.value")
        return {f"_connector.{rename(key)}": value for key, value in self.state_dict().items() if "layernorm" not in key.split(".")}


def factory_siglip(folder):
    vision = dict(CLIP, model_type="siglip_vision_model")
    tower, model = randomise(hf.SiglipVisionModel(hf.SiglipVisionConfig(**CLIP)), 50), language(PHI, 51)
    connector = fill(perceptron(16, 16), 52)
    halve(tower, model, connector)
    save(folder, factory(PHI, vision, "mlp2x_gelu"), run(features(tower, connector), model, 8))
    state = named(model, "language_model.") | named(tower, "vision_tower._vision_tower.", True) | named(connector, "connector._connector.")
    save_file(half(state), folder / "model.safetensors", metadata={"format": "pt"})


def factory_pretrain(folder):
    text, vision = dict(LLAMA, hidden_size=4), dict(CLIP, model_type="clip_vision_model")
    tower, model = randomise(hf.CLIPVisionModel(hf.CLIPVisionConfig(**CLIP)), 53), language(text, 54)
    connector = fill(Resampler(3, 1, 16, 4), 55)
    halve(tower, model, connector)
    save(folder, factory(text, vision, "resampler", num_queries=3), run(features(tower, connector), model, 3))
    for name, state, config in [
        ("language_model", named(model, ""), text),
        ("vision_tower", named(tower, "", True), vision),
        ("connector", named(connector, "_connector."), None),
    ]:
        (folder / name).mkdir()
        torch.save(half(state), folder / name / "pytorch_model.bin")
        if config:
            (folder / name / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def factory_qformer(folder):
    text, vision = dict(LLAMA, model_type="qwen2", tie_word_embeddings=True), dict(CLIP, model_type="clip_vision_model")
    tower, model = randomise(hf.CLIPVisionModel(hf.CLIPVisionConfig(**CLIP)), 56), language(text, 57)
    connector = fill(QFormer(5, 16, 8), 58)
    torch.nn.init.ones_(connector.bert.layernorm.weight), torch.nn.init.zeros_(connector.bert.layernorm.bias)
    halve(tower, model, connector)
    save(folder, factory(text, vision, "qformer", num_queries=5), run(features(tower, connector), model, 5))
    whole = torch.nn.Module()  # its state_dict is an OrderedDict with `_metadata`, as Trainer saves it
    for key, value in (named(model, "language_model.") | named(tower, "vision_tower._vision_tower.", True)).items():
        attach(whole, key, value)
    for key, value in connector.published().items():
        attach(whole, f"connector.{key}", value)
    torch.save(whole.half().state_dict(), folder / "pytorch_model.bin")


def attach(module, key, value):
    *path, last = key.split(".")
    for name in path:
        if name not in module._modules:
            module.add_module(name, torch.nn.Module())
        module = module._modules[name]
    module.register_parameter(last, torch.nn.Parameter(value.detach().clone()))


def factory_mof(folder):
    vision = dict(WIDE, model_type="clip_vision_model")
    clip = randomise(hf.CLIPVisionModel(hf.CLIPVisionConfig(**WIDE)), 59)
    second = dict(hidden_size=64, num_attention_heads=1, num_hidden_layers=1, image_size=6, patch_size=2, mlp_ratio=1)
    dinov2, model = randomise(hf.Dinov2Model(hf.Dinov2Config(**second)), 60), language(LLAMA, 61)
    pair = torch.nn.ModuleDict({"clip": perceptron(64, 8), "dinov2": perceptron(64, 8)})
    fill(pair, 62)
    halve(clip, dinov2, pair, model)

    def encode(pixels):
        left, right = features(clip, pair["clip"], -1)(pixels), features(dinov2, pair["dinov2"], -1)(pixels)
        return torch.stack([left, right], 2).flatten(1, 2)

    config = factory(LLAMA, vision, "mof_mlp", vision_feature_layer=-1, vision_model_name_or_path2="some/dinov2")
    save(folder, config, run(encode, model, 18, 6))
    state = named(clip, "vision_tower._vision_tower.clip.", True) | named(dinov2, "vision_tower._vision_tower.dinov2.")
    state |= named(pair, "connector._connector.") | named(model, "language_model.")
    save_file(half(state), folder / "model.safetensors")


def factory2(folder):
    vision = dict(CLIP, model_type="clip_vision_model")
    tower, model = randomise(hf.CLIPVisionModel(hf.CLIPVisionConfig(**CLIP)), 63), language(PHI, 64)
    connector = fill(perceptron(16, 16), 65)
    halve(tower, model, connector)
    config = dict(model_type="tinyllava", image_token_index=VOCABULARY, vision_feature_layer=-2, vision_feature_select_strategy="default",
                  text_config=PHI, vision_config=vision)
    save(folder, config, run(features(tower, connector), model, 9))
    state = {key.replace("model.model.", "model."): value for key, value in named(model, "model.").items()}
    state = {("model.language_model." + key[6:]) if not key.startswith("model.lm_head") else key[6:]: value for key, value in state.items()}
    state |= named(tower, "model.vision_tower.", True)
    for i in (0, 1):
        state |= named(connector[2 * i], f"model.multi_modal_projector.layers.{i}.")
    save_file(half(state), folder / "model.safetensors")


def bench(folder):
    tower = randomise(hf.SiglipVisionModel(hf.SiglipVisionConfig(**WIDE, vision_use_head=False)), 66)
    model, connector = language(PHI, 67), fill(perceptron(64, 16), 68)
    halve(tower, model, connector)
    config = dict(PHI, architectures=["TinyLlavaPhiForCausalLM"], model_type="tiny_llava_phi", mm_vision_tower="bczhou/TinyLLaVA-3.1B-SigLIP",
                  mm_hidden_size=64, mm_projector_type="mlp2x_gelu", mm_vision_select_layer=-2, mm_vision_select_feature="patch",
                  image_aspect_ratio="pad", mm_use_im_start_end=False, mm_use_im_patch_token=False, tokenizer_model_max_length=3072)
    save(folder, config, run(features(tower, connector, -1, 0), model, 9, 6))
    state = named(model, "") | named(tower, "model.vision_tower.vision_tower.", True) | named(connector, "model.mm_projector.")
    save_file(half(state), folder / "model.safetensors")


def llava(folder):
    tower = randomise(hf.CLIPVisionModel(hf.CLIPVisionConfig(**WIDE)), 69)
    model, connector = language(LLAMA, 70), fill(perceptron(64, 8), 71)
    halve(tower, model, connector)
    config = dict(LLAMA, architectures=["LlavaLlamaForCausalLM"], model_type="llava_llama", mm_vision_tower="openai/clip-vit-large-patch14-336",
                  mm_hidden_size=64, mm_projector_type="mlp2x_gelu", mm_vision_select_layer=-1, mm_vision_select_feature="patch",
                  image_aspect_ratio="pad", mm_use_im_start_end=False, mm_use_im_patch_token=False)
    save(folder, config, run(features(tower, connector, -1), model, 9, 6))
    shards = [named(model, ""), named(tower, "model.vision_tower.vision_tower.", True) | named(connector, "model.mm_projector.")]
    names = [f"pytorch_model-0000{i + 1}-of-00002.bin" for i in range(2)]
    for name, state in zip(names, shards):
        torch.save(half(state), folder / name)
    index = {"metadata": {"total_size": 0}, "weight_map": {key: name for name, state in zip(names, shards) for key in state}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1) + "\n")
    (folder / "projector").mkdir()  # what pre-training leaves
    (folder / "projector" / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    torch.save({key: value.bfloat16() for key, value in named(connector, "model.mm_projector.").items()}, folder / "projector" / "mm_projector.bin")


def nanovlm(folder, checkout):
    sys.path.insert(0, str(checkout))
    processors = types.ModuleType("data.processors")
    processors.get_tokenizer = lambda *_: types.SimpleNamespace(image_token_id=VOCABULARY)
    sys.modules["data"], sys.modules["data.processors"] = types.ModuleType("data"), processors
    from models.config import VLMConfig
    from models.vision_language_model import VisionLanguageModel

    config = VLMConfig(
        vit_hidden_dim=16, vit_inter_dim=20, vit_patch_size=4, vit_img_size=16, vit_n_heads=2, vit_n_blocks=1, lm_hidden_dim=24, lm_inter_dim=28,
        lm_re_base=10000, lm_max_position_embeddings=64, lm_base_vocab_size=VOCABULARY, extra_token_amount=5, lm_vocab_size=VOCABULARY + 5,
        lm_n_heads=6, lm_n_kv_heads=2, lm_n_blocks=1, mp_pixel_shuffle_factor=2, mp_image_token_length=4,
    )
    whole = VisionLanguageModel(config, load_backbone=False)
    fill(whole, 72)
    halve(whole)

    class Model:
        def get_input_embeddings(self):
            return whole.decoder.token_embedding

        def __call__(self, inputs_embeds):
            return types.SimpleNamespace(logits=whole.decoder.head(whole.decoder(inputs_embeds)[0]))

    expected = run(lambda pixels: whole.MP(whole.vision_encoder(pixels)), Model(), 4, 16)
    folder.mkdir(parents=True)
    whole.half().save_pretrained(folder)
    save_file(expected, folder / "expected.safetensors")


def main(root, checkout):
    made = {
        "dialect-factory": factory_siglip, "dialect-factory-pretrain": factory_pretrain, "dialect-factory-qformer": factory_qformer,
        "dialect-factory-mof": factory_mof, "dialect-factory2": factory2, "dialect-bench": bench, "dialect-llava": llava,
        "dialect-nanovlm": lambda folder: nanovlm(folder, checkout),
    }
    with torch.no_grad():
        for name, make in made.items():
            shutil.rmtree(root / name, ignore_errors=True)
            make(root / name)


main(Path(sys.argv[1]), Path(sys.argv[2]))
