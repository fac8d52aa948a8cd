import { native } from './native.ts';
import { Tensor } from './tensor.ts';

function withGrad<T>(on: boolean, body: () => T): T {
  const before = native.gradEnabled();
  native.setGradEnabled(on);
  try {
    return body();
  } finally {
    native.setGradEnabled(before);
  }
}

/** Runs synchronous maths without recording a graph. */
export const noGrad = <T>(body: () => T): T => withGrad(false, body);

/** Runs synchronous maths with a graph, inside `noGrad` too. */
export const enableGrad = <T>(body: () => T): T => withGrad(true, body);

/** True when operators record a graph. */
export const isGradEnabled = (): boolean => native.gradEnabled();

/** Gradients of `outputs` with respect to `inputs` without touching `.grad`; undefined for an input that no output depends on. */
export function gradients(outputs: readonly Tensor[], inputs: readonly Tensor[], outer?: readonly Tensor[]): (Tensor | undefined)[] {
  const handles = (list: readonly Tensor[]) => list.map((t) => t.handle);
  return native
    .gradients(handles(outputs), handles(inputs), outer ? handles(outer) : null)
    .map((handle) => (handle === null ? undefined : new Tensor(handle)));
}
