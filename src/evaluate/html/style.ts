/** The style sheet of the report: one column of prose, wide charts, two palettes. */
export const style = `
:root {
  color-scheme: light dark;
  --paper: #fdfdfb; --raised: #ffffff; --ink: #191c1f; --muted: #59616b; --rule: #dcdcd5; --soft: #f1f1ec;
  --tone-ink: #191c1f; --tone-warm: #b8480f; --tone-cool: #0a6a96; --tone-plum: #80439b; --tone-good: #1a7446; --tone-bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131619; --raised: #1a1e22; --ink: #e9ecef; --muted: #a3abb5; --rule: #32383f; --soft: #1f242a;
    --tone-ink: #e9ecef; --tone-warm: #f5a067; --tone-cool: #63bde6; --tone-plum: #d0a2ea; --tone-good: #66cc95; --tone-bad: #ff8f84;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 66rem; padding: 0 clamp(1rem, 4vw, 2.5rem) 5rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Inter, Roboto, "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums; }
h1, h2, h3 { line-height: 1.15; text-wrap: balance; font-weight: 680; }
h1 { font-size: clamp(1.9rem, 1.2rem + 3vw, 3rem); letter-spacing: -.025em; margin: .3rem 0 1rem; }
h2 { font-size: 1.45rem; letter-spacing: -.012em; margin: 0 0 .8rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
p { margin: 0 0 1rem; max-width: 44rem; }
ul, ol, dl, dd { margin: 0; padding: 0; }
ul { list-style: none; }
header { padding-top: clamp(1.5rem, 5vw, 4rem); }
.brand { margin: 0; color: var(--tone-cool); font-weight: 650; letter-spacing: .01em; }
.lead { font-size: 1.18rem; color: var(--muted); }
section { margin-top: 4rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.2rem 2.6rem; margin: 2rem 0; }
.figures div { display: flex; flex-direction: column-reverse; justify-content: flex-end; max-width: 17rem; }
.figures dd { font-size: clamp(2rem, 1.5rem + 2vw, 2.8rem); font-weight: 680; letter-spacing: -.03em; line-height: 1.1; white-space: nowrap; }
.figures dt { color: var(--muted); font-size: .92rem; line-height: 1.4; margin-top: .25rem; }
.verdict { border-left: 4px solid; padding: .1rem 0 .1rem .9rem; }
.verdict.reached { border-color: var(--tone-good); } .verdict.missed { border-color: var(--tone-bad); }
.verdict.reached strong { color: var(--tone-good); } .verdict.missed strong { color: var(--tone-bad); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; font-size: .88rem; color: var(--muted); margin-bottom: .7rem; }
.legend li { display: flex; align-items: center; gap: .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; padding: .6rem .9rem .6rem 0; border-bottom: 1px solid var(--rule); vertical-align: middle; }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); font-weight: 500; font-size: .86rem; vertical-align: bottom; }
tbody th { font-weight: 600; } th small { display: block; color: var(--muted); font-weight: 400; } .scores th small { white-space: nowrap; }
.number { text-align: right; } .sum > * { border-bottom: 0; font-weight: 600; }
.scores td { white-space: nowrap; }
.scores .drawn { width: 40%; padding: 0 2.4rem 0 .6rem; } .scores thead .drawn { padding-bottom: .6rem; vertical-align: bottom; }
.scale { position: relative; height: 1.2em; font-size: .8rem; color: var(--muted); }
.scale span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.track { position: relative; height: 2.6rem; background: linear-gradient(var(--rule), var(--rule)) 0 50% / 100% 1px no-repeat,
  repeating-linear-gradient(90deg, var(--rule) 0 1px, transparent 1px 25%); border-right: 1px solid var(--rule); }
.track > * { position: absolute; top: 50%; }
.interval { height: 4px; margin-top: -2px; background: var(--tone-cool); }
.dot { width: 14px; height: 14px; margin: -7px 0 0 -7px; border-radius: 50%; background: var(--tone-cool); box-shadow: 0 0 0 2px var(--paper); }
.baseline { width: 11px; height: 11px; margin: -5.5px 0 0 -5.5px; border: 2px solid var(--muted); background: var(--paper); }
.baseline.b1 { border-color: var(--tone-warm); transform: rotate(45deg); } .baseline.b2 { border-color: var(--tone-plum); border-radius: 50%; }
.goal { width: 2px; height: 1.7rem; margin: -.85rem 0 0 -1px; background: var(--tone-good); }
.legend .key { position: static; margin: 0; display: inline-block; flex: none; } .legend .goal { height: 1rem; }
.charts { display: grid; gap: 2.4rem; margin-top: 1.6rem; }
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: .5rem; }
.plot { padding: 1.6rem .8rem 3.4rem 3.2rem; }
.plot > svg { display: block; width: 100%; height: 15rem; overflow: visible; }
.plot svg svg { overflow: visible; }
.plot text { font-size: .8rem; fill: var(--muted); } .plot .mark-name { font-weight: 600; fill: var(--ink); }
.grid { stroke: var(--rule); } .mark { stroke: var(--muted); stroke-dasharray: 3 3; }
path { fill: none; vector-effect: non-scaling-stroke; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
path.faint { stroke-width: 1; opacity: .3; }
.spot { fill: transparent; } .spot:hover { fill: currentColor; fill-opacity: .85; }
.swatch { width: 1.3rem; border-top: 3px solid currentColor; }
.stages { padding-left: 1.2rem; max-width: 44rem; }
.asked { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 1.6rem 1.4rem; }
.asked img { width: 100%; height: auto; aspect-ratio: 1; } .asked p { margin: .5rem 0 0; line-height: 1.35; }
img { image-rendering: pixelated; border-radius: 4px; background: var(--soft); outline: 1px solid var(--rule); outline-offset: -1px; }
.photographs img { image-rendering: auto; background: #fff; }
.answer { font-weight: 620; } .answer s { color: var(--tone-bad); } .truth { font-weight: 400; color: var(--muted); }
.right { color: var(--tone-good); } .wrong { color: var(--tone-bad); } .right, .wrong { font-weight: 700; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.flow { list-style: none; display: flex; flex-wrap: wrap; gap: .6rem 0; margin-bottom: 1.6rem; }
.flow li { display: flex; flex-direction: column; position: relative; background: var(--soft); border-radius: 6px; padding: .6rem .9rem; margin-right: 2rem; }
.flow li:not(:last-child)::after { content: "→"; position: absolute; right: -1.5rem; top: 50%; transform: translateY(-50%); color: var(--muted); }
.flow span { font-size: .86rem; color: var(--muted); } .flow li:last-child { margin-right: 0; }
.filters { display: flex; flex-wrap: wrap; gap: .8rem 2rem; margin-bottom: .8rem; }
fieldset { border: 0; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: .35rem; } legend { float: left; color: var(--muted); font-size: .88rem; padding: .35rem .4rem 0 0; }
.filters label { position: relative; cursor: pointer; } .filters input { position: absolute; opacity: 0; inset: 0; margin: 0; cursor: pointer; }
.filters label span { display: block; padding: .3rem .8rem; border: 1px solid var(--rule); border-radius: 99px; font-size: .92rem; }
.filters label:hover span { border-color: var(--muted); }
.filters input:checked + span { background: var(--ink); border-color: var(--ink); color: var(--paper); }
:focus-visible, .filters input:focus-visible + span { outline: 2px solid var(--tone-cool); outline-offset: 2px; }
[role=status] { color: var(--muted); font-size: .92rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); gap: 1.8rem 2.2rem; }
.card { display: grid; grid-template-columns: auto 1fr; gap: 1rem; align-items: start; break-inside: avoid; }
.card li[data-result="wrong"] { background: color-mix(in srgb, var(--tone-bad) 9%, transparent); border-radius: 4px; }
.card ul { font-size: .9rem; line-height: 1.45; } .card li { padding: .1rem .35rem; margin-left: -.35rem; } [hidden] { display: none !important; }
button { font: inherit; color: inherit; background: var(--soft); border: 1px solid var(--rule); border-radius: 6px; padding: .5rem 1.1rem; cursor: pointer; } button:hover { border-color: var(--muted); }
#more { margin-top: 1.6rem; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 0 3rem; }
.facts div { display: flex; justify-content: space-between; gap: 1.4rem; padding: .4rem 0; border-bottom: 1px solid var(--rule); font-size: .95rem; }
.facts dt { color: var(--muted); flex: none; } .facts dd { text-align: right; overflow-wrap: anywhere; }
pre { background: var(--soft); border-radius: 6px; padding: .9rem 1.1rem; overflow-x: auto; font-size: .86rem; line-height: 1.5; margin: 0 0 1.2rem; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
summary { cursor: pointer; margin-bottom: .7rem; }
@media (max-width: 46rem) {
  section { margin-top: 3rem; }
  .scores thead { display: none; }
  .scores tr { display: grid; grid-template-columns: 1fr auto; gap: 0 1rem; padding: .9rem 0; border-bottom: 1px solid var(--rule); }
  .scores th, .scores td { border: 0; padding: 0; } .scores td { text-align: right; }
  .scores .drawn { grid-column: 1 / -1; grid-row: 2; width: auto; padding: 0 8px; }
  .scores td:not(.drawn, [data-name="model"]) { grid-column: 1 / -1; display: flex; justify-content: space-between; font-size: .88rem; color: var(--muted); }
  .scores td:not(.drawn, [data-name="model"])::before { content: attr(data-name); }
  .scores td[data-name="model"] { grid-column: 2; grid-row: 1; font-size: 1.15rem; }
  .asked { grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
  .flow { flex-direction: column; gap: 1.5rem; } .flow li { margin: 0; } .flow li:not(:last-child)::after { content: "↓"; right: 50%; top: auto; bottom: -1.6rem; transform: none; }
  .card img { width: 64px; height: 64px; }
}
@page { margin: 15mm; }
@media print {
  .asked { grid-template-columns: repeat(5, 1fr); } .gallery { grid-template-columns: 1fr 1fr; }
  :root { --paper: #fff; --soft: #f4f4f4; --ink: #000; --muted: #444; --rule: #ccc; }
  body { max-width: none; padding: 0; font-size: 10pt; } header { padding: 0; }
  .filters, #more, [role=status] { display: none; } section { margin-top: 2rem; } h2, h3 { break-after: avoid; } figure, tr, .asked li { break-inside: avoid; }
  .dot, .interval, .baseline, .goal, .track, .flow li, pre { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
