import type { Log } from '../log.ts';
import type { Processor } from '../processor/processor.ts';
import type { Span } from './spans.ts';
import type { Spread } from './statistics.ts';

/** What to look at. */
export interface InspectOptions {
  readonly imageFolder?: string;
  /** Counts tokens and shows what is learned; without one only the file and its images are looked at. */
  readonly processor?: Processor;
  /** The most tokens of a conversation, as in training. */
  readonly maxLength?: number;
  /** Rows to look at, evenly spread; all unless given. */
  readonly rows?: number;
  /** Rows whose spans are shown. */
  readonly samples?: number;
  /** Images to decode, evenly spread; of the others only the file is looked for. */
  readonly decode?: number;
  /** Problems to name; all are counted. */
  readonly problems?: number;
  /** Gets `inspected` with `rows` done and `of` how many, every 10,000 rows. */
  readonly log?: Log;
}

/** What is wrong with one row or image. */
export interface DataProblem {
  readonly kind: 'row' | 'missing image' | 'unreadable image' | 'too long' | 'nothing learned' | 'refused';
  /** file#index, or the image's path. */
  readonly name: string;
  readonly message: string;
  readonly hint: string | undefined;
}

/** What a data file holds. */
export interface DataReport {
  readonly file: string;
  readonly rows: number;
  /** How many of them were looked at. */
  readonly inspected: number;
  readonly usable: number;
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
  /** Of usable rows, before they are cut; undefined without a processor. */
  readonly tokens: { readonly perRow: Spread | undefined; readonly supervisedPerRow: Spread | undefined; readonly cut: number } | undefined;
  /** By kind, how many. */
  readonly problemCounts: Readonly<Partial<Record<DataProblem['kind'], number>>>;
  /** The first of them. */
  readonly problems: readonly DataProblem[];
  readonly samples: readonly { readonly name: string; readonly spans: readonly Span[] }[];
}
