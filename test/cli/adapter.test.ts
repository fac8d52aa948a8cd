import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ChatModel } from '../../src/generate/generate.ts';
import { saveAdapter } from '../../src/model/adapter/save.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { Linear } from '../../src/nn/linear.ts';
import { LoraLinear, mergeLora } from '../../src/nn/lora.ts';
import { Processor } from '../../src/processor/processor.ts';
import { randn } from '../../src/tensor/create.ts';
import { Generator } from '../../src/tensor/random.ts';
import { ask, onOneThread, tinyCheckpoint } from '../generate/tiny-model.ts';
import { start, tinyllava } from './run.ts';

onOneThread();

const root = mkdtempSync(join(tmpdir(), 'tinyllava-cli-adapter-'));
const adapter = join(root, 'adapter');
const { folder: base, remove } = await tinyCheckpoint();
afterAll(() => {
  rmSync(root, { recursive: true });
  remove();
});

let changed: string;
let plain: string;
beforeAll(async () => {
  const { model } = await loadCheckpoint(base);
  const processor = await Processor.open(base, { imageTokens: model.imageTokens });
  const answer = async () => (await new ChatModel(model, processor).generate({ messages: ask('what is this ?'), maxNewTokens: 6 })).text;
  plain = await answer();
  const generator = new Generator(3);
  model.languageModel.replaceModules<Linear, Linear>(Linear, (layer, key) => {
    if (!key.endsWith('_proj')) return undefined;
    const adapted = new LoraLinear(layer, { rank: 2, alpha: 4 });
    const [outputs, inputs] = layer.weightShape;
    adapted.setFactors(randn([2, inputs], { generator }), randn([outputs, 2], { generator }));
    return adapted;
  });
  await saveAdapter(adapter, model, { base });
  mergeLora(model);
  changed = await answer();
});

test('a model answers with the adapter that is named beside it, or that is named itself', async () => {
  const question = ['what is this ?', '--max-new-tokens', '6'];
  expect(changed).not.toBe(plain);
  expect((await tinyllava('ask', base, ...question)).stdout).toBe(`${plain}\n`);
  expect((await tinyllava('ask', base, '--adapter', adapter, ...question)).stdout).toBe(`${changed}\n`);
  expect((await tinyllava('ask', adapter, ...question)).stdout).toBe(`${changed}\n`);
  expect((await tinyllava('ask', adapter, '--base', base, ...question)).stdout).toBe(`${changed}\n`);
  const { code, stderr } = await tinyllava('ask', base, '--adapter', root, ...question);
  expect({ code, stderr: stderr.replaceAll(root, 'FOLDER') }).toMatchInlineSnapshot(`
    {
      "code": 1,
      "stderr": "error: FOLDER: no adapter_config.json
      fix: an adapter is a folder that PEFT wrote
    ",
    }
  `);
});

test('an evaluation by several processes asks the model that its flags name', async () => {
  const data = join(root, 'data');
  mkdirSync(data);
  writeFileSync(join(data, 'questions.jsonl'), '{"question_id": 0, "text": "what is this ?", "answer": "a"}');
  const evaluated = async (...flags: string[]): Promise<Record<string, unknown>> => {
    const { outcome } = start(['eval', base, ...flags, '--tasks', 'vqa', '--data', data, '--json']);
    return (JSON.parse((await outcome).stdout) as { settings: Record<string, unknown> }).settings;
  };
  const [flags, several] = [
    ['--adapter', adapter, '--template', 'llama', '--mapped'],
    ['--processes', '2'],
  ];
  const adapted = await evaluated(...flags);
  expect(await evaluated(...flags, ...several)).toEqual(adapted);
  expect(adapted['model']).toBe(`${basename(base)} with ${basename(adapter)}`);
  expect((await evaluated(...several))['weights']).not.toBe(adapted['weights']);
});

test('inspect tells what an adapter changes, and the model that it changes', async () => {
  const found = JSON.parse((await tinyllava('inspect', adapter, '--json')).stdout) as Record<string, unknown>;
  const whole = JSON.parse((await tinyllava('inspect', base, '--json')).stdout) as Record<string, unknown>;
  const { adapter: described, ...rest } = found;
  expect(String(described).replace(root, 'FOLDER')).toMatchInlineSnapshot(`"FOLDER/adapter: rank 2, alpha 4, 14 layers"`);
  expect(rest).toEqual({ ...whole, path: adapter });
});

test('convert writes the model with the adapter in its weights', async () => {
  const out = join(root, 'converted');
  expect(await tinyllava('convert', adapter, out, '--to', 'hf')).toMatchObject({ code: 0 });
  expect((await tinyllava('ask', out, 'what is this ?', '--max-new-tokens', '6')).stdout).toBe(`${changed}\n`);
});
