import type { Results, TaskResult } from './evaluate.ts';
import { countAsWrong, type Facts, madeWith, notRead, remarks, saidNothing } from './facts.ts';
import { hallucinationTable } from './hallucination.ts';
import { markdownRow } from './markdown-row.ts';
import { besidePublished } from './published-results.ts';
import type { ScoreResult } from './score-answers.ts';
import type { Metric } from './task.ts';

/** A number of a metric: shares in percent, all else in the benchmark's own unit. */
const shown = (value: number, { max = 1 }: Metric): string => (max === 1 ? 100 * value : value).toFixed(1);

/** Results as Markdown: a table for each task, one of all that is said about hallucination, one beside published results, and what the run was made with. */
export function markdown(results: Results): string {
  const { tasks } = results;
  const hallucination = hallucinationTable({ 'this run': results });
  const beside = besidePublished(results);
  return [
    ...Object.entries(tasks).map(([name, result]) => section(name, result)),
    // One benchmark alone says it in its own table.
    ...(hallucination !== undefined && hallucinationTasks(tasks) > 1 ? ['## Hallucination', '', hallucination, ''] : []),
    ...(beside === undefined ? [] : ['## Beside published results', '', beside, '']),
    '## The run',
    '',
    ...madeWith(results).map(([name, value]) => `- ${name}: ${value}`),
    '',
  ].join('\n');
}

const cells = (metric: Metric): string[] => [
  metric.name,
  String(metric.count),
  shown(metric.value, metric),
  `${shown(metric.interval.low, metric)} - ${shown(metric.interval.high, metric)}`,
];
const head = ['questions', 'count', 'score', '95 % interval'];

function section(name: string, result: TaskResult): string {
  const { metrics, baselines, samples, seconds, empty = 0, unparsed = 0, detectableDifference: least, judge, unscored } = result;
  const others = Object.keys(baselines);
  const beside = (metric: Metric, baseline: string): string => {
    const same = baselines[baseline]?.find((other) => other.name === metric.name);
    return same ? shown(same.value, same) : '';
  };
  const rows = metrics.map((metric) => [...cells(metric), ...others.map((baseline) => beside(metric, baseline))]);
  const notes = [
    `${samples} questions${seconds === undefined ? '' : ` in ${seconds.toFixed(1)} s (${(samples / Math.max(seconds, 1e-9)).toFixed(1)} a second)`}.`,
    failed(result),
    empty > 0 && `${saidNothing(empty)}.`,
    unparsed > 0 && `${notRead(result)}.`,
    judge && `Judged by ${judge.model}.`,
    unscored !== undefined && `No scores: ${unscored}.`,
    !!least && power(least),
  ];
  const numbers = rows.length === 0 ? [] : [table([[...head, ...others], ...rows]), ''];
  return [`## ${name}`, '', ...numbers, notes.filter(Boolean).join(' '), ...said(result), ''].join('\n');
}

/** What is beside the scores, as a paragraph of its own. */
function said(facts: Facts): string[] {
  const clauses = remarks(facts);
  return clauses.length === 0 ? [] : ['', `${clauses.join('; ')}.`];
}

const hallucinationTasks = (tasks: Results['tasks']): number =>
  ['pope', 'chair', 'amber-generative', 'amber-discriminative', 'hallusion-bench', 'mmhal-bench'].filter((name) => name in tasks).length;

/** The result of scoring answers as Markdown. */
export function scoreTable(result: Omit<ScoreResult, 'scores'>): string {
  const { questions, missing, unparsed, detectableDifference: least, judge, unscored } = result;
  const notes = [
    `${questions} questions, profile ${result.profile}${judge ? `, judged by ${judge.model}` : ''}.`,
    unscored !== undefined && `No scores: ${unscored}.`,
    missing > 0 &&
      `${missing} ${missing === 1 ? 'has' : 'have'} no answer${unscored === undefined ? ` and ${countAsWrong(missing)}` : ''}.`,
    failed(result),
    unparsed > 0 && `${notRead(result)}.`,
    !!least && power(least),
  ];
  const lines = [
    `## ${result.task}`,
    '',
    ...(result.metrics.length > 0 ? [table([head, ...result.metrics.map(cells)])] : []),
    '',
    notes.filter(Boolean).join(' '),
  ];
  return [...lines, ...said(result), ''].join('\n');
}

/** What could not be asked or judged; false where there is nothing. */
const failed = ({ failures = 0, firstFailure, unscored }: Partial<Pick<TaskResult, 'failures' | 'firstFailure' | 'unscored'>>) =>
  failures > 0 && `${failures} failed${unscored === undefined ? ` and ${countAsWrong(failures)}` : ''}, the first because ${firstFailure}.`;

/** How small a difference the questions can show. */
const power = (least: number): string =>
  `Two models are seldom told apart on them whose mean scores, of 100 a question, differ by less than ${(100 * least).toFixed(1)} (80 % power, 5 % test, paired).`;

/** A Markdown table whose first row is its head, first column to the left, the others to the right. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(3, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    markdownRow(cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))));
  const rule = widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  const [head = [], ...body] = rows;
  return [line(head), line(rule), ...body.map(line)].join('\n');
}
