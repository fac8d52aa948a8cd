"""Writes small tokenizers, images and what tokenizers, Jinja and transformers make of them, for the processor's parity tests.

Usage: python scripts/make-processor-references.py test/reference        (tokenizers 0.23, transformers 5.23, Pillow 13; needs no network)

The named chat templates are read from src/processor/templates.ts through tsx; run this again after changing one.
"""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoProcessor, AutoTokenizer, CLIPImageProcessorPil, LlavaImageProcessorPil, PreTrainedTokenizerFast, SiglipImageProcessorPil
from transformers.utils.chat_template_utils import render_jinja_template

CORPUS = """A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers
to the user's questions. USER: What color is the shape in the image? ASSISTANT: The shape is blue. USER: Is there a red circle? ASSISTANT: No,
there is no red circle; it's a blue rectangle. user assistant system You are a helpful assistant. Describe the picture in one sentence. 12 345 6.78
naïve café, déjà vu, the the the, ing tion ed er re in on at or an he """.replace("\n", " ") * 4

TEXTS = [
    "", " ", "\n", "Hello world", " Hello", "  two  spaces ", "What color is the shape?\n\n", "tabs\tand\r\nlines", "naïve café — 東京 🎉👩‍👩‍👧 e\u0301",
    "1234567 3.14 don't I'LL", "</s>", "a</s>b <image> <|im_end|>x<eos>", "<|im_start|>user\nhi<|im_end|>", "▁a ▁▁ b", "\u00a0nbsp\u3000x", "𝔘𝔫𝔦",
    "<think>no</think>", "ASSISTANT: The shape is blue.",
]  # fmt: skip

