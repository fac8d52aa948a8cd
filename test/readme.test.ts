import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { program } from '../src/cli/program.ts';
import { parseRecipe } from '../src/train/recipe.ts';

const root = join(import.meta.dirname, '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const guides = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(root, 'docs'))
    .filter((file) => file.endsWith('.md'))
    .map((file) => `docs/${file}`),
];
const code = (language: string, text: string): string[] =>
  [...text.matchAll(new RegExp(`\`\`\`${language}\n([\\s\\S]*?)\`\`\``, 'g'))].map(([, body = '']) => body);
const scripts = Object.keys((JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: object }).scripts);

test.each([
  ['README.md', 'readme.ts'],
  ['docs/models.md', 'model-table.ts'],
  ['docs/scaling.md', 'scaling.ts'],
])('the made parts of %s say what they are made from', (_, script) => {
  const run = spawnSync(process.execPath, ['--import', 'tsx', join(root, 'scripts', script), '--check'], { cwd: root, encoding: 'utf8' });
  expect({ status: run.status, stderr: run.stderr.replace(/^npm warn.*\n/gm, '') }).toEqual({ status: 0, stderr: '' });
});

test.each(guides)('%s links to files that exist', (guide) => {
  const text = readFileSync(join(root, guide), 'utf8');
  const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, link = '']) => link);
  expect(links.filter((link) => !existsSync(join(root, guide, '..', link)))).toEqual([]);
});

test.each(guides)('tables in %s have as many cells in each row as in their head', (guide) => {
  const cells = (line: string): number => line.match(/(?<!\\)\|/g)?.length ?? 0;
  const text = readFileSync(join(root, guide), 'utf8');
  for (const [table] of text.matchAll(/^\|.*(?:\n\|.*)*/gm)) {
    const [head = '', ...rows] = table.split('\n');
    expect(rows.filter((row) => cells(row) !== cells(head))).toEqual([]);
  }
});

test.each(guides)('the commands in %s exist, with their options', (guide) => {
  const text = readFileSync(join(root, guide), 'utf8');
  const verbs = new Map(program().commands.map((verb) => [verb.name(), new Set(verb.options.map(({ long }) => long))]));
  for (const line of code('sh', text).flatMap((block) => block.split('\n'))) {
    const [, script] = /^npm (?:run )?([\w:]+)/.exec(line) ?? [];
    if (script) expect(scripts, line).toContain(script);
    const [, name = '', rest = ''] = /tinyllava (\w+)([^#]*)/.exec(line) ?? [];
    if (!name) continue;
    expect([...verbs.keys()], line).toContain(name);
    for (const [option] of rest.matchAll(/--[\w-]+/g)) expect([...(verbs.get(name) ?? []), '--help'], line).toContain(option);
  }
});

test('the recipe in the README is one', async () => {
  const { parse } = await import('yaml');
  const [recipe = ''] = code('yaml', readme);
  expect(parseRecipe(parse(recipe)).stages.map(({ name }) => name)).toEqual(['align', 'instruct']);
});
