import { count, duration } from '../../evaluate/html/format.ts';
import { html, Markup } from '../../evaluate/html/markup.ts';
import { style } from '../../evaluate/html/style.ts';
import type { LogEvent } from '../../log.ts';
import { answers, type TrainingSample } from './answers.ts';
import { figures, stepsOf } from './figures.ts';
import { script, watchStyle } from './script.ts';

/** How a run has ended: whether it did what it was to do, and what it said. */
export interface Ending {
  readonly done: boolean;
  readonly text: string;
}

/** What the page shows: the names of all stages, and what the run's files say now. */
export interface Shown {
  readonly stages: readonly string[];
  readonly events: readonly LogEvent[];
  readonly samples: readonly TrainingSample[];
  readonly ending?: Ending | undefined;
}

function ended({ ending }: Shown): Markup | undefined {
  if (!ending) return undefined;
  return html`<p class="verdict ${ending.done ? 'reached' : 'missed'}" role="status" data-ended><strong>${ending.text}</strong></p>`;
}

/** How far each stage is. */
function progress({ stages, events }: Shown): Markup {
  const saved = new Set(events.filter(({ event }) => event === 'checkpoint').map(({ stage }) => stage));
  const last = new Map(stepsOf(events).map((step) => [step.stage, step]));
  const bars = stages.map((name) => {
    const { step = 0, steps = 1 } = last.get(name) ?? {};
    const said = saved.has(name) ? 'done' : step === 0 ? 'to come' : `step ${count(step)} of ${count(steps)}`;
    return html`<li>${name} <small>${said}</small><progress aria-label="${name}" max="1" value="${saved.has(name) ? 1 : step / steps}"></progress></li>`;
  });
  return html`<ol class="progress">${bars}</ol>`;
}

function headline({ events }: Shown): Markup {
  const last = stepsOf(events).at(-1);
  if (!last) return html`<p class="lead">The first step is on its way.</p>`;
  const values = [
    { name: `step of ${count(last.steps)} in ${last.stage}`, value: count(last.step) },
    { name: 'loss', value: last.loss.toPrecision(4) },
    { name: 'tokens a second', value: count(Math.round(last.tokensPerSecond)) },
    { name: `left of ${last.stage}`, value: duration(last.secondsLeft) },
  ];
  return html`<dl class="figures">${values.map(({ name, value }) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** What went otherwise than planned. */
function notes({ events }: Shown): Markup | undefined {
  const skipped = (kind: string): number => events.filter(({ event }) => event === `skipped-${kind}`).length;
  const said = [
    ...['row', 'step'].filter((kind) => skipped(kind) > 0).map((kind) => `${kind}s that were skipped: ${count(skipped(kind))}.`),
    ...events
      .filter(({ event }) => event === 'early-stop')
      .map(({ stage, step, best }) => `${stage} ended early behind step ${step}: nothing was better than step ${best}.`),
  ];
  return said.length === 0 ? undefined : html`<p class="muted">${said.join(' ')}</p>`;
}

/** The part of the page that changes. */
export function live(shown: Shown): Markup {
  const drawn = stepsOf(shown.events).length > 0 ? figures(shown.events) : undefined;
  return html`${ended(shown)}${headline(shown)}${progress(shown)}${notes(shown)}${drawn}${answers(shown.samples)}`;
}

/** The whole page; what changes comes again whenever it does. */
export const page = (title: string, content: Markup): string =>
  html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${new Markup(style + watchStyle)}</style>
</head>
<body>
<header><p class="brand">tinyllava</p><h1>${title}</h1></header>
<p id="lost" class="verdict missed" role="status" hidden><strong>The run does not answer any more; this is what it said last.</strong> When it goes on at this address, so does the page.</p>
<main id="live">${content}</main>
<p id="tip" hidden></p>
<script>${new Markup(script)}</script>
</body>
</html>
`.text;
