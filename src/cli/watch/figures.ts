import { lossChart } from '../../evaluate/html/curves.ts';
import { count } from '../../evaluate/html/format.ts';
import { type Axis, type ChartPoint, lineChart, logAxis, type Series, timeAxis } from '../../evaluate/html/line-chart.ts';
import { html, type Markup } from '../../evaluate/html/markup.ts';
import type { LogEvent } from '../../log.ts';
import type { StepEvent, ValidationEvent } from '../../train/stage.ts';

const drawnPoints = 240;
const tones = ['warm', 'cool', 'plum', 'ink'];
const time = 'time of training';

/** The steps among the events of a run. */
export const stepsOf = (events: readonly LogEvent[]): StepEvent[] =>
  events.filter(({ event }) => event === 'step') as unknown as StepEvent[];

/** Every so many points, so that a long run draws as fast as a short one; the last one always. */
function thin<Point>(points: readonly Point[]): Point[] {
  const every = Math.ceil(points.length / drawnPoints);
  return points.filter((_, i) => i % every === 0 || i === points.length - 1);
}

/** An axis from 0 in at most five steps of a round size. */
function linearAxis(points: readonly ChartPoint[], shown: (value: number) => string): Axis {
  const most = points.reduce((high, { y }) => Math.max(high, y), 1e-12);
  const power = 10 ** Math.floor(Math.log10(most / 5));
  const step = power * ([1, 2, 2.5, 5].find((digit) => digit * power * 5 >= most) ?? 10);
  const ticks = Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
  return { label: '', from: 0, to: ticks.at(-1) ?? most, scale: 'linear', ticks: ticks.map((at) => ({ at, label: shown(at) })) };
}

interface Curve {
  readonly caption: string;
  readonly read: (step: StepEvent) => number;
  readonly shown: (value: number) => string;
}

const curves: readonly Curve[] = [
  { caption: 'learning rate', read: ({ learningRate }) => learningRate, shown: (rate) => (rate === 0 ? '0' : rate.toExponential()) },
  { caption: 'tokens a second', read: ({ tokensPerSecond }) => tokensPerSecond, shown: count },
  // Where the system does not tell, JSON says null.
  { caption: 'memory of the process, GB', read: ({ memoryBytes }) => (memoryBytes ?? Number.NaN) / 1e9, shown: String },
];

const figure = (caption: string, chart: Markup): Markup => html`<figure><figcaption>${caption}</figcaption>${chart}</figure>`;

/** One number of every step over time; none where no step has it. */
function curve(steps: readonly StepEvent[], seconds: number, { caption, read, shown }: Curve): Markup | undefined {
  const known = steps.filter((step) => Number.isFinite(read(step)));
  if (known.length === 0) return undefined;
  const points = thin(known).map(
    (step): ChartPoint => ({
      x: step.seconds,
      y: read(step),
      title: `${step.stage}, step ${count(step.step)}: ${shown(Number(read(step).toPrecision(4)))}`,
    }),
  );
  const description = `Line chart of ${caption} during training, ${shown(Number(points.at(-1)?.y.toPrecision(3)))} now.`;
  const series: Series[] = [{ name: '', tone: 'cool', look: 'line', points }];
  return figure(caption, lineChart({ description, x: timeAxis(seconds, time), y: linearAxis(points, shown), series }));
}

/** The losses of validations over time, where there are any. */
function validations(events: readonly LogEvent[], stages: readonly string[], seconds: number): Markup | undefined {
  // A loss that is not finite is null in metrics.jsonl.
  const found = events.filter(({ event, loss }) => event === 'validation' && typeof loss === 'number') as unknown as ValidationEvent[];
  const last = found.at(-1);
  if (!last) return undefined;
  const key = ({ stage, step }: { stage: string; step: number }): string => `${step} ${stage}`;
  const reached = new Map(stepsOf(events).map((step) => [key(step), step.seconds]));
  const series = stages.map((name, i): Series => {
    const points = found
      .filter(({ stage }) => stage === name)
      .map((event): ChartPoint => {
        const title = `${name}, step ${count(event.step)}: ${event.loss.toPrecision(4)}${event.best ? ', the best so far' : ''}`;
        return { x: reached.get(key(event)) ?? seconds, y: event.loss, title };
      });
    return { name, tone: tones[i % tones.length] ?? 'ink', look: 'dotted', points };
  });
  const best = found.findLast(({ stage, best }) => stage === last.stage && best) ?? last;
  const caption = `validation loss, in ${last.stage} best behind step ${count(best.step)}: ${best.loss.toPrecision(4)}`;
  const y = logAxis(
    found.map(({ loss }) => loss),
    'loss, logarithmic',
  );
  const description = `Line chart of the validation loss, ${last.loss.toPrecision(3)} now.`;
  const drawn = series.filter(({ points }) => points.length > 0);
  return figure(caption, lineChart({ description, x: timeAxis(seconds, time), y, series: drawn }));
}

/** The curves of a run: losses, validations and what every step says of itself. */
export function figures(events: readonly LogEvent[]): Markup {
  const steps = stepsOf(events);
  const seconds = steps.at(-1)?.seconds ?? 0;
  const names = [...new Set(steps.map(({ stage }) => stage))];
  const stages = names.map((name) => ({ name, about: '', losses: steps.filter(({ stage }) => stage === name) }));
  const losses = figure('loss, smoothed, with its noise faint behind it', lossChart(stages, seconds));
  return html`<div class="charts">${losses}${validations(events, names, seconds)}${curves.map((one) => curve(steps, seconds, one))}</div>`;
}
