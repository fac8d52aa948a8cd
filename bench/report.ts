import { arch, platform, totalmem } from 'node:os';
import { type Benchmark, differing, type Metric, peersOf, type Round, type Settings } from './harness.ts';
import { processor } from './machine.ts';

/** The rounds of one variant. */
export interface Result {
  readonly variant: readonly string[];
  readonly rounds: readonly Round[];
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

const digits = (value: number): string => (value >= 1000 ? value.toFixed(0) : value.toPrecision(3));
const spread = (values: readonly number[]): string =>
  `${digits(median(values))} (${digits(Math.min(...values))} to ${digits(Math.max(...values))})`;

/** A metric of ours beside that of every peer that has it, round by round. */
interface Comparison {
  readonly ours: readonly number[];
  readonly peers: ReadonlyMap<string, readonly number[]>;
  /** The peer with the best median. */
  readonly best: string;
}

function compare({ name, against = name, better }: Metric, { rounds }: Result): Comparison | undefined {
  const ours = rounds.map((round) => round.ours.metrics[name] ?? Number.NaN);
  const theirs = (peer: string): number[] => rounds.map(({ peers }) => peers.get(peer)?.metrics[against] ?? Number.NaN);
  const names = [...(rounds[0]?.peers.keys() ?? [])];
  const peers = new Map(names.map((peer) => [peer, theirs(peer)] as const).filter(([, values]) => values.every(Number.isFinite)));
  const [best] = [...peers.keys()].sort(
    (a, b) => (better === 'lower' ? 1 : -1) * (median(peers.get(a) ?? []) - median(peers.get(b) ?? [])),
  );
  return best === undefined || !ours.every(Number.isFinite) ? undefined : { ours, peers, best };
}

/** The sign and number that a ratio is to reach, and whether it does. */
function reached({ target: wanted, better }: Metric, { variant }: Result, ratio: number): [string, string] {
  const target = typeof wanted === 'function' ? wanted(variant) : wanted;
  if (target === undefined) return ['', ''];
  return better === 'lower' ? [`<= ${target}`, ratio <= target ? 'yes' : 'no'] : [`>= ${target}`, ratio >= target ? 'yes' : 'no'];
}

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const heads = (cells: readonly string[]): string => `${line(cells)}\n|${'---|'.repeat(cells.length)}`;
const shown = ({ variant }: Result): string => variant.join(' ') || '-';

/** Ours beside the best peer. */
function row(metric: Metric, result: Result): string[] {
  const compared = compare(metric, result);
  if (!compared) return [];
  const { ours, peers, best } = compared;
  const theirs = peers.get(best) ?? [];
  const ratios = ours.map((value, i) => value / (theirs[i] ?? Number.NaN));
  const beside = peers.size > 1 ? `${spread(theirs)}, ${best}` : spread(theirs);
  const name = `${metric.name}, ${metric.unit}`;
  return [line([shown(result), name, spread(ours), beside, `**${spread(ratios)}**`, ...reached(metric, result, median(ratios))])];
}

/** Every peer with what it is, and a table of their medians. */
function everyPeer({ metrics, peers = [] }: Benchmark, results: readonly Result[]): string {
  const rows = results.flatMap((result) =>
    metrics.flatMap((metric) => {
      const compared = compare(metric, result);
      if (!compared || metric.against !== undefined) return [];
      const cells = peers.map(({ name }) => compared.peers.get(name) ?? []).map((values) => (values.length > 0 ? spread(values) : '-'));
      return [line([shown(result), `${metric.name}, ${metric.unit}`, spread(compared.ours), ...cells])];
    }),
  );
  return `
## Every peer

${peers.map(({ name, how = '' }) => `- ${name}: ${how}`).join('\n')}

${heads(['variant', 'metric', 'ours', ...peers.map(({ name }) => name)])}
${rows.join('\n')}
`;
}

/** Whether all did the same work, or who did not in how many rounds. */
function sameWork(benchmark: Benchmark, rounds: readonly Round[]): string {
  const wrong = rounds.flatMap((round) => differing(benchmark, round));
  if (wrong.length === 0) return 'what all sides computed agreed in every round';
  const counted = [...new Set(wrong)].map((name) => `${name} in ${wrong.filter((other) => other === name).length}`);
  return `**what ours computed differed from ${counted.join(', ')} of ${rounds.length} rounds**`;
}

/**
 * A page of Markdown: ours, the best peer and the ratio of each round's processes, as medians with the smallest and largest; where there are several
 * peers, all of them below.
 */
export function report(benchmark: Benchmark, results: readonly Result[], { threads }: Settings): string {
  const rounds = results.flatMap((result) => result.rounds);
  const disturbed = rounds.filter((round) => round.disturbed).length;
  const [first] = rounds;
  const [only, ...more] = peersOf(benchmark);
  const several = more.length > 0;
  return `# ${benchmark.name}

${benchmark.question}

- Machine: ${processor().name}, ${(totalmem() / 1e9).toFixed(0)} GB, ${platform()} ${arch()}; ${threads} threads on all sides.
- Ours: ${first?.ours.versions ?? ''}
- Python: ${[...(first?.peers.values() ?? [])][0]?.versions ?? ''}
- ${rounds.length} rounds of ${several ? `${more.length + 2} processes` : 'two processes'}, each beginning with another; during ${disturbed} of them other processes took more than a tenth of the machine.
- The same work: ${sameWork(benchmark, rounds)}.

${heads(['variant', 'metric', 'ours', several ? 'best peer' : (only?.name ?? ''), 'ratio', 'target', 'met'])}
${results.flatMap((result) => benchmark.metrics.flatMap((metric) => row(metric, result))).join('\n')}

Each cell is a median with the smallest and the largest; the ratio is ours by ${several ? "the best peer's" : "Python's"}, round by round.
${several ? everyPeer(benchmark, results) : ''}`;
}
