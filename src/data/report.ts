import type { Log } from '../log.ts';
import type { Processor } from '../processor/processor.ts';
import type { LeftOut, MinRatings } from './rows.ts';
import type { Span } from './spans.ts';
import type { Spread } from './statistics.ts';

/** What may be wrong, worst first. */
export const problemKinds = [
  'broken row',
  'roles',
  'image tags',
  'refused',
  'missing image',
  'unreadable image',
  'nothing learned',
  'image in answer',
  'empty answer',
  'too long',
  'duplicate row',
  'duplicate id',
] as const;
export type ProblemKind = (typeof problemKinds)[number];

/** What training stops at, or skips where its recipe says so; it takes rows with any other problem as they are. */
export const unusable: ReadonlySet<ProblemKind> = new Set([
  'broken row',
  'roles',
  'image tags',
  'refused',
  'missing image',
  'unreadable image',
  'nothing learned',
]);

/** What to look at. */
export interface InspectOptions {
  readonly imageFolder?: string;
  /** What is rated lower is left out before anything is looked at, as in training. */
  readonly minRatings?: MinRatings;
  /** Counts tokens and shows what is learned, in the calling thread alone; without one or a `model` only the file and its images are looked at. */
  readonly processor?: Processor;
  /** A checkpoint's folder, whose processor each thread opens, and a chat template in place of its own. */
  readonly model?: { readonly folder: string; readonly template?: string | undefined };
  /** The most tokens of a conversation, as in training. */
  readonly maxLength?: number;
  /** Rows to look at, evenly spread; all unless given. */
  readonly rows?: number;
  /** Rows whose spans are shown. */
  readonly samples?: number;
  /** Images to decode, evenly spread, all unless given; of the others only the file is looked for. */
  readonly decode?: number;
  /** Problems of each kind to name; all are counted. */
  readonly problems?: number;
  /** Kinds that are no problem here. */
  readonly ignore?: Iterable<ProblemKind>;
  /** A file that does not exist yet: gets the rows without problems, those of JSON as they are and others as LLaVA's. What was left out, and why, goes to a file of its name with `.dropped.jsonl`. */
  readonly fix?: string;
  /** Threads to look with, 0 for the calling one; one for each core up to 8 unless given, and none for what is quickly done. */
  readonly threads?: number;
  /** Gets `inspected` with `rows` done and `of` how many, then with `images`, as they are done. */
  readonly log?: Log;
  /** Aborting it ends the work; no file is left behind. */
  readonly signal?: AbortSignal;
}

/** What is wrong with something. */
export interface Flaw {
  readonly kind: ProblemKind;
  readonly message: string;
  readonly hint: string | undefined;
}

/** What is wrong with one row or image. */
export interface DataProblem extends Flaw {
  /** file#index, or the image's path. */
  readonly name: string;
}

/** The subset without problems, and what was left out. */
export interface FixedData {
  readonly file: string;
  readonly rows: number;
  readonly droppedFile: string;
  readonly dropped: number;
  /** Where its images are, for a file that lies elsewhere than theirs. */
  readonly imageFolder: string;
}

/** What a data file holds. */
export interface DataReport {
  readonly file: string;
  readonly rows: number;
  /** With `minRatings`, beside those rows. */
  readonly leftOut: LeftOut | undefined;
  /** How many of them were looked at. */
  readonly inspected: number;
  /** Rows that training takes; those whose images were not decoded count. */
  readonly usable: number;
  /** Rows without problems; a duplicate id alone is none, as training does not read ids. */
  readonly clean: number;
  readonly turns: { readonly system: number; readonly human: number; readonly gpt: number };
  readonly answers: { readonly empty: number; readonly skipped: number; readonly unanswered: number };
  readonly turnsPerRow: Spread | undefined;
  readonly answerCharacters: Spread | undefined;
  readonly images: {
    readonly textOnlyRows: number;
    readonly severalImageRows: number;
    readonly used: number;
    readonly files: number;
    readonly decoded: number;
  };
  /** Before they are cut, and how many rows are, and how many of all learned tokens that loses; undefined without a processor. */
  readonly tokens:
    | { readonly perRow: Spread | undefined; readonly supervisedPerRow: Spread | undefined; readonly cut: number; readonly lost: number }
    | undefined;
  /** By kind, how many rows, or images. */
  readonly problemCounts: Readonly<Partial<Record<ProblemKind, number>>>;
  /** The first of each kind. */
  readonly problems: readonly DataProblem[];
  readonly samples: readonly { readonly name: string; readonly spans: readonly Span[] }[];
  readonly fixed: FixedData | undefined;
}
