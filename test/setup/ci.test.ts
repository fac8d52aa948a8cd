import { spawnSync } from 'node:child_process';
import { cpSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../../scripts/setup/steps.mjs';
import { machine } from './machine.ts';

interface Outcome {
  readonly status: number | null;
  readonly last: string | undefined;
}

/** What CI ends with when `npm test` and `npm run check` are these scripts. */
function ci(tests: string, check: string): Outcome {
  const on = machine();
  cpSync(join(packageRoot, '.ci'), join(on.root, '.ci'), { recursive: true });
  on.write('build/test-results.json', JSON.stringify({ numPassedTests: 9, numFailedTests: 9, numPendingTests: 9, numTodoTests: 9 }));
  on.command('npm', `if [ "$1" = test ]; then\n${tests}\nelse\n${check}\nfi`);
  symlinkSync(process.execPath, join(on.root, 'bin/node'));
  const env = { PATH: `${join(on.root, 'bin')}:/usr/bin:/bin` };
  const { status, stdout } = spawnSync('/bin/sh', ['-c', 'bash .ci/run'], { cwd: on.root, env, encoding: 'utf8' });
  return { status, last: stdout.trimEnd().split('\n').at(-1) };
}

const results = (passed: number, failed: number, skipped: number): string =>
  `echo '{"numPassedTests":${passed},"numFailedTests":${failed},"numPendingTests":${skipped},"numTodoTests":0}' > build/test-results.json`;

test.each([
  ['all is well', results(4, 0, 1), 'exit 0', { status: 0, last: '5 passed, 0 failed, 1 skipped' }],
  ['a test fails', `${results(4, 2, 0)}\nexit 1`, 'exit 0', { status: 1, last: '5 passed, 2 failed, 0 skipped' }],
  ['a test file does not load', `${results(4, 0, 0)}\nexit 1`, 'exit 0', { status: 1, last: '5 passed, 1 failed, 0 skipped' }],
  ['check fails', results(4, 0, 0), 'exit 2', { status: 1, last: '4 passed, 1 failed, 0 skipped' }],
  ['set-up fails', 'exit 1', 'exit 0', { status: 1, last: '1 passed, 1 failed, 0 skipped' }],
  ['no test ran', results(0, 0, 0), 'exit 0', { status: 1, last: '1 passed, 0 failed, 0 skipped' }],
])('CI ends with the counts when %s', (_, tests, check, outcome) => {
  expect(ci(tests, check)).toEqual(outcome);
});

test.each(['scripts/setup.mjs', 'bin/tinyllava.mjs'])('%s tells an old Node from a broken install', (script) => {
  const old = "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '18.20.4' } })";
  const { status, stderr } = spawnSync(process.execPath, ['--import', `data:text/javascript,${old}`, join(packageRoot, script)], {
    encoding: 'utf8',
  });
  expect(status).toBe(1);
  expect(stderr).toBe('tinyllava: Node 18.20.4 is too old\n  fix: install Node 20.19 or later (https://nodejs.org)\n');
});
