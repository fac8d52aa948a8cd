// Writes the parts of README.md that are made: the tree, the results of the quickstart and of the benchmarks. `--check` only compares.
//   npx tsx scripts/readme.ts [--check]
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeMadeParts } from './made-parts.ts';

const root = join(import.meta.dirname, '..');

/** What each folder is for, as ARCHITECTURE.md's table of ranks has it, and the rest of the tree. */
const folders: Readonly<Record<string, string>> = {
  bench: 'speed and memory beside Python, with results',
  bin: 'the command',
  docs: 'guides and results',
  examples: 'short programs against the library',
  native: 'the addon: calls through the dispatcher, tensors, autograd, files; `kernels/` of our own',
  recipes: 'what to train, as YAML',
  scripts: 'set-up, references from Python, generated files',
  src: 'the library, its folders in the order in which they may import each other',
  test: 'mirrors `src/`; `reference/` holds what transformers computed',
};

const source: Readonly<Record<string, string>> = {
  tensor: 'what the machine can do: tensors, scopes, safetensors',
  nn: 'leaf layers: linear, norms, attention, rotary positions, KV cache',
  hub: 'models by their hub id: the cache shared with Python, downloads',
  model: 'vision towers, connectors, language models, checkpoints',
  processor: 'tokenizers, chat templates, images, labels',
  data: 'conversations to packed batches',
  train: 'recipes, the step, the stages',
  generate: 'answers, in batches and as streams',
  evaluate: 'benchmarks, scores, intervals, reports',
  export: 'models in the formats of others: transformers, TinyLLaVA Factory, llama.cpp',
  cli: 'the verbs',
};

interface Score {
  readonly name: string;
  readonly count: number;
  readonly accuracy: { readonly value: number; readonly low: number; readonly high: number };
  readonly baselines: Readonly<Record<string, number>>;
}

const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;

function tree(): string {
  const present = readdirSync(root, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  const missing = Object.keys(folders).filter((name) => !present.includes(name));
  if (missing.length > 0) throw new Error(`README's tree names folders that are not there: ${missing.join(', ')}`);
  const inSource = readdirSync(join(root, 'src'), { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  const unnamed = inSource.filter((name) => !(name in source));
  if (unnamed.length > 0) throw new Error(`scripts/readme.ts does not say what src/${unnamed.join(', src/')} is for`);
  const line = (name: string, text: string): string => `${name.padEnd(14)}${text}`;
  const rows = Object.entries(folders).flatMap(([name, text]) => [
    line(`${name}/`, text),
    ...(name === 'src' ? Object.entries(source).map(([inner, what]) => line(`  ${inner}/`, what)) : []),
  ]);
  return `\`\`\`\n${rows.join('\n')}\n\`\`\``;
}

function quickstart(): string {
  const run = JSON.parse(readFileSync(join(root, 'docs/results/quickstart.json'), 'utf8')) as {
    seconds: { training: number; all: number };
    scores: readonly Score[];
  };
  const baselines = [...new Set(run.scores.flatMap((score) => Object.keys(score.baselines)))];
  const rows = run.scores.map(({ name, count, accuracy, baselines: beside }) =>
    [
      name,
      count,
      `**${percent(accuracy.value)}** (${(100 * accuracy.low).toFixed(1)} to ${(100 * accuracy.high).toFixed(1)})`,
      ...baselines.map((baseline) => (beside[baseline] === undefined ? '' : percent(beside[baseline]))),
    ].join(' | '),
  );
  return [
    `| question | asked | right, with 95 % interval | ${baselines.join(' | ')} |`,
    `|---|---|---|${baselines.map(() => '---|').join('')}`,
    ...rows.map((row) => `| ${row} |`),
    '',
    `${Math.round(run.seconds.training)} seconds of training on two cores, ${Math.round(run.seconds.all)} with evaluation and report.`,
  ].join('\n');
}

interface Captions {
  readonly name: string;
  readonly model: CaptionScores;
  readonly baselines: Readonly<Record<string, CaptionScores>>;
}

interface CaptionScores {
  readonly count: number;
  readonly noun: { readonly value: number; readonly low: number; readonly high: number };
  readonly cider: number;
}

function demo(): string {
  const run = JSON.parse(readFileSync(join(root, 'docs/results/demo.json'), 'utf8')) as {
    seconds: { training: number; all: number };
    captions: readonly Captions[];
  };
  const baselines = [...new Set(run.captions.flatMap((captions) => Object.keys(captions.baselines)))];
  const scores = ({ noun, cider }: CaptionScores): string => `${percent(noun.value)} / ${cider.toFixed(2)}`;
  const rows = run.captions.map(({ name, model, baselines: beside }) => {
    const interval = `(${(100 * model.noun.low).toFixed(1)} to ${(100 * model.noun.high).toFixed(1)})`;
    const others = baselines.map((baseline) => (beside[baseline] ? scores(beside[baseline]) : ''));
    return [name, model.count, `**${scores(model)}** ${interval}`, ...others].join(' | ');
  });
  return [
    `| right nouns / CIDEr-D | pictures | model, with 95 % interval | ${baselines.join(' | ')} |`,
    `|---|---|---|${baselines.map(() => '---|').join('')}`,
    ...rows.map((row) => `| ${row} |`),
    '',
    `${Math.round(run.seconds.training)} seconds of training on two cores, ${Math.round(run.seconds.all)} in all.`,
  ].join('\n');
}

/** The rows of a page's first table, where it compares. */
function compared(page: string): string[] {
  const lines = page.split('\n');
  const start = lines.findIndex((line) => line.startsWith('| variant | metric | ours |'));
  if (start < 0) return [];
  const end = lines.indexOf('', start);
  return lines.slice(start + 2, end);
}

/** What has a target in the newest page of each benchmark and machine, without the columns of the targets; the pages have the rest. */
function benchmarks(): string {
  const folder = join(root, 'bench/results');
  const newest = new Map<string, string>();
  for (const file of readdirSync(folder).sort()) if (file.endsWith('.md')) newest.set(file.slice(0, file.lastIndexOf('_')), file);
  const rows = [...newest.values()].flatMap((file) =>
    compared(readFileSync(join(folder, file), 'utf8')).flatMap((line) => {
      const [variant, metric, ours, theirs, ratio, target] = line.slice(2).split(' | ');
      const name = file.slice(0, file.indexOf('_'));
      if (target?.trim() === '') return [];
      return `| [${name}](bench/results/${file})${variant === '-' ? '' : ` ${variant}`} | ${metric} | ${ours} | ${theirs} | ${ratio} |`;
    }),
  );
  return ['| benchmark | metric | ours | PyTorch, transformers | ratio |', '|---|---|---|---|---|', ...rows].join('\n');
}

const made = { tree: tree(), quickstart: quickstart(), demo: demo(), benchmarks: benchmarks() };
writeMadeParts(join(root, 'README.md'), made, { check: process.argv.includes('--check'), command: 'npx tsx scripts/readme.ts' });
