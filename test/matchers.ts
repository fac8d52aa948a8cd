import { expect } from 'vitest';
import { Tensor } from '../src/tensor/tensor.ts';

interface Tolerance {
  /** Largest allowed difference of two values. */
  readonly atol?: number;
}

interface TensorMatchers<R> {
  /** Same shape and, within `atol` (1e-5), the same values; the values of a list or typed array are compared flat. */
  toMatchTensor(expected: Tensor | ArrayLike<number>, tolerance?: Tolerance): R;
}

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: vitest's own declaration has this default
  interface Matchers<T = any> extends TensorMatchers<T> {}
}

/** The largest difference between two lists of values, and where it is; NaN counts as infinite. */
export function largestDifference(received: ArrayLike<number>, expected: ArrayLike<number>): { difference: number; at: number } {
  let worst = { difference: 0, at: 0 };
  for (let at = 0; at < expected.length; at++) {
    const apart = Math.abs((received[at] ?? Number.NaN) - (expected[at] ?? Number.NaN));
    const difference = Number.isNaN(apart) ? Number.POSITIVE_INFINITY : apart;
    if (difference > worst.difference) worst = { difference, at };
  }
  return worst;
}

const numbers = (values: Tensor | ArrayLike<number>): ArrayLike<number> =>
  values instanceof Tensor ? Array.from(values.toArray() as ArrayLike<number | bigint>, Number) : values;

expect.extend({
  toMatchTensor(received: unknown, expected: Tensor | ArrayLike<number>, { atol = 1e-5 }: Tolerance = {}) {
    if (!(received instanceof Tensor)) return { pass: false, message: () => `expected a tensor, got ${String(received)}` };
    const shape = expected instanceof Tensor ? expected.shape : received.shape;
    const [a, b] = [numbers(received), numbers(expected)];
    if (received.shape.join() !== shape.join() || a.length !== b.length) {
      return {
        pass: false,
        message: () => `expected shape [${shape.join(', ')}] (${b.length} values), got [${received.shape.join(', ')}]`,
      };
    }
    const { difference, at } = largestDifference(a, b);
    return {
      pass: difference <= atol,
      message: () =>
        `expected tensors ${this.isNot ? 'to differ' : 'to agree'} within ${atol}; the largest difference is ${difference} at flat index ${at}: ${a[at]} and ${b[at]}`,
    };
  },
});
