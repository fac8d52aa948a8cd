import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { strip } from '../src/evaluate/python.ts';
import { inProfile, type Scored, type Task } from '../src/evaluate/task.ts';
import { tasks } from '../src/evaluate/tasks/index.ts';
import { Draw } from './check-scorers/answers.ts';
import { type Case, makers } from './check-scorers/cases.ts';

/**
 * Compares our scorers, in the profile lmms-eval, with lmms-eval itself on predictions drawn from a seed.
 * TINYLLAVA_LMMS_PYTHON names a Python that has it (see oracle.py); --golden writes a few of the predictions to test/reference.
 */
const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '2000' },
    seed: { type: 'string', default: '1' },
    tasks: { type: 'string' },
    golden: { type: 'boolean', default: false },
  },
});
const python = process.env['TINYLLAVA_LMMS_PYTHON'];
if (!python) {
  console.error('TINYLLAVA_LMMS_PYTHON is not set: it names a Python with lmms-eval 0.7.3, see scripts/check-scorers/oracle.py');
  process.exit(2);
}

const names = values.tasks?.split(',') ?? Object.keys(makers);
const cases = Object.fromEntries(
  names.map((name, i) => {
    const draw = new Draw(Number(values.seed) * 1000 + i);
    return [name, Array.from({ length: Number(values.count) }, (_, index) => makers[name]?.(draw, index) as Case)];
  }),
);

const oracle = spawnSync(python, [join(import.meta.dirname, 'check-scorers/oracle.py')], {
  input: JSON.stringify(cases),
  encoding: 'utf8',
  maxBuffer: 1 << 30,
});
if (oracle.status !== 0) {
  console.error(oracle.stderr);
  process.exit(1);
}
const answered = JSON.parse(oracle.stdout) as Record<string, { scores: (number | [number, number])[]; wholes: Record<string, number> }>;
const expected = Object.fromEntries(Object.entries(answered).map(([name, { scores }]) => [name, scores]));

/** What we say, in the form of the oracle: a number, or a judge's pair of numbers. */
function ours(name: string, { sample, answer }: Case): number | number[] {
  const task = inProfile(tasks[name as keyof typeof tasks] as Task, 'lmms-eval');
  if (name === 'llava-bench') return (task.judge?.verdict(sample, strip(answer))?.parsed ?? '-1 -1').split(' ').map(Number);
  if (name === 'mm-vet') return task.judge?.verdict(sample, answer)?.score ?? 0;
  return task.score(sample, answer).score;
}

/** Differences that we mean to keep; docs/evaluation.md lists them too. */
const kept: readonly { readonly tasks: readonly string[]; readonly why: string; readonly when: (one: Case) => boolean }[] = [
  {
    tasks: ['gqa'],
    why: 'numpy cuts a text that grows when its letters are made small, such as one with İ, at its former length',
    when: ({ answer, doc }) => `${answer}${doc['answer']}`.toLowerCase().length > `${answer}${doc['answer']}`.length,
  },
  {
    tasks: ['gqa', 'ai2d'],
    why: 'numpy cuts NUL characters at the end of a text off',
    when: ({ answer }) => answer.includes('\0'),
  },
];

const same = (a: number | number[], b: number | number[]): boolean =>
  typeof a === 'number' && typeof b === 'number' ? Math.abs(a - b) < 1e-9 : JSON.stringify(a) === JSON.stringify(b);

let differences = 0;
const keptCounts = new Map<string, number>();
for (const name of names) {
  const list = cases[name] ?? [];
  const wrong = list.flatMap((one, i) => {
    const [mine, theirs] = [ours(name, one), expected[name]?.[i] ?? Number.NaN];
    const known = same(mine, theirs) ? undefined : kept.find(({ tasks, when }) => tasks.includes(name) && when(one));
    if (known) keptCounts.set(known.why, (keptCounts.get(known.why) ?? 0) + 1);
    return known || same(mine, theirs) ? [] : [{ ...one, mine, theirs }];
  });
  differences += wrong.length;
  const right = (expected[name] ?? []).filter((score) => score !== 0).length;
  console.log(`${name}: ${list.length - wrong.length} of ${list.length} agree (${right} score above 0)`);
  for (const { answer, doc, mine, theirs } of wrong.slice(0, 5))
    console.log(`  ${JSON.stringify({ answer: answer.slice(0, 200), doc, ours: mine, theirs })}`);
}

/** What all predictions together get; the mean where lmms-eval takes it. */
function whole(name: string): Map<string, number> {
  const task = inProfile(tasks[name as keyof typeof tasks] as Task, 'lmms-eval');
  const inverted = ({ sample }: Case): boolean => {
    const [left, top, right, bottom] = (sample['box'] ?? [0, 0, 1, 1]) as number[];
    return Number(left) >= Number(right) || Number(top) >= Number(bottom);
  };
  const scored = (cases[name] ?? [])
    .filter((one) => !inverted(one))
    .map(({ sample, answer }): Scored => {
      const judged = task.needsJudge
        ? (task.judge?.verdict(sample, strip(answer)) ?? task.judge?.giveUp(sample))
        : task.score(sample, answer);
      return { sample, answer, ...(judged ?? { parsed: '', score: 0 }) };
    });
  const mean = (scored.reduce((sum, { score }) => sum + score, 0) / scored.length) * 100;
  return new Map([['mean', mean], ...task.aggregate(scored).map(({ name, value }) => [name, value] as const)]);
}

for (const name of names) {
  const mine = whole(name);
  for (const [metric, theirs] of Object.entries(answered[name]?.wholes ?? {})) {
    const value = mine.get(metric) ?? Number.NaN;
    // What a kept difference changes in one score changes the mean too.
    const near = Math.abs(value - theirs) < (kept.some(({ tasks }) => tasks.includes(name)) ? 1 : 1e-9);
    if (!near) differences += 1;
    console.log(`${name} ${metric}: ${value}${near ? '' : `, by lmms-eval ${theirs}`}`);
  }
}

for (const [why, count] of keptCounts) console.log(`${count} differ as we mean them to: ${why}`);

if (values.golden) {
  // Both outcomes, short answers first: the suite needs no Python for them.
  const golden = Object.fromEntries(
    names.map((name) => {
      const all = (cases[name] ?? [])
        .map((one, i) => ({ ...one, expected: expected[name]?.[i] }))
        .filter(({ answer }) => answer.length < 80);
      const zero = all.filter((one) => one.expected === 0).slice(0, 15);
      const above = all.filter((one) => one.expected !== 0).slice(0, 25);
      return [name, [...zero, ...above].map(({ sample, answer, expected: score }) => ({ sample, answer, expected: score }))];
    }),
  );
  writeFileSync(join(import.meta.dirname, '../test/reference/scorers.json'), `${JSON.stringify(golden)}\n`);
}
process.exitCode = differences === 0 ? 0 : 1;
