import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { z } from 'zod';
import { DataError } from '../errors.ts';
import { dataFolderOf, fileAt, placeOf } from './image-places.ts';
import { readRows } from './questions-file.ts';
import type { Scored } from './task.ts';

const Line = z.looseObject({
  doc_id: z.int().nonnegative(),
  doc: z.looseObject({ id: z.string(), question: z.string(), images: z.array(z.string()), category: z.string() }),
  input: z.string().optional(),
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
  /** The data folder, which images are named in. */
  readonly #data: string;
  /** Where the line of each sample stands, by its number; a later line takes the place of an earlier one. */
  readonly #lines = new Map<number, { readonly start: number; readonly bytes: number }>();
  #end = 0;
  #inOrder = true;
  #last = -1;

  private constructor(path: string, file: FileHandle, data: string) {
    this.#path = path;
    this.#file = file;
    this.#data = data;
  }

  /**
   * Goes on with a file that a run has left, or begins it where there is none. Gives the answers in it, by the sample's number; a last line that was not written
   * to its end is dropped, and samples that could not be asked are asked again. Throws DataError.
   */
  static async resume(path: string, { data }: { data: string }): Promise<{ file: SamplesFile; answers: Map<number, string> }> {
    const opened = new SamplesFile(path, await openFile(path, 'a+'), data);
    const answers = new Map<number, string>();
    try {
      let [number, rest]: [number, Buffer] = [0, Buffer.alloc(0)];
      for await (const piece of opened.#file.createReadStream({ start: 0, autoClose: false })) {
        rest = Buffer.concat([rest, piece as Buffer]);
        for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
          number += 1;
          const { doc_id, resps } = lineOf(rest.toString('utf8', 0, end), `${path}:${number}`);
          opened.#note(doc_id, end + 1);
          if (resps[0] === undefined) answers.delete(doc_id);
          else answers.set(doc_id, resps[0]);
          rest = rest.subarray(end + 1);
        }
      }
      await opened.#file.truncate(opened.#end);
      return { file: opened, answers };
    } catch (cause) {
      await opened.#file.close();
      throw cause;
    }
  }

  /** Begins the file anew. Throws DataError where it cannot be written. */
  static async create(path: string, { data }: { data: string }): Promise<SamplesFile> {
    return new SamplesFile(path, await openFile(path, 'w+'), data);
  }

  /** Writes all samples anew, say after they were judged; the file is replaced at once. */
  static async rewrite(path: string, scored: readonly Scored[], { data }: { data: string }): Promise<void> {
    const draft = `${path}.part`;
    const file = await SamplesFile.create(draft, { data });
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
  async write(index: number, { sample, input, answer, parsed, score, error, unparsed }: Scored): Promise<void> {
    const { targets, ...doc } = sample;
    const answers = answer === undefined ? { resps: [], filtered_resps: [] } : { resps: [answer], filtered_resps: [parsed] };
    const line = {
      doc_id: index,
      doc: { ...doc, images: doc.images.map((image) => placeOf(image, this.#data)) },
      ...(input !== undefined && { input }),
      target: targets,
      ...answers,
      score,
      ...(unparsed && { unparsed }),
      ...(error !== undefined && { error }),
    };
    const text = Buffer.from(`${JSON.stringify(line)}\n`);
    await this.#file.appendFile(text);
    this.#note(index, text.length);
  }

  /** Closes the file, its lines in the order of the samples; only where each line stands is in memory. */
  async close(): Promise<void> {
    const draft = `${this.#path}.part`;
    try {
      if (this.#inOrder) return;
      const sorted = await openFile(draft, 'w');
      try {
        for (const piece of this.#pieces()) await sorted.appendFile(await this.#read(piece));
        await sorted.sync();
      } finally {
        await sorted.close();
      }
      await rename(draft, this.#path);
    } catch (cause) {
      await rm(draft, { force: true });
      throw cause;
    } finally {
      await this.#file.close();
    }
  }

  #note(index: number, bytes: number): void {
    this.#inOrder &&= index > this.#last;
    this.#last = index;
    this.#lines.set(index, { start: this.#end, bytes });
    this.#end += bytes;
  }

  /** Runs of lines that stand behind each other, in the order of the samples. */
  *#pieces(): Generator<{ start: number; bytes: number }> {
    let run = { start: 0, bytes: 0 };
    for (const [, { start, bytes }] of [...this.#lines].sort(([a], [b]) => a - b)) {
      if (start === run.start + run.bytes && run.bytes < 1 << 20) run.bytes += bytes;
      else {
        yield run;
        run = { start, bytes };
      }
    }
    yield run;
  }

  async #read({ start, bytes }: { start: number; bytes: number }): Promise<Buffer> {
    const { buffer } = await this.#file.read(Buffer.alloc(bytes), 0, bytes, start);
    return buffer;
  }
}

async function openFile(path: string, flags: string): Promise<FileHandle> {
  try {
    return await open(path, flags);
  } catch (cause) {
    throw new DataError(`${path}: cannot be written: ${(cause as Error).message}`, { hint: 'choose another folder with --out', cause });
  }
}

function lineOf(text: string, place: string): { doc_id: number; resps: string[] } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  const line = Line.safeParse(value);
  if (line.success) return line.data;
  throw new DataError(`${place}: not a sample that a run wrote`, { hint: 'delete the line: its question is then asked again' });
}

/** The scored samples that a run wrote, with their images where the data folder was, or in `data` where it is elsewhere now. Throws DataError. */
export async function readSamples(path: string, { data }: { readonly data?: string | undefined } = {}): Promise<Scored[]> {
  const [lines, folder] = await Promise.all([readRows(path, Line), data ?? dataFolderOf(path)]);
  return lines.map(({ doc, input, target, resps, filtered_resps, score, error, unparsed }) => ({
    sample: { ...doc, images: doc.images.map((place) => fileAt(place, folder)), targets: target },
    ...(input !== undefined && { input }),
    ...(resps[0] !== undefined && { answer: resps[0] }),
    parsed: filtered_resps[0] ?? '',
    score,
    ...(unparsed && { unparsed }),
    ...(error !== undefined && { error }),
  }));
}
