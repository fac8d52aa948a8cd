import type { Message } from '../processor/message.ts';
import type { AnswerRow } from './answers-file.ts';
import type { Interval } from './interval.ts';
import type { JudgeQuestion } from './judge/question.ts';
import { strip } from './python.ts';
import type { SubmissionForm } from './submission.ts';

/** One question of a benchmark. */
export interface Sample {
  readonly id: string;
  /** The id that answer files use, where several samples share it. */
  readonly sharedId?: string | undefined;
  readonly question: string;
  /** Files, in the order in which the prompt shows them. */
  readonly images: readonly string[];
  /** The answers that are right; none where the truth is not public. */
  readonly targets: readonly string[];
  /** What the scores are broken down by. */
  readonly category: string;
}

/** What tells questions that belong together, because they are about one image and go right and wrong together: the first that is shown. */
export const imageOf = ({ images, id }: Sample): string => images[0] ?? `#${id}`;

/** What a task makes of an answer. */
export interface Verdict {
  /** The part of the answer that was compared. */
  readonly parsed: string;
  /** From 0 (wrong) to 1 (right). */
  readonly score: number;
  /** The answer has none of the forms that the scorer knows. */
  readonly unparsed?: true;
}

/** A sample with its answer, or with the reason why it has none; such a one scores 0. */
export interface Scored<S extends Sample = Sample> extends Verdict {
  readonly sample: S;
  /** The text that was asked, before the chat template. */
  readonly input?: string;
  readonly answer?: string;
  readonly error?: string;
}

/** One number of a result, with its 95 % interval. */
export interface Metric {
  readonly name: string;
  readonly value: number;
  readonly interval: Interval;
  /** Samples that it is computed from. */
  readonly count: number;
  /** What the best answers would get; 1 unless said. Most benchmarks report percent, so 100. */
  readonly max?: number;
  /** True where less is better. */
  readonly lowerIsBetter?: true;
}

/** The samples of a benchmark as found on disk. */
export interface Benchmark<S extends Sample = Sample> {
  readonly samples: readonly S[];
  /** The files that questions and answers were read from. */
  readonly files: readonly string[];
  /** Who publishes the files in this form. */
  readonly layout?: string;
  /** Questions that are not asked, but that the benchmark's server wants an empty answer to. */
  readonly alsoUploaded?: readonly string[];
  /** Samples to learn baselines from, where the benchmark has some. */
  readonly train?: readonly S[];
}

/** Files that a task can be read from, and where one gets them. */
export interface Wanted {
  /** Who publishes them in this form. */
  readonly layout: string;
  readonly files: readonly string[];
  readonly from: string;
}

/** How a benchmark's files are opened. */
export interface OpenOptions {
  /** False when only answers are scored: images are neither looked for nor unpacked, but named all the same. */
  readonly images?: boolean | undefined;
}

/** Whose prompts, settings and scorers are followed: the benchmark's own and LLaVA's, or those of lmms-eval. */
export type Profile = 'official' | 'lmms-eval';

/** A benchmark: where its samples are, how they are asked, what is right, and what is reported. */
export interface Task<S extends Sample = Sample> {
  readonly name: string;
  /** What is asked. */
  readonly about: string;
  /** The files that it reads, in each form in which they are published. */
  readonly wants?: readonly Wanted[];
  readonly maxNewTokens: number;
  /** Strings that end an answer. */
  readonly stop?: readonly string[];
  /** Reads the samples from the data folder. Throws DataError naming what is missing. */
  open(folder: string, options?: OpenOptions): Promise<Benchmark<S>>;
  prompt(sample: S): readonly Message[];
  /** Answers to choose from: the model then writes none, and its answer is the letter of the one that it finds likeliest. */
  choices?(sample: S): readonly string[];
  score(sample: S, answer: string): Verdict;
  /** The numbers to report; the first is the headline. */
  aggregate(scored: readonly Scored<S>[]): readonly Metric[];
  /** How a judge is asked about an answer; it then decides in the place of `score`. */
  readonly judge?: JudgeQuestion<S>;
  /** True where `score` cannot tell right from wrong, so that there is no result without a judge. */
  readonly needsJudge?: true;
  /** What was counted beside the scores, by name. */
  counts?(scored: readonly Scored<S>[]): Readonly<Record<string, number>>;
  /** What a reader of the numbers has to know, such as why one of them is not there; a clause each. */
  notes?(scored: readonly Scored<S>[]): readonly string[];
  /** What a reader has to know of the profile that the task is in. */
  readonly profileNote?: string;
  /** Samples that a judge has graded before, from the rows of its file; undefined where the rows are plain answers. `samples` where the questions are at hand. */
  graded?(rows: readonly AnswerRow[], samples: readonly S[] | undefined): readonly Scored<S>[] | undefined;
  /** What the benchmark's server takes, for those whose truth is not public. */
  submission?(scored: readonly Scored<S>[], benchmark: Benchmark<S>): unknown;
  /** The kind of file that the submission, then a list of rows, goes to the server in; JSON unless said. */
  readonly submissionForm?: SubmissionForm;
  /** What lmms-eval does in another way. */
  readonly lmmsEval?: Partial<Omit<Task<S>, 'name' | 'lmmsEval'>>;
}

/** Where lmms-eval ends an answer of a task that says nothing about it. */
const lmmsEvalStop = ['\n\n'];

/** The task as a profile has it, with a note where it has none. lmms-eval scores answers without the white space around them. */
export function inProfile<S extends Sample>(task: Task<S>, profile: Profile): Task<S> {
  if (profile === 'official') return task;
  if (!task.lmmsEval) {
    return { ...task, profileNote: `${task.name} is not in the profile ${profile}: prompts, settings and scores are its own` };
  }
  const variant = { ...task, stop: lmmsEvalStop, ...task.lmmsEval };
  return { ...variant, score: (sample, answer) => variant.score(sample, strip(answer)) };
}
