import type { ReportData, ReportSample } from './data.ts';
import { count } from './format.ts';
import { html, type Markup } from './markup.ts';

const picture = ({ images }: ReportData, name: string, side: number): Markup =>
  html`<img src="${images[name] ?? ''}" alt="test image ${name.slice(name.lastIndexOf('/') + 1)}" width="${side}" height="${side}" loading="lazy">`;

const verdict = (correct: boolean): Markup =>
  html`<span class="${correct ? 'right' : 'wrong'}"><span aria-hidden="true">${correct ? '✓' : '✗'}</span><span class="unseen">${correct ? 'right' : 'wrong'}</span></span>`;

function answer({ answer, truth, correct }: ReportSample): Markup {
  return correct
    ? html`<span class="answer">${answer}</span>`
    : html`<span class="answer"><s>${answer}</s> <span class="truth">truth: ${truth}</span></span>`;
}

/** A few questions, each with its large image. */
export function askedCards(data: ReportData): Markup {
  const cards = data.asked.map(
    (sample) => html`<li>${picture(data, sample.image, 192)}
<p class="question">${sample.question}</p><p>${verdict(sample.correct)} ${answer(sample)}</p></li>`,
  );
  return html`<ul class="asked">${cards}</ul>`;
}

/** Test images, each with its questions, answers and truths, and controls that filter them by question type and by right or wrong. */
export function gallery(data: ReportData): Markup {
  const byImage = group(data.samples);
  const types = [...new Set([...data.scores.map(({ name }) => name), ...data.samples.map(({ type }) => type)])].filter((name) =>
    data.samples.some(({ type }) => type === name),
  );
  const cards = [...byImage].map(([name, samples]) => {
    const rows = samples.map(
      (sample) =>
        html`<li data-type="${sample.type}" data-result="${sample.correct ? 'right' : 'wrong'}">${verdict(sample.correct)} <span class="question">${sample.question}</span> ${answer(sample)}</li>`,
    );
    return html`<li class="card">${picture(data, name, 96)}<ul>${rows}</ul></li>`;
  });
  const choice = (group: string, value: string, label: string): Markup =>
    html`<label><input type="radio" name="${group}" value="${value}"${value === '' ? html` checked` : undefined}><span>${label}</span></label>`;
  const wrong = data.samples.filter(({ correct }) => !correct).length;
  return html`<p>${count(byImage.size)} of the ${count(data.imagesInAll)} test images with all their questions: ${data.drawn}.</p>
<form class="filters" id="filters">
<fieldset><legend>Question type</legend>${choice('type', '', 'all')}${types.map((type) => choice('type', type, type))}</fieldset>
<fieldset><legend>Answer</legend>${choice('result', '', 'all')}${choice('result', 'right', `right (${count(data.samples.length - wrong)})`)}${choice('result', 'wrong', `wrong (${count(wrong)})`)}</fieldset>
</form>
<p role="status" id="shown">${count(data.samples.length)} questions on ${count(byImage.size)} images.</p>
<ul class="gallery" id="gallery">${cards}</ul>
<p><button type="button" id="more" hidden>Show more images</button></p>`;
}

function group(samples: readonly ReportSample[]): Map<string, ReportSample[]> {
  const groups = new Map<string, ReportSample[]>();
  for (const sample of samples) groups.set(sample.image, [...(groups.get(sample.image) ?? []), sample]);
  return groups;
}

/** Filters the gallery and shows it piece by piece; without scripts everything is shown. */
export const galleryScript = `
const form = document.getElementById('filters'), more = document.getElementById('more'), shown = document.getElementById('shown');
const cards = [...document.querySelectorAll('#gallery > .card')];
const page = 24;
let limit = page;
function update() {
  const { type, result } = Object.fromEntries(new FormData(form));
  let questions = 0, images = 0;
  for (const card of cards) {
    let fits = 0;
    for (const row of card.querySelectorAll('li')) {
      row.hidden = !((!type || row.dataset.type === type) && (!result || row.dataset.result === result));
      if (!row.hidden) fits++;
    }
    if (fits) images++;
    card.hidden = !fits || images > limit;
    questions += fits;
  }
  const s = (n, word) => n.toLocaleString('en-US') + ' ' + word + (n === 1 ? '' : 's');
  shown.textContent = questions ? s(questions, 'question') + ' on ' + s(images, 'image') + (images > limit ? ', the first ' + limit + ' images shown.' : '.') : 'No question fits.';
  more.hidden = images <= limit;
}
form.addEventListener('change', () => { limit = page; update(); });
form.addEventListener('submit', (event) => event.preventDefault());
more.addEventListener('click', () => {
  const next = cards.filter((card) => !card.hidden).length;
  limit += page; update();
  cards.filter((card) => !card.hidden)[next]?.scrollIntoView({ block: 'nearest' });
});
update();
`;
