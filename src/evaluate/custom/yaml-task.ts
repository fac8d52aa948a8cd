import { existsSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { ConfigError, DataError } from '../../errors.ts';
import { examine } from '../../model/explain.ts';
import { inferredChoice } from '../choice.ts';
import { ask, letters, optionLines } from '../prompts.ts';
import { pythonList } from '../python-list.ts';
import { exactMatch, means, unparsed, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample, Task, Verdict } from '../task.ts';
import { relaxedMatch } from '../tasks/chart-qa.ts';
import { anls } from '../tasks/doc-vqa.ts';
import { agreement, evalAiAnswer } from '../vqa-answer.ts';

/** What a task may be called: files of a run are named by it. */
export const TaskName = z.string().regex(/^[a-z0-9][a-z0-9+_-]*$/, 'expected small letters, digits, +, - and _');

/** How answers are scored. */
const scorers = ['exact', 'contains', 'choice', 'vqa', 'anls', 'relaxed'] as const;

/** A task in a file of YAML: where its questions are, what their columns are called, how they are asked, how answers are scored. */
const YamlTask = z.strictObject({
  name: TaskName,
  about: z.string().default('a task of your own'),
  /** JSONL, JSON, TSV, xlsx or Parquet, below the data folder or beside this file. */
  questions: z.union([z.string().transform((one) => [one]), z.array(z.string()).min(1)]),
  /** Folder of the images, where the questions name them. */
  images: z.string().optional(),
  columns: z
    .strictObject({
      id: z.string().optional(),
      question: z.string().default('question'),
      image: z.string().optional(),
      answer: z.string().default('answer'),
      category: z.string().optional(),
      /** One column with a list, or a column for each option. */
      options: z.union([z.string(), z.array(z.string()).min(2)]).optional(),
    })
    .prefault({}),
  /** `{question}`, `{options}` and every column of the file may stand in it. */
  prompt: z.string().default('{question}'),
  maxNewTokens: z.int().positive().default(128),
  stop: z.array(z.string().min(1)).optional(),
  score: z.enum(scorers),
});
type YamlTask = z.output<typeof YamlTask>;

interface RowSample extends Sample {
  readonly row: Readonly<Record<string, unknown>>;
  readonly options: readonly string[];
}

/** Reads the text of a task file, `file` being its name. Throws ConfigError naming what is wrong. */
export function yamlTask(text: string, file: string): Task<RowSample> {
  const document = parseDocument(text, { prettyErrors: true });
  const [broken] = document.errors;
  if (broken) throw new ConfigError(`${file}: ${broken.message}`, { cause: broken });
  const { data: config, problems } = examine(YamlTask, document.toJS());
  if (!config) throw new ConfigError(problems.map(({ path, message }) => `${file}: ${path.join('.') || 'task'}: ${message}`).join('\n'));
  if (config.score === 'choice' && config.columns.options === undefined) {
    throw new ConfigError(`${file}: columns.options: missing, but score is choice`, { hint: 'name the column that holds the options' });
  }
  const home = dirname(resolve(file));
  return {
    name: config.name,
    about: config.about,
    wants: [{ layout: file, files: config.questions, from: 'you' }],
    maxNewTokens: config.maxNewTokens,
    ...(config.stop && { stop: config.stop }),
    async open(folder, options = {}) {
      const files = config.questions.map((name) => found(name, [folder, join(folder, config.name), home], file));
      return { samples: await samples(config, files, { folder, home, options }), files, layout: file };
    },
    prompt: (sample) => ask(sample.images, filled(config.prompt, sample, file)),
    score: (sample, answer) => scored(config.score, sample, answer),
    aggregate: (all) =>
      means(all, {
        name: config.score === 'anls' ? 'ANLS' : 'accuracy',
        by: config.columns.category === undefined ? [] : [({ category }) => category],
      }),
  };
}

function found(name: string, homes: readonly string[], file: string): string {
  const path = isAbsolute(name) ? name : homes.map((home) => join(home, name)).find(existsSync);
  if (path === undefined || !existsSync(path)) {
    throw new DataError(`${file}: questions: there is no ${name}`, { hint: `looked in ${[...new Set(homes)].join(', ')}` });
  }
  return path;
}

const cellText = (cell: unknown): string | undefined =>
  typeof cell === 'string' ? cell : typeof cell === 'number' || typeof cell === 'boolean' ? String(cell) : undefined;

function cellList(cell: unknown): string[] {
  if (Array.isArray(cell)) return cell.flatMap((one: unknown) => cellText(one) ?? []);
  const text = cellText(cell);
  if (text === undefined) return [];
  return text.startsWith("['") || text.startsWith('["') ? pythonList(text) : [text];
}

/** Throws DataError for a column that no row has. A single row may be without one, say of an image; when only answers are scored, images are not read. */
function checkColumns(
  { image, options = [], ...others }: YamlTask['columns'],
  rows: readonly Readonly<Record<string, unknown>>[],
  { place, options: { images = true } }: { readonly place: string; readonly options: OpenOptions },
): void {
  const known = new Set(rows.flatMap(Object.keys));
  for (const column of [...Object.values(others), options, images ? image : undefined].flat()) {
    if (column === undefined || known.has(column)) continue;
    throw new DataError(`${place}: no column ${column}`, { hint: `there are ${[...known].join(', ')}` });
  }
}

async function samples(
  { columns, images }: YamlTask,
  files: readonly string[],
  { folder, home, options }: { readonly folder: string; readonly home: string; readonly options: OpenOptions },
): Promise<RowSample[]> {
  const rows = await tableRows(files, z.looseObject({}), options);
  checkColumns(columns, rows, { place: files.join(', '), options });
  const base =
    images === undefined
      ? dirname(files[0] ?? folder)
      : ([join(folder, images), join(home, images)].find(existsSync) ?? join(folder, images));
  return rows.map((row, i) => {
    const place = `${files.join(', ')}#${i}`;
    const need = (column: string): unknown => {
      if (row[column] === undefined)
        throw new DataError(`${place}: no column ${column}`, { hint: `there are ${Object.keys(row).join(', ')}` });
      return row[column];
    };
    const question = cellText(need(columns.question));
    if (question === undefined) throw new DataError(`${place}: ${columns.question}: expected a text`);
    const targets = cellList(need(columns.answer));
    if (targets.length === 0) throw new DataError(`${place}: ${columns.answer}: expected a text or a list of texts`);
    const shown = columns.image === undefined ? [] : cellList(row[columns.image]);
    const choices =
      typeof columns.options === 'string'
        ? cellList(need(columns.options))
        : (columns.options ?? []).flatMap((column) => cellText(row[column]) ?? []);
    return {
      id: columns.id === undefined ? String(i) : (cellText(need(columns.id)) ?? String(i)),
      question,
      images: shown.map((image) => (isAbsolute(image) ? image : join(base, image))),
      targets,
      category: columns.category === undefined ? 'all' : (cellText(row[columns.category]) ?? 'none'),
      row,
      options: choices,
    };
  });
}

/** The prompt with its places filled. */
function filled(prompt: string, { question, options, row }: RowSample, file: string): string {
  return prompt.replace(/\{(\w+)\}/g, (_, name: string) => {
    if (name === 'question') return question;
    if (name === 'options') return optionLines(options);
    const text = cellText(row[name]);
    if (text === undefined)
      throw new ConfigError(`${file}: prompt: there is no {${name}}`, {
        hint: `use {question}, {options}, or a column: ${Object.keys(row).join(', ')}`,
      });
    return text;
  });
}

function scored(by: YamlTask['score'], sample: RowSample, answer: string): Verdict {
  const { targets, options } = sample;
  switch (by) {
    case 'exact':
      return exactMatch(sample, answer);
    case 'contains': {
      const said = answer.toLowerCase();
      return verdict(
        answer,
        targets.some((target) => said.includes(target.toLowerCase())),
      );
    }
    case 'choice': {
      const letter = inferredChoice(answer, Object.fromEntries(options.map((text, i) => [letters[i] ?? '', text])));
      // The truth may be a letter or the option's text.
      const right = targets.map((target) => (options.includes(target) ? letters[options.indexOf(target)] : target));
      return letter === undefined ? unparsed(answer) : verdict(letter, right.includes(letter));
    }
    case 'vqa': {
      const parsed = evalAiAnswer(answer);
      return { parsed, score: agreement(parsed, targets.map(evalAiAnswer)) };
    }
    case 'anls':
      return { parsed: answer, score: anls(answer, targets) };
    case 'relaxed':
      return verdict(
        answer,
        targets.some((target) => relaxedMatch(answer, target)),
      );
  }
}
