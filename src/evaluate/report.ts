import type { Results } from './evaluate.ts';
import type { Metric } from './task.ts';

const percent = (share: number): string => (100 * share).toFixed(1);

/** Results as Markdown: a table for each task, in percent. */
export function markdown({ tasks }: Results): string {
  const sections = Object.entries(tasks).map(([name, { metrics, baselines, samples, failures, firstFailure, seconds }]) => {
    const others = Object.keys(baselines);
    const beside = (metric: Metric, baseline: string): string => {
      const same = baselines[baseline]?.find((other) => other.name === metric.name);
      return same ? percent(same.value) : '';
    };
    const rows = metrics.map((metric) => [
      metric.name,
      String(metric.count),
      percent(metric.value),
      `${percent(metric.interval.low)} - ${percent(metric.interval.high)}`,
      ...others.map((baseline) => beside(metric, baseline)),
    ]);
    const failed = failures === 0 ? '' : ` ${failures} could not be asked and count as wrong, the first because ${firstFailure}.`;
    const notes = `${samples} questions in ${seconds.toFixed(1)} s (${(samples / Math.max(seconds, 1e-9)).toFixed(1)} a second).${failed}`;
    return [`## ${name}`, '', table([['questions', 'count', 'score', '95 % interval', ...others], ...rows]), '', notes, ''].join('\n');
  });
  return sections.join('\n');
}

/** A Markdown table whose first row is its head, first column to the left, the others to the right. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(3, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(' | ')} |`;
  const rule = widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  const [head = [], ...body] = rows;
  return [line(head), line(rule), ...body.map(line)].join('\n');
}
