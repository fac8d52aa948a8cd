import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { ImageLayout } from '../model/image-layout.ts';
import { ImageProcessor } from '../processor/image.ts';
import { Processor } from '../processor/processor.ts';
import { writeTemplate } from '../processor/template-files.ts';
import { Tokenizer } from '../processor/tokenizer.ts';
import { type DType, dtypeBytes, isFloating } from '../tensor/dtype.ts';
import type { TensorToWrite } from '../tensor/safetensors.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { Source } from './source.ts';

/** What a conversion is going to write. */
export interface Plan {
  /** About how many bytes it takes. */
  readonly bytes: number;
  /** How the weights are stored: a dtype, a type of GGUF, or `mixed`. */
  readonly stored: string;
  /** What the user should know of the result. */
  readonly notes: readonly string[];
  /** Writes all files into an empty folder. Throws CheckpointError, and what aborted `signal`. */
  write(folder: string, signal: AbortSignal | undefined): Promise<void>;
}

/** Takes steps one by one; between them the process hears what else there is. Throws what aborted `signal`. */
export async function oneByOne(steps: Iterable<void>, signal: AbortSignal | undefined): Promise<void> {
  for (const _ of steps) {
    await setImmediate();
    signal?.throwIfAborted();
  }
}

/** A weight, read into memory of its own that is given back with it: a mapped file would count as this process's as far as it was read. */
export function readWeight({ weights }: Source, key: string): Tensor {
  return weights.tensor(key, 'own');
}

/** The weights under other names; floats get `dtype`, which is their own unless given. */
export function weightsToWrite(
  source: Source,
  { dtype, rename = (key) => key }: { dtype?: DType | undefined; rename?: (key: string) => string },
): TensorToWrite[] {
  return source.weights.names.map((key) => {
    const own = source.weights.dtype(key);
    return {
      name: rename(key),
      shape: source.weights.shape(key),
      dtype: dtype !== undefined && isFloating(own) ? dtype : own,
      tensor: () => readWeight(source, key),
    };
  });
}

/** Bytes that tensors take. */
export const bytesOf = (tensors: readonly TensorToWrite[]): number =>
  tensors.reduce((sum, { shape, dtype }) => sum + shape.reduce((product, size) => product * size, dtypeBytes(dtype)), 0);

/** The one dtype of all tensors, or `mixed`. */
export function commonDtype(tensors: readonly TensorToWrite[]): DType | 'mixed' {
  const dtypes = new Set(tensors.map(({ dtype }) => dtype));
  const [first] = dtypes;
  return dtypes.size === 1 && first !== undefined ? first : 'mixed';
}

/** Writes tokenizer, chat template, image settings and the files that go along as transformers names them, as far as the source has them. */
export async function writeCompanions(
  folder: string,
  { tokenizer, template, image, spelling, model, config, others }: Source,
): Promise<void> {
  for (const [name, content] of Object.entries(others)) await writeFile(join(folder, name), content);
  const token = config.imageTokenId === undefined ? undefined : tokenizer?.tokenOf(config.imageTokenId);
  if (tokenizer && image && template !== undefined && token !== undefined && tokenizer.special.has(token)) {
    const parts = {
      tokenizer,
      image: new ImageProcessor(image),
      template,
      imageTokens: (layout: ImageLayout) => model.imageRuns(layout),
      imageToken: token,
      spelling,
    };
    return new Processor(parts).save(folder);
  }
  if (tokenizer) {
    const { chat_template: _, ...settings } = tokenizer.files.config;
    await new Tokenizer({ json: tokenizer.files.json, config: settings }).save(folder);
  }
  if (template !== undefined) await writeTemplate(folder, template);
  if (image) await new ImageProcessor(image).save(folder);
}
