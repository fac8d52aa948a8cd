import { dirname, resolve } from 'node:path';
import type { DataProblem, DataReport, FixedData, ProblemKind } from '../data/report.ts';
import type { MinRatings } from '../data/rows.ts';
import type { Spread } from '../data/statistics.ts';
import { UsageError } from '../errors.ts';
import { duration } from '../evaluate/html/format.ts';
import type { Log } from '../log.ts';
import { findModel } from './hub.ts';
import { interruptible } from './interrupt.ts';
import { columns, type Finding, screenColumns } from './print.ts';
import { StatusLine, wrap } from './quickstart/status-line.ts';

/** How a data file is looked at. */
export interface DataFlags {
  readonly model?: string;
  readonly template?: string;
  readonly imageFolder?: string;
  readonly minRating?: MinRatings;
  readonly maxLength?: number;
  readonly samples: number;
  readonly decode?: number;
  readonly problems: number;
  readonly ignore?: readonly ProblemKind[];
  readonly fix?: string;
  readonly threads?: number;
}

/** What training data holds: counts, the first problems of each kind and, with a model, what is learned of the first rows. */
export async function findData(file: string, { model, template, minRating, ...options }: DataFlags): Promise<Finding> {
  if (model === undefined && (template !== undefined || options.maxLength !== undefined)) {
    throw new UsageError(`${template === undefined ? '--max-length' : '--template'} goes with --model alone`, {
      hint: 'name the model whose tokens count by --model',
    });
  }
  const folder = model === undefined ? undefined : await findModel(model, 'processor');
  const { inspectData } = await import('../data/inspect.ts');
  using line = new StatusLine(process.stderr);
  const log = inspectProgress(line);
  const report = await interruptible((signal) =>
    inspectData(file, {
      ...options,
      ...(minRating && { minRatings: minRating }),
      log,
      signal,
      ...(folder !== undefined && { model: { folder, template } }),
    }),
  );
  line.clear();
  return { json: { kind: 'data', ...report }, lines: describeData(report, screenColumns()) };
}

/** Shows how many rows, then images, are looked at. */
function inspectProgress(line: StatusLine): Log {
  const began: Record<string, number> = {};
  return ({ rows, images, of }) => {
    const [what, done] = rows === undefined ? ['images', Number(images)] : ['rows', Number(rows)];
    const beganMs = began[what] ?? performance.now();
    began[what] = beganMs;
    const leftMs = ((performance.now() - beganMs) * (Number(of) - done)) / done;
    line.update([`${done.toLocaleString('en-US')} of ${Number(of).toLocaleString('en-US')} ${what}`, `${duration(leftMs / 1000)} left`]);
  };
}

const number = (value: number): string => value.toLocaleString('en-US');

const plural = (count: number, name: string): string => `${number(count)} ${name}${count === 1 ? '' : 's'}`;

/** The problems of each kind that are named, and how many more there are. */
function describeProblems({ problems, problemCounts }: DataReport, width: number): string[] {
  const lines = (problem: DataProblem): string[] => [
    wrap(`  ${problem.name}: ${problem.message}`, width, '    '),
    ...(problem.hint ? [wrap(`    fix: ${problem.hint}`, width, '      ')] : []),
  ];
  return Object.entries(problemCounts).flatMap(([kind, count]) => {
    const named = problems.filter((problem) => problem.kind === kind);
    const more = count > named.length ? [`  ${number(count - named.length)} more; --problems names more`] : [];
    return [`${kind}: ${number(count)}`, ...named.flatMap(lines), ...more];
  });
}

function describeFixed({ file, rows, droppedFile, dropped, imageFolder }: FixedData, width: number): string[] {
  const elsewhere = resolve(dirname(file)) !== resolve(imageFolder);
  return [
    '',
    wrap(`${file}: ${plural(rows, 'conversation')} without problems`, width, '  '),
    wrap(`${droppedFile}: the other ${number(dropped)}, and why`, width, '  '),
    ...(elsewhere ? [wrap(`its images are in ${imageFolder}: give that as --image-folder, or as images in a recipe`, width, '  ')] : []),
  ];
}

/** The report as lines to read. */
function describeData(report: DataReport, width: number): string[] {
  const {
    file,
    rows,
    leftOut,
    usable,
    clean,
    turns,
    answers,
    images,
    tokens,
    turnsPerRow,
    answerCharacters,
    problemCounts,
    samples,
    fixed,
  } = report;
  const spread = (name: string, values: Spread | undefined): (string | number)[][] =>
    values ? [[name, values.min, Math.round(10 * values.mean) / 10, values.median, values.p95, values.max]] : [];
  const spreads = [
    ...spread('turns of a row', turnsPerRow),
    ...spread('characters of an answer', answerCharacters),
    ...spread('tokens of a row', tokens?.perRow),
    ...spread('learned tokens of a row', tokens?.supervisedPerRow),
  ];
  const inside = images.files === 0 && images.used > 0;
  const where = inside ? `${number(images.used)} inside the rows` : `${plural(images.files, 'file')} used ${plural(images.used, 'time')}`;
  const facts = [
    ...(leftOut
      ? [['rated', `too low: ${plural(leftOut.rows, 'row')} left out, and ${plural(leftOut.questions, 'question')} of others`]]
      : []),
    ['turns', `${number(turns.human)} human, ${number(turns.gpt)} gpt, ${number(turns.system)} system`],
    ['answers', `${number(answers.empty)} empty, ${number(answers.skipped)} skipped, ${number(answers.unanswered)} questions without one`],
    ['images', `${where}, ${number(images.decoded)} decoded`],
    ['', `${plural(images.textOnlyRows, 'row')} without, ${number(images.severalImageRows)} with several`],
    ...(tokens ? [['cut', `${plural(tokens.cut, 'row')}, ${plural(tokens.lost, 'learned token')}`]] : []),
  ];
  const found = Object.values(problemCounts).reduce((sum, count) => sum + count, 0);
  return [
    wrap(`${file}: ${plural(rows, 'conversation')}, ${number(usable)} of them usable, ${number(clean)} clean`, width, '  '),
    ...columns(facts).map((line) => wrap(line, width, ' '.repeat(9))),
    ...(spreads.length > 0 ? ['', ...columns([['', 'least', 'mean', 'median', '95 %', 'most'], ...spreads])] : []),
    ...samples.flatMap(({ name, spans }) => [
      '',
      name,
      ...spans.map(({ text, supervised }) => `  ${supervised ? 'learned' : 'given  '}  ${JSON.stringify(text)}`),
    ]),
    '',
    found === 0 ? 'no problems' : plural(found, 'problem'),
    ...describeProblems(report, width),
    ...(fixed ? describeFixed(fixed, width) : []),
  ];
}
