import type { ReportScore } from '../../evaluate/html/data.ts';
import { count, duration, percent, percentNumber } from '../../evaluate/html/format.ts';
import type { QuickstartResult } from './quickstart.ts';
import { wrap } from './status-line.ts';

/** Terminals narrower than this get the scores below each other. */
const tableColumns = 76;

const plain = (text: string): string => text.replaceAll('\u00a0', ' ');

function scoreRows(scores: readonly ReportScore[]): string[][] {
  const baselines = [...new Set(scores.flatMap((score) => Object.keys(score.baselines)))];
  const goals = scores.some(({ goal }) => goal !== undefined);
  const head = ['', 'questions', 'model', '95 % interval', ...baselines, ...(goals ? ['goal'] : [])];
  const rows = scores.map(({ name, count: questions, accuracy, goal, ...score }) => [
    name,
    count(questions),
    percent(accuracy.value),
    `${percentNumber(accuracy.low)} - ${percentNumber(accuracy.high)}`,
    ...baselines.map((baseline) => (score.baselines[baseline] === undefined ? '' : percent(score.baselines[baseline]))),
    ...(goals ? [goal === undefined ? '' : `${Number(percentNumber(goal))} % ${accuracy.value >= goal ? 'reached' : 'MISSED'}`] : []),
  ]);
  return [head, ...rows];
}

/** The scores as text: a table, or on a narrow terminal one block for each question type. */
export function scoreText(scores: readonly ReportScore[], columns: number): string {
  const [head = [], ...rows] = scoreRows(scores).map((row) => row.map(plain));
  if (columns < tableColumns) {
    return rows
      .map(([name, ...cells]) =>
        [name, ...cells.map((cell, i) => (cell === '' ? '' : `  ${head[i + 1]}: ${cell}`)).filter(Boolean)].join('\n'),
      )
      .join('\n');
  }
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  ');
  return [head, ...rows].map((row) => line(row).trimEnd()).join('\n');
}

/** What a person reads when the quickstart is done. */
export function summary(result: QuickstartResult, { columns, command }: { readonly columns: number; readonly command: string }): string {
  const { scores, asked, seconds, checkpoint, report, data } = result;
  const folded = (text: string): string => wrap(text, columns);
  const answers = asked.flatMap(({ image, question, answer, truth, correct }) => [
    folded(`${image}: ${question}`),
    `  ${correct ? `right: ${answer}` : `WRONG: ${answer} (truth: ${truth})`}`,
  ]);
  const missed = scores.filter(({ goal, accuracy }) => goal !== undefined && accuracy.value < goal).map(({ name }) => name);
  const [first] = asked;
  return [
    '',
    folded('Right answers on pictures that it has not seen, beside answering without looking:'),
    '',
    scoreText(scores, columns),
    ...(result.note === undefined ? [] : ['', folded(result.note)]),
    ...(missed.length > 0 ? ['', folded(`Goals missed: ${missed.join(', ')}.`)] : []),
    '',
    folded('Five questions about such pictures:'),
    '',
    ...answers,
    '',
    folded(`${duration(seconds.training)} of training, ${duration(seconds.evaluation)} of evaluation, ${duration(seconds.all)} in all.`),
    '',
    'Look at the report:',
    `  ${report}`,
    'Ask, talk, evaluate again:',
    `  ${command} ask ${checkpoint} --image ${first?.image ?? 'FILE'} "${first?.question ?? 'what shape is in the image?'}"`,
    `  ${command} chat ${checkpoint}`,
    `  ${command} eval ${checkpoint} --tasks easy-vqa --data ${data}`,
  ].join('\n');
}
