import { count } from '../../evaluate/html/format.ts';
import { html, type Markup } from '../../evaluate/html/markup.ts';

/** What a model answered in the middle of training, beside what the data says. */
export interface TrainingSample {
  readonly stage: string;
  readonly step: number;
  /** The row that asks, as messages name it. */
  readonly row: string;
  readonly question: string;
  /** Small copies of the row's images, by their names in the run's folder of them. */
  readonly images: readonly string[];
  readonly answer: string;
  readonly truth: string;
}

const shownAnswers = 6;

/** The answers of one row, those of a stretch of steps that are equal as one; a resumed run gives some twice. */
function stretches(samples: readonly TrainingSample[]): TrainingSample[] {
  const steps = [...new Map(samples.map((sample) => [sample.step, sample])).values()].sort((a, b) => a.step - b.step);
  return steps.filter(({ answer }, i) => answer !== steps[i - 1]?.answer);
}

function card(samples: readonly TrainingSample[]): Markup {
  const [first] = samples;
  if (!first) return html``;
  const images = first.images.map((name) => html`<img src="images/${name}" alt="">`);
  const question = images.length > 0 ? first.question.replaceAll('<image>', '').trim() : first.question;
  const answers = stretches(samples).slice(-shownAnswers).reverse();
  const lines = answers.map(
    ({ step, answer }) => html`<li><small>from step ${count(step)}</small><span>${answer === '' ? '(nothing)' : answer}</span></li>`,
  );
  return html`<article><div class="pictures">${images}</div><div><p class="where">${first.row}</p><p class="question">${question}</p>
<ol>${lines}</ol><p class="truth">in the data: ${first.truth}</p></div></article>`;
}

/** What the model answers, row by row, the newest answer and the last stage first. */
export function answers(samples: readonly TrainingSample[]): Markup | undefined {
  if (samples.length === 0) return undefined;
  const stages = [...new Set(samples.map(({ stage }) => stage))].reverse().map((name) => {
    const own = samples.filter(({ stage }) => stage === name);
    const rows = [...new Set(own.map(({ row }) => row))].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    return html`<h3>${name}</h3><div class="samples">${rows.map((row) => card(own.filter((sample) => sample.row === row)))}</div>`;
  });
  return html`<section><h2>Answers on the way</h2>${stages}</section>`;
}
