import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { describeError } from '../../src/cli/print.ts';
import { ConfigError } from '../../src/errors.ts';
import { tensor } from '../../src/tensor/create.ts';
import { writeSafetensors } from '../../src/tensor/safetensors.ts';
import { start, tinyllava } from './run.ts';

const verbs = ['quickstart', 'train', 'eval', 'ask', 'chat', 'logits', 'inspect', 'doctor'];

describe('the command line', () => {
  test('lists its verbs', async () => {
    const { code, stdout } = await tinyllava('--help');
    expect(code).toBe(0);
    for (const verb of verbs) expect(stdout).toMatch(new RegExp(`^  ${verb} `, 'm'));
  });

  test.each(verbs)('explains %s', async (verb) => {
    const { code, stdout, stderr } = await tinyllava(verb, '--help');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`Usage: tinyllava ${verb} `);
    expect(stdout).toContain('--json');
  });

  test('prints its version', async () => {
    expect(await tinyllava('--version')).toMatchObject({ code: 0, stdout: '0.1.0\n' });
  });

  test('helps without a verb, and calls that a mistake', async () => {
    expect(await tinyllava()).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('Usage: tinyllava') });
  });

  test('proposes the nearest verb or option', async () => {
    expect(await tinyllava('evl')).toMatchInlineSnapshot(`
      {
        "code": 2,
        "stderr": "error: unknown command 'evl'
        fix: did you mean eval?
      ",
        "stdout": "",
      }
    `);
    expect(await tinyllava('ask', 'model', 'what?', '--imag', 'a.png')).toMatchInlineSnapshot(`
      {
        "code": 2,
        "stderr": "error: unknown option '--imag'
        fix: did you mean --image?
      ",
        "stdout": "",
      }
    `);
    expect(await tinyllava('frobnicate')).toMatchInlineSnapshot(`
      {
        "code": 2,
        "stderr": "error: unknown command 'frobnicate'
        fix: see \`tinyllava --help\`
      ",
        "stdout": "",
      }
    `);
  });

  test('says what is wrong with a value, and what is missing', async () => {
    expect(await tinyllava('ask', 'model', 'what?', '--threads', '0')).toMatchInlineSnapshot(`
      {
        "code": 2,
        "stderr": "error: option '--threads <count>' argument '0' is invalid. expected a whole number from 1
        fix: see \`tinyllava ask --help\`
      ",
        "stdout": "",
      }
    `);
    expect(await tinyllava('ask', 'model', 'what?', '--device', 'tpu')).toMatchInlineSnapshot(`
      {
        "code": 2,
        "stderr": "error: option '--device <name>' argument 'tpu' is invalid. expected cpu, cuda or cuda:N
        fix: see \`tinyllava ask --help\`
      ",
        "stdout": "",
      }
    `);
    expect(await tinyllava('eval', 'model', '--tasks', 'vqa')).toMatchInlineSnapshot(`
      {
        "code": 2,
        "stderr": "error: required option '--data <folder>' not specified
        fix: see \`tinyllava eval --help\`
      ",
        "stdout": "",
      }
    `);
    expect(await tinyllava('logits', 'model')).toMatchInlineSnapshot(`
      {
        "code": 2,
        "stderr": "error: required option '--prompt <text>' not specified
        fix: see \`tinyllava logits --help\`
      ",
        "stdout": "",
      }
    `);
  });

  test('reports what the library refuses as cause and fix', async () => {
    expect(await tinyllava('ask', '/nowhere', 'what?')).toMatchInlineSnapshot(`
      {
        "code": 1,
        "stderr": "error: /nowhere: no such folder
        fix: a model is a folder with config.json and *.safetensors
      ",
        "stdout": "",
      }
    `);
  });
});

describe('an error', () => {
  const error = new ConfigError('a is wrong', { hint: 'make it right', cause: new Error('underneath') });

  test('is its message and its fix', () => {
    expect(describeError(error, {})).toBe('error: a is wrong\n  fix: make it right');
  });

  test('shows stacks and causes only when asked to', () => {
    expect(describeError(error, { TINYLLAVA_DEBUG: '1' })).toMatch(
      /^ConfigError: a is wrong\n {4}at .*\ncaused by: Error: underneath\n {4}at /s,
    );
  });

  test('that nobody foresaw asks to be reported, and one of the operating system does not', () => {
    expect(describeError(new TypeError('x is undefined'), {})).toMatchInlineSnapshot(`
      "error: x is undefined
        fix: this is a mistake in tinyllava; set TINYLLAVA_DEBUG=1 to see where, and report it"
    `);
    const denied = Object.assign(new Error("EACCES: permission denied, open '/root/x'"), { code: 'EACCES', syscall: 'open' });
    expect(describeError(denied, {})).toBe("error: EACCES: permission denied, open '/root/x'");
    expect(describeError('text', {})).toMatch(/^error: text\n {2}fix: /);
  });
});

describe('as a process', () => {
  test('it does not load the addon for help', () => {
    const script = `
      const { run } = await import('./src/cli/program.ts');
      const loaded = () => process.report.getReport().sharedObjects.some((path) => path.endsWith('tinyllava.node'));
      await run(['ask', '--help']);
      console.error(loaded());
      await run(['inspect', 'test/reference/clip/model.safetensors']);
      console.error(loaded());`;
    const { stderr } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(stderr).toBe('false\ntrue\n');
  });

  test('a reader that stops early is no failure', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tinyllava-pipe-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    // More than a pipe holds.
    const one = tensor([1]);
    writeSafetensors(
      join(folder, 'many.safetensors'),
      Array.from({ length: 4000 }, (_, i) => [`tensor.with.a.long.name.${i}`, one] as const),
    );
    const { outcome } = start(['inspect', join(folder, 'many.safetensors'), '--json'], { shell: '| head -c 1; echo " $PIPESTATUS"' });
    expect(await outcome).toEqual({ code: 0, stdout: '{ 0\n', stderr: '' });
  });
});
