/** What the page of a run adds to the style sheet. */
export const watchStyle = `
.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.6rem 2.4rem; } .charts figure:first-child { grid-column: 1 / -1; }
.plot:not(.legend + .plot) { padding-top: .8rem; }
.spot { pointer-events: none; } .spot.near { fill: currentColor; fill-opacity: .85; }
#tip { position: fixed; z-index: 1; margin: 0; padding: .15rem .55rem; border-radius: 4px; background: var(--ink); color: var(--paper); font-size: .85rem; pointer-events: none; }
.progress { list-style: none; display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem 1.6rem; margin-bottom: 1.6rem; font-weight: 600; }
.progress small { color: var(--muted); font-weight: 400; float: right; line-height: 1.8; } progress { display: block; width: 100%; height: .5rem; accent-color: var(--tone-cool); }
.verdict { white-space: pre-line; overflow-wrap: anywhere; } .muted, .where, .truth, .samples small { color: var(--muted); font-size: .88rem; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); gap: 1.6rem 2.2rem; overflow-wrap: anywhere; }
.samples article { display: grid; grid-template-columns: 6rem minmax(0, 1fr); gap: 1rem; align-items: start; } .samples p { margin: 0 0 .3rem; }
.samples article:not(:has(img)) { grid-template-columns: minmax(0, 1fr); } .pictures:empty { display: none; }
.pictures { display: grid; gap: .4rem; } .pictures img { width: 100%; height: auto; image-rendering: auto; }
.samples ol { list-style: none; margin: .4rem 0; } .samples li { border-left: 2px solid var(--rule); padding-left: .6rem; color: var(--muted); }
.samples li small { display: block; } .samples li:not(:first-child) span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }
.samples li:first-child { color: var(--ink); border-color: var(--tone-cool); font-weight: 620; } .samples li small { font-weight: 400; }
`;

/** Takes what is new from the run, unless text is selected, and shows the value that the pointer is nearest to. */
export const script = `
const [place, lost, tip] = ['live', 'lost', 'tip'].map((id) => document.getElementById(id));
const run = new EventSource('live');
let latest;
const show = () => {
  if (latest === undefined || !getSelection().isCollapsed) return;
  place.innerHTML = latest;
  latest = undefined;
};
run.onmessage = ({ data }) => {
  lost.hidden = true;
  latest = data;
  show();
  if (data.includes(' data-ended>')) run.close();
};
run.onerror = () => { lost.hidden = false; };
document.addEventListener('selectionchange', show);
const middle = (spot) => {
  const { left, top, width, height } = spot.getBoundingClientRect();
  return [left + width / 2, top + height / 2];
};
const point = ({ target, clientX, clientY }) => {
  document.querySelector('.near')?.classList.remove('near');
  const far = (spot) => Math.hypot(middle(spot)[0] - clientX, (middle(spot)[1] - clientY) / 8);
  const spots = [...(target.closest?.('.plot')?.querySelectorAll('.spot') ?? [])];
  const near = spots.reduce((best, spot) => (best && far(best) <= far(spot) ? best : spot), undefined);
  tip.hidden = !near;
  if (!near) return;
  near.classList.add('near');
  tip.textContent = near.textContent;
  const [x, y] = middle(near);
  tip.style.left = Math.max(4, Math.min(x + 10, innerWidth - tip.offsetWidth - 4)) + 'px';
  tip.style.top = Math.max(4, y - tip.offsetHeight - 12) + 'px';
};
addEventListener('pointermove', point);
addEventListener('pointerdown', point);
`;
