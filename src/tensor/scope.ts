import { TinyLlavaError } from '../errors.ts';
import { native } from './native.ts';
import type { Tensor } from './tensor.ts';

const open: Scope[] = [];

/** Handles on their way to the addon, which frees many in one call. */
const dying = new Float64Array(native.dyingHandles());

/**
 * Frees the tensors that were made in its block, except those that `keep` hands to the scope around it. Autograd keeps what a
 * backward pass needs, so a scope around a forward pass is safe. Maths only: never `await` inside one.
 *
 *     using scope = new Scope();
 *     return scope.keep(block.forward(x));
 */
export class Scope implements Disposable {
  readonly #made: Tensor[] = [];
  readonly #outer: Scope | undefined = open.at(-1);

  constructor() {
    open.push(this);
  }

  /** Gives a new tensor to the innermost open scope; without one the garbage collector is its owner. */
  static adopt(tensor: Tensor): void {
    const innermost = open[open.length - 1];
    if (innermost === undefined) {
      tensor.own(undefined);
      return;
    }
    tensor.own(innermost);
    innermost.#made.push(tensor);
  }

  /** Takes a tensor from whatever scope owns it: parameters and caches outlive the block that they were made in. */
  static release(tensor: Tensor): Tensor {
    tensor.own(undefined);
    return tensor;
  }

  /** Hands a tensor of this scope to the scope around it, so that it outlives the block. */
  keep<T extends Tensor | readonly Tensor[]>(kept: T): T {
    for (const tensor of Array.isArray(kept) ? (kept as readonly Tensor[]) : [kept as Tensor]) {
      if (tensor.owner !== this) continue;
      tensor.own(this.#outer);
      if (this.#outer) this.#outer.#made.push(tensor);
    }
    return kept;
  }

  /** Throws TinyLlavaError when an inner scope is still open, which an `await` in the block brings about. */
  [Symbol.dispose](): void {
    if (open.at(-1) !== this) throw new TinyLlavaError('scopes closed out of order', { hint: 'do not await inside a scope' });
    open.pop();
    let count = 0;
    for (const tensor of this.#made) {
      if (tensor.owner !== this) continue;
      dying[count++] = tensor.disown();
      if (count < dying.length) continue;
      native.freeDying(count);
      count = 0;
    }
    if (count > 0) native.freeDying(count);
  }
}

/** Runs `body` outside all scopes: what it makes lives until it is freed or collected. For parameters and caches. */
export function outliving<T>(body: () => T): T {
  const scopes = open.splice(0);
  try {
    return body();
  } finally {
    open.push(...scopes);
  }
}
