import { html, type Markup } from './markup.ts';

/** A position in the units of the axes, and what the pointer shows there. */
export interface ChartPoint {
  readonly x: number;
  readonly y: number;
  readonly title?: string;
}

/** One line. `tone` names its colour in the style sheet; a faint line is the noise behind a smoothed one; without a name it is not in the legend. */
export interface Series {
  readonly name: string;
  readonly tone: string;
  readonly points: readonly ChartPoint[];
  readonly look: 'line' | 'faint' | 'dotted';
}

/** A marked place on an axis. */
interface Tick {
  readonly at: number;
  readonly label: string;
}

/** An axis from `from` to `to`. */
export interface Axis {
  readonly label: string;
  readonly from: number;
  readonly to: number;
  readonly scale: 'linear' | 'log';
  readonly ticks: readonly Tick[];
}

/** What `lineChart` draws. `marks` are vertical lines with a name. */
export interface LineChart {
  /** The chart in words, for people who do not see it. */
  readonly description: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
  readonly marks?: readonly Tick[];
}

/** The place of a value on an axis, from 0 at its start to 1 at its end. */
function place({ scale, from, to }: Axis, value: number): number {
  const share = scale === 'log' ? Math.log(value / from) / Math.log(to / from) : (value - from) / (to - from);
  return Math.min(1, Math.max(0, share));
}

const round = (value: number): number => Math.round(value * 100) / 100;

function path(points: readonly ChartPoint[], x: Axis, y: Axis): string {
  const line = points.map(
    (point, index) => `${index === 0 ? 'M' : 'L'}${round(1000 * place(x, point.x))} ${round(1000 * (1 - place(y, point.y)))}`,
  );
  // A single point is seen by a line of no length, whose ends are round.
  return line.length === 1 ? `${line[0]}h0` : line.join('');
}

/**
 * A line chart as inline SVG that fills the width it is given: the lines stretch, the text does not. Colours come from the style sheet's
 * `--tone-…` variables. Every point with a title shows it under the pointer.
 */
export function lineChart({ description, x, y, series, marks = [] }: LineChart): Markup {
  const across = (value: number): string => `${round(100 * place(x, value))}%`;
  const down = (value: number): string => `${round(100 - 100 * place(y, value))}%`;
  const rows = y.ticks.map(
    ({ at, label }) =>
      html`<line class="grid" x1="0" x2="100%" y1="${down(at)}" y2="${down(at)}"/><text class="tick" x="-8" y="${down(at)}" dy=".32em" text-anchor="end">${label}</text>`,
  );
  const columns = x.ticks.map(
    ({ at, label }) => html`<text class="tick" x="${across(at)}" y="100%" dy="1.6em" text-anchor="middle">${label}</text>`,
  );
  const places = marks.map(({ at, label }) => {
    const side = place(x, at) > 0.7 ? html`dx="-6" text-anchor="end"` : html`dx="6"`;
    return html`<line class="mark" x1="${across(at)}" x2="${across(at)}" y1="0" y2="100%"/><text class="mark-name" x="${across(at)}" ${side} y="0" dy="1em">${label}</text>`;
  });
  const lines = series.map(
    ({ tone, look, points }) => html`<path class="${look}" style="stroke:var(--tone-${tone})" d="${path(points, x, y)}"/>`,
  );
  const titled = series.flatMap(({ tone, points }) =>
    points.flatMap((point) => (point.title === undefined ? [] : [{ ...point, tone, title: point.title }])),
  );
  const spots = titled.map(
    ({ tone, title, ...point }) =>
      html`<circle class="spot" style="color:var(--tone-${tone})" cx="${across(point.x)}" cy="${down(point.y)}" r="7"><title>${title}</title></circle>`,
  );
  const legend = series
    .filter(({ name, look }) => name !== '' && look !== 'faint')
    .map(({ name, tone, look }) => html`<li><span class="swatch ${look}" style="color:var(--tone-${tone})"></span>${name}</li>`);
  return html`${legend.length === 0 ? undefined : html`<ul class="legend">${legend}</ul>`}
<div class="plot"><svg role="img" aria-label="${description}">
${rows}${columns}${places}
<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" width="100%" height="100%">${lines}</svg>
${spots}<text class="axis" x="100%" y="100%" dy="3.1em" text-anchor="end">${x.label}</text><text class="axis" x="-51" y="0" dy="-1em">${y.label}</text>
</svg></div>`;
}

/** The axis of `seconds` of time, marked at round times. */
export function timeAxis(seconds: number, label: string): Axis {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400];
  const step = steps.find((size) => seconds / size <= 6) ?? 86_400;
  const ticks = Array.from({ length: Math.floor(seconds / step) + 1 }, (_, index) => index * step);
  const name = (at: number): string => (step >= 3600 ? `${at / 3600} h` : step >= 60 ? `${at / 60} min` : `${at} s`);
  return { label, from: 0, to: Math.max(seconds, 1e-9), scale: 'linear', ticks: ticks.map((at) => ({ at, label: name(at) })) };
}

/** A logarithmic axis that holds all the positive values, marked at 1, 2 and 5 times the powers of ten. */
export function logAxis(values: readonly number[], label: string): Axis {
  const positive = values.filter((value) => value > 0);
  const marks = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((digit) => Number(`${digit}e${power - 8}`))).flat();
  const [low, high] = [positive.reduce((a, b) => Math.min(a, b), Infinity), positive.reduce((a, b) => Math.max(a, b), 0)];
  const from = marks.findLast((mark) => mark <= low) ?? 1e-8;
  const to = marks.find((mark) => mark >= high && mark > from) ?? 1e8;
  const inside = marks.filter((mark) => mark >= from && mark <= to);
  const shown = inside.length > 10 ? inside.filter((mark) => String(mark.toExponential()).startsWith('1e')) : inside;
  return { label, from, to, scale: 'log', ticks: shown.map((at) => ({ at, label: String(at) })) };
}
