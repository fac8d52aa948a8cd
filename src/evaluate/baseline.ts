import type { Metric, Sample, Task } from './task.ts';

/** Answers without looking at the image. */
export type Baseline = (sample: Sample) => string;

function commonest(samples: readonly Sample[], key: (sample: Sample) => string): Map<string, string> {
  const counts = new Map<string, Map<string, number>>();
  for (const sample of samples) {
    const [target] = sample.targets;
    if (target === undefined) continue;
    const answers = counts.get(key(sample)) ?? new Map<string, number>();
    answers.set(target, (answers.get(target) ?? 0) + 1);
    counts.set(key(sample), answers);
  }
  // Ties go to the alphabet, so that the order of the file does not matter.
  const best = (answers: Map<string, number>): string => [...answers].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))[0]?.[0] ?? '';
  return new Map([...counts].map(([name, answers]) => [name, best(answers)]));
}

/** Gives the commonest training answer of the question's category, which it is told. */
export function majorityBaseline(train: readonly Sample[]): Baseline {
  const byCategory = commonest(train, ({ category }) => category);
  const overall = commonest(train, () => '').get('') ?? '';
  return ({ category }) => byCategory.get(category) ?? overall;
}

/** Gives the answer that the very same question had most often in training; a new question gets the commonest answer of all. */
export function questionOnlyBaseline(train: readonly Sample[]): Baseline {
  const asked = ({ question }: Sample): string => question.trim().toLowerCase();
  const byQuestion = commonest(train, asked);
  const overall = commonest(train, () => '').get('') ?? '';
  return (sample) => byQuestion.get(asked(sample)) ?? overall;
}

/** What a baseline scores on the samples of a task. */
export function scoreBaseline(task: Task, samples: readonly Sample[], baseline: Baseline): readonly Metric[] {
  return task.aggregate(
    samples.map((sample) => {
      const answer = baseline(sample);
      return { sample, answer, ...task.score(sample, answer) };
    }),
  );
}
