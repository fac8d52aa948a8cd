import { expect, test } from 'vitest';
import { type Cluster, collectiveSeconds, gpus, ringBandwidth, sentBytes } from '../../scripts/scaling/cluster.ts';

const cluster: Cluster = { gpu: { ...gpus.h100, nvlink: 100e9 }, gpusPerNode: 2, cards: 1, cardBits: 80e9 };

test('rings pass on what a rank does not have, twice for sums', () => {
  expect((['all-reduce', 'all-gather', 'reduce-scatter'] as const).map((kind) => sentBytes(kind, 800, 4))).toEqual([1200, 600, 600]);
});

test('a ring is as quick as NVLink, or as all cards of a node give 85 %', () => {
  expect(ringBandwidth(cluster, 2)).toBe(100e9);
  expect(ringBandwidth(cluster, 4)).toBe(8.5e9);
  expect(ringBandwidth({ ...cluster, cards: 20 }, 4)).toBe(100e9);
});

test('a collective takes its base, its hops and its bytes', () => {
  // Two GPUs of a node: one hop of 3.4 µs, half of the bytes.
  expect(collectiveSeconds(cluster, 'all-gather', 1e9, 2)).toBeCloseTo(8.4e-6 + 3.4e-6 + 0.5e9 / 100e9, 12);
  // Four of two nodes: three steps, in each of which half of the hops are of the network; on average 8.7 µs.
  expect(collectiveSeconds(cluster, 'reduce-scatter', 1e9, 4)).toBeCloseTo(8.4e-6 + 3 * 8.7e-6 + 0.75e9 / 8.5e9, 12);
  // A sum takes the tree: up and down two hops within the node and one between the two.
  expect(collectiveSeconds(cluster, 'all-reduce', 0, 4)).toBeCloseTo(8.4e-6 + 2 * (2 * 3.4e-6 + 14e-6), 12);
  expect(collectiveSeconds(cluster, 'all-reduce', 1e9, 1)).toBe(0);
});
