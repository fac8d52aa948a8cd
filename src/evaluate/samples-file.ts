import { type FileHandle, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { DataError } from '../errors.ts';
import { readRows } from './questions-file.ts';
import type { Scored } from './task.ts';

const Line = z.looseObject({
  doc_id: z.int().nonnegative(),
  doc: z.looseObject({ id: z.string(), question: z.string(), images: z.array(z.string()), category: z.string() }),
  target: z.array(z.string()),
  resps: z.array(z.string()),
  filtered_resps: z.array(z.string()),
  score: z.number(),
  unparsed: z.literal(true).optional(),
  error: z.string().optional(),
});

/** `samples_<task>.jsonl`: a line for each sample, under lmms-eval's names where it has them, written as it is answered. */
export class SamplesFile {
  readonly #path: string;
  readonly #file: FileHandle;
  #inOrder = true;
  #last = -1;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** Begins the file anew. Throws DataError where it cannot be written. */
  static async create(path: string): Promise<SamplesFile> {
    try {
      return new SamplesFile(path, await open(path, 'w'));
    } catch (cause) {
      throw new DataError(`${path}: cannot be written: ${(cause as Error).message}`, { hint: 'choose another folder with --out', cause });
    }
  }

  /** Writes all samples anew, say after they were judged; the file is replaced at once. */
  static async rewrite(path: string, scored: readonly Scored[]): Promise<void> {
    const draft = `${path}.part`;
    const file = await SamplesFile.create(draft);
    try {
      for (const [index, one] of scored.entries()) await file.write(index, one);
      await file.close();
      await rename(draft, path);
    } catch (cause) {
      await rm(draft, { force: true });
      throw cause;
    }
  }

  /** Adds the sample of this number. */
  async write(index: number, { sample, answer, parsed, score, error, unparsed }: Scored): Promise<void> {
    this.#inOrder &&= index > this.#last;
    this.#last = index;
    const { targets, ...doc } = sample;
    const answers = answer === undefined ? { resps: [], filtered_resps: [] } : { resps: [answer], filtered_resps: [parsed] };
    const line = {
      doc_id: index,
      doc,
      target: targets,
      ...answers,
      score,
      ...(unparsed && { unparsed }),
      ...(error !== undefined && { error }),
    };
    await this.#file.appendFile(`${JSON.stringify(line)}\n`);
  }

  /** Closes the file, its lines in the order of the samples. */
  async close(): Promise<void> {
    await this.#file.close();
    if (this.#inOrder) return;
    const lines = (await readFile(this.#path, 'utf8')).trimEnd().split('\n');
    const numbered = lines.map((line) => ({ line, index: Number(/^\{"doc_id":(\d+)/.exec(line)?.[1]) }));
    const draft = `${this.#path}.part`;
    try {
      await writeFile(
        draft,
        `${numbered
          .sort((a, b) => a.index - b.index)
          .map(({ line }) => line)
          .join('\n')}\n`,
      );
      await rename(draft, this.#path);
    } catch (cause) {
      await rm(draft, { force: true });
      throw cause;
    }
  }
}

/** The scored samples that a run wrote. Throws DataError. */
export async function readSamples(path: string): Promise<Scored[]> {
  const lines = await readRows(path, Line);
  return lines.map(({ doc, target, resps, filtered_resps, score, error, unparsed }) => ({
    sample: { ...doc, targets: target },
    ...(resps[0] !== undefined && { answer: resps[0] }),
    parsed: filtered_resps[0] ?? '',
    score,
    ...(unparsed && { unparsed }),
    ...(error !== undefined && { error }),
  }));
}
