import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { evaluationProgress } from '../../src/cli/eval.ts';
import { columns } from '../../src/cli/print.ts';
import { StatusLine } from '../../src/cli/quickstart/status-line.ts';
import { readSamples } from '../../src/evaluate/samples-file.ts';
import { ChatModel } from '../../src/generate/generate.ts';
import { openSafetensors } from '../../src/tensor/safetensors.ts';
import { colour, folderWith } from '../data/files.ts';
import { ask, onOneThread, picture, tinyCheckpoint, tinyModel } from '../generate/tiny-model.ts';
import { start, tinyllava } from './run.ts';

onOneThread();

const root = mkdtempSync(join(tmpdir(), 'tinyllava-cli-'));
const { folder: model, remove } = await tinyCheckpoint();
afterAll(() => {
  rmSync(root, { recursive: true });
  remove();
});
const images = [1, 2].map((hue) => join(root, `${hue}.png`));
for (const [i, path] of images.entries()) writeFileSync(path, await picture(i + 1));
const [first = '', second = ''] = images;
const made = tinyModel();
const chat = new ChatModel(made.model, made.processor);

describe('ask', () => {
  test('prints the answer and nothing else', async () => {
    const { text } = await chat.generate({ messages: ask('what is this ?'), images: [first, second], maxNewTokens: 6 });
    const expected = { code: 0, stdout: `${text}\n`, stderr: '' };
    expect(await tinyllava('ask', model, '--image', first, '--image', second, 'what is this ?', '--max-new-tokens', '6')).toEqual(expected);
    expect(await tinyllava('ask', model, '--max-new-tokens', '6', '--image', first, second, 'what', 'is', 'this', '?')).toEqual(expected);
    expect(await tinyllava('ask', model, first, second, 'what is this ?', '--max-new-tokens', '6')).toEqual(expected);
  });

  test('gives one JSON document when asked to', async () => {
    const { stdout } = await tinyllava('ask', model, 'what is this ?', '--max-new-tokens', '3', '--json');
    const { text } = await chat.generate({ messages: ask('what is this ?'), maxNewTokens: 3 });
    expect(JSON.parse(stdout)).toEqual({ text, finishReason: 'length', usage: { promptTokens: 4, sharedTokens: 0, completionTokens: 3 } });
  });

  test('draws the same answer for a seed', async () => {
    const sampled = ['--temperature', '2', '--top-p', '0.9', '--seed', '5', '--max-new-tokens', '9'];
    const { stdout } = await tinyllava('ask', model, 'a', ...sampled);
    expect((await tinyllava('ask', model, 'a', ...sampled)).stdout).toBe(stdout);
    expect((await tinyllava('ask', model, 'a', ...sampled, '--seed', '6')).stdout).not.toBe(stdout);
  });

  test('names what is wrong', async () => {
    const missing = await tinyllava('ask', model, '--image', '/nowhere.png', 'what?');
    expect(missing).toMatchInlineSnapshot(`
      {
        "code": 1,
        "stderr": "error: /nowhere.png does not exist
        fix: check the path; in a data file it starts at the image folder
      ",
        "stdout": "",
      }
    `);
    expect(await tinyllava('ask', model, '/nowhere.png', 'what?')).toEqual(missing);
    expect(await tinyllava('ask', model, first)).toMatchInlineSnapshot(`
      {
        "code": 2,
        "stderr": "error: the question is missing
        fix: see \`tinyllava ask --help\`
      ",
        "stdout": "",
      }
    `);
    expect((await tinyllava('ask', model, ' ')).code).toBe(2);
    expect(await tinyllava('ask', model, 'what?', '--top-p', '2')).toMatchInlineSnapshot(`
      {
        "code": 2,
        "stderr": "error: option '--top-p <share>' argument '2' is invalid. expected a share from 0 to 1
        fix: see \`tinyllava ask --help\`
      ",
        "stdout": "",
      }
    `);
    expect(await tinyllava('ask', model, 'what?', '--device', 'cuda:7')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('--device cuda:7'),
    });
  });
});

