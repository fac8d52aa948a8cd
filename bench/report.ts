import { arch, platform, totalmem } from 'node:os';
import { agree, type Benchmark, type Metric, type Round, type Settings } from './harness.ts';
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

function row({ name, unit, better, target: wanted }: Metric, { variant, rounds }: Result): string[] {
  const target = typeof wanted === 'function' ? wanted(variant) : wanted;
  const measured = rounds.filter(({ ours, theirs }) => name in ours.metrics && name in theirs.metrics);
  if (measured.length === 0) return [];
  const ours = measured.map((round) => round.ours.metrics[name] ?? Number.NaN);
  const theirs = measured.map((round) => round.theirs.metrics[name] ?? Number.NaN);
  const ratios = ours.map((value, i) => value / (theirs[i] ?? Number.NaN));
  const reached = target === undefined ? '' : `${better === 'lower' ? '<=' : '>='} ${target}`;
  const ok = target === undefined || (better === 'lower' ? median(ratios) <= target : median(ratios) >= target);
  const cells = [
    variant.join(' ') || '-',
    `${name}, ${unit}`,
    spread(ours),
    spread(theirs),
    `**${spread(ratios)}**`,
    reached,
    target === undefined ? '' : ok ? 'yes' : 'no',
  ];
  return [`| ${cells.join(' | ')} |`];
}

/** A page of Markdown: ours, theirs and the ratio of each pair of processes, as medians with the smallest and largest. */
export function report(benchmark: Benchmark, results: readonly Result[], { threads }: Settings): string {
  const rounds = results.flatMap((result) => result.rounds);
  const disturbed = rounds.filter((round) => round.disturbed).length;
  const wrong = rounds.filter((round) => !agree(benchmark, round)).length;
  const [first] = rounds;
  return `# ${benchmark.name}

${benchmark.question}

- Machine: ${processor().name}, ${(totalmem() / 1e9).toFixed(0)} GB, ${platform()} ${arch()}; ${threads} threads on both sides.
- Ours: ${first?.ours.versions ?? ''}
- Python: ${first?.theirs.versions ?? ''}
- ${rounds.length} pairs of processes, alternating which runs first; during ${disturbed} of them other processes took more than a tenth of the machine.
- The same work: ${wrong === 0 ? 'what both sides computed agreed in every pair' : `**what both sides computed differed in ${wrong} pairs**`}.

| variant | metric | ours | Python | ratio | target | met |
|---|---|---|---|---|---|---|
${results.flatMap((result) => benchmark.metrics.flatMap((metric) => row(metric, result))).join('\n')}

Each cell is a median with the smallest and the largest; the ratio is ours by Python's, pair by pair.
`;
}
