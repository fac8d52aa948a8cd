import type { Results } from './evaluate.ts';
import { markdownRow } from './markdown-row.ts';
import type { Metric } from './task.ts';

/** A column of the table: which number of which task, and what is better. */
interface Column {
  readonly head: string;
  readonly task: string;
  readonly metrics: readonly string[];
}

const columns: readonly Column[] = [
  { head: 'POPE F1 ↑', task: 'pope', metrics: ['mean F1', 'F1'] },
  { head: 'POPE yes, adversarial', task: 'pope', metrics: ['adversarial yes ratio'] },
  { head: 'CHAIR_s ↓', task: 'chair', metrics: ['CHAIR_s'] },
  { head: 'CHAIR_i ↓', task: 'chair', metrics: ['CHAIR_i'] },
  { head: 'CHAIR recall ↑', task: 'chair', metrics: ['recall'] },
  { head: 'words', task: 'chair', metrics: ['words a caption'] },
  { head: 'AMBER CHAIR ↓', task: 'amber-generative', metrics: ['CHAIR'] },
  { head: 'AMBER cover ↑', task: 'amber-generative', metrics: ['cover'] },
  { head: 'AMBER hal ↓', task: 'amber-generative', metrics: ['hallucinating answers'] },
  { head: 'AMBER cog ↓', task: 'amber-generative', metrics: ['cognition'] },
  { head: 'AMBER F1 ↑', task: 'amber-discriminative', metrics: ['F1'] },
  { head: 'Hallusion aAcc ↑', task: 'hallusion-bench', metrics: ['aAcc'] },
  { head: 'Hallusion fAcc ↑', task: 'hallusion-bench', metrics: ['fAcc'] },
  { head: 'Hallusion qAcc ↑', task: 'hallusion-bench', metrics: ['qAcc'] },
  { head: 'MMHal score ↑', task: 'mmhal-bench', metrics: ['average score'] },
  { head: 'MMHal rate ↓', task: 'mmhal-bench', metrics: ['hallucination rate'] },
];

const shown = ({ value, interval, max = 1 }: Metric): string => {
  const scale = max === 1 ? 100 : 1;
  return `${(value * scale).toFixed(1)} (${(interval.low * scale).toFixed(1)} - ${(interval.high * scale).toFixed(1)})`;
};

/**
 * All that runs say about hallucination in one Markdown table, a row for each number and a column for each run, with 95 % intervals; undefined when there is
 * nothing. AMBER's own score joins what its two halves say: (100 - CHAIR + F1) / 2. Arrows say which way is better.
 */
export function hallucinationTable(runs: Readonly<Record<string, Pick<Results, 'tasks'>>>): string | undefined {
  const names = Object.keys(runs);
  const find = (run: string, task: string, metrics: readonly string[]): Metric | undefined =>
    runs[run]?.tasks[task]?.metrics.find(({ name }) => metrics.includes(name));
  const rows = columns.flatMap(({ head, task, metrics }) => {
    const cells = names.map((run) => find(run, task, metrics));
    return cells.some((cell) => cell !== undefined) ? [[head, ...cells.map((cell) => (cell ? shown(cell) : '-'))]] : [];
  });
  if (rows.length === 0) return undefined;
  const amber = names.map((run) => {
    const [made, f1] = [find(run, 'amber-generative', ['CHAIR']), find(run, 'amber-discriminative', ['F1'])];
    return made && f1 ? ((100 - made.value + f1.value) / 2).toFixed(1) : '-';
  });
  const all = amber.some((cell) => cell !== '-') ? [...rows, ['AMBER score ↑', ...amber]] : rows;
  return [markdownRow(['hallucination', ...names]), `| --- |${' ---: |'.repeat(names.length)}`, ...all.map(markdownRow)].join('\n');
}
