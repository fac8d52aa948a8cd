import type { ReportScore } from './data.ts';
import { count, percent, percentNumber } from './format.ts';
import { html, type Markup } from './markup.ts';

const place = (share: number): string => `${(100 * share).toFixed(2)}%`;

/** One line per goal: what was wanted, what was reached, and whether that is enough. */
export function goals(scores: readonly ReportScore[]): Markup | undefined {
  const set = scores.flatMap(({ name, accuracy, goal }) => (goal === undefined ? [] : [{ name, goal, reached: accuracy.value }]));
  if (set.length === 0) return undefined;
  const missed = set.filter(({ goal, reached }) => reached < goal);
  const named = (list: typeof set): string =>
    list.map(({ name, goal, reached }) => `${name} ${percent(reached)} (goal ${Number(percentNumber(goal))}\u00a0%)`).join(', ');
  return missed.length === 0
    ? html`<p class="verdict reached"><strong>Every goal is reached.</strong> ${named(set)}.</p>`
    : html`<p class="verdict missed"><strong>${missed.length === set.length ? 'No goal is reached.' : 'Not every goal is reached.'}</strong> Missed: ${named(missed)}.${missed.length < set.length ? ` Reached: ${named(set.filter(({ goal, reached }) => reached >= goal))}.` : ''}</p>`;
}

/** A table of scores by question type with a drawn column: the model's share with its interval, the baselines and the goal on one scale. */
export function scoreTable(scores: readonly ReportScore[]): Markup {
  const baselines = [...new Set(scores.flatMap((score) => Object.keys(score.baselines)))];
  const goal = scores.some((score) => score.goal !== undefined);
  const rows = scores.map((score) => {
    const { name, accuracy } = score;
    const others = baselines.flatMap((baseline, index) => {
      const share = score.baselines[baseline];
      return share === undefined
        ? []
        : [html`<span class="baseline b${index}" style="left:${place(share)}" title="${baseline}: ${percent(share)}"></span>`];
    });
    return html`<tr role="row">
<th role="rowheader" scope="row">${name} <small>${count(score.count)} questions</small></th>
<td role="cell" class="drawn" aria-hidden="true"><div class="track">
${score.goal === undefined ? undefined : html`<span class="goal" style="left:${place(score.goal)}" title="goal: ${percent(score.goal)}"></span>`}${others}
<span class="interval" style="left:${place(accuracy.low)};right:${place(1 - accuracy.high)}"></span>
<span class="dot" style="left:${place(accuracy.value)}" title="${name}: ${percent(accuracy.value)}, 95 % interval ${percentNumber(accuracy.low)} to ${percent(accuracy.high)}"></span>
</div></td>
<td role="cell" data-name="model"><strong>${percent(accuracy.value)}</strong></td>
<td role="cell" data-name="95 % interval">${percentNumber(accuracy.low)} – ${percentNumber(accuracy.high)}</td>
${baselines.map((baseline) => html`<td role="cell" data-name="${baseline}">${score.baselines[baseline] === undefined ? '–' : percent(score.baselines[baseline])}</td>`)}
${goal ? html`<td role="cell" data-name="goal">${score.goal === undefined ? '–' : percent(score.goal)}</td>` : undefined}
</tr>`;
  });
  return html`<ul class="legend">
<li><span class="key dot"></span>model, bar = 95 % interval</li>
${baselines.map((baseline, index) => html`<li><span class="key baseline b${index}"></span>${baseline}</li>`)}
${goal ? html`<li><span class="key goal"></span>goal</li>` : undefined}
</ul>
<table class="scores" role="table"><thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">question type</th><td role="cell" class="drawn" aria-hidden="true"><div class="scale">${[0, 25, 50, 75, 100].map((at) => html`<span style="left:${at}%">${at === 100 ? '100 %' : at}</span>`)}</div></td>
<th role="columnheader" scope="col">model</th><th role="columnheader" scope="col">95 % interval</th>${baselines.map((baseline) => html`<th role="columnheader" scope="col">${baseline}</th>`)}${goal ? html`<th role="columnheader" scope="col">goal</th>` : undefined}</tr></thead>
<tbody role="rowgroup">${rows}</tbody></table>`;
}
