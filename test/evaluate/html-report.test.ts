import { expect, test } from 'vitest';
import type { ReportData, ReportSample } from '../../src/evaluate/html/data.ts';
import { report } from '../../src/evaluate/html/report.ts';

const pixel = 'data:image/png;base64,iVBORw0KGgo=';
const sample = (facts: Partial<ReportSample>): ReportSample => ({
  image: '0.png',
  question: 'is there a circle?',
  answer: 'yes',
  truth: 'yes',
  type: 'yes/no',
  correct: true,
  ...facts,
});
const losses = (count: number, start: number): ReportData['stages'][number]['losses'] =>
  Array.from({ length: count }, (_, index) => ({ step: index + 1, seconds: start + index + 1, loss: 2 / (index + 1) }));

const data: ReportData = {
  title: 'A run',
  summary: 'What was done.',
  scores: [
    {
      name: 'all',
      count: 4,
      correct: 3,
      accuracy: { value: 0.75, low: 0.301, high: 0.954 },
      baselines: { 'text only': 0.5, 'majority answer': 0.25 },
      goal: 0.7,
    },
    {
      name: 'shape',
      count: 2,
      correct: 1,
      accuracy: { value: 0.5, low: 0.095, high: 0.905 },
      baselines: { 'text only': 0.5, 'majority answer': 0.5 },
      goal: 0.97,
    },
    { name: 'yes/no', count: 2, correct: 2, accuracy: { value: 1, low: 0.342, high: 1 }, baselines: { 'text only': 0.5 } },
  ],
  stages: [
    { name: 'align', about: 'captions', losses: losses(100, 0) },
    { name: 'instruct', about: 'questions', losses: losses(3000, 100) },
  ],
  curve: [
    { seconds: 110, scores: { all: 0.4, shape: 0.3 } },
    { seconds: 3100, scores: { all: 0.75, shape: 0.5 } },
  ],
  asked: [sample({})],
  samples: [
    sample({}),
    sample({ question: 'what shape is <this> & "that"?', answer: 'circle', truth: 'triangle', type: 'shape', correct: false }),
  ],
  imagesInAll: 1000,
  drawn: '1 drawn at random',
  images: { '0.png': pixel },
  flow: [{ name: 'image', value: '64 × 64 pixels' }],
  parts: [
    { name: 'vision tower', about: 'a tower', parameters: 1_000_000 },
    { name: 'language model', about: 'a Llama', parameters: 3_000_000 },
  ],
  facts: [{ name: 'training questions', value: '38,575' }],
  environment: [{ name: 'seed', value: '0' }],
  recipe: 'seed: 0\n',
  reproduce: 'npm run quickstart',
};
const page = report(data);
const text = (html: string): string =>
  html.replace(/<style>.*?<\/style>|<script>.*?<\/script>|<[^>]+>/gs, ' ').replace(/[\s\u00a0]+/g, ' ');
const matches = (pattern: RegExp): string[] => [...page.matchAll(pattern)].map(([, found = '']) => found);

test('the page is whole in itself: nothing in it points to another file or to the network', () => {
  expect(matches(/\b(?:src|href|action)="([^"]*)"/g).filter((target) => !target.startsWith('data:'))).toEqual([]);
  expect(page).not.toMatch(/@import|url\(|https?:|fetch\(|<link/);
});

test('a missed goal is said in plain words beside those that are reached', () => {
  expect(text(page)).toContain('Not every goal is reached. Missed: shape 50.0 % (goal 97 %). Reached: all 75.0 % (goal 70 %).');
  const reached = report({ ...data, scores: data.scores.slice(0, 1) });
  expect(text(reached)).toContain('Every goal is reached. all 75.0 % (goal 70 %).');
  const none = report({ ...data, scores: data.scores.slice(1) });
  expect(text(none)).toContain('No goal is reached. Missed: shape 50.0 % (goal 97 %).');
});

test('every score stands in the table with its interval, its baselines and its goal', () => {
  const rows = matches(/<tr role="row">\s*<th role="rowheader"(.*?)<\/tr>/gs).map((row) => text(`<th ${row}`).trim());
  expect(rows).toEqual([
    'all 4 questions 75.0 % 30.1 – 95.4 50.0 % 25.0 % 70.0 %',
    'shape 2 questions 50.0 % 9.5 – 90.5 50.0 % 50.0 % 97.0 %',
    'yes/no 2 questions 100.0 % 34.2 – 100.0 50.0 % – –',
  ]);
});

test('what questions and answers contain is text and never markup', () => {
  expect(page).toContain('what shape is &lt;this&gt; &amp; &quot;that&quot;?');
  expect(page).not.toContain('<this>');
});

test('samples carry what the filters need, and their result in words for those who do not see the mark', () => {
  expect(matches(/<li (data-type="[^>]*)>/g)).toEqual(['data-type="yes/no" data-result="right"', 'data-type="shape" data-result="wrong"']);
  expect(text(page)).toContain('✗ wrong what shape is &lt;this&gt; &amp; &quot;that&quot;? circle truth: triangle');
});

test('images and charts have a text alternative, and headings do not skip a level', () => {
  expect(page.match(/<img(?![^>]* alt="[^"]+")/)).toBeNull();
  expect(page.match(/<svg(?![^>]* (?:aria-label="[^"]+"|viewBox))/)).toBeNull();
  const levels = matches(/<h([1-6])/g).map(Number);
  expect(levels.every((level, index) => level <= (levels[index - 1] ?? 0) + 1)).toBe(true);
  expect(levels.filter((level) => level === 1)).toHaveLength(1);
});

test('opened tags are closed in order', () => {
  const open: string[] = [];
  const empty = ['meta', 'img', 'input', 'line', 'path', 'br'];
  const body = page.replace(/<!doctype html>|<script>.*?<\/script>/gs, '');
  for (const [tag, closing, name = ''] of body.matchAll(/<(\/?)([a-z][a-z0-9]*)[^>]*>/g)) {
    if (closing === '/') expect(open.pop()).toBe(name);
    else if (!empty.includes(name) && !tag.endsWith('/>')) open.push(name);
  }
  expect(open).toEqual([]);
});

test('a long run is thinned to a page of readable size, and a run without training or samples still makes a page', () => {
  expect(page.length).toBeLessThan(60_000);
  const bare = report({ ...data, stages: [], curve: [], samples: [], asked: [] });
  expect(text(bare)).toContain('Right answers by question type');
  expect(bare).not.toMatch(/How it learned|Test images|NaN|undefined|<script>/);
});
