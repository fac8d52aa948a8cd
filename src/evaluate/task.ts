import type { Message } from '../processor/message.ts';
import type { Interval } from './interval.ts';

/** One question of a benchmark. */
export interface Sample {
  readonly id: string;
  readonly question: string;
  /** Files, in the order in which the prompt shows them. */
  readonly images: readonly string[];
  /** The answers that are right. */
  readonly targets: readonly string[];
  /** What the scores are broken down by. */
  readonly category: string;
}

/** What a task makes of an answer. */
export interface Verdict {
  /** The part of the answer that was compared. */
  readonly parsed: string;
  /** From 0 (wrong) to 1 (right). */
  readonly score: number;
}

/** A sample with its answer, or with the reason why it has none; such a one scores 0. */
export interface Scored<S extends Sample = Sample> extends Verdict {
  readonly sample: S;
  readonly answer?: string;
  readonly error?: string;
}

/** One number of a result, from 0 to 1, with its 95 % interval. */
export interface Metric {
  readonly name: string;
  readonly value: number;
  readonly interval: Interval;
  /** Samples that it is the mean of. */
  readonly count: number;
}

/** The samples of a benchmark as found on disk. */
export interface Benchmark<S extends Sample = Sample> {
  readonly samples: readonly S[];
  /** The files that questions and answers were read from. */
  readonly files: readonly string[];
  /** Samples to learn baselines from, where the benchmark has some. */
  readonly train?: readonly S[];
}

/** A benchmark: where its samples are, how they are asked, what is right, and what is reported. */
export interface Task<S extends Sample = Sample> {
  readonly name: string;
  /** What is asked, and what files it wants in its folder. */
  readonly about: string;
  readonly maxNewTokens: number;
  /** Reads the samples from the data folder. Throws DataError naming what is missing. */
  open(folder: string): Promise<Benchmark<S>>;
  prompt(sample: S): readonly Message[];
  score(sample: S, answer: string): Verdict;
  /** The numbers to report; the first is the headline. */
  aggregate(scored: readonly Scored<S>[]): readonly Metric[];
}
