import type { Message } from '../../processor/message.ts';

/** One question as it is put to a model. */
export interface Question {
  readonly messages: readonly Message[];
  readonly maxNewTokens: number;
  readonly stop?: readonly string[] | undefined;
  /** Answers to weigh instead of writing one. */
  readonly choices?: readonly string[] | undefined;
}

/** What came of the question of this number: an answer, or why it could not be asked. */
export type Response = { readonly index: number; readonly answer: string } | { readonly index: number; readonly error: string };

/** How questions are asked. */
export interface RespondOptions {
  /** How many are under way at a time. */
  readonly batchSize: number;
  /** Whether the questions have choices, of which the letter of the likeliest is the answer. */
  readonly weigh: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Who answers, by facts such as its weights or its address, all known after `check`; equal ones give equal answers. */
export type Identity = Readonly<Record<string, string>>;

/** Whoever can be asked: a model here, several processes of it, or a server. */
export interface Respondent {
  readonly identity: Identity;
  /** Makes sure that it answers questions like these, before hours of them. Throws ConfigError, or the signal's reason. */
  check?(about: { readonly images: boolean; readonly weigh: boolean }, signal?: AbortSignal): Promise<void>;
  /**
   * Answers each question as soon as it can, in any order. One that cannot be asked, say for an unreadable image, has its error for a response; what
   * would befall every question is thrown.
   */
  responses(questions: Iterable<Question> | AsyncIterable<Question>, options: RespondOptions): AsyncGenerator<Response, void>;
}
