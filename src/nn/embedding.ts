import { embedding } from '../tensor/functional.ts';
import type { Tensor } from '../tensor/tensor.ts';
import { type Init, normal } from './init.ts';
import { Module, parameter } from './module.ts';

/** A learned row for each id; `weight` [count, width]. */
export class Embedding extends Module {
  readonly weight: Tensor;

  constructor(count: number, width: number, { init = normal(0.02) }: { init?: Init } = {}) {
    super();
    this.weight = parameter([count, width], init);
  }

  /** `ids` int64 [...] to [..., width]. */
  forward(ids: Tensor): Tensor {
    return embedding(this.weight, ids);
  }
}
