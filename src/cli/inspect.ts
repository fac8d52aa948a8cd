import { statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { isDataFolder, isDataName } from '../data/find.ts';
import { isPattern } from '../data/patterns.ts';
import { type ProblemKind, problemKinds } from '../data/report.ts';
import type { MinRatings } from '../data/rows.ts';
import { ConfigError } from '../errors.ts';
import { parseHubName } from '../hub/name.ts';
import type { Adapter } from '../model/adapter/adapter.ts';
import type { ModelFiles } from '../model/model-files.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { Module } from '../nn/module.ts';
import { findModel } from './hub.ts';
import { type DataFlags, findData } from './inspect-data.ts';
import { wholeNumber } from './options.ts';
import { columns, type Finding, print, printJson } from './print.ts';

/** What ends a model's answers, and its chat template. */
interface Conversation {
  readonly endsAnswersWith?: string | undefined;
  readonly template?: string | undefined;
}

/** What a GGUF file says of conversations: it has no image settings, which a processor needs. */
async function conversationOfGguf(path: string): Promise<Conversation> {
  const { openGguf } = await import('../tensor/gguf.ts');
  if (!openGguf(path).metadata.has('tokenizer.ggml.model')) return {};
  const { Tokenizer } = await import('../processor/tokenizer.ts');
  const { readTemplate } = await import('../processor/template-files.ts');
  const tokenizer = await Tokenizer.open(path);
  return { endsAnswersWith: tokenizer.eosToken, template: await readTemplate(path, tokenizer.files.config) };
}

async function conversationOfFolder(path: string, model: TinyLlava, { folders }: ModelFiles): Promise<Conversation> {
  const [{ openProcessor }, { hasTokenizer }] = await Promise.all([
    import('../processor/open.ts'),
    import('../processor/tokenizer-files.ts'),
  ]);
  if (!folders.some(hasTokenizer)) return {};
  const { stopIds, tokenizer, template } = await openProcessor(path, model);
  return { endsAnswersWith: stopIds.map((id) => tokenizer.tokenOf(id)).join(' '), template: template.source };
}

/** The adapters on a model, the first one innermost. */
const describe = ({ folder, fields, layers, whole }: Adapter): string =>
  [
    `${folder}: rank ${fields.r}, alpha ${fields.lora_alpha}, ${layers.size} layers`,
    ...(whole.size > 0 ? [`${whole.size} whole tensors`] : []),
  ].join(', ');

/** How the tensors of a checkpoint folder or a GGUF file are stored, each kind once. */
async function storedAs(path: string, files: ModelFiles): Promise<string[]> {
  const { isGguf, openGguf } = await import('../tensor/gguf.ts');
  if (isGguf(path)) {
    const file = openGguf(path);
    return [...new Set(file.names.map((name) => file.type(name)))];
  }
  const weights = files.weights();
  return [...new Set(weights.names.map((name) => weights.dtype(name)))];
}

/** A model's parts; of one of the hub nothing but headers, settings and tokenizer is fetched. */
async function checkpoint(path: string): Promise<Finding> {
  const outlines = await mkdtemp(join(tmpdir(), 'tinyllava-'));
  try {
    return await describeCheckpoint(path, outlines);
  } finally {
    await rm(outlines, { recursive: true });
  }
}

async function describeCheckpoint(path: string, outlines: string): Promise<Finding> {
  const folder = await findModel(path, 'model', outlines);
  const [{ openModelFiles }, { openCheckpoint }, { isGguf }, { resolveFrom }] = await Promise.all([
    import('../model/model-files.ts'),
    import('../model/checkpoint.ts'),
    import('../tensor/gguf.ts'),
    import('../hub/resolve.ts'),
  ]);
  const resolve = resolveFrom({ outlines });
  const files = await openModelFiles(folder, { resolve });
  const { config, model } = await openCheckpoint(folder, { resolve });
  const part = (name: string, type: string | undefined, module: Module | undefined) =>
    type !== undefined && module ? [{ part: name, type, parameters: module.parameterCount() }] : [];
  const parts = [
    ...part('vision tower', config.vision?.type, model.visionTower),
    ...part('connector', config.connector?.type, model.connector),
    ...part('language model', config.language.type, model.languageModel),
  ];
  const conversation = isGguf(folder) ? await conversationOfGguf(folder) : await conversationOfFolder(folder, model, files);
  const facts = {
    parameters: model.parameterCount(),
    dtype: (await storedAs(folder, files)).join(', '),
    adapter: files.adapters.length > 0 ? files.adapters.map(describe).join('; ') : undefined,
    imageTokens: model.imageTokens,
    contextTokens: model.contextTokens,
    vocabulary: model.languageModel.vocabSize,
    endsAnswersWith: conversation.endsAnswersWith,
    template: conversation.template,
  };
  const { template, ...short } = facts;
  const known = Object.entries(short).filter(([name, value]) => name !== 'parameters' && value !== undefined);
  const lines = [
    `${path}: checkpoint`,
    ...columns([...parts.map(({ part, type, parameters }) => [part, type, parameters]), ['all', '', facts.parameters]]),
    '',
    ...columns(known.map(([name, value]) => [name, String(value)])),
    ...(template === undefined
      ? []
      : [
          '',
          'template',
          ...template
            .trimEnd()
            .split('\n')
            .map((line) => `  ${line}`),
        ]),
  ];
  return { json: { kind: 'checkpoint', path, parts, ...facts }, lines };
}

async function safetensors(path: string): Promise<Finding> {
  const { openSafetensors } = await import('../tensor/safetensors.ts');
  const file = openSafetensors(path);
  const tensors = file.names.map((name) => ({ name, dtype: file.dtype(name), shape: file.shape(name) }));
  const values = tensors.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
  const lines = [
    `${path}: ${tensors.length} tensors of ${values.toLocaleString('en-US')} values`,
    ...columns(tensors.map(({ name, dtype, shape }) => [name, dtype, `[${shape.join(', ')}]`])),
  ];
  return { json: { kind: 'safetensors', path, metadata: file.metadata, tensors }, lines };
}

async function recipe(path: string): Promise<Finding> {
  const { readRecipe, writeRecipe } = await import('../train/recipe-file.ts');
  const found = await readRecipe(path);
  return {
    json: { kind: 'recipe', path, recipe: found },
    lines: [`${path}: recipe, every default filled in`, writeRecipe(found).trimEnd()],
  };
}

async function find(path: string, flags: DataFlags): Promise<Finding> {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found && isPattern(path)) return findData(path, flags);
  if (!found && parseHubName(path)) return checkpoint(path);
  if (!found) throw new ConfigError(`${path}: no such file or folder`);
  if (found.isDirectory()) return (await isDataFolder(path)) ? findData(path, flags) : checkpoint(path);
  if (path.endsWith('.gguf')) return checkpoint(path);
  if (path.endsWith('.safetensors')) return safetensors(path);
  if (/\.ya?ml$/.test(path)) return recipe(path);
  if (isDataName(path)) return findData(path, flags);
  throw new ConfigError(`${path}: cannot tell what this is`, {
    hint: 'inspect takes a checkpoint folder, a language model (.gguf), a recipe (.yaml), data (.json, .parquet, .tar, .csv, a folder of images) or tensors (.safetensors)',
  });
}

