import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

const ranks = [
  '.',
  'tensor',
  'nn',
  'hub',
  'model',
  'processor',
  'data',
  'train',
  'generate',
  'evaluate',
  'ablate',
  'export',
  'serve',
  'cli',
];
const root = join(import.meta.dirname, '../src');
const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts') && file !== 'index.ts');
const folder = (file: string): string => (file.includes('/') ? file.slice(0, file.indexOf('/')) : '.');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const imports = (file: string): string[] =>
  [...read(file).matchAll(/(?:from|import\() ?'(\.[^']+)'/g)].map(([, path]) => relative(root, join(root, dirname(file), path ?? '')));

describe('ranks', () => {
  test('every folder has one', () => {
    expect(files.map(folder).filter((name) => !ranks.includes(name))).toEqual([]);
  });

  test.each(files)('%s imports only its own or earlier folders', (file) => {
    expect(imports(file).filter((path) => ranks.indexOf(folder(path)) > ranks.indexOf(folder(file)))).toEqual([]);
  });
});

describe('doors', () => {
  test('only tensor/ sees the addon and its operators', () => {
    const doors = ['tensor/native.ts', 'tensor/ops.generated.ts'];
    expect(files.filter((file) => folder(file) !== 'tensor' && imports(file).some((path) => doors.includes(path)))).toEqual([]);
  });

  test('only cli/ speaks to the terminal and reads the command line', () => {
    const talks = /\bconsole\.|process\.(argv|stdout|stderr|stdin|exit)\b/;
    expect(files.filter((file) => folder(file) !== 'cli' && talks.test(read(file)))).toEqual([]);
  });
});