WORDS = "What color is the shape? a blue rectangle. Yes, no — café don't naïve x=1 東京 $5 ... 0123456789 constructor toString 50%"
WORD_TEXTS = ["What color is the shape?", " a blue  rectangle.", "What<image>is</s> a blue", "Yes, no... café 東京 x=1 $5", "unknown the", "don't", "<pad>", "constructor"]
IMAGE = {"type": "image"}
CONVERSATIONS = {
    "one question about an image": [
        {"role": "user", "content": [IMAGE, {"type": "text", "text": "What color is the shape?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "The shape is blue."}]},
    ],
    "two turns, text only": [
        {"role": "user", "content": "Hello there"},
        {"role": "assistant", "content": "Hello! How can I help?"},
        {"role": "user", "content": " Is there a red circle?\n"},
        {"role": "assistant", "content": "No."},
    ],
    "an empty answer": [{"role": "user", "content": "Say nothing."}, {"role": "assistant", "content": ""}],
    "unicode": [{"role": "user", "content": "naïve café 東京 🎉"}, {"role": "assistant", "content": "👩‍👩‍👧 déjà vu"}],
    "two images inside the text": [
        {"role": "user", "content": [{"type": "text", "text": "Is "}, IMAGE, {"type": "text", "text": " like "}, IMAGE, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes"}]},
    ],
    "two images first": [
        {"role": "user", "content": [IMAGE, IMAGE, {"type": "text", "text": "Compare them."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Both are blue."}]},
    ],
    "a system message": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello."},
    ],
}
# white space in every place where trim_blocks and lstrip_blocks act
MARKED = """{% for m in messages %}
{{ m.role }}:
    {% if m.role == 'assistant' %}
  {%- generation -%} {{ m.content }}!
  {% endgeneration %}
.{% else %}{{ m.content }}{% endif %}
{% if m.role == 'assistant' %}{% generation %}

 {{ m.content }}{%- endgeneration -%}  |{% endif %}
{% endfor %}"""
SPECIAL = ["<unk>", "<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<eos>", "<image>"]


def special(token):
    return AddedToken(token, special=True, normalized=False)


def byte_level():
    """As GPT-2, Phi and Qwen: bytes as characters, no bos, one added token that is not special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator([CORPUS], trainer)
    tokenizer.add_tokens([special(token) for token in SPECIAL[1:]] + [AddedToken("<think>", special=False, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def sentence_piece(scheme):
    """As Llama: spaces as U+2581, one before the text, characters that are unknown as bytes, bos before every text."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained.train_from_iterator([CORPUS], trainers.BpeTrainer(vocab_size=220, show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    tokens = SPECIAL[:3] + [f"<0x{byte:02X}>" for byte in range(256)] + sorted(learned["vocab"], key=learned["vocab"].get)
    model = models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(merge) for merge in learned["merges"]], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    if scheme == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([special(token) for token in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>")


def from_typescript(code):
    node = ["node", "--import", "tsx", "--input-type=module", "-e", code]
    return subprocess.run(node, cwd=Path(__file__).parent.parent, check=True, capture_output=True, text=True).stdout


def named_templates():
    return json.loads(from_typescript("import { templates } from './src/processor/templates.ts'; console.log(JSON.stringify(templates))"))


def words(folder):
    """What AutoTokenizer makes of a word-level tokenizer that wordLevelTokenizer saved."""
    target = folder / "processor-tokenizer-words"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    code = "import { splitWords, wordLevelTokenizer } from './src/processor/word-level.ts'; await wordLevelTokenizer(splitWords(%s)).save(%s)"
    from_typescript(code % (json.dumps(WORDS), json.dumps(str(target.resolve()))))
    tokenizer = AutoTokenizer.from_pretrained(target)
    texts = [{"text": text, "ids": tokenizer(text, split_special_tokens=True).input_ids} for text in WORD_TEXTS + TEXTS]
    texts = [{**text, "decoded": tokenizer.decode(text["ids"], skip_special_tokens=True)} for text in texts]
    names = {name: getattr(tokenizer, f"{name}_token_id") for name in ("pad", "unk", "bos", "eos")}
    return {"corpus": WORDS, "texts": texts, "names": names, "size": len(tokenizer)}


def rendered(tokenizer, bos):
    out = {}
    templates = named_templates()
    tokenizer.add_special_tokens({"additional_special_tokens": [token for template in templates.values() for token in template["tokens"]]})
    for name, template in templates.items():
        source = ("{{ bos_token }}" if bos else "") + template["source"]
        cases = {}
        for case, messages in CONVERSATIONS.items():
            text = tokenizer.apply_chat_template(messages, chat_template=source, tokenize=False)
            prompt = tokenizer.apply_chat_template(messages[:-1], chat_template=source, tokenize=False, add_generation_prompt=True)
            cases[case] = {"text": text, "prompt": prompt, "ids": tokenizer(text, add_special_tokens=False).input_ids}
        out[name] = {"source": source, "cases": cases}
    return out


SAVE = """
import { ImageProcessor } from './src/processor/image.ts';
import { Processor } from './src/processor/processor.ts';
import { Tokenizer } from './src/processor/tokenizer.ts';
const [from, to] = %s;
const [mean, std] = [[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]];
const image = new ImageProcessor({ size: { shortestEdge: 28 }, crop: { height: 28, width: 28 }, mean, std, aspect: 'pad' });
await new Processor({ tokenizer: await Tokenizer.open(from), image, template: 'llama', imageTokens: 4 }).save(to);
"""


def saved_by_us(folder):
    """AutoProcessor opens a processor that ours saved, says what it makes of a question, and saves it again for ours to open."""
    with tempfile.TemporaryDirectory() as saved:
        from_typescript(SAVE % json.dumps([str((folder / "processor-tokenizer-prepend").resolve()), saved]))
        processor = AutoProcessor.from_pretrained(saved)
    shutil.rmtree(folder / "processor-llava", ignore_errors=True)
    processor.save_pretrained(folder / "processor-llava")
    image = {"type": "image", "path": str(folder / "processor-images" / "rgb.png")}
    question = [{"role": "user", "content": [image, {"type": "text", "text": "What color is the shape?"}]}]
    inputs = processor.apply_chat_template(question, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="np")
    save_file({"ids": inputs["input_ids"][0].astype(np.int32), "pixels": inputs["pixel_values"][0]}, folder / "processor-llava" / "expected.safetensors")
    (folder / "processor-llava" / "expected.safetensors").chmod(0o644)


def write_tokenizers(folder):
    golden = {}
    for name, tokenizer in {"byte-level": byte_level(), "prepend": sentence_piece("prepend"), "metaspace": sentence_piece("first")}.items():
        target = folder / f"processor-tokenizer-{name}"
        shutil.rmtree(target, ignore_errors=True)
        tokenizer.save_pretrained(target)
        engine = Tokenizer.from_file(str(target / "tokenizer.json"))
        engine.encode_special_tokens = True
        texts = [(text, engine.encode(text, add_special_tokens=False).ids) for text in TEXTS]
        golden[name] = {
            "texts": [{"text": text, "ids": ids, "decoded": engine.decode(ids)} for text, ids in texts],
            "templates": rendered(tokenizer, bos=name != "byte-level"),
        }
    texts, ranges = render_jinja_template([CONVERSATIONS["two turns, text only"]], chat_template=MARKED, return_assistant_tokens_mask=True)
    marked = {"source": MARKED, "text": texts[0], "generated": [texts[0][start:end] for start, end in ranges[0]]}
    (folder / "processor-text.json").write_text(json.dumps({"conversations": CONVERSATIONS, "marked": marked, "words": words(folder), "tokenizers": golden}, ensure_ascii=False, separators=(",", ":")))


def photo(height, width, channels=3, seed=0):
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.stack([np.sin(7 * x + 3 * y * (k + 1)) * 0.5 + 0.5 for k in range(channels)], -1)
    noise = np.random.default_rng(seed).normal(0, 12, waves.shape)
    return np.clip(waves * 210 + noise + 20, 0, 255).astype(np.uint8)


def png16(values):
    """A 16-bit PNG of [H, W, C]; Pillow cannot write colour ones."""
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def images():
    rgb = Image.fromarray(photo(31, 47))

    def encoded(image, kind, **options):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.fromarray(photo(12, 10, seed=seed)) for seed in range(3)]
    wide = photo(9, 14).astype(np.uint16) * 256 + np.random.default_rng(1).integers(0, 256, (9, 14, 3)).astype(np.uint16)
    files = {
        "rgb.png": encoded(rgb, "PNG"),
        "rgb.jpg": encoded(rgb, "JPEG", quality=85),
        "progressive.jpg": encoded(rgb, "JPEG", quality=60, progressive=True),
        "rgb.webp": encoded(rgb, "WEBP", quality=70),
        "rgb.gif": encoded(rgb, "GIF"),
        "rgb.tif": encoded(rgb, "TIFF", compression="tiff_deflate"),
        "exif-rotated.jpg": encoded(rgb, "JPEG", quality=85, exif=exif),
        "alpha.png": encoded(Image.fromarray(photo(9, 14, 4), "RGBA"), "PNG"),
        "grey.png": encoded(Image.fromarray(photo(9, 14, 1)[..., 0], "L"), "PNG"),
        "grey-alpha.png": encoded(Image.fromarray(photo(9, 14, 2), "LA"), "PNG"),
        "grey.jpg": encoded(Image.fromarray(photo(9, 14, 1)[..., 0], "L"), "JPEG"),
        "palette.png": encoded(rgb.quantize(8), "PNG", transparency=2),
        "bits.png": encoded(Image.fromarray(photo(9, 14, 1)[..., 0] > 120), "PNG"),
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG", quality=85),
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
        "rgb-16-bit.png": png16(wide),
        "grey-16-bit.png": png16(wide[..., :1]),
    }
    return files, wide


def left_to_right_first(resize=Image.Image.resize):
    """Pillow 13 chooses by cost which way it resizes first; older ones and torchvision, with which models are trained, go left to right first."""

    def in_order(image, size, resample=None, **options):
        return resize(resize(image, (size[0], image.height), resample), size, resample)

    Image.Image.resize = in_order


def write_images(folder):
    left_to_right_first()
    folder = folder / "processor-images"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files, wide = images()
    expected = {}
    for name, data in files.items():
        (folder / name).write_bytes(data)
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        expected[f"decoded {name}"] = np.array(image)
    # Pillow turns 16-bit grey into white; the high byte is what every other tool shows
    expected["decoded grey-16-bit.png"] = np.repeat((wide[..., :1] >> 8).astype(np.uint8), 3, -1)

    processors_by_name = {
        "clip": CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}),
        "clip-larger": CLIPImageProcessorPil(size={"shortest_edge": 45}, crop_size={"height": 42, "width": 40}),
        "siglip": SiglipImageProcessorPil(size={"height": 24, "width": 24}),
        "siglip-wider-but-lower": SiglipImageProcessorPil(size={"height": 20, "width": 60}),
        "siglip-bilinear": SiglipImageProcessorPil(size={"height": 24, "width": 30}, resample=2),
        "llava-pad": LlavaImageProcessorPil(do_pad=True, size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}),
    }
    for name, processor in processors_by_name.items():
        processor.save_pretrained(folder / name)
        for file in ("rgb.png", "exif-rotated.jpg", "rgb.jpg"):
            image = ImageOps.exif_transpose(Image.open(folder / file)).convert("RGB")
            expected[f"{name} {file}"] = processor(image, return_tensors="np")["pixel_values"][0].astype(np.float32)
    save_file(expected, folder / "expected.safetensors")
    (folder / "expected.safetensors").chmod(0o644)


if __name__ == "__main__":
    reference = Path(sys.argv[1])
    reference.mkdir(parents=True, exist_ok=True)
    write_tokenizers(reference)
    write_images(reference)
    saved_by_us(reference)
