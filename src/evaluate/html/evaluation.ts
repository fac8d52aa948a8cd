import { type Comparison, compareRuns, unlike, whyNotCompared } from '../compare.ts';
import { countAsWrong, madeWith, notRead, remarks, saidNothing } from '../facts.ts';
import { hallucinationTable } from '../hallucination.ts';
import { besidePublished } from '../published-results.ts';
import { browsed } from './browsed.ts';
import { browserMarkup, browserScript, embedded } from './browser.ts';
import { drawnScores, headlines, metricLines, runLegend, tasksOf } from './charts.ts';
import { evaluationStyle } from './evaluation-style.ts';
import { count } from './format.ts';
import { markdownTable } from './markdown-table.ts';
import { html, Markup } from './markup.ts';
import { radar } from './radar.ts';
import type { Run } from './runs.ts';
import { style } from './style.ts';
import { thumbnails } from './thumbnails.ts';

/** One self-contained HTML page of one evaluation or of several side by side, to be written into `folder`: no network, light and dark. */
export async function evaluationPage(runs: readonly Run[], folder: string): Promise<string> {
  const names = runs.map(({ name }) => name);
  const tasks = tasksOf(runs.map(({ results }) => results));
  const { questions, all } = browsed(runs);
  const images = await thumbnails(
    questions.flatMap((question) => question.images),
    folder,
  );
  const title = runs.length === 1 ? `Evaluation of ${names[0]}` : `${runs.length} evaluations side by side`;
  const asked = tasks.reduce((sum, task) => sum + Math.max(...runs.map(({ results }) => results.tasks[task]?.samples ?? 0)), 0);
  const scored = runs.flatMap(({ results }) => Object.values(results.tasks)).filter(({ unscored }) => unscored === undefined);
  const failed = scored.reduce((sum, { failures }) => sum + failures, 0);
  const answers = runs.length === 1 ? '' : ` of ${count(scored.reduce((sum, { samples }) => sum + samples, 0))} answers`;
  const profiles = [...new Set(runs.map(({ results }) => results.settings.profile))];
  const alike = runs.every(({ results }) => results.settings.limit === runs[0]?.results.settings.limit);
  const limited = runs
    .slice(0, alike ? 1 : undefined)
    .flatMap(({ name, results: { settings } }) =>
      settings.limit === undefined ? [] : [`; only the first ${count(settings.limit)} of each${alike ? '' : ` in ${name}`}`],
    );
  const heads = headlines(runs);
  const section = (id: string, heading: string, content: Markup): Markup =>
    html`<section aria-labelledby="${id}"><h2 id="${id}">${heading}</h2>\n${content}</section>`;
  const part =
    questions.length === all
      ? undefined
      : html`<p>${count(questions.length)} of ${count(all)} questions are in this page: those that runs differ on, that failed or were not read, then wrong ones, then right ones, evenly from the whole set. All are in samples_TASK.jsonl.</p>`;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<style>${new Markup(style + evaluationStyle)}</style>
</head>
<body>
<header>
<p class="brand">tinyllava</p>
<h1>${title}</h1>
<p class="lead">${count(asked)} questions of ${tasks.length === 1 ? `the benchmark ${tasks[0]}` : `${tasks.length} benchmarks`}, profile ${profiles.join(' and ')}${limited}${failed === 0 ? '' : `; ${count(failed)}${answers} failed and ${countAsWrong(failed)}`}.</p>
</header>
<main>
${section('scores', 'Scores', html`${runLegend(names)}${drawnScores('benchmark', heads, names)}${radar(heads, names)}`)}
${hallucination(runs)}
${runs.length > 1 ? section('differences', `Against ${names[0]}, question by question`, differences(runs)) : undefined}
${section('parts', 'Breakdown', html`${tasks.map((task, i) => breakdown(task, runs, i === 0))}`)}
${questions.length > 0 ? section('questions-heading', 'Questions', html`${part}${browserMarkup(tasks, names)}`) : undefined}
${published(runs)}
${section('run', runs.length === 1 ? 'The run' : 'The runs', html`${runs.map(facts)}`)}
</main>
${questions.length > 0 ? html`${embedded('samples', { names, images, questions })}\n<script>${new Markup(browserScript)}</script>` : undefined}
</body>
</html>
`;
  return page.text;
}

function hallucination(runs: readonly Run[]): Markup | undefined {
  const table = hallucinationTable(Object.fromEntries(runs.map(({ name, results }) => [name, results])));
  if (table === undefined) return undefined;
  return html`<section aria-labelledby="hallucination"><h2 id="hallucination">Hallucination</h2>${markdownTable(table)}</section>`;
}

/** Published results below the runs, in one table for those that have the same columns. */
function published(runs: readonly Run[]): Markup | undefined {
  const tables = new Map<string, { own: string[]; rule: string; rest: string[] }>();
  for (const { name, results } of runs) {
    const [head = '', rule = '', own = '', ...rest] = besidePublished(results, name)?.split('\n') ?? [];
    if (own === '') continue;
    const table = tables.get(head) ?? { own: [], rule, rest };
    table.own.push(own);
    tables.set(head, table);
  }
  if (tables.size === 0) return undefined;
  const shown = [...tables].map(([head, { own, rule, rest }]) => markdownTable([head, rule, ...own, ...rest].join('\n')));
  return html`<section aria-labelledby="published"><h2 id="published">Beside published results</h2>${shown}</section>`;
}

function breakdown(task: string, runs: readonly Run[], open: boolean): Markup {
  const named = runs.map(({ name, results }) => ({ name, result: results.tasks[task] }));
  const notes = named.flatMap(({ name, result }) => {
    if (!result) return [];
    const { failures, firstFailure, empty = 0, unparsed = 0, unscored, judge, detectableDifference: least, baselines } = result;
    const base = Object.entries(baselines).flatMap(([baseline, [metric]]) =>
      metric ? [`${baseline} ${(100 * metric.value).toFixed(1)}`] : [],
    );
    const said = [
      unscored !== undefined && `no scores: ${unscored}`,
      failures > 0 && `${count(failures)} failed, the first because ${firstFailure}`,
      empty > 0 && saidNothing(empty),
      unparsed > 0 && notRead(result),
      ...remarks(result),
      judge && `judged by ${judge.model}`,
      base.length > 0 && `without looking: ${base.join(', ')}`,
      !!least &&
        `two mean scores, of 100 a question, that differ by less than ${(100 * least).toFixed(1)} are seldom told apart on these questions`,
    ].filter((one) => typeof one === 'string');
    return said.length === 0 ? [] : [html`<li>${runs.length > 1 ? html`<b>${name}</b>: ` : undefined}${said.join('; ')}.</li>`];
  });
  const names = runs.map(({ name }) => name);
  const lines = metricLines(named);
  return html`<details${open ? html` open` : undefined}><summary><h3>${task}</h3></summary>
${lines.length > 0 ? drawnScores('score', lines, names) : undefined}<ul class="notes">${notes}</ul></details>`;
}

/** Every further run against the first, on the questions of each task that both have. */
function differences(runs: readonly Run[]): Markup {
  const [first, ...others] = runs;
  if (!first) return html``;
  const signed = (share: number): string => `${share > 0 ? '+' : ''}${(100 * share).toFixed(2)}`;
  const rows = others.flatMap((other) =>
    Object.keys(first.samples).flatMap((task) => {
      const compared = comparison(first, other, task);
      if (compared === undefined) return [];
      if (typeof compared === 'string')
        return [html`<tr><th scope="row">${task} <small>${other.name}</small></th><td colspan="5">${compared}</td></tr>`];
      const { samples, mean, rightOrWrong, better, worse } = compared;
      const pValue = rightOrWrong?.pValue ?? mean.pValue;
      return [
        html`<tr><th scope="row">${task} <small>${other.name}, ${count(samples)} questions</small></th><td class="number">${signed(mean.difference)}</td><td class="number">${signed(mean.interval.low)} to ${signed(mean.interval.high)}</td><td class="number">${count(better.length)}</td><td class="number">${count(worse.length)}</td><td class="number">${pValue < 0.05 ? html`<strong>${pValue.toPrecision(2)}</strong>` : pValue.toPrecision(2)}</td></tr>`,
      ];
    }),
  );
  const heads = ['mean score, of 100', '95 % interval', 'better', 'worse', 'p'].map(
    (head) => html`<th scope="col" class="number">${head}</th>`,
  );
  const apart = others.flatMap((other) => {
    const clauses = new Set(
      Object.keys(first.samples).flatMap((task) => (other.samples[task] ? unlike(task, first.results, other.results) : [])),
    );
    return clauses.size === 0
      ? []
      : [html`<p class="muted"><b>${other.name}</b> differs from ${first.name} in more than the model: ${[...clauses].join('; ')}.</p>`];
  });
  return html`<div class="wide"><table><thead><tr><th scope="col">benchmark</th>${heads}</tr></thead><tbody>${rows}</tbody></table></div>
${apart}<p class="muted">p by McNemar's test where answers are right or wrong and each is about an image of its own, else by turning the two runs around at random, image by image; the filters below find the questions that changed.</p>`;
}

