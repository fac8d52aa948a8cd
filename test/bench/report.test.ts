import { expect, test } from 'vitest';
import { type Benchmark, differing, type Measurement, type Round } from '../../bench/harness.ts';
import { report } from '../../bench/report.ts';

const settings = { python: 'python3', data: 'data', threads: 2, rounds: 3, patienceSeconds: 0 };
const benchmark: Benchmark = {
  name: 'steps',
  question: 'How fast?',
  variants: [['align']],
  peers: [
    { name: 'slow', how: 'padded' },
    { name: 'fast', how: 'packed' },
  ],
  metrics: [
    { name: 'throughput', unit: 'samples/s', better: 'higher', target: 2 },
    { name: 'memory', unit: 'MB', better: 'lower', target: 0.5 },
    { name: 'again', against: 'throughput', unit: 'samples/s', better: 'higher' },
  ],
};
const measurement = (metrics: Record<string, number>, check = [1]): Measurement => ({ metrics, check, versions: 'v1' });
const rounds: Round[] = [8, 6, 10].map((throughput, i) => ({
  ours: measurement({ throughput, memory: 40, again: 12 }),
  peers: new Map([
    ['slow', measurement({ throughput: 2, memory: 50 }, i === 1 ? [2] : [1])],
    ['fast', measurement({ throughput: throughput / 2, memory: 100 })],
  ]),
  disturbed: i === 0,
}));
const page = report(benchmark, [{ variant: ['align'], rounds }], settings);
const rows = page.split('\n').filter((line) => line.startsWith('| align'));

test('ours is compared with the peer whose median is best, another for each metric', () => {
  expect(rows.slice(0, 3)).toEqual([
    '| align | throughput, samples/s | 8.00 (6.00 to 10.0) | 4.00 (3.00 to 5.00), fast | **2.00 (2.00 to 2.00)** | >= 2 | yes |',
    '| align | memory, MB | 40.0 (40.0 to 40.0) | 50.0 (50.0 to 50.0), slow | **0.800 (0.800 to 0.800)** | <= 0.5 | no |',
    '| align | again, samples/s | 12.0 (12.0 to 12.0) | 4.00 (3.00 to 5.00), fast | **3.00 (2.40 to 4.00)** |  |  |',
  ]);
});

test('all peers are listed below, with what they are', () => {
  expect(rows.slice(3)).toEqual([
    '| align | throughput, samples/s | 8.00 (6.00 to 10.0) | 2.00 (2.00 to 2.00) | 4.00 (3.00 to 5.00) |',
    '| align | memory, MB | 40.0 (40.0 to 40.0) | 50.0 (50.0 to 50.0) | 100 (100 to 100) |',
  ]);
  expect(page).toContain('- slow: padded\n- fast: packed');
});

test('peers that computed something else and disturbed rounds are told', () => {
  expect(rounds.map((round) => differing(benchmark, round))).toEqual([[], ['slow'], []]);
  expect(page).toContain('**what ours computed differed from slow in 1 of 3 rounds**');
  expect(page).toContain('during 1 of them other processes');
});

test('a benchmark that names no peers has a page with one table', () => {
  const { peers: _, ...plain } = { ...benchmark, metrics: benchmark.metrics.slice(0, 2) };
  const [round] = rounds as [Round];
  const alone = { ...round, peers: new Map([['Python', round.ours]]) };
  const lines = report(plain, [{ variant: [], rounds: [alone] }], settings).split('\n');
  expect(lines.filter((line) => line.startsWith('| '))).toEqual([
    '| variant | metric | ours | Python | ratio | target | met |',
    '| - | throughput, samples/s | 8.00 (8.00 to 8.00) | 8.00 (8.00 to 8.00) | **1.00 (1.00 to 1.00)** | >= 2 | no |',
    '| - | memory, MB | 40.0 (40.0 to 40.0) | 40.0 (40.0 to 40.0) | **1.00 (1.00 to 1.00)** | <= 0.5 | no |',
  ]);
});
