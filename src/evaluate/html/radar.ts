import { inUnit, type Line, toneOf } from './charts.ts';
import { html, type Markup } from './markup.ts';

/** Axes below which a radar says less than its table. */
const fewest = 3;
const [width, height, radius] = [480, 340, 112];

const round = (value: number): number => Math.round(value * 10) / 10;

/** The point at a share of the way from the middle to the end of an axis, the first axis upwards, the others clockwise. */
function at(axis: number, axes: number, share: number): readonly [number, number] {
  const angle = (2 * Math.PI * axis) / axes - Math.PI / 2;
  return [round(width / 2 + radius * share * Math.cos(angle)), round(height / 2 + radius * share * Math.sin(angle))];
}

const closed = (points: readonly (readonly [number, number])[]): string => `M${points.map((point) => point.join(' ')).join('L')}Z`;

/**
 * The headlines of runs as a radar: an axis for each benchmark from nothing in the middle to the best that can be reached, turned where less is better. A run
 * without a score on a benchmark has no corner there. Undefined for fewer than three benchmarks with scores.
 */
export function radar(lines: readonly Line[], names: readonly string[]): Markup | undefined {
  const axes = lines.filter(({ metrics }) => metrics.some((metric) => metric !== undefined));
  if (axes.length < fewest) return undefined;
  const rings = [0.25, 0.5, 0.75, 1].map(
    (share) => html`<path class="ring" d="${closed(axes.map((_, i) => at(i, axes.length, share)))}"/>`,
  );
  const spokes = axes.map((_, i) => html`<path class="ring" d="M${width / 2} ${height / 2}L${at(i, axes.length, 1).join(' ')}"/>`);
  const labels = axes.map(({ name, metrics }, i) => {
    const [x, y] = at(i, axes.length, 1.1);
    const side = Math.abs(x - width / 2) < 12 ? 'middle' : x < width / 2 ? 'end' : 'start';
    const parts = name.length > 12 ? name.split(/(?<=-)/) : [name];
    const shown = metrics.some((metric) => metric?.lowerIsBetter) ? [...parts.slice(0, -1), `${parts.at(-1)} ↓`] : parts;
    // Above the middle the last line ends at the axis, below it the first begins there, beside it they stand around it.
    const upright = (y - height / 2) / radius;
    const first = round(0.35 - ((parts.length - 1) * (1 - upright)) / 2 + upright * 0.3);
    return html`<text text-anchor="${side}" y="${y}">${shown.map((part, line) => html`<tspan x="${x}" dy="${line === 0 ? `${first}em` : '1em'}">${part}</tspan>`)}</text>`;
  });
  const shapes = names.map((name, run) => {
    const corners = axes.flatMap(({ metrics, name: axis }, i) => {
      const metric = metrics[run];
      if (!metric) return [];
      const { value, max = 1, lowerIsBetter } = metric;
      const share = Math.min(1, Math.max(0, value / max));
      return [{ point: at(i, axes.length, lowerIsBetter ? 1 - share : share), said: `${name}, ${axis}: ${inUnit(value, metric)}` }];
    });
    if (corners.length === 0) return undefined;
    return html`<g style="color:var(${toneOf(run)})"><path class="shape" d="${closed(corners.map(({ point }) => point))}"/>
${corners.map(({ point: [x, y], said }) => html`<circle cx="${x}" cy="${y}" r="3.5"><title>${said}</title></circle>`)}</g>`;
  });
  const turned = axes.some(({ metrics }) => metrics.some((metric) => metric?.lowerIsBetter));
  return html`<figure class="radar"><svg viewBox="0 0 ${width} ${height}" role="img" aria-label="The same headlines on an axis for each benchmark">
${rings}${spokes}${shapes}${labels}</svg>
<figcaption>The same headlines, from 0 in the middle to the best that can be reached at the rim${turned ? '; ↓ is turned, so that outside is better everywhere' : ''}.</figcaption></figure>`;
}
