import { lossChart } from '../../evaluate/html/curves.ts';
import { count, duration } from '../../evaluate/html/format.ts';
import { type Axis, type ChartPoint, lineChart, logAxis, type Series, timeAxis } from '../../evaluate/html/line-chart.ts';
import { html, Markup } from '../../evaluate/html/markup.ts';
import { style } from '../../evaluate/html/style.ts';
import type { LogEvent } from '../../log.ts';
import type { StepEvent } from '../../train/stage.ts';

/** What a model answered in the middle of training, beside what the data says. */
export interface TrainingSample {
  readonly stage: string;
  readonly step: number;
  readonly question: string;
  readonly answer: string;
  readonly truth: string;
}

const drawnPoints = 240;
const tones = ['warm', 'cool', 'plum', 'ink'];

/** Every so many points, so that a long run draws as fast as a short one; the last one always. */
function thin<Point>(points: readonly Point[]): Point[] {
  const every = Math.ceil(points.length / drawnPoints);
  return points.filter((_, i) => i % every === 0 || i === points.length - 1);
}

/** An axis from 0 to a round number. */
function linearAxis(values: readonly number[], label: string, shown: (value: number) => string): Axis {
  const most = Math.max(1e-12, ...values);
  const power = 10 ** Math.floor(Math.log10(most));
  const to = ([1, 2, 5, 10].find((digit) => digit * power >= most) ?? 10) * power;
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => ({ at: share * to, label: shown(share * to) }));
  return { label, from: 0, to, scale: 'linear', ticks };
}

interface Figure {
  readonly caption: string;
  readonly chart: Markup;
}

interface Shown {
  readonly seconds: number;
  readonly events: readonly LogEvent[];
}

const stepsOf = ({ events }: Shown): StepEvent[] => events.filter(({ event }) => event === 'step') as unknown as StepEvent[];

/** One number of every step over time. */
function curve(shown: Shown, key: 'learningRate' | 'tokensPerSecond' | 'memoryBytes', of: Omit<Figure, 'chart'> & { unit: Axis }): Figure {
  const points = thin(stepsOf(shown)).map(
    (step): ChartPoint => ({
      x: step.seconds,
      y: step[key],
      title: `${step.stage}, step ${step.step}: ${step[key].toPrecision(4)}`,
    }),
  );
  const series: Series[] = [{ name: of.caption, tone: 'cool', look: 'line', points }];
  const description = `Line chart of ${of.caption} during training, ${points.at(-1)?.y.toPrecision(3) ?? 'nothing yet'} now.`;
  return { caption: of.caption, chart: lineChart({ description, x: timeAxis(shown.seconds, 'time of training'), y: of.unit, series }) };
}

/** The losses of validations over time, where there are any. */
function validations(shown: Shown): Figure[] {
  const steps = stepsOf(shown);
  const found = shown.events.filter(({ event }) => event === 'validation');
  if (found.length === 0) return [];
  const stages = [...new Set(found.map(({ stage }) => String(stage)))];
  const series = stages.map((stage, i): Series => {
    const points = found
      .filter((event) => event['stage'] === stage)
      .map((event): ChartPoint => {
        const [step, loss] = [Number(event['step']), Number(event['loss'])];
        const seconds = steps.find((other) => other.stage === stage && other.step >= step)?.seconds ?? shown.seconds;
        return { x: seconds, y: loss, title: `${stage}, step ${step}: ${loss.toPrecision(4)}` };
      });
    return { name: stage, tone: tones[i % tones.length] ?? 'ink', look: 'dotted', points };
  });
  const losses = series.flatMap(({ points }) => points.map(({ y }) => y));
  const description = `Line chart of the validation loss, ${losses.at(-1)?.toPrecision(3)} now.`;
  const y = logAxis(losses, 'loss, logarithmic');
  return [{ caption: 'validation loss', chart: lineChart({ description, x: timeAxis(shown.seconds, 'time of training'), y, series }) }];
}

function losses(shown: Shown): Figure {
  const steps = stepsOf(shown);
  const names = [...new Set(steps.map(({ stage }) => stage))];
  const stages = names.map((name) => ({ name, about: '', losses: steps.filter(({ stage }) => stage === name) }));
  return { caption: 'loss, smoothed, with its noise faint behind it', chart: lossChart(stages, shown.seconds) };
}

function headline(last: StepEvent): Markup {
  const figures = [
    { name: `step of ${count(last.steps)} in ${last.stage}`, value: count(last.step) },
    { name: 'loss', value: last.loss.toPrecision(4) },
    { name: 'tokens a second', value: count(Math.round(last.tokensPerSecond)) },
    { name: 'left of this stage', value: duration(last.secondsLeft) },
  ];
  return html`<dl class="figures">${figures.map(({ name, value }) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function answers(samples: readonly TrainingSample[]): Markup | undefined {
  if (samples.length === 0) return undefined;
  const rows = samples
    .slice(-40)
    .reverse()
    .map(
      ({ stage, step, question, answer, truth }) =>
        html`<tr><th scope="row">${stage} <small>step ${count(step)}</small></th><td>${question}</td><td>${answer}</td><td>${truth}</td></tr>`,
    );
  return html`<section><h2>Answers on the way</h2><table><thead><tr><th scope="col">when</th><th scope="col">question</th><th scope="col">answer</th>
<th scope="col">in the data</th></tr></thead><tbody>${rows}</tbody></table></section>`;
}

/** The part of the page that changes: figures, curves and answers. */
export function live(events: readonly LogEvent[], samples: readonly TrainingSample[]): Markup {
  const steps = events.filter(({ event }) => event === 'step') as unknown as StepEvent[];
  const last = steps.at(-1);
  if (!last) return html`<p class="lead">The first step is on its way.</p>`;
  const shown = { seconds: last.seconds, events };
  const figures = [
    losses(shown),
    ...validations(shown),
    curve(shown, 'learningRate', {
      caption: 'learning rate',
      unit: linearAxis(
        steps.map(({ learningRate }) => learningRate),
        'learning rate',
        (rate) => (rate === 0 ? '0' : rate.toExponential(1)),
      ),
    }),
    curve(shown, 'tokensPerSecond', {
      caption: 'tokens a second',
      unit: linearAxis(
        steps.map(({ tokensPerSecond }) => tokensPerSecond),
        'tokens a second',
        (speed) => count(Math.round(speed)),
      ),
    }),
    curve(shown, 'memoryBytes', {
      caption: 'memory',
      unit: linearAxis(
        steps.map(({ memoryBytes }) => memoryBytes),
        'memory, GB',
        (bytes) => (bytes / 1e9).toFixed(2),
      ),
    }),
  ];
  const drawn = figures.map(({ caption, chart }) => html`<figure><figcaption>${caption}</figcaption>${chart}</figure>`);
  return html`${headline(last)}<div class="charts">${drawn}</div>${answers(samples)}`;
}

// What is under the pointer is not taken away.
const script = `
const place = document.getElementById('live');
setInterval(async () => {
  if (document.hidden || place.matches(':has(.spot:hover)')) return;
  try {
    const answer = await fetch('live');
    if (answer.ok) place.innerHTML = await answer.text();
  } catch {}
}, 2000);
`;

/** The whole page; what changes is fetched again every two seconds. */
export const page = (title: string, content: Markup): string =>
  html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<style>${new Markup(style)}</style>
</head>
<body>
<header><p class="brand">tinyllava</p><h1>${title}</h1></header>
<main id="live">${content}</main>
<script>${new Markup(script)}</script>
</body>
</html>
`.text;
