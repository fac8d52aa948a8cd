import type { inspectData } from '../data/inspect.ts';
import type { Spread } from '../data/statistics.ts';
import type { Processor } from '../processor/processor.ts';
import { findModel } from './hub.ts';
import { columns, type Finding } from './print.ts';

/** How a data file is looked at. */
export interface DataFlags {
  readonly model?: string;
  readonly template?: string;
  readonly imageFolder?: string;
  readonly maxLength?: number;
  readonly samples: number;
}

async function processorOf(path: string, template: string | undefined): Promise<Processor> {
  const folder = await findModel(path);
  const [{ readConfig }, { createTinyLlava }, { openProcessor }] = await Promise.all([
    import('../model/checkpoint.ts'),
    import('../model/tinyllava.ts'),
    import('../processor/open.ts'),
  ]);
  return openProcessor(folder, createTinyLlava(await readConfig(folder)), { template });
}

/** What a file of LLaVA conversations holds: counts, every problem and, with a model, what is learned of the first rows. */
export async function findData(file: string, { model, template, imageFolder, maxLength, samples }: DataFlags): Promise<Finding> {
  const { inspectData } = await import('../data/inspect.ts');
  const report = await inspectData(file, {
    samples,
    problems: Number.POSITIVE_INFINITY,
    ...(imageFolder !== undefined && { imageFolder }),
    ...(maxLength !== undefined && { maxLength }),
    ...(model !== undefined && { processor: await processorOf(model, template) }),
  });
  return { json: { kind: 'data', ...report }, lines: describeData(report) };
}

const plural = (count: number, name: string): string => `${count.toLocaleString('en-US')} ${name}${count === 1 ? '' : 's'}`;

const problemsOfAKind = 10;

/** The first problems of each kind, and how many more there are. */
function describeProblems(problems: Awaited<ReturnType<typeof inspectData>>['problems']): string[] {
  const counts = new Map<string, number>();
  const lines: string[] = [];
  for (const { kind, name, message, hint } of problems) {
    const count = (counts.get(kind) ?? 0) + 1;
    counts.set(kind, count);
    if (count <= problemsOfAKind) lines.push(`  ${kind}: ${name}: ${message}`, ...(hint ? [`    fix: ${hint}`] : []));
  }
  for (const [kind, count] of counts) {
    if (count > problemsOfAKind) lines.push(`  ${kind}: ${(count - problemsOfAKind).toLocaleString('en-US')} more; --json lists all`);
  }
  return lines;
}

/** The report as lines to read. */
function describeData(report: Awaited<ReturnType<typeof inspectData>>): string[] {
  const { file, rows, usable, turns, answers, images, tokens, turnsPerRow, answerCharacters, problems, samples } = report;
  const spread = (name: string, values: Spread | undefined): (string | number)[][] =>
    values ? [[name, values.min, Math.round(10 * values.mean) / 10, values.median, values.p95, values.max]] : [];
  const spreads = [
    ...spread('turns of a row', turnsPerRow),
    ...spread('characters of an answer', answerCharacters),
    ...spread('tokens of a row', tokens?.perRow),
    ...spread('learned tokens of a row', tokens?.supervisedPerRow),
  ];
  return [
    `${file}: ${plural(rows, 'conversation')}, ${usable.toLocaleString('en-US')} of them usable`,
    ...columns([
      ['turns', `${turns.human} human, ${turns.gpt} gpt, ${turns.system} system`],
      ['answers', `${answers.empty} empty, ${answers.skipped} skipped, ${answers.unanswered} questions without one`],
      [
        'images',
        `${images.files} files used ${images.used} times; ${images.textOnlyRows} rows without, ${images.severalImageRows} with several`,
      ],
      ...(tokens ? [['cut', `${tokens.cut} rows`]] : []),
    ]),
    ...(spreads.length > 0 ? ['', ...columns([['', 'least', 'mean', 'median', '95 %', 'most'], ...spreads])] : []),
    ...samples.flatMap(({ name, spans }) => [
      '',
      name,
      ...spans.map(({ text, supervised }) => `  ${supervised ? 'learned' : 'given  '}  ${JSON.stringify(text)}`),
    ]),
    '',
    problems.length === 0 ? 'no problems' : plural(problems.length, 'problem'),
    ...describeProblems(problems),
  ];
}
