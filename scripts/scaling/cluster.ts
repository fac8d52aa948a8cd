/** A kind of GPU, from its data sheet. */
export interface Gpu {
  readonly name: string;
  /** Dense products in bfloat16, flops a second. */
  readonly peak: number;
  readonly memoryBytes: number;
  /** Of its memory, bytes a second. */
  readonly bandwidth: number;
  /** What a ring over NVLink reaches in one direction, bytes a second. */
  readonly nvlink: number;
}

// NVLink as nccl-tests measures it (busbw): A100 about 230 GB/s (NVIDIA/nccl-tests issues 119 and 149), H100 370 GB/s without SHARP (issue 212).
const a100 = { peak: 312e12, bandwidth: 1.555e12, nvlink: 230e9 };
export const gpus = {
  'a100-40g': { name: 'A100-40G', ...a100, memoryBytes: 40e9 },
  'a100-80g': { name: 'A100-80G', ...a100, bandwidth: 2.039e12, memoryBytes: 80e9 },
  h100: { name: 'H100', peak: 989e12, bandwidth: 3.35e12, nvlink: 370e9, memoryBytes: 80e9 },
} as const satisfies Record<string, Gpu>;

/** GPUs in nodes of 8, each node with so many network cards. */
export interface Cluster {
  readonly gpu: Gpu;
  readonly gpusPerNode: number;
  readonly cards: number;
  /** Of a card, bits a second. */
  readonly cardBits: number;
}

/** What the network gives of its nominal rate: 84.8 of 100 GB/s (NVIDIA/nccl-tests issue 119). */
const networkShare = 0.85;

// Seconds that NCCL's own model counts for a collective and for each hop of rings (src/graph/tuning.cc, Simple); trees hop alike.
const [base, nvlinkHop, networkHop] = [8.4e-6, 3.4e-6, 14e-6];

/** A collective over N GPUs of a tensor of so many bytes; what is gathered or scattered counts as a whole. */
export type Collective = 'all-reduce' | 'all-gather' | 'reduce-scatter';

/** Bytes that each rank sends: rings pass on (N - 1) / N of the tensor, twice for sums. */
export const sentBytes = (kind: Collective, bytes: number, ranks: number): number =>
  ((kind === 'all-reduce' ? 2 : 1) * bytes * (ranks - 1)) / ranks;

/** Bytes a second that a ring passes through each GPU: that of NVLink, or of all cards of a node together where rings leave it. */
export function ringBandwidth({ gpu, gpusPerNode, cards, cardBits }: Cluster, ranks: number): number {
  return ranks <= gpusPerNode ? gpu.nvlink : Math.min(gpu.nvlink, (networkShare * cards * cardBits) / 8);
}

/** Seconds of a collective: the latency of its hops and its bytes. An all-reduce goes along trees where rings would be too long. */
export function collectiveSeconds(cluster: Cluster, kind: Collective, bytes: number, ranks: number): number {
  if (ranks === 1) return 0;
  const nodes = Math.ceil(ranks / cluster.gpusPerNode);
  const crossings = nodes === 1 ? 0 : nodes;
  const around = ((ranks - 1) * ((ranks - crossings) * nvlinkHop + crossings * networkHop)) / ranks;
  const ring = kind === 'all-reduce' ? 2 * around : around;
  const tree = 2 * (Math.min(ranks, cluster.gpusPerNode) * nvlinkHop + Math.log2(nodes) * networkHop);
  const latency = kind === 'all-reduce' ? Math.min(ring, tree) : ring;
  return base + latency + sentBytes(kind, bytes, ranks) / ringBandwidth(cluster, ranks);
}
