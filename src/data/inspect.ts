import { stat } from 'node:fs/promises';
import { DataError } from '../errors.ts';
import { silent } from '../log.ts';
import { decodeImage } from '../processor/image-decode.ts';
import { contentParts, type InputMessage, imagesOf, type Message } from '../processor/message.ts';
import type { Example, Processor } from '../processor/processor.ts';
import { supervisedTokens } from './batch.ts';
import { openRows } from './open-rows.ts';
import type { DataProblem, DataReport, InspectOptions } from './report.ts';
import type { OpenRows, Row } from './rows.ts';
import { type Span, spansOf } from './spans.ts';
import { spreadOf } from './statistics.ts';

/** Looks through a file of conversations and its images for what training would meet. Throws DataError only when the file cannot be opened. */
export async function inspectData(file: string, options: InspectOptions = {}): Promise<DataReport> {
  const { imageFolder, rows = Number.POSITIVE_INFINITY, log = silent } = options;
  using dataset = await openRows(file, imageFolder === undefined ? {} : { imageFolder });
  const inspection = new Inspection(dataset, options);
  const chosen = spread(dataset.length, rows);
  for (const [done, index] of chosen.entries()) {
    await inspection.look(index);
    if (done % 10_000 === 9_999) {
      log({ event: 'inspected', rows: done + 1, of: chosen.length });
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  await inspection.lookAtImages();
  return inspection.report(chosen.length);
}

class Inspection {
  readonly #dataset: OpenRows;
  readonly #options: InspectOptions;
  readonly #problems: DataProblem[] = [];
  readonly #counts: Partial<Record<DataProblem['kind'], number>> = {};
  readonly #turns = { system: 0, human: 0, gpt: 0 };
  readonly #answers = { empty: 0, skipped: 0, unanswered: 0 };
  readonly #images = { textOnlyRows: 0, severalImageRows: 0, used: 0, files: 0, decoded: 0 };
  readonly #files = new Map<string, string>();
  readonly #videos = new Set<string>();
  readonly #turnsPerRow: number[] = [];
  readonly #answerCharacters: number[] = [];
  readonly #tokens: number[] = [];
  readonly #supervised: number[] = [];
  readonly #samples: { name: string; spans: Span[] }[] = [];
  #cut = 0;
  #usable = 0;

  constructor(dataset: OpenRows, options: InspectOptions) {
    this.#dataset = dataset;
    this.#options = options;
  }

  async look(index: number): Promise<void> {
    const name = this.#dataset.nameOf(index);
    const row = await this.#try('row', name, () => this.#dataset.row(index));
    if (!row) return;
    this.#countTurns(row);
    for (const { source } of imagesOf(row.messages)) {
      this.#images.used++;
      if (typeof source === 'string' && !this.#files.has(source)) this.#files.set(source, name);
    }
    for (const part of row.messages.flatMap<{ type: string; video?: string }>(contentParts)) {
      if (part.video === undefined) continue;
      if (!this.#files.has(part.video)) this.#files.set(part.video, name);
      this.#videos.add(part.video);
    }
    if (!this.#options.processor || (await this.#countTokens(row, this.#options.processor))) this.#usable++;
  }

  /** Looks for every image file, and decodes some. */
  async lookAtImages(): Promise<void> {
    const files = [...this.#files.keys()];
    this.#images.files = files.length;
    const decoded = new Set(spread(files.length, this.#options.decode ?? 2000));
    const found: (DataProblem | undefined)[] = [];
    let next = 0;
    const one = async (): Promise<void> => {
      for (let i = next++; i < files.length; i = next++)
        found[i] = await this.#lookAtImage(files[i] ?? '', decoded.has(i) && !this.#videos.has(files[i] ?? ''));
    };
    await Promise.all(Array.from({ length: 8 }, one));
    for (const problem of found) if (problem) this.#add(problem);
  }

  report(inspected: number): DataReport {
    return {
      file: this.#dataset.file,
      rows: this.#dataset.length,
      inspected,
      usable: this.#usable,
      turns: this.#turns,
      answers: this.#answers,
      turnsPerRow: spreadOf(this.#turnsPerRow),
      answerCharacters: spreadOf(this.#answerCharacters),
      images: this.#images,
      tokens: this.#options.processor && { perRow: spreadOf(this.#tokens), supervisedPerRow: spreadOf(this.#supervised), cut: this.#cut },
      problemCounts: this.#counts,
      problems: this.#problems,
      samples: this.#samples,
    };
  }

  #countTurns({ messages, skippedAnswers, droppedQuestions }: Row): void {
    const names = { system: 'system', user: 'human', assistant: 'gpt' } as const;
    for (const message of messages) {
      this.#turns[names[message.role]]++;
      if (message.role !== 'assistant') continue;
      const text = textOf(message);
      this.#answerCharacters.push(text.length);
      if (text.trim() === '') this.#answers.empty++;
    }
    this.#answers.skipped += skippedAnswers;
    this.#answers.unanswered += droppedQuestions;
    this.#turnsPerRow.push(messages.length);
    const images = imagesOf(messages).length;
    if (images === 0) this.#images.textOnlyRows++;
    if (images > 1) this.#images.severalImageRows++;
  }

  /** Whether something is learned from the row. */
  async #countTokens({ name, messages }: Row, processor: Processor): Promise<boolean> {
    const { maxLength = Number.POSITIVE_INFINITY, samples = 2 } = this.#options;
    const whole = await this.#try('refused', name, () => this.#read(messages, processor));
    if (!whole) return false;
    const example = processor.truncate(whole, maxLength);
    this.#tokens.push(whole.ids.length);
    if (example.ids.length < whole.ids.length) {
      this.#cut++;
      this.#add({
        kind: 'too long',
        name,
        message: `${whole.ids.length} tokens are cut to ${example.ids.length}`,
        hint: 'raise maxLength, or split the conversation',
      });
    }
    const supervised = supervisedTokens(example.labels);
    this.#supervised.push(supervised);
    if (this.#samples.length < samples) this.#samples.push({ name, spans: spansOf(example, processor) });
    if (supervised === 0)
      this.#add({
        kind: 'nothing learned',
        name,
        message: `none of ${example.ids.length} tokens is learned`,
        hint: 'raise maxLength, or remove the row',
      });
    return supervised > 0;
  }

  async #lookAtImage(path: string, decode: boolean): Promise<DataProblem | undefined> {
    const [name, usedBy] = [path.slice(0, 200), `first used by ${this.#files.get(path)}`];
    if (!path.startsWith('data:')) {
      const file = await stat(path).catch(() => undefined);
      if (!file?.isFile()) return { kind: 'missing image', name, message: `does not exist, ${usedBy}`, hint: 'check the image folder' };
    }
    if (!decode) return undefined;
    this.#images.decoded++;
    return decodeImage(path).then(
      () => undefined,
      ({ message, hint }: DataError) =>
        ({ kind: 'unreadable image', name, message: `${message.replace(`${path} `, '')}, ${usedBy}`, hint }) as const,
    );
  }

  /** An image that cannot be read is reported with the images; here it is as if it were small. */
  async #read(messages: readonly InputMessage[], processor: Processor): Promise<Example> {
    try {
      return await processor.read(messages, { train: true });
    } catch (error) {
      if (!(error instanceof DataError) || messages.some(hasVideo)) throw error;
      return processor.encode(messages as readonly Message[], { train: true });
    }
  }

  async #try<T>(kind: DataProblem['kind'], name: string, body: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await body();
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      this.#add({ kind, name, message: error.message.replace(`${name}: `, ''), hint: error.hint });
      return undefined;
    }
  }

  #add(problem: DataProblem): void {
    this.#counts[problem.kind] = (this.#counts[problem.kind] ?? 0) + 1;
    if (this.#problems.length < (this.#options.problems ?? 100)) this.#problems.push(problem);
  }
}

/** At most `most` of the numbers below `count`, evenly spread. */
function spread(count: number, most: number): number[] {
  const taken = Math.min(count, most);
  return Array.from({ length: taken }, (_, i) => Math.floor((i * count) / taken));
}

const hasVideo = (message: InputMessage): boolean => contentParts(message).some(({ type }) => type === 'video');

function textOf(message: InputMessage): string {
  return contentParts(message)
    .map((part) => (part.type === 'text' ? part.text : ''))
    .join('');
}
