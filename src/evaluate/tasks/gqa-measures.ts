import { grouped } from '../bootstrap.ts';
import { mean, means } from '../score.ts';
import type { Metric, Sample, Scored } from '../task.ts';

/** What GQA's files say of a question beside its answer; parts of it are in some files only. */
export interface GqaSample extends Sample {
  /** False for questions outside the balanced set, which are asked for consistency alone. */
  readonly balanced: boolean;
  readonly structural?: string | undefined;
  readonly semantic?: string | undefined;
  /** Operations of the question's program that GQA counts as reasoning. */
  readonly steps?: string | undefined;
  readonly words: string;
  /** The kind of thing asked for, within which GQA compares how often each answer is given. */
  readonly group?: string | undefined;
  /** Other questions whose answers follow from this one's. */
  readonly entailed: readonly string[];
  /** Answers that are of the right kind, and those that make sense for the things asked about. */
  readonly valid?: readonly string[] | undefined;
  readonly plausible?: readonly string[] | undefined;
}

/**
 * What GQA's own evaluation reports of the balanced questions: accuracy, consistency, validity and plausibility where the files for them are there, and the parts
 * of accuracy. Hudson and Manning 2019, arXiv:1902.09506, section 4.4.
 */
export function gqaMetrics(scored: readonly Scored<GqaSample>[]): Metric[] {
  const balanced = scored.filter(({ sample }) => sample.balanced);
  const [accuracy, ...parts] = means(balanced, {
    name: 'accuracy',
    by: [
      ({ category }) => category,
      ({ structural }) => prefixed('structural', structural),
      ({ semantic }) => prefixed('semantic', semantic),
      (sample) => sample.steps,
      (sample) => sample.words,
    ],
  });
  return [...(accuracy ? [accuracy] : []), ...others(scored, balanced), ...parts];
}

const prefixed = (kind: string, name: string | undefined): string | undefined => (name === undefined ? undefined : `${kind} ${name}`);

function others(scored: readonly Scored<GqaSample>[], balanced: readonly Scored<GqaSample>[]): Metric[] {
  const shares = (name: string, part: readonly Scored[]): Metric[] => (part.length === 0 ? [] : [mean(name, part, 100)]);
  const within = (choices: (sample: GqaSample) => readonly string[] | undefined): Scored[] =>
    balanced.flatMap((one) => {
      const known = choices(one.sample);
      return known ? [{ ...one, score: known.includes(one.parsed) ? 1 : 0 }] : [];
    });
  return [
    ...(unasked(scored) > 0 ? [] : shares('consistency', consistency(scored, balanced))),
    ...shares(
      'validity',
      within(({ valid }) => valid),
    ),
    ...shares(
      'plausibility',
      within(({ plausible }) => plausible),
    ),
  ];
}

/** For each question with a right answer, how many of those that follow from it have one. */
function consistency(scored: readonly Scored<GqaSample>[], balanced: readonly Scored<GqaSample>[]): Scored[] {
  const scores = new Map(scored.map(({ sample, score }) => [sample.id, score]));
  return balanced.flatMap((one) => {
    const { entailed } = one.sample;
    if (one.score === 0 || entailed.length === 0) return [];
    return [{ ...one, score: entailed.reduce((sum, id) => sum + (scores.get(id) ?? 0), 0) / entailed.length }];
  });
}

/** Entailed questions that are not among those asked. */
function unasked(scored: readonly Scored<GqaSample>[]): number {
  const asked = new Set(scored.map(({ sample }) => sample.id));
  return new Set(scored.flatMap(({ sample }) => (sample.balanced ? sample.entailed.filter((id) => !asked.has(id)) : []))).size;
}

/** Why measures of GQA are not among the numbers. */
export function gqaNotes(scored: readonly Scored<GqaSample>[]): string[] {
  const missing = unasked(scored);
  const known = (has: (sample: GqaSample) => boolean): boolean => scored.some(({ sample }) => has(sample));
  const consistency =
    missing > 0
      ? `no consistency: questions that follow from those asked (${missing}) were not asked; testdev_all_questions.json holds them`
      : known(({ entailed }) => entailed.length > 0)
        ? undefined
        : 'no consistency: the files do not say which questions follow from which';
  const choices = known(({ valid }) => valid !== undefined)
    ? undefined
    : 'no validity and plausibility: they need testdev_choices.json, or val_choices.json for val';
  const groups = known(({ group }) => group !== undefined) ? undefined : 'no distribution: the files have no groups of questions';
  return [consistency, choices, groups].filter((note) => note !== undefined);
}

/**
 * How far the answers' frequencies are from those of the truth: chi-square within each group of questions, averaged by the groups' sizes, over 100; 0 is best.
 * Undefined where the questions have no groups.
 */
export function distribution(scored: readonly Scored<GqaSample>[]): number | undefined {
  const grouping = scored.filter(({ sample }) => sample.balanced && sample.group !== undefined);
  const groups = grouped(grouping, ({ sample }) => sample.group ?? '');
  if (groups.size === 0) return undefined;
  let sum = 0;
  for (const part of groups.values()) {
    const said = grouped(part, ({ parsed }) => parsed);
    let score = 0;
    for (const [truth, right] of grouped(part, ({ sample }) => sample.targets[0] ?? '')) {
      score += ((said.get(truth)?.length ?? 0) - right.length) ** 2 / right.length;
    }
    sum += score * part.length;
  }
  return sum / grouping.length / 100;
}
