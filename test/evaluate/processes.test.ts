import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Processes } from '../../src/evaluate/respondent/processes.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-processes-'));
afterAll(() => rmSync(root, { recursive: true }));

let programs = 0;
/** A process that runs these lines in the place of a model. */
function running(...lines: string[]): ChildProcess {
  const program = join(root, `${programs++}.mjs`);
  writeFileSync(program, lines.join('\n'));
  return fork(program, { serialization: 'advanced' });
}

const ready = "process.send({ identity: { weights: 'w' } });";

test('a process that ends while another still opens its model is named, and none is left', async () => {
  const opening = running("process.on('disconnect', () => process.exit());");
  const ended = running('process.send({ identity: {} }, () => process.exit(3));');
  await expect(Processes.start([opening, ended])).rejects.toThrow(
    `process 2 of 2 (pid ${ended.pid}) was ended by itself with code 3 before all was answered`,
  );
  await once(opening, 'close');
});

test('what a process said before it ended is kept, and what it cannot be sent any more is no accident', async () => {
  const child = running(
    ready,
    "process.on('message', ({ run, index }) => {",
    "  process.send({ run, response: { index, answer: 'red' } }, () => process.disconnect());",
    '  setTimeout(() => process.exit(4), 100);',
    '});',
  );
  using processes = await Processes.start([child]);
  expect(processes.identity).toEqual({ weights: 'w' });
  async function* questions() {
    const question = { messages: [{ role: 'user' as const, content: 'what is it ?' }], maxNewTokens: 1 };
    yield question;
    await once(child, 'disconnect');
    yield question;
  }
  const heard: unknown[] = [];
  const run = async (): Promise<void> => {
    for await (const response of processes.responses(questions(), { batchSize: 4, weigh: false })) heard.push(response);
  };
  await expect(run()).rejects.toThrow('was ended by itself with code 4');
  expect(heard).toEqual([{ index: 0, answer: 'red' }]);
});

test('a process that cannot be started is named', async () => {
  const missing = fork(root, { execPath: join(root, 'no-node') });
  await expect(Processes.start([missing])).rejects.toThrow(/^process 1 of 1 .*: spawn .* ENOENT$/);
});