const kindNames = problemKinds.map((kind) => kind.replaceAll(' ', '-'));

function kinds(text: string): ProblemKind[] {
  return text.split(',').map((name) => {
    const kind = problemKinds[kindNames.indexOf(name.trim().replaceAll(' ', '-'))];
    if (kind === undefined) throw new InvalidArgumentError(`expected some of ${kindNames.join(', ')}`);
    return kind;
  });
}

function minRating(text: string, before: MinRatings = {}): MinRatings {
  const [, quality, least] = /^(.+)=(\d+(?:\.\d+)?)$/.exec(text) ?? [];
  if (quality === undefined) throw new InvalidArgumentError('expected a quality and its least rating, as relevance=3');
  return { ...before, [quality]: Number(least) };
}

const countOrAll = (text: string): number => (text === 'all' ? Number.POSITIVE_INFINITY : wholeNumber(0)(text));

type Flags = Omit<DataFlags, 'problems'> & { readonly problems?: number; readonly json?: true };

/** The verb `inspect`. */
export function inspectCommand(): Command {
  return new Command('inspect')
    .description('what a checkpoint, GGUF, recipe, data or safetensors file holds')
    .argument('<path>', 'file, pattern of shards, folder or hub id')
    .option('--model <model>', 'for data: count its tokens and show what is learned')
    .option('--template <name>', "for data: another chat template than the model's")
    .option('--image-folder <folder>', 'for data: where images are; beside the file unless given')
    .option('--min-rating <quality=least>', 'for data: leave out what is rated lower, as relevance=3; may be given again', minRating)
    .option('--max-length <count>', 'for data: the most tokens of a conversation', wholeNumber(1))
    .option('--samples <count>', 'for data: rows to show', wholeNumber(0), 2)
    .option('--decode <count>', 'for data: images to decode, evenly spread; all unless given', countOrAll)
    .option('--problems <count>', 'for data: problems of each kind to name; 10, and 1000 in JSON, unless given', wholeNumber(0))
    .option('--ignore <kinds>', `for data: what is no problem, with commas: ${kindNames.join(', ')}`, kinds)
    .option('--fix <file>', 'for data: write the rows without problems to this new file')
    .option('--threads <count>', 'for data: threads that look; one for each core up to 8 unless given', wholeNumber(1))
    .option('--json', 'print one JSON document')
    .action(async (path: string, { json: asJson, problems = asJson ? 1000 : 10, ...flags }: Flags) => {
      const { json, lines } = await find(path, { ...flags, problems });
      if (asJson) printJson(json);
      else print(lines.join('\n'));
    });
}
