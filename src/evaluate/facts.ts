import { createHash } from 'node:crypto';
import { templates } from '../processor/templates.ts';
import type { Results } from './evaluate.ts';
import { detectableDifference } from './power.ts';
import { imageOf, type Scored, type Task } from './task.ts';

/** What a result says beside its numbers. */
export interface Facts {
  /** Why there are no scores. */
  readonly unscored?: string;
  /** Answers that the scorer could not read. */
  readonly unparsed?: number;
  /** What was counted beside the scores. */
  readonly counts?: Readonly<Record<string, number>>;
  /** What a reader of the numbers has to know. */
  readonly notes?: readonly string[];
  /** Groups that questions about one image make, where some share one; intervals and the least difference allow for it. */
  readonly groups?: number;
  /** The smallest difference of two models' mean scores (from 0 to 1) that this many questions show in four of five runs. */
  readonly detectableDifference?: number;
}

/** Why a task has no scores: it needs a judge, the judge graded nothing, or its truth is not public. */
export function whyUnscored(task: Task, scored: readonly Scored[], judged: boolean): string | undefined {
  if (task.needsJudge && !judged) {
    return `${task.name} needs a judge (usually ${task.judge?.usual}): name one with --judge MODEL, and a server of your own with --judge-url`;
  }
  const answered = scored.filter(({ answer }) => answer !== undefined);
  if (judged && answered.length > 0 && answered.every(({ unparsed, error }) => unparsed || error !== undefined)) {
    return `the judge graded no answer: ${answered.find(({ error }) => error !== undefined)?.error ?? 'none of its replies could be read'}`;
  }
  const hidden = scored.length > 0 && scored.every(({ sample }) => sample.targets.length === 0) && !judged;
  return hidden ? `the truth of this split of ${task.name} is not public: send the submission to the benchmark's server` : undefined;
}

/** What is known beside the means of the scores; without scores, for the reason `unscored`, only what the profile says. */
export function facts(task: Task, scored: readonly Scored[], unscored: string | undefined): Facts {
  const ofProfile = task.profileNote === undefined ? [] : [task.profileNote];
  if (unscored !== undefined) return { unscored, ...(ofProfile.length > 0 && { notes: ofProfile }) };
  const unparsed = scored.filter((one) => one.unparsed).length;
  const counts = task.counts?.(scored);
  const together = scored.map(({ sample }) => imageOf(sample));
  const groups = new Set(together).size;
  const least = detectableDifference(
    scored.map(({ score }) => score),
    { together },
  );
  const notes = [...(task.notes?.(scored) ?? []), ...ofProfile];
  return {
    ...(unparsed > 0 && { unparsed }),
    ...(counts && { counts }),
    ...(notes.length > 0 && { notes }),
    ...(groups < scored.length && { groups }),
    ...(least !== undefined && { detectableDifference: least }),
  };
}

/** What is beside the scores, as clauses. */
export const remarks = ({ counts = {}, notes = [], groups }: Facts): string[] => {
  const many = `${groups?.toLocaleString('en-US')} ${groups === 1 ? 'group' : 'groups'}`;
  const shared = groups === undefined ? [] : [`questions share images and fall into ${many}, which intervals allow for`];
  const counted = Object.entries(counts).map(([name, count]) => `${name} ${Number.isInteger(count) ? count : count.toFixed(4)}`);
  return [...(counted.length > 0 ? [counted.join(', ')] : []), ...shared, ...notes];
};

/** How many answers the scorer could not read, or replies of the judge. */
export function notRead({ unparsed = 0, judge }: Pick<Facts, 'unparsed'> & { readonly judge?: unknown }): string {
  const what = judge === undefined ? ['answer', 'answers'] : ['reply of the judge', 'replies of the judge'];
  return `${unparsed.toLocaleString('en-US')} ${what[unparsed === 1 ? 0 : 1]} could not be read`;
}

/** How many answers are empty. */
export const saidNothing = (empty: number): string => `${empty.toLocaleString('en-US')} ${empty === 1 ? 'answer is' : 'answers are'} empty`;

/** The end of a sentence about this many answers. */
export const countAsWrong = (many: number): string => (many === 1 ? 'counts as wrong' : 'count as wrong');

/** What a run was made with, by name. */
export function madeWith({ settings, version, node }: Omit<Results, 'tasks'>): [name: string, value: string][] {
  const { limit, template } = settings;
  const facts = {
    ...settings,
    ...(limit !== undefined && { limit: `the first ${limit} questions of each task` }),
    ...(template !== undefined && { template: templateName(String(template)) }),
    tinyllava: version,
    Node: node,
  };
  // Results of an earlier version may say less.
  return Object.entries(facts).flatMap(([name, value]) => (value === undefined ? [] : [[name, String(value)]]));
}

/** The names that a chat template has here, or what tells it from others. */
function templateName(source: string): string {
  const bare = source.replace(/^{{ bos_token }}/, '');
  const known = Object.entries(templates).flatMap(([name, template]) => (template.source === bare ? [name] : []));
  return known.length > 0 ? known.join(' or ') : `SHA-256 ${createHash('sha256').update(source).digest('hex')}`;
}
