import { readConfig } from '../../model/checkpoint.ts';
import { createTinyLlava } from '../../model/tinyllava.ts';
import { openProcessor } from '../../processor/open.ts';
import type { Processor } from '../../processor/processor.ts';
import { inLanes } from '../lanes.ts';
import { openRows } from '../open-rows.ts';
import type { InspectOptions } from '../report.ts';
import type { MinRatings, OpenRows } from '../rows.ts';
import { type FileFacts, type FileLook, lookAtFile } from './images.ts';
import { lookAtRow, type RowFacts } from './rows.ts';

/** All that a thread needs to look at a data file. */
export interface LookSettings {
  readonly file: string;
  readonly imageFolder: string | undefined;
  readonly minRatings: MinRatings | undefined;
  readonly model: InspectOptions['model'] | undefined;
  readonly maxLength: number | undefined;
  readonly rows: number | undefined;
  readonly samples: number | undefined;
  readonly decode: number | undefined;
}

/** Every thread keeps as much of files that are read a stretch at a time. */
const cacheBytes = 2 ** 27;

/** Looks at rows and files, in any thread. */
export class Looker {
  readonly #dataset: OpenRows;
  readonly #settings: LookSettings;
  readonly #processor: Processor | undefined;

  private constructor(dataset: OpenRows, settings: LookSettings, processor: Processor | undefined) {
    this.#dataset = dataset;
    this.#settings = settings;
    this.#processor = processor;
  }

  /** Throws DataError when the file cannot be opened, and CheckpointError or ConfigError for the model. */
  static async open(settings: LookSettings, processor?: Processor): Promise<Looker> {
    const { file, imageFolder, minRatings, model } = settings;
    const dataset = await openRows(file, { cacheBytes, minRatings, ...(imageFolder !== undefined && { imageFolder }) });
    try {
      return new Looker(dataset, settings, processor ?? (model && (await processorOf(model))));
    } catch (error) {
      dataset.close();
      throw error;
    }
  }

  /** Rows `from` until before `to` of those that are looked at. */
  async rows(from: number, to: number): Promise<RowFacts[]> {
    const { length } = this.#dataset;
    const { rows = length, samples = 2, maxLength = Number.POSITIVE_INFINITY, decode = length } = this.#settings;
    const taken = Math.min(rows, length);
    return inLanes(to - from, (i) => {
      const index = spread(from + i, length, taken);
      return lookAtRow(this.#dataset.nameOf(index), () => this.#dataset.row(index), {
        processor: this.#processor,
        maxLength,
        sample: from + i < samples,
        decode: isSpread(from + i, taken, decode),
      });
    });
  }

  files(files: readonly FileLook[]): Promise<FileFacts[]> {
    return inLanes(files.length, (i) => lookAtFile(files[i] as FileLook, this.#processor));
  }

  close(): void {
    this.#dataset.close();
  }
}

async function processorOf({ folder, template }: NonNullable<LookSettings['model']>): Promise<Processor> {
  return openProcessor(folder, createTinyLlava(await readConfig(folder)), { template });
}

/** Number `i` of `taken` that are evenly spread over all below `count`. */
export const spread = (i: number, count: number, taken: number): number => Math.floor((i * count) / taken);

/** Whether `index` is among `most` that are evenly spread over all below `count`. */
export function isSpread(index: number, count: number, most: number): boolean {
  const taken = Math.min(count, most);
  return taken > 0 && spread(Math.ceil((index * taken) / count), count, taken) === index;
}
