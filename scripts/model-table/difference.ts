import type { Tensor } from '../../src/tensor/tensor.ts';
import { largestDifference } from '../../test/matchers.ts';

/** No part may be further from its reference, in float32. */
const bound = 1e-4;

const numbers = (tensor: Tensor): number[] => Array.from(tensor.toArray() as ArrayLike<number | bigint>, Number);

/** The largest absolute difference of two tensors; infinite where their shapes differ. */
export function apart(found: Tensor | undefined, wanted: Tensor): number {
  if (found?.shape.join() !== wanted.shape.join()) return Number.POSITIVE_INFINITY;
  return largestDifference(numbers(found), numbers(wanted)).difference;
}

/** How far a part is from its references: its outputs, and its gradients. */
export interface Difference {
  readonly outputs: number;
  readonly gradients: number;
}

/** The largest of several. */
export function largest(differences: readonly Difference[]): Difference {
  return {
    outputs: Math.max(...differences.map(({ outputs }) => outputs)),
    gradients: Math.max(...differences.map(({ gradients }) => gradients)),
  };
}

/** A table's cell, rounded up to one digit. Throws when a difference is beyond 0.0001. */
export function cell(name: string, { outputs, gradients }: Difference): string {
  if (!(Math.max(outputs, gradients) <= bound)) throw new Error(`${name} is ${outputs} and ${gradients} from its reference`);
  return [outputs, gradients].map(upToOneDigit).join(', ');
}

function upToOneDigit(value: number): string {
  if (value === 0) return '0';
  const exponent = Math.floor(Math.log10(value));
  const digit = Math.ceil(value / 10 ** exponent - 1e-6);
  return digit === 10 ? `1e${exponent + 1}` : `${digit}e${exponent}`;
}

const differenceCell = / (0|\de-\d+), (0|\de-\d+) \|$/gm;

/** A page without its differences, which depend on the processor's vector instructions. */
export const withoutDifferences = (page: string): string => page.replace(differenceCell, ' |');
