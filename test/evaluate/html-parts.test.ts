import { expect, test } from 'vitest';
import type { Results } from '../../src/evaluate/evaluate.ts';
import { headlines } from '../../src/evaluate/html/charts.ts';
import { duration, percent, short } from '../../src/evaluate/html/format.ts';
import { lineChart, logAxis, timeAxis } from '../../src/evaluate/html/line-chart.ts';
import { html } from '../../src/evaluate/html/markup.ts';
import { radar } from '../../src/evaluate/html/radar.ts';

test('a share is only said to be 100 % when nothing is missing', () => {
  expect([0, 0.0004, 0.5, 0.97349, 0.99951, 1].map(percent)).toEqual(
    ['0.0', '0.0', '50.0', '97.3', '99.9', '100.0'].map((text) => `${text}\u00a0%`),
  );
});

test('seconds are said as people say them', () => {
  expect([0.4, 59.4, 59.6, 65, 3599.6, 7380].map(duration)).toEqual([
    '0 s',
    '59 s',
    '1 min 00 s',
    '1 min 05 s',
    '1 h 00 min',
    '2 h 03 min',
  ]);
});

test('large numbers keep three digits', () => {
  expect([999, 9673, 625_056, 1_210_000, 3e9].map(short)).toEqual(['999', '9,673', '625 k', '1.21 M', '3.00 B']);
});

test('markup escapes strings, keeps markup, joins lists and leaves out what is not there', () => {
  expect(html`<p title="${'a"b'}">${['<', html`<b>${1}</b>`]}${undefined}</p>`.text).toBe('<p title="a&quot;b">&lt;<b>1</b></p>');
});

test('a time axis is marked at round times that fit beside each other', () => {
  const labels = (seconds: number): string[] => timeAxis(seconds, 'time').ticks.map(({ label }) => label);
  expect(labels(4)).toEqual(['0 s', '1 s', '2 s', '3 s', '4 s']);
  expect(labels(170)).toEqual(['0 s', '30 s', '60 s', '90 s', '120 s', '150 s']);
  expect(labels(400)).toEqual(['0 min', '2 min', '4 min', '6 min']);
  expect(labels(0)).toEqual(['0 s']);
});

test('a logarithmic axis holds all values and leaves out what a logarithm cannot show', () => {
  expect(logAxis([0.03, 1.7, 0], 'loss')).toMatchObject({ from: 0.02, to: 2 });
  expect(logAxis([0.0003, 900], 'loss').ticks.map(({ label }) => label)).toEqual(['0.001', '0.01', '0.1', '1', '10', '100', '1000']);
  expect(logAxis([1, 1], 'loss')).toMatchObject({ from: 1, to: 2 });
});

test('points are drawn where the axes say, and outside values stay inside the frame', () => {
  const chart = lineChart({
    description: 'a line',
    x: { label: 'x', from: 0, to: 10, scale: 'linear', ticks: [] },
    y: { label: 'y', from: 0.01, to: 1, scale: 'log', ticks: [] },
    series: [
      {
        name: 'line',
        tone: 'ink',
        look: 'line',
        points: [
          { x: 0, y: 1 },
          { x: 5, y: 0.1 },
          { x: 10, y: 0 },
        ],
      },
    ],
  }).text;
  expect(chart).toContain('d="M0 0L500 500L1000 1000"');
});

test('a radar has an axis for each benchmark with a score, turned where less is better, and a shape for each run', () => {
  const metric = (value: number, more: object = {}) => ({ name: 'm', value, interval: { low: 0, high: 1 }, count: 1, ...more });
  const lines = [
    { name: 'gqa', about: '', metrics: [metric(50, { max: 100 }), metric(100, { max: 100 })] },
    { name: 'mme', about: '', metrics: [metric(500, { max: 2000 }), undefined] },
    { name: 'chair', about: '', metrics: [metric(0.75, { lowerIsBetter: true }), metric(0, { lowerIsBetter: true })] },
    { name: 'mm-vet', about: '', metrics: [undefined, undefined] },
  ];
  const { text = '' } = radar(lines, ['first', 'second']) ?? {};
  expect(text).not.toContain('mm-vet');
  expect([...text.matchAll(/<title>([^<]*)/g)].map(([, said]) => said)).toEqual([
    ...['first, gqa: 50.0', 'first, mme: 500.0', 'first, chair: 75.0'],
    ...['second, gqa: 100.0', 'second, chair: 0.0'],
  ]);
  // Half, a quarter and a quarter of the way out; then all of it on both axes.
  expect([...text.matchAll(/class="shape" d="([^"]*)"/g)].map(([, path]) => path)).toEqual([
    'M240 114L264.2 184L215.8 184Z',
    'M240 58L143 226Z',
  ]);
  expect(radar(lines.slice(2), ['first', 'second'])).toBeUndefined();
});

test('headlines that profiles have different ones for are lines of their own', () => {
  const run = (name: string, heads: readonly string[]) => {
    const metrics = heads.map((head, i) => ({ name: head, value: i / 10, interval: { low: 0, high: 1 }, count: 1 }));
    return { name, results: { tasks: { pope: { metrics, samples: 6 } } } as unknown as Results };
  };
  const lines = headlines([run('a', ['mean F1', 'F1']), run('b', ['accuracy', 'F1'])]);
  expect(lines.map(({ name, about, metrics }) => [name, about, metrics.map((metric) => metric?.name)])).toEqual([
    ['pope mean F1', 'mean F1, 6 questions', ['mean F1', undefined]],
    ['pope accuracy', 'accuracy, 6 questions', [undefined, 'accuracy']],
  ]);
  expect(headlines([run('a', ['F1']), run('b', ['F1'])]).map(({ name }) => name)).toEqual(['pope']);
});
