import { type DataProblem, type DataReport, type Flaw, type ProblemKind, problemKinds, unusable } from '../report.ts';
import { Histogram } from '../statistics.ts';
import type { FileFacts } from './images.ts';
import type { ReadFacts, RowFacts } from './rows.ts';
import { keyOf, Seen } from './seen.ts';

/** How a tally counts. */
export interface TallyOptions {
  /** Rows that are looked at. */
  readonly count: number;
  /** What the row at a place is called. */
  readonly name: (place: number) => string;
  /** Problems of each kind to name. */
  readonly problems: number;
  readonly ignore: ReadonlySet<ProblemKind>;
  /** Keeps the worst flaw of each row that is not clean. */
  readonly reasons: boolean;
}

/** What a tally says of all rows and files. */
export type TallyReport = Omit<DataReport, 'file' | 'rows' | 'inspected' | 'fixed' | 'leftOut'>;

/** A file that rows use. */
export interface UsedFile {
  readonly path: string;
  readonly video: boolean;
}

// what is wrong with a row, as bits
const [unclean, useless] = [1, 2];

/** Puts together what is found in rows, in their order, and in the files that they use. A row takes some 100 bytes, however long it is. */
export class Tally {
  readonly #options: TallyOptions;
  readonly #counts: Partial<Record<ProblemKind, number>> = {};
  readonly #problems = new Map<ProblemKind, DataProblem[]>(problemKinds.map((kind) => [kind, []]));
  readonly #turns = { system: 0, human: 0, gpt: 0 };
  readonly #answers = { empty: 0, skipped: 0, unanswered: 0 };
  readonly #images = { textOnlyRows: 0, severalImageRows: 0, used: 0, decoded: 0 };
  readonly #turnsPerRow = new Histogram();
  readonly #answerCharacters = new Histogram();
  readonly #tokens = new Histogram();
  readonly #supervised = new Histogram();
  readonly #cut = { cut: 0, lost: 0 };
  readonly #samples: DataReport['samples'][number][] = [];
  readonly #contents = new Seen();
  readonly #ids = new Seen();
  /** The number of each file, in order of first use. */
  readonly #files = new Map<string, number>();
  readonly #videos = new Set<number>();
  /** By the files' numbers, the place of the row that uses each first. */
  readonly #firstUsers: number[] = [];
  /** The place of a row and the number of a file that it uses, one pair behind the other. */
  readonly #uses: number[] = [];
  readonly #spoiled = new Map<number, Flaw>();
  readonly #states: Uint8Array;
  readonly #reasons = new Map<number, Flaw>();

  constructor(options: TallyOptions) {
    this.#options = options;
    this.#states = new Uint8Array(options.count);
  }

