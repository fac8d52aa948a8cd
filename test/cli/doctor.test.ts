import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { probe } from '../../scripts/setup/probe.mjs';
import { packageRoot } from '../../scripts/setup/steps.mjs';
import { doctor, doctorCommand, renderReport } from '../../src/cli/doctor.ts';
import { machine, makeLibtorch } from '../setup/machine.ts';

test('on the machine of these tests everything that they need is there', async () => {
  const { findings } = await doctor();
  const needed = ['node', 'npm packages', 'compiler', 'cmake', 'build tool', 'libtorch'];
  expect(findings.filter(({ name, ok }) => needed.includes(name) && !ok)).toEqual([]);
  expect(findings.find(({ name }) => name === 'addon')?.found).toMatch(/^loads.*: PyTorch 2\.\d+\.\d+, \d+ threads, \w+, (no )?CUDA$/);
});

test('on a bare machine every line has its fix', () => {
  const on = machine();
  on.write('package.json', '{}');
  on.write('package-lock.json', '{"packages":{"node_modules/zod":{"version":"4.6.7"}}}');
  const report = renderReport({ ok: false, findings: probe(on.env, on.root) });
  expect(report.replaceAll(on.root, '~')).toMatchInlineSnapshot(`
    "missing  npm packages  not what package-lock.json lists
                           fix: run \`npm ci\`
    missing  python        python3 with pip is not on PATH
                           fix: install Python 3 with pip (Debian, Ubuntu: sudo apt install python3 python3-pip); it fetches PyTorch and the example data
    missing  compiler      no C++ compiler found: neither g++ nor clang++ is on PATH
                           fix: install g++ 11 or clang 15, or later (Debian, Ubuntu: sudo apt install g++; Fedora: sudo dnf install gcc-c++), or set CXX to one
    missing  cmake         no CMake found: cmake is not on PATH
                           fix: install CMake 3.18 or later (Debian, Ubuntu: sudo apt install cmake; Fedora: sudo dnf install cmake; anywhere: python3 -m pip install cmake)
    missing  build tool    neither ninja nor make is on PATH
                           fix: install one (Debian, Ubuntu: sudo apt install ninja-build, or make)
    missing  libtorch      no Python found: python3 is not on PATH
                           fix: install Python 3 with pip (Debian, Ubuntu: sudo apt install python3 python3-pip), or set LIBTORCH to the folder of a PyTorch 2.11 to 2.15 that has lib/ and include/
    missing  addon         not built
                           fix: run \`npm run build:native\`
    missing  easy-vqa      not fetched
                           fix: run \`node scripts/fetch-data.mjs\` (3 MB; \`npm run quickstart\` does it)

    \`npm run build\` does what it can of these fixes."
  `);
});

test('an addon that does not load is told from one that is not built', () => {
  const on = machine();
  on.write('package.json', '{}');
  on.write('build/tinyllava.node', 'no library');
  execFileSync('/bin/sh', ['-c', makeLibtorch(join(on.root, 'torch'))]);
  const findings = probe({ ...on.env, LIBTORCH: join(on.root, 'torch') }, on.root);
  expect(findings.find(({ name }) => name === 'addon')?.found.replaceAll(on.root, '~')).toMatchInlineSnapshot(
    `"built, does not load: ~/build/tinyllava.node: file too short"`,
  );
  expect(findings.find(({ name }) => name === 'libtorch')?.found.replaceAll(on.root, '~')).toMatchInlineSnapshot(
    `"PyTorch 2.15.0 with CUDA from LIBTORCH (~/torch)"`,
  );
});

test('doctor --json prints one document', async () => {
  const print = vi.spyOn(console, 'log').mockReturnValue();
  onTestFinished(() => print.mockRestore());
  onTestFinished(() => {
    process.exitCode = undefined;
  });
  await doctorCommand().parseAsync(['--json'], { from: 'user' });
  expect(print).toHaveBeenCalledTimes(1);
  expect(JSON.parse(print.mock.calls[0]?.[0])).toMatchObject({
    findings: expect.arrayContaining([{ name: 'node', ok: true, found: expect.any(String) }]),
  });
});

test('the command says so when nothing is compiled', () => {
  const on = machine();
  cpSync(join(packageRoot, 'bin'), join(on.root, 'package/bin'), { recursive: true });
  const { status, stderr } = spawnSync(process.execPath, [join(on.root, 'package/bin/tinyllava.mjs')], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr.replaceAll(on.root, '~')).toMatchInlineSnapshot(`
    "tinyllava: not compiled: ~/package/dist/cli/main.js is missing
      fix: run \`npm run build\`
    "
  `);
});
