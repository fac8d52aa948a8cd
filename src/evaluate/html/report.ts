import { accuracyChart, lossChart } from './curves.ts';
import type { ReportData, ReportFact, ReportTable } from './data.ts';
import { count, duration, percent, percentNumber, short } from './format.ts';
import { askedCards, gallery, galleryScript } from './gallery.ts';
import { html, Markup } from './markup.ts';
import { goals, scoreTable } from './scores.ts';
import { style } from './style.ts';

const facts = (list: readonly ReportFact[]): Markup =>
  html`<dl class="facts">${list.map(({ name, value }) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

function keyFigures({ scores, stages, parts }: ReportData, seconds: number): Markup {
  const all = scores[0];
  const figures: readonly (ReportFact | undefined)[] = [
    all && {
      name: `of ${count(all.count)} test questions right (95 % interval ${percentNumber(all.accuracy.low)} – ${percentNumber(all.accuracy.high)})`,
      value: percent(all.accuracy.value),
    },
    { name: `of training in ${stages.length} ${stages.length === 1 ? 'stage' : 'stages'}`, value: duration(seconds) },
    { name: 'parameters in all', value: short(parts.reduce((sum, part) => sum + part.parameters, 0)) },
  ];
  return html`<dl class="figures">${figures.map((figure) => figure && html`<div><dt>${figure.name}</dt><dd>${figure.value}</dd></div>`)}</dl>`;
}

function partTable({ parts }: ReportData): Markup {
  const all = parts.reduce((sum, { parameters }) => sum + parameters, 0);
  const rows = parts.map(
    ({ name, about, parameters }) =>
      html`<tr><th scope="row">${name} <small>${about}</small></th><td class="number">${count(parameters)}</td><td class="number">${percent(parameters / all)}</td></tr>`,
  );
  return html`<table><thead><tr><th scope="col">part</th><th scope="col" class="number">parameters</th><th scope="col" class="number">share</th></tr></thead>
<tbody>${rows}<tr class="sum"><th scope="row">all</th><td class="number">${count(all)}</td><td class="number">${percent(1)}</td></tr></tbody></table>`;
}

function numberTable({ title, about, head, rows }: ReportTable): Markup {
  const [name = '', ...columns] = head;
  const body = rows.map(
    ([row = '', ...cells]) => html`<tr><th scope="row">${row}</th>${cells.map((cell) => html`<td class="number">${cell}</td>`)}</tr>`,
  );
  return html`<h3>${title}</h3><p>${about}</p>
<table><thead><tr><th scope="col">${name}</th>${columns.map((column) => html`<th scope="col" class="number">${column}</th>`)}</tr></thead><tbody>${body}</tbody></table>`;
}

function learning(data: ReportData, seconds: number): Markup {
  const stages = data.stages.map(({ name, about }) => html`<li><strong>${name}</strong>: ${about}</li>`);
  const curve =
    data.curve.length > 1 &&
    html`<figure><figcaption>Right answers on questions held out from training, asked during the second stage</figcaption>${accuracyChart(data, seconds)}</figure>`;
  return html`<ol class="stages">${stages}</ol>
<div class="charts"><figure><figcaption>Training loss, smoothed, with its noise faint behind it</figcaption>${lossChart(data.stages, seconds)}</figure>
${curve || undefined}</div>`;
}

/** One self-contained HTML page of a run: no network, light and dark, readable without scripts. */
export function report(data: ReportData): string {
  const seconds = Math.max(0, ...data.stages.map(({ losses }) => losses.at(-1)?.seconds ?? 0));
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${data.title}</title>
<style>${new Markup(style)}</style>
</head>
<body${data.photographs ? html` class="photographs"` : undefined}>
<header>
<p class="brand">tinyllava</p>
<h1>${data.title}</h1>
<p class="lead">${data.summary}</p>
${keyFigures(data, seconds)}
${goals(data.scores)}
</header>
<main>
${data.asked.length > 0 ? html`<section aria-labelledby="asked"><h2 id="asked">Asked after training</h2><p>Questions about images that the training never saw, drawn by the seed before anything was known about the answers.</p>${askedCards(data)}</section>` : undefined}
<section aria-labelledby="scores"><h2 id="scores">Right answers by question type</h2>
${scoreTable(data.scores)}${data.tables?.map(numberTable)}</section>
${data.stages.length > 0 ? html`<section aria-labelledby="learning"><h2 id="learning">How it learned</h2>${learning(data, seconds)}</section>` : undefined}
<section aria-labelledby="model"><h2 id="model">The model</h2>
<ol class="flow">${data.flow.map(({ name, value }) => html`<li><strong>${name}</strong><span>${value}</span></li>`)}</ol>
${partTable(data)}</section>
${data.samples.length > 0 ? html`<section aria-labelledby="images"><h2 id="images">Test images</h2>${gallery(data)}</section>` : undefined}
<section aria-labelledby="run"><h2 id="run">The run</h2>
<div class="two"><div><h3>Data and training</h3>${facts(data.facts)}</div><div><h3>Environment</h3>${facts(data.environment)}</div></div>
<h3>Repeat it</h3><pre tabindex="0"><code>${data.reproduce}</code></pre>
<details><summary>The whole recipe, defaults included</summary><pre tabindex="0"><code>${data.recipe}</code></pre></details></section>
</main>
${data.samples.length > 0 ? html`<script>${new Markup(galleryScript)}</script>` : undefined}
</body>
</html>
`;
  return page.text;
}
