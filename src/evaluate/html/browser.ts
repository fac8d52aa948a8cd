import { html, Markup } from './markup.ts';

/** Whether a question is shown, by the page's filters; a part of the page's script. */
export const fitsScript = `
function fits(question, { task, category, verdict, change, run, text }) {
  const answer = question.runs[run];
  if (task && question.t !== task) return false;
  if (category && question.c !== category) return false;
  if (verdict && (!answer || (verdict === 'wrong' ? answer.v === 'right' || answer.v === 'unscored' : answer.v !== verdict))) return false;
  if (change) {
    const first = question.runs[0], scores = question.runs.flatMap((one) => one?.s ?? []);
    if (change === 'changed' && scores.every((score) => score === scores[0])) return false;
    if (change === 'better' && !(first && answer && answer.s > first.s)) return false;
    if (change === 'worse' && !(first && answer && answer.s < first.s)) return false;
  }
  if (!text) return true;
  const words = text.toLowerCase();
  return [question.id, question.q, ...question.truth, ...question.runs.flatMap((one) => (one ? [one.a, one.e ?? ''] : []))].some((part) => part.toLowerCase().includes(words));
}
`;

/** Shows the questions that fit, some at a time, and keeps the filters in the page's address. */
export const browserScript = `
${fitsScript}
const { questions, images, names } = JSON.parse(document.getElementById('samples').textContent);
const form = document.getElementById('filters'), list = document.getElementById('questions'), shown = document.getElementById('shown'), more = document.getElementById('more');
const page = 30;
let limit = page, found = [];
const element = (tag, name, ...content) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...content);
  return made;
};
const words = { right: '✓ right', partly: '◐ partly right', wrong: '✗ wrong', unparsed: '? not read', failed: '! failed', unscored: '– not scored' };
function card(question) {
  const pictures = element('div', 'pictures', ...question.images.map((path) => {
    const image = images[path];
    if (!image) return element('span', 'missing', 'no picture');
    const link = element('a'), picture = element('img');
    link.href = image.href; picture.src = image.src; picture.alt = 'image of question ' + question.id; picture.loading = 'lazy';
    link.append(picture);
    return link;
  }));
  const answers = question.runs.map((answer, run) => {
    if (!answer) return element('li', '', element('span', 'run', names[run]), element('span', 'muted', 'not asked'));
    const row = element('li', answer.v, ...(names.length > 1 ? [element('span', 'run', names[run])] : []), element('span', 'verdict-' + answer.v, words[answer.v] + (answer.v === 'partly' ? ' ' + Math.round(100 * answer.s) + ' %' : '')), element('span', 'said', answer.a === '' ? '(empty)' : answer.a));
    if (answer.p !== undefined) row.append(element('span', 'muted', 'compared: ' + answer.p));
    if (answer.e !== undefined) row.append(element('span', 'muted', answer.e));
    return row;
  });
  const truth = question.truth.length > 0 ? element('p', 'truth', element('b', '', 'truth '), [...new Set(question.truth)].join(' · ')) : element('p', 'truth', 'the truth is not public');
  return element('li', question.images.length > 0 ? 'sample' : 'sample plain', ...(question.images.length > 0 ? [pictures] : []), element('div', '', element('p', 'where', question.t + ' · ' + question.c + ' · ' + question.id), element('p', 'prompt', question.q), element('ul', 'answers', ...answers), truth));
}
function filters() {
  const { task = '', category = '', verdict = '', change = '', run = '0', text = '' } = Object.fromEntries(new FormData(form));
  return { task, category, verdict, change, run: Number(run), text: text.trim() };
}
function categories(task, chosen) {
  const known = [...new Set(questions.filter((one) => !task || one.t === task).map((one) => one.c))].sort();
  form.elements.category.replaceChildren(new Option('all', ''), ...known.map((name) => new Option(name, name)));
  form.elements.category.value = known.includes(chosen) ? chosen : '';
}
function update(keep) {
  const now = filters();
  found = questions.filter((question) => fits(question, now));
  if (!keep) limit = page;
  list.replaceChildren(...found.slice(0, limit).map(card));
  const s = (n) => n.toLocaleString('en-US');
  shown.textContent = found.length === 0 ? 'No question fits.' : s(found.length) + (found.length === 1 ? ' question' : ' questions') + (found.length > limit ? ', the first ' + s(limit) + ' shown.' : '.');
  more.hidden = found.length <= limit;
  const said = new URLSearchParams(Object.entries(now).filter(([name, value]) => value && !(name === 'run' && value === 0)).map(([name, value]) => [name, String(value)]));
  try { history.replaceState(null, '', said.size ? '#' + said : location.pathname + location.search); } catch { /* pages from files may not */ }
}
const asked = new URLSearchParams(location.hash.slice(1));
categories(asked.get('task') ?? '', asked.get('category') ?? '');
for (const [name, value] of asked) if (form.elements[name]) form.elements[name].value = value;
form.addEventListener('change', ({ target }) => { if (target.name === 'task') categories(target.value, ''); update(); });
form.elements.text.addEventListener('input', () => update());
form.addEventListener('submit', (event) => event.preventDefault());
more.addEventListener('click', () => { limit += page; const first = list.children.length; update(true); list.children[first]?.querySelector('a')?.focus({ preventScroll: true }); });
update();
`;

const radio = (group: string, value: string, label: string): Markup =>
  html`<label><input type="radio" name="${group}" value="${value}"${value === '' ? html` checked` : undefined}><span>${label}</span></label>`;

/** The filters and the list, which the script fills. */
export function browserMarkup(tasks: readonly string[], names: readonly string[]): Markup {
  const several = names.length > 1;
  return html`<noscript><p>The questions are shown by a script, which this browser does not run.</p></noscript>
<form class="filters" id="filters">
<label class="field">Task <select name="task"><option value="">all</option>${tasks.map((task) => html`<option>${task}</option>`)}</select></label>
<label class="field">Category <select name="category"><option value="">all</option></select></label>
<label class="field search">Search <input type="search" name="text" placeholder="in questions, answers and truths"></label>
${several ? html`<label class="field">Run <select name="run">${names.map((name, i) => html`<option value="${i}">${name}</option>`)}</select></label>` : undefined}
<fieldset><legend>Answer</legend>${radio('verdict', '', 'all')}${radio('verdict', 'right', 'right')}${radio('verdict', 'wrong', 'wrong')}${radio('verdict', 'partly', 'partly')}${radio('verdict', 'unparsed', 'not read')}${radio('verdict', 'failed', 'failed')}${radio('verdict', 'unscored', 'not scored')}</fieldset>
${several ? html`<fieldset><legend>Against ${names[0]}</legend>${radio('change', '', 'all')}${radio('change', 'changed', 'any run differs')}${radio('change', 'better', 'this run better')}${radio('change', 'worse', 'this run worse')}</fieldset>` : undefined}
</form>
<p role="status" id="shown"></p>
<ul class="samples" id="questions"></ul>
<p><button type="button" id="more" hidden>Show more questions</button></p>`;
}

/** Data as the script reads it; nothing in it can end the element that it stands in. */
export const embedded = (id: string, data: unknown): Markup =>
  new Markup(`<script type="application/json" id="${id}">${JSON.stringify(data).replaceAll('<', '\\u003c')}</script>`);
