import type { Results, TaskResult } from '../evaluate.ts';
import type { Metric } from '../task.ts';
import { count } from './format.ts';
import { html, type Markup } from './markup.ts';

/** A run's name and its result of one task; undefined where it has none. */
export interface Named {
  readonly name: string;
  readonly result: TaskResult | undefined;
}

const tones = ['cool', 'warm', 'plum', 'good', 'bad', 'ink'];

/** The colour of the run of this number. */
export const toneOf = (run: number): string => `--tone-${tones[run % tones.length]}`;

/** A number of a metric in its own unit, shares in percent. */
export const inUnit = (value: number, { max = 1 }: Metric): string => (max === 1 ? 100 * value : value).toFixed(1);

const place = (value: number, { max = 1 }: Metric): string => `${Math.min(100, Math.max(0, (100 * value) / max)).toFixed(2)}%`;

function track(metrics: readonly (Metric | undefined)[], names: readonly string[]): Markup {
  const marks = metrics.map((metric, run) => {
    if (!metric) return undefined;
    const { value, interval } = metric;
    const at = `top:${(((run + 1) / (metrics.length + 1)) * 100).toFixed(1)}%;background:var(${toneOf(run)})`;
    const said = `${names[run]}: ${inUnit(value, metric)}, 95 % interval ${inUnit(interval.low, metric)} to ${inUnit(interval.high, metric)}`;
    return html`<span class="interval" style="left:${place(interval.low, metric)};right:calc(100% - ${place(interval.high, metric)});${at}"></span>
<span class="dot" style="left:${place(value, metric)};${at}" title="${said}"></span>`;
  });
  return html`<div class="track" style="height:${1.4 + 0.9 * metrics.length}rem">${marks}</div>`;
}

const scale = html`<div class="scale">${[0, 25, 50, 75, 100].map((at) => html`<span style="left:${at}%">${at === 100 ? '100\u00a0%' : at}</span>`)}</div>`;

/** One line of a drawn table: its name, what stands small under it, and a metric of each run. */
export interface Line {
  readonly name: string;
  readonly about: string;
  readonly metrics: readonly (Metric | undefined)[];
}

/** Scores with their intervals as dots and bars on one scale, from nothing to the best that can be reached, and as numbers. */
export function drawnScores(first: string, lines: readonly Line[], names: readonly string[]): Markup {
  const cell = (metric: Metric | undefined): Markup =>
    metric
      ? html`<span><strong>${inUnit(metric.value, metric)}</strong>${metric.lowerIsBetter ? ' ↓' : ''} <small>${inUnit(metric.interval.low, metric)} – ${inUnit(metric.interval.high, metric)}</small></span>`
      : html`–`;
  const rows = lines.map(
    ({ name, about, metrics }) => html`<tr role="row"><th role="rowheader" scope="row">${name} <small>${about}</small></th>
<td role="cell" class="drawn" aria-hidden="true">${track(metrics, names)}</td>
${metrics.map((metric, run) => html`<td role="cell" data-name="${names[run]}">${cell(metric)}</td>`)}</tr>`,
  );
  return html`<table class="scores evaluated" role="table"><thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">${first}</th><td role="cell" class="drawn" aria-hidden="true">${scale}</td>
${names.map((name) => html`<th role="columnheader" scope="col">${name}</th>`)}</tr></thead><tbody role="rowgroup">${rows}</tbody></table>`;
}

/** Which colour is which run. */
export const runLegend = (names: readonly string[]): Markup =>
  html`<ul class="legend">${names.map((name, run) => html`<li><span class="key dot" style="background:var(${toneOf(run)})"></span>${name}</li>`)}<li>bar = 95 % interval</li></ul>`;

/** The tasks that some run has, in the order of the first that has them. */
export const tasksOf = (results: readonly Results[]): string[] => [...new Set(results.flatMap(({ tasks }) => Object.keys(tasks)))];

/** The headline of each task: its first metric, which profiles may have different ones for; each is then a line. */
export function headlines(runs: readonly { readonly name: string; readonly results: Results }[]): Line[] {
  return tasksOf(runs.map(({ results }) => results)).flatMap((task) => {
    const results = runs.map(({ results }) => results.tasks[task]);
    const questions = `${count(Math.max(...results.map((result) => result?.samples ?? 0)))} questions`;
    const heads = [...new Set(results.flatMap((result) => result?.metrics[0]?.name ?? []))];
    if (heads.length === 0) return [{ name: task, about: `no scores, ${questions}`, metrics: results.map(() => undefined) }];
    return heads.map((head) => {
      const metrics = results.map((result) => result?.metrics.find(({ name }) => name === head));
      const { max = 1 } = metrics.find((metric) => metric !== undefined) ?? {};
      const unit = max === 1 || max === 100 ? '' : ` of ${count(max)}`;
      return { name: heads.length > 1 ? `${task} ${head}` : task, about: `${head}${unit}, ${questions}`, metrics };
    });
  });
}

/** Every metric of a task, the parts behind the whole; a metric of the same name in several runs is one line. */
export function metricLines(named: readonly Named[]): Line[] {
  const names = [...new Set(named.flatMap(({ result }) => (result?.metrics ?? []).map(({ name }) => name)))];
  return names.map((name) => {
    const metrics = named.map(({ result }) => result?.metrics.find((metric) => metric.name === name));
    const counts = metrics.flatMap((metric) => (metric ? [metric.count] : []));
    return { name, about: count(Math.max(0, ...counts)), metrics };
  });
}