function comparison(first: Run, other: Run, task: string): Comparison | string | undefined {
  const [before, after] = [first.samples[task], other.samples[task]];
  if (!before || !after) return undefined;
  const why = whyNotCompared(task, [first.results, other.results]);
  if (why !== undefined) return why;
  try {
    return compareRuns(before, after);
  } catch (error) {
    return (error as Error).message;
  }
}

function facts({ name, results }: Run): Markup {
  const { template } = results.settings;
  const tasks = Object.entries(results.tasks).map(
    ([
      task,
      { dataSha256, firstPrompt, maxNewTokens, stop },
    ]) => html`<h4>${task}</h4><dl class="facts"><div><dt>data, SHA-256</dt><dd>${dataSha256}</dd></div>
<div><dt>most tokens of an answer</dt><dd>${maxNewTokens}</dd></div>${stop ? html`<div><dt>ends at</dt><dd>${JSON.stringify(stop)}</dd></div>` : undefined}</dl>
${firstPrompt === undefined ? undefined : html`<pre tabindex="0"><code>${firstPrompt}</code></pre>`}`,
  );
  return html`<details><summary><h3>${name}</h3></summary><dl class="facts">${madeWith(results).map(([fact, value]) => html`<div><dt>${fact}</dt><dd>${value}</dd></div>`)}</dl>
${template === undefined ? undefined : html`<h4>chat template</h4><pre tabindex="0"><code>${String(template)}</code></pre>`}${tasks}</details>`;
}
