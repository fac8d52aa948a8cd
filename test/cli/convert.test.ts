import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readConfig } from '../../src/model/checkpoint.ts';
import { tinyCheckpoint } from '../generate/tiny-model.ts';
import { tinyllava } from './run.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-cli-convert-'));
const { folder: model, remove } = await tinyCheckpoint({ vision: 'siglip' });
afterAll(() => {
  rmSync(root, { recursive: true });
  remove();
});

test('convert lists what it wrote, and says on the other stream what there is to know', async () => {
  const target = join(root, 'factory');
  const { code, stdout, stderr } = await tinyllava('convert', model, target, '--to', 'factory-v1');
  expect(code).toBe(0);
  expect(stdout.replaceAll(`${root}/`, '').replace(/ +[\d,]+$/gm, ' #')).toMatchInlineSnapshot(`
    "factory/chat_template.jinja #
    factory/config.json #
    factory/model.safetensors #
    factory/preprocessor_config.json #
    factory/processor_config.json #
    factory/tokenizer.json #
    factory/tokenizer_config.json #
    "
  `);
  expect(stderr).toMatchInlineSnapshot(`
    "note: Factory fetches tokenizer and image processor by the names in config.json: put in those of what this model was made of
    "
  `);
  expect((await readConfig(target)).language.type).toBe('llama');
});

test('convert --json is one document', async () => {
  const target = join(root, 'hf');
  const { code, stdout, stderr } = await tinyllava('convert', model, target, '--to', 'hf', '--dtype', 'bfloat16', '--json');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const said = JSON.parse(stdout) as { files: { path: string; bytes: number }[] };
  expect(said).toMatchObject({ to: 'hf', source: model, stored: 'bfloat16', notes: [] });
  for (const { path } of said.files) expect(existsSync(path), path).toBe(true);
});

test('convert names what is wrong in one line and its fix', async () => {
  const run = async (...argv: string[]) => (await tinyllava('convert', ...argv)).stderr.replaceAll(root, 'ROOT').replaceAll(model, 'MODEL');
  expect(await run(model, join(root, 'x'), '--to', 'gguff')).toMatchInlineSnapshot(`
    "error: unknown format "gguff"
      fix: did you mean "gguf"? known: hf, factory-v1, gguf
    "
  `);
  expect(await run(model, join(root, 'x'), '--to', 'gguf')).toMatchInlineSnapshot(`
    "error: gguf: a tokenizer of the kind WordLevel, which llama.cpp lacks
      fix: byte-level and SentencePiece BPE go
    "
  `);
  expect(await run(join(root, 'nowhere'), join(root, 'x'), '--to', 'hf')).toMatchInlineSnapshot(`
    "error: ROOT/nowhere: no such folder
      fix: a model is a folder with config.json and *.safetensors
    "
  `);
  expect(await run(model, join(root, 'x'))).toMatchInlineSnapshot(`
    "error: required option '--to <format>' not specified
      fix: see \`tinyllava convert --help\`
    "
  `);
  expect(existsSync(join(root, 'x'))).toBe(false);
});
