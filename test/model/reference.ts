import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { languageModels } from '../../src/model/language/index.ts';
import { openSafetensors, type SafetensorsFile } from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';

/** What transformers computed, from scripts/make-references.py. */
export interface Reference {
  readonly folder: string;
  readonly expected: SafetensorsFile;
  ids(): Int32Array;
  lengths(): number[];
  labels(): Tensor;
  /** Names of the parameters whose gradients are there. */
  gradients(): string[];
}

/** References of scripts/make-language-references.py: a family, or a family and what is odd about the sizes. */
export const languageReferences: readonly string[] = readdirSync(join(import.meta.dirname, '../reference'))
  .filter((name) => Object.keys(languageModels).includes(name.split('-')[0] ?? '') && !name.startsWith('llama'))
  .sort();

export function reference(name: string): Reference {
  const folder = join(import.meta.dirname, '../reference', name);
  const expected = openSafetensors(join(folder, 'expected.safetensors'));
  const whole = (tensor: string): number[] => Array.from(expected.tensor(tensor).toArray() as BigInt64Array, Number);
  return {
    folder,
    expected,
    ids: () => Int32Array.from(whole('input_ids')),
    lengths: () => whole('lengths'),
    labels: () => expected.tensor('labels'),
    gradients: () => expected.names.filter((key) => key.startsWith('grad.')).map((key) => key.slice(5)),
  };
}

/** Rows whose next token is in the same sequence, and the tokens after them. */
export function nextTokens(lengths: readonly number[]): { from: number[]; to: number[] } {
  const from: number[] = [];
  let row = 0;
  for (const length of lengths) {
    for (let i = 0; i + 1 < length; i++) from.push(row + i);
    row += length;
  }
  return { from, to: from.map((i) => i + 1) };
}
