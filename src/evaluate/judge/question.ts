import type { Message } from '../../processor/message.ts';
import type { Sample, Verdict } from '../task.ts';

/** One call of a judge. */
export interface JudgeCall {
  readonly messages: readonly Message[];
  readonly temperature: number;
  readonly maxTokens: number;
}

/** How a benchmark asks its judge about one answer. */
export interface JudgeQuestion<S extends Sample = Sample> {
  /** The judge that the benchmark's authors used. */
  readonly usual: string;
  /** Calls before the answer counts as what `giveUp` says. */
  readonly attempts: number;
  /** The call of this attempt, from 0. */
  call(sample: S, answer: string, attempt: number): JudgeCall;
  /** What the judge's reply says, undefined where it says nothing that can be read. */
  verdict(sample: S, reply: string): Verdict | undefined;
  /** The verdict when no reply could be read. */
  giveUp(sample: S): Verdict;
}