describe('chat', () => {
  async function converse(...lines: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const { child, outcome } = start(['chat', model, '--max-new-tokens', '5']);
    child.stdin?.end(lines.map((line) => `${line}\n`).join(''));
    return outcome;
  }

  test('answers line by line from a pipe, with the conversation so far', async () => {
    const { code, stdout, stderr } = await converse(
      `/image ${first}`,
      'what is this ?',
      '',
      'is this red ?',
      '/clear',
      'what is this ?',
      '/exit',
      'a',
    );
    const maxNewTokens = 5;
    const one = await chat.generate({ messages: ask('what is this ?'), images: [first], maxNewTokens });
    const history = [...ask('what is this ?'), { role: 'assistant', content: one.text } as const];
    const two = await chat.generate({ messages: [...history, ...ask('is this red ?')], images: [first], maxNewTokens });
    const three = await chat.generate({ messages: ask('what is this ?'), maxNewTokens });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toBe(`${[one, two, three].map(({ text }) => text).join('\n')}\n`);
  });

  test('goes on after a mistake', async () => {
    const { code, stdout, stderr } = await converse('/imag x', '/image nowhere.png', `/image ${root}`, 'a', 'b');
    const { text } = await chat.generate({ messages: ask('b'), maxNewTokens: 5 });
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${text}\n` });
    expect(stderr.replaceAll(root, 'ROOT')).toMatchInlineSnapshot(`
      "error: /imag is no command
        fix: use /image FILE, /clear, /exit or /help
      error: nowhere.png: no such file
      error: ROOT cannot be read: EISDIR: illegal operation on a directory, read
        fix: check the path; in a data file it starts at the image folder
      "
    `);
  });
});

const terminal = spawnSync('python3', ['-c', 'import pty']).status === 0;

test.skipIf(!terminal)('chat in a terminal: Ctrl-C ends the answer, and at the prompt the conversation (needs python3)', () => {
  const script = `
import os, pty, select, sys, time
process, screen = pty.fork()
if process == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen = ''
def until(text):
    global seen
    deadline = time.time() + 60
    while text not in seen and time.time() < deadline:
        if select.select([screen], [], [], 0.1)[0]:
            try:
                seen += os.read(screen, 4096).decode()
            except OSError:
                break
    before, _, seen = seen.partition(text)
    return before
until('> ')
os.write(screen, b'what is this ?\\r')
until('this ?')
begun = until(' ')
os.write(screen, b'\\x03')
answer = begun + until('> ')
os.write(screen, b'\\x03')
until('nothing more')
print(len(answer.split()), os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))`;
  const endless = ['--max-new-tokens', '250', '--threads', '1', '--temperature', '0.001', '--repetition-penalty', '0.5'];
  const command = [process.execPath, '--import', 'tsx', 'src/cli/main.ts', 'chat', model, ...endless];
  const { stdout, stderr } = spawnSync('python3', ['-c', script, ...command], { encoding: 'utf8' });
  const [words, code] = stdout.trim().split(' ').map(Number);
  expect(code, stderr).toBe(0);
  expect(words).toBeGreaterThan(0);
  expect(words).toBeLessThan(240);
});

describe('eval', () => {
  const data = join(root, 'data');
  mkdirSync(data);
  const rows = Array.from({ length: 12 }, (_, i) => ({
    question_id: i,
    image: i % 2 ? first : second,
    text: 'what is this ?',
    answer: 'a',
  }));
  writeFileSync(join(data, 'questions.json'), JSON.stringify(rows));

  test('prints a table, or the results as JSON, and writes every sample', async () => {
    const out = join(root, 'out');
    const { code, stdout } = await tinyllava('eval', model, '--tasks', 'vqa', '--data', data, '--limit', '7', '--out', out);
    expect(code).toBe(0);
    const lasting = stdout
      .replace(/in .* a second\)/, 'in TIME')
      .replace(/[0-9a-f]{64}/, 'HASH')
      .replace(/(libtorch|Node|tinyllava): \d.*/g, '$1: VERSION');
    expect(lasting).toMatchInlineSnapshot(`
      "## vqa

      | questions | count | score | 95 % interval |
      | --------- | ----: | ----: | ------------: |
      | all       |     7 |   0.0 |    0.0 - 66.2 |

      7 questions in TIME.

      questions share images and fall into 2 groups, which intervals allow for.

      ## The run

      - batchSize: 16
      - model: model
      - limit: the first 7 questions of each task
      - profile: official
      - weights: HASH
      - dtype: float32
      - device: cpu
      - libtorch: VERSION
      - template: tiny
      - tinyllava: VERSION
      - Node: VERSION
      "
    `);
    expect(await readSamples(join(out, 'samples_vqa.jsonl'))).toHaveLength(7);
    const json = await tinyllava('eval', model, '--tasks', 'vqa', '--data', data, '--limit', '7', '--json');
    const { tasks } = JSON.parse(json.stdout);
    const written = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8')).tasks;
    expect({ ...tasks.vqa, seconds: 0 }).toEqual({ ...written.vqa, seconds: 0 });
  });

  test('lists its tasks', async () => {
    expect((await tinyllava('eval', '--list')).stdout).toMatch(
      /^easy-vqa: shape.*\n {4}easy-vqa: test.questions.json.*\n {8}from .pip.*\nvqa: questions of your own/,
    );
    expect(JSON.parse((await tinyllava('eval', '--list', '--json')).stdout)).toContainEqual(
      expect.objectContaining({ name: 'pope', wants: expect.any(Array) }),
    );
  });

  test('keeps what is answered when it is interrupted', async () => {
    const many = join(root, 'many');
    mkdirSync(many);
    const questions = Array.from({ length: 20_000 }, (_, i) =>
      JSON.stringify({ question_id: i, text: `what is this ?${' a'.repeat(i % 7)}`, answer: 'a' }),
    );
    writeFileSync(join(many, 'questions.jsonl'), questions.join('\n'));
    const out = join(root, 'interrupted');
    const { child, outcome } = start([
      'eval',
      model,
      '--tasks',
      'vqa',
      '--data',
      many,
      '--out',
      out,
      '--batch-size',
      '4',
      '--threads',
      '1',
    ]);
    const samples = join(out, 'samples_vqa.jsonl');
    const lines = (): number => {
      try {
        return readFileSync(samples, 'utf8').split('\n').length - 1;
      } catch {
        return 0;
      }
    };
    while (lines() < 3) await new Promise((resolve) => setTimeout(resolve, 50));
    child.kill('SIGINT');
    const { code, stdout, stderr } = await outcome;
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
    expect(stderr).toContain('error: interrupted');
    const kept = await readSamples(samples);
    expect(kept.length).toBeGreaterThan(2);
    expect(kept.length).toBeLessThan(20_000);
  });

  test('shows how far it is, on one line of a small terminal or as lines of a log', () => {
    const show = (screen: { isTTY?: boolean; columns?: number }): string => {
      let [text, now] = ['', 0];
      const write = (more: string): void => {
        text += more;
      };
      const log = evaluationProgress(new StatusLine({ ...screen, write }, () => now), () => now);
      log({ event: 'evaluating', task: 'vqa', samples: 100 });
      for (let done = 1; done <= 3; done++) {
        now += 8000;
        log({ event: 'answered', task: 'vqa', done, samples: 100, meanScore: 0.5 });
      }
      log({ event: 'evaluated', task: 'vqa' });
      return text;
    };
    expect(show({ isTTY: true, columns: 40 })).toMatchInlineSnapshot(`
      "
      [2Kvqa  1 of 100  score 50.0 %  792 s left
      [2Kvqa  2 of 100  score 50.0 %  784 s left
      [2Kvqa  3 of 100  score 50.0 %  776 s left
      [2Kvqa  done  24.0 s
      "
    `);
    expect(show({})).toMatchInlineSnapshot(`
      "vqa  3 of 100  score 50.0 %  776 s left  0.1 questions/s
      vqa  done  24.0 s
      "
    `);
  });
});

describe('logits', () => {
  test('writes ids, scores and image features', async () => {
    const out = join(root, 'logits.safetensors');
    const { code, stdout } = await tinyllava(
      'logits',
      model,
      '--prompt',
      'what is <image> and <image> ?',
      '--image',
      first,
      '--image',
      second,
      '--out',
      out,
    );
    expect({ code, stdout: stdout.replace(root, '') }).toMatchInlineSnapshot(`
      {
        "code": 0,
        "stdout": "/logits.safetensors: input_ids [12], logits [12, 29], image_features [8, 32]
      ",
      }
    `);
    const file = openSafetensors(out);
    expect(file.names.map((name) => [name, file.dtype(name), file.shape(name)])).toEqual([
      ['input_ids', 'int64', [12]],
      ['image_features', 'float32', [8, 32]],
      ['logits', 'float32', [12, made.processor.tokenizer.size]],
    ]);
    const word = (text: string): number => made.processor.tokenizer.requireId(text);
    const ids = file.tensor('input_ids').toArray() as BigInt64Array;
    const image = Array(4).fill(word('<image>'));
    expect(Array.from(ids, Number)).toEqual([word('what'), word('is'), ...image, word('<unk>'), ...image, word('?')]);
  });

  test('leaves image features out of a prompt without images', async () => {
    const out = join(root, 'text.safetensors');
    const { stdout } = await tinyllava('logits', model, '--prompt', 'a b', '--out', out, '--json');
    expect(JSON.parse(stdout)).toEqual({ out, shapes: { input_ids: [2], logits: [2, made.processor.tokenizer.size] } });
  });

  test('refuses marks without images', async () => {
    const { code, stderr } = await tinyllava('logits', model, '--prompt', '<image> a', '--out', join(root, 'none.safetensors'));
    expect({ code, stderr }).toMatchInlineSnapshot(`
      {
        "code": 1,
        "stderr": "error: the text has 1 <image> for 0 images
        fix: give one image for each place, and use a template that writes every image of a message
      ",
      }
    `);
  });
});

const python = [process.env['TINYLLAVA_PYTHON'], 'python3'].find(
  (command) => command !== undefined && spawnSync(command, ['-c', 'import torch, PIL; from transformers import LlavaConfig']).status === 0,
);

test.skipIf(python === undefined)(
  'transformers scores and answers the same from the same files (needs a Python with transformers: TINYLLAVA_PYTHON)',
  async () => {
    const { folder, remove } = await tinyCheckpoint({ vision: 'siglip', seed: 3 });
    const prompt = 'what is <image> and <image> ?';
    const out = join(root, 'parity.safetensors');
    expect(await tinyllava('logits', folder, '--prompt', prompt, '--image', first, '--image', second, '--out', out)).toMatchObject({
      code: 0,
    });
    const { stdout } = await tinyllava('ask', folder, '--image', first, 'what is this ?', '--max-new-tokens', '12', '--json');
    const script = `
import json, sys, torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration
folder, out, prompt, *files = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder)
model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
images = [Image.open(file).convert("RGB") for file in files]
ours = load_file(out)
inputs = processor(text=prompt, images=images, return_tensors="pt")
assert inputs.input_ids[0].tolist() == ours["input_ids"].tolist(), (inputs.input_ids[0], ours["input_ids"])
with torch.no_grad():
    logits = model(**inputs).logits[0]
    features = torch.cat(list(model.get_image_features(inputs.pixel_values).pooler_output))
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this ?"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    asked = processor(text=text, images=images[:1], return_tensors="pt")
    answer = model.generate(**asked, do_sample=False, max_new_tokens=12, suppress_tokens=[model.config.image_token_index], eos_token_id=processor.tokenizer.eos_token_id)
print(json.dumps({
    "logits": float((logits - ours["logits"]).abs().max()),
    "features": float((features.flatten(0, -2) - ours["image_features"]).abs().max()),
    "answer": processor.tokenizer.decode(answer[0, asked.input_ids.shape[1]:], skip_special_tokens=True),
}))`;
    const theirs = spawnSync(python ?? '', ['-c', script, folder, out, prompt, first, second], { encoding: 'utf8' });
    remove();
    expect(theirs.status, theirs.stderr).toBe(0);
    const { logits, features, answer } = JSON.parse(theirs.stdout);
    expect(logits).toBeLessThan(1e-4);
    expect(features).toBeLessThan(1e-4);
    expect(JSON.parse(stdout).text).toBe(answer.trim());
  },
  120_000,
);

describe('inspect', () => {
  test('shows the parts of a checkpoint', async () => {
    const { code, stdout } = await tinyllava('inspect', model);
    expect(code).toBe(0);
    expect(stdout.replace(model, 'MODEL').split('\ntemplate\n')[0]).toMatchInlineSnapshot(`
      "MODEL: checkpoint
      vision tower    conv-vit   3,224
      connector       mlp        1,600
      language model  llama     17,376
      all                       22,200

      dtype            float32
      imageTokens      4
      contextTokens    256
      vocabulary       29
      endsAnswersWith  </s>
      "
    `);
    const { parts, parameters } = JSON.parse((await tinyllava('inspect', model, '--json')).stdout);
    expect(parameters).toBe(made.model.parameterCount());
    expect(parts).toHaveLength(3);
  });

  test('shows the language model of a GGUF file', async () => {
    const { code, stdout } = await tinyllava('inspect', 'test/reference/gguf/phi3.gguf');
    expect(code).toBe(0);
    expect(stdout).toMatchInlineSnapshot(`
      "test/reference/gguf/phi3.gguf: checkpoint
      language model  phi3  4,208
      all                   4,208

      dtype          F32
      imageTokens    0
      contextTokens  4096
      vocabulary     45
      "
    `);
  });

  test('shows the tensors of a file', async () => {
    const { stdout } = await tinyllava('inspect', 'test/reference/llama-mqa/model-00003-of-00004.safetensors');
    expect(stdout).toMatchInlineSnapshot(`
      "test/reference/llama-mqa/model-00003-of-00004.safetensors: 6 tensors of 2,952 values
      model.layers.1.input_layernorm.weight           float32  [24]
      model.layers.1.mlp.down_proj.weight             float32  [24, 40]
      model.layers.1.mlp.gate_proj.weight             float32  [40, 24]
      model.layers.1.mlp.up_proj.weight               float32  [40, 24]
      model.layers.1.post_attention_layernorm.weight  float32  [24]
      model.norm.weight                               float32  [24]
      "
    `);
  });

  test('shows the recipe with every default', async () => {
    const path = join(root, 'some.yaml');
    const recipe = readFileSync('recipes/easy-vqa.quickstart.yaml', 'utf8');
    writeFileSync(path, recipe);
    const { code, stdout } = await tinyllava('inspect', path);
    expect({ code, head: stdout.split('\n')[0] }).toEqual({ code: 0, head: `${path}: recipe, every default filled in` });
    expect(stdout).toContain('weightDecay');
    expect(JSON.parse((await tinyllava('inspect', path, '--json')).stdout)).toMatchObject({
      kind: 'recipe',
      recipe: { stages: expect.anything() },
    });
  });

  test('shows what is learned of data, and every problem', async () => {
    const path = join(root, 'data.json');
    const turns = (question: string, answer: string) => [
      { from: 'human', value: question },
      { from: 'gpt', value: answer },
    ];
    const rows = [
      { id: 'a', image: '1.png', conversations: [...turns('<image>\nwhat is this ?', 'a circle'), ...turns('is this red ?', 'no')] },
      { id: 'b', image: 'missing.png', conversations: turns('<image>\nis this red ?', 'yes') },
      { id: 'c', conversations: [{ from: 'human', value: '<image> and no image' }] },
    ];
    writeFileSync(path, JSON.stringify(rows));
    const { code, stdout, stderr } = await tinyllava('inspect', path, '--model', model, '--samples', '1');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout.replaceAll(root, 'ROOT')).toMatchInlineSnapshot(`
      "ROOT/data.json: 3 conversations, 1 of them usable, 1 clean
      turns    3 human, 3 gpt, 0 system
      answers  0 empty, 0 skipped, 0 questions without one
      images   2 files used 2 times, 1 decoded
               0 rows without, 0 with several
      cut      0 rows, 0 learned tokens

                               least  mean  median  95 %  most
      turns of a row               2     3       2     4     4
      characters of an answer      2   4.3       3     8     8
      tokens of a row             10  13.5      10    17    17
      learned tokens of a row      2   3.5       2     5     5

      ROOT/data.json#0
        given    "<image> x 4"
        given    "what is this?"
        learned  "a circle </s>"
        given    "is this red?"
        learned  "no </s>"

      2 problems
      roles: 1
        ROOT/data.json#2: no question is answered
          fix: a row needs a turn of "human" followed by one of "gpt"
      missing image: 1
        ROOT/missing.png: does not exist, first used by ROOT/data.json#1
          fix: check the image folder
      "
    `);
    const plain = JSON.parse((await tinyllava('inspect', path, '--json')).stdout);
    expect(plain).toMatchObject({ kind: 'data', rows: 3, samples: [] });
  });

  test('writes the rows without problems to a new file', async () => {
    const path = join(root, 'mixed.json');
    const row = (question: string, answer: string) => ({
      conversations: [
        { from: 'human', value: question },
        { from: 'gpt', value: answer },
      ],
    });
    writeFileSync(path, JSON.stringify([row('a', 'b'), row('a', 'b'), row('c', '')]));
    const fixed = join(root, 'fixed', 'mixed.json');
    const { code, stdout } = await tinyllava('inspect', path, '--fix', fixed);
    expect(code).toBe(0);
    expect(stdout.replaceAll(root, 'ROOT').split('\n').slice(-4)).toEqual([
      'ROOT/fixed/mixed.json: 1 conversation without problems',
      'ROOT/fixed/mixed.json.dropped.jsonl: the other 2, and why',
      'its images are in ROOT: give that as --image-folder, or as images in a recipe',
      '',
    ]);
    expect(JSON.parse(readFileSync(fixed, 'utf8'))).toEqual([row('a', 'b')]);
    const again = await tinyllava('inspect', path, '--fix', fixed);
    expect({ ...again, stderr: again.stderr.replaceAll(root, 'ROOT') }).toEqual({
      code: 1,
      stdout: '',
      stderr: 'error: ROOT/fixed/mixed.json exists\n  fix: give a path where nothing is yet\n',
    });
    const ignored = join(root, 'fixed', 'ignored.json');
    await tinyllava('inspect', path, '--fix', ignored, '--ignore', 'duplicate-row,empty answer');
    expect(JSON.parse(readFileSync(ignored, 'utf8'))).toHaveLength(3);
    for (const [option, value] of [
      ['--max-length', '5'],
      ['--template', 'tiny'],
    ] as const) {
      expect(await tinyllava('inspect', path, option, value)).toEqual({
        code: 2,
        stdout: '',
        stderr: `error: ${option} goes with --model alone\n  fix: name the model whose tokens count by --model\n`,
      });
    }
    const mistyped = await tinyllava('inspect', path, '--ignore', 'duplicates');
    expect(mistyped.code).toBe(2);
    expect(mistyped.stderr).toContain('expected some of broken-row, roles,');
  });

  test('shows the first problems of each kind, and more in JSON', async () => {
    const path = join(root, 'gone.json');
    const row = (i: number) => ({
      image: `gone-${i}.png`,
      conversations: [
        { from: 'human', value: '<image>\na' },
        { from: 'gpt', value: 'b' },
      ],
    });
    writeFileSync(path, JSON.stringify(Array.from({ length: 14 }, (_, i) => row(i))));
    const lines = (await tinyllava('inspect', path)).stdout.trimEnd().split('\n');
    expect(lines.filter((line) => line.includes('does not exist'))).toHaveLength(10);
    expect(lines.at(-1)).toBe('  4 more; --problems names more');
    expect((await tinyllava('inspect', path, '--problems', '14')).stdout.match(/does not exist/g)).toHaveLength(14);
    expect(JSON.parse((await tinyllava('inspect', path, '--json')).stdout).problems).toHaveLength(14);
  });

  test('takes training data of any form by its file, folder or pattern', async () => {
    const first = async (name: string): Promise<string> => {
      const { stdout, stderr } = await tinyllava('inspect', name, '--ignore', 'duplicate-row');
      return `${stdout}${stderr}`.split('\n').slice(0, 2).join(' ');
    };
    const folder = 'test/reference/data';
    expect(await first(`${folder}/cauldron.parquet`)).toContain('cauldron.parquet: 4 conversations, 4 of them usable, 4 clean');
    expect((await tinyllava('inspect', `${folder}/captions.parquet`)).stdout).toContain('images   4 inside the rows, 4 decoded');
    expect(await first(`${folder}/{captions,broken}.parquet`)).toContain('8 conversations, 7 of them usable, 7 clean');
    expect(await first(folder)).toContain(`${folder}: 19 conversations, 17 of them usable`);
    const images = await folderWith({ 'a.png': await colour(1, 2, 3), 'rows.json': [] });
    expect(await first(images)).toMatch(
      /has images, but no caption beside any of them {3}fix: name the file of conversations, such as .*rows.json/,
    );
  });

  test('says what it takes', async () => {
    expect(await tinyllava('inspect', 'package-lock.txt')).toMatchInlineSnapshot(`
      {
        "code": 1,
        "stderr": "error: package-lock.txt: no such file or folder
      ",
        "stdout": "",
      }
    `);
    expect(await tinyllava('inspect', 'LICENSE')).toMatchInlineSnapshot(`
      {
        "code": 1,
        "stderr": "error: LICENSE: cannot tell what this is
        fix: inspect takes a checkpoint folder, a language model (.gguf), a recipe (.yaml), data (.json, .parquet, .tar, .csv, a folder of images) or tensors (.safetensors)
      ",
        "stdout": "",
      }
    `);
  });

  test('lines up columns, numbers to the right', () => {
    expect(
      columns([
        ['a', 1234567, 'x'],
        ['long name', 12, ''],
      ]),
    ).toEqual(['a          1,234,567  x', 'long name         12']);
  });
});
