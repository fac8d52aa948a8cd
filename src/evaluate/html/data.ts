/** A share of right answers with its interval; all three between 0 and 1. */
interface Share {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** The result of one question type, beside what the baselines reach on the same questions. */
export interface ReportScore {
  readonly name: string;
  readonly count: number;
  readonly correct: number;
  readonly accuracy: Share;
  /** Shares of right answers without the model, by the baseline's name. */
  readonly baselines: Readonly<Record<string, number>>;
  /** The share that the run set out to reach. */
  readonly goal?: number;
}

/** One value of a training curve; `seconds` count from the start of the first stage. */
export interface LossPoint {
  readonly step: number;
  readonly seconds: number;
  readonly loss: number;
}

/** One stage of the training, with its losses in order. */
export interface ReportStage {
  readonly name: string;
  readonly about: string;
  readonly losses: readonly LossPoint[];
}

/** Scores by question type at one moment of the training. */
export interface CurvePoint {
  readonly seconds: number;
  readonly scores: Readonly<Record<string, number>>;
}

/** One question about one image with the model's answer. */
export interface ReportSample {
  readonly image: string;
  readonly question: string;
  readonly answer: string;
  readonly truth: string;
  readonly type: string;
  readonly correct: boolean;
}

/** One part of the model. */
export interface ReportPart {
  readonly name: string;
  readonly about: string;
  readonly parameters: number;
}

/** One fact of the run, such as the seed. */
export interface ReportFact {
  readonly name: string;
  readonly value: string;
}

/** Numbers that are no shares of right answers, beside those of baselines. */
export interface ReportTable {
  readonly title: string;
  /** What the numbers are, in a sentence or two. */
  readonly about: string;
  /** Names of the columns, that of the rows first. */
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Everything that the page of one run shows; plain JSON. */
export interface ReportData {
  readonly title: string;
  /** What was done, in one or two sentences. */
  readonly summary: string;
  /** The first score covers all questions. */
  readonly scores: readonly ReportScore[];
  /** Shown behind the scores. */
  readonly tables?: readonly ReportTable[];
  readonly stages: readonly ReportStage[];
  readonly curve: readonly CurvePoint[];
  readonly asked: readonly ReportSample[];
  readonly samples: readonly ReportSample[];
  /** How many images the samples were drawn from, and how. */
  readonly imagesInAll: number;
  readonly drawn: string;
  /** Photographs, which are not to be shown pixel by pixel. */
  readonly photographs?: boolean;
  /** Data URI by the name that the samples use. */
  readonly images: Readonly<Record<string, string>>;
  /** What flows through the model, from image to answer. */
  readonly flow: readonly ReportFact[];
  readonly parts: readonly ReportPart[];
  readonly facts: readonly ReportFact[];
  readonly environment: readonly ReportFact[];
  /** The resolved recipe as YAML. */
  readonly recipe: string;
  /** Commands that repeat the run, one a line. */
  readonly reproduce: string;
}
