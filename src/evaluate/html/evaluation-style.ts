/** What the page of an evaluation adds to the style sheet. */
export const evaluationStyle = `
.evaluated .dot { width: 12px; height: 12px; margin: -6px 0 0 -6px; } .evaluated small { color: var(--muted); font-weight: 400; }
.evaluated th:first-child { min-width: 9rem; overflow-wrap: anywhere; } .evaluated .drawn { width: 34%; min-width: 12rem; }
.wide { overflow-x: auto; margin-bottom: 1rem; } .wide th, .wide td { white-space: nowrap; padding-top: .35rem; padding-bottom: .35rem; } .wide thead th, .wide th small { white-space: normal; } .wide td[colspan] { white-space: normal; }
.radar { margin: 2.2rem 0 0; max-width: 40rem; } .radar svg { display: block; width: 100%; height: auto; overflow: visible; } .radar figcaption { font-weight: 400; color: var(--muted); font-size: .88rem; }
.radar text { font-size: 12.5px; fill: var(--ink); } .ring { stroke: var(--rule); stroke-width: 1; } .shape { stroke: currentColor; fill: currentColor; fill-opacity: .07; } .radar circle { fill: currentColor; stroke: var(--paper); stroke-width: 1.5; }
.muted, .where { color: var(--muted); font-size: .88rem; } .wide + .muted { margin-bottom: .2rem; }
details { border-top: 1px solid var(--rule); padding: .7rem 0; } summary h3 { display: inline; } h4 { margin: 1.2rem 0 .4rem; font-size: .92rem; }
.notes { color: var(--muted); font-size: .92rem; margin-top: .6rem; max-width: 52rem; }
.field { display: flex; align-items: center; gap: .5rem; color: var(--muted); font-size: .88rem; }
select, .filters input[type=search] { position: static; opacity: 1; font: inherit; font-size: .95rem; color: var(--ink); background: var(--raised); border: 1px solid var(--rule); border-radius: 6px; padding: .3rem .6rem; max-width: 16rem; }
.search { flex: 1 1 16rem; } .filters .search input { flex: 1; max-width: none; min-width: 0; cursor: text; }
.samples { display: grid; gap: 0; }
.sample { display: grid; grid-template-columns: 10.5rem 1fr; gap: .4rem 1.4rem; padding: 1.1rem 0; border-top: 1px solid var(--rule); }
.sample.plain { grid-template-columns: 1fr; } .wide tr:has(th strong) { background: var(--soft); }
.pictures { display: flex; flex-wrap: wrap; gap: .4rem; align-content: start; } .pictures a { line-height: 0; }
.pictures img { max-width: 10.5rem; max-height: 10.5rem; image-rendering: auto; } .pictures a:nth-child(n+2) img, .pictures:has(a + a) img { max-width: 5rem; }
.missing { color: var(--muted); font-size: .85rem; padding: .5rem 0; }
.where { margin: 0 0 .2rem; overflow-wrap: anywhere; } .prompt { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 .6rem; max-height: 16rem; overflow-y: auto; }
.answers li { display: flex; flex-wrap: wrap; gap: .1rem .8rem; padding: .25rem .6rem; margin: 0 0 .25rem -.6rem; border-radius: 4px; align-items: baseline; }
.answers .wrong, .answers .failed { background: color-mix(in srgb, var(--tone-bad) 9%, transparent); } .answers .unparsed, .answers .partly { background: color-mix(in srgb, var(--tone-warm) 10%, transparent); }
.answers .right { background: color-mix(in srgb, var(--tone-good) 9%, transparent); } .answers li { color: var(--ink); font-weight: 400; }
.run { font-weight: 600; min-width: min(12rem, 40vw); overflow-wrap: anywhere; } .said { white-space: pre-wrap; overflow-wrap: anywhere; font-weight: 620; max-height: 14rem; overflow-y: auto; } .failed .said { font-weight: 400; }
[class^=verdict-] { font-size: .88rem; white-space: nowrap; min-width: 5.6rem; } .verdict-right { color: var(--tone-good); } .verdict-wrong, .verdict-failed { color: var(--tone-bad); } .verdict-unparsed, .verdict-partly { color: var(--tone-warm); } .verdict-unscored { color: var(--muted); }
p.truth { margin: .3rem 0 0; color: var(--muted); overflow-wrap: anywhere; } p.truth b { font-weight: 500; }
@media (max-width: 46rem) {
  .scores.evaluated .drawn { min-width: 0; width: auto; } .scores.evaluated td:not(.drawn) { grid-column: 1 / -1; font-size: .92rem; }
  .radar text { font-size: 15px; }
  .sample { grid-template-columns: 1fr; } .pictures img { max-height: 9rem; } .field { flex: 1 1 100%; } .field select { flex: 1; max-width: none; }
}
`;