  /** Takes in the row at a place; places come in order. */
  row(place: number, { name, flaws, read }: RowFacts): void {
    for (const flaw of flaws) this.#add(flaw, name, place);
    if (!read) return;
    this.#count(read);
    if (read.tokens?.spans) this.#samples.push({ name, spans: read.tokens.spans });
    const same = this.#contents.first(read.key, place);
    if (same !== undefined) {
      const message = `is the same as ${this.#options.name(same)}`;
      this.#add({ kind: 'duplicate row', message, hint: 'remove one of them, unless it is to be learned twice' }, name, place);
    }
    const namesake = read.id === undefined ? undefined : this.#ids.first(keyOf(read.id), place);
    if (namesake !== undefined) {
      const message = `has the id ${JSON.stringify(read.id)} of ${this.#options.name(namesake)}`;
      this.#add(
        { kind: 'duplicate id', message, hint: 'training does not read ids; change it where something else goes by them' },
        name,
        place,
      );
    }
    for (const [i, path] of read.files.entries()) this.#use(place, path, i >= read.files.length - read.videos);
  }

  /** The files that the rows use, in order of first use. */
  files(): UsedFile[] {
    return Array.from(this.#files.keys(), (path, number) => ({ path, video: this.#videos.has(number) }));
  }

  /** Takes in what was found of a file, by its number; numbers come in order. */
  file(number: number, path: string, { decoded, flaw }: FileFacts): void {
    if (decoded) this.#images.decoded++;
    if (!flaw || this.#options.ignore.has(flaw.kind)) return;
    const user = this.#options.name(this.#firstUsers[number] ?? 0);
    this.#note({ ...flaw, name: path, message: `${flaw.message}, first used by ${user}` });
    this.#spoiled.set(number, { ...flaw, message: `${path} ${flaw.message}` });
  }

  /** All that was found; the files come before. */
  report(): TallyReport {
    for (let i = 0; i < this.#uses.length; i += 2) {
      const flaw = this.#spoiled.get(this.#uses[i + 1] ?? 0);
      if (flaw) this.#mark(flaw, this.#uses[i] ?? 0);
    }
    const without = (bit: number): number => this.#states.reduce((count, state) => (state & bit ? count : count + 1), 0);
    return {
      usable: without(useless),
      clean: without(unclean),
      turns: this.#turns,
      answers: this.#answers,
      turnsPerRow: this.#turnsPerRow.spread,
      answerCharacters: this.#answerCharacters.spread,
      images: { ...this.#images, files: this.#files.size },
      tokens: this.#tokens.spread && { perRow: this.#tokens.spread, supervisedPerRow: this.#supervised.spread, ...this.#cut },
      problemCounts: Object.fromEntries(problemKinds.flatMap((kind) => (this.#counts[kind] ? [[kind, this.#counts[kind]]] : []))),
      problems: [...this.#problems.values()].flat(),
      samples: this.#samples,
    };
  }

  /** The worst flaw of a row that is not clean, where reasons are kept. */
  reason(place: number): Flaw | undefined {
    return this.#reasons.get(place);
  }

  #count({ turns, answers, answerCharacters, images, decoded, tokens }: ReadFacts): void {
    this.#turns.system += turns.system;
    this.#turns.human += turns.human;
    this.#turns.gpt += turns.gpt;
    this.#answers.empty += answers.empty;
    this.#answers.skipped += answers.skipped;
    this.#answers.unanswered += answers.unanswered;
    this.#turnsPerRow.add(turns.system + turns.human + turns.gpt);
    for (const characters of answerCharacters) this.#answerCharacters.add(characters);
    this.#images.used += images;
    this.#images.decoded += decoded;
    if (images === 0) this.#images.textOnlyRows++;
    if (images > 1) this.#images.severalImageRows++;
    if (!tokens) return;
    this.#tokens.add(tokens.count);
    this.#supervised.add(tokens.supervised - tokens.lost);
    this.#cut.lost += tokens.lost;
    if (tokens.cut) this.#cut.cut++;
  }

  #use(place: number, path: string, video: boolean): void {
    const known = this.#files.get(path);
    const number = known ?? this.#files.size;
    if (known === undefined) {
      this.#files.set(path, number);
      this.#firstUsers.push(place);
      if (video) this.#videos.add(number);
    }
    this.#uses.push(place, number);
  }

  #add(flaw: Flaw, name: string, place: number): void {
    if (this.#options.ignore.has(flaw.kind)) return;
    this.#note({ ...flaw, name });
    this.#mark(flaw, place);
  }

  #note(problem: DataProblem): void {
    this.#counts[problem.kind] = (this.#counts[problem.kind] ?? 0) + 1;
    const named = this.#problems.get(problem.kind);
    if (named && named.length < this.#options.problems) named.push(problem);
  }

  #mark(flaw: Flaw, place: number): void {
    if (flaw.kind === 'duplicate id') return;
    this.#states[place] = (this.#states[place] ?? 0) | unclean | (unusable.has(flaw.kind) ? useless : 0);
    if (!this.#options.reasons) return;
    const worst = this.#reasons.get(place);
    if (!worst || problemKinds.indexOf(flaw.kind) < problemKinds.indexOf(worst.kind)) this.#reasons.set(place, flaw);
  }
}
