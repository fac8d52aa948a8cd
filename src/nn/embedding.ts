import { tensor } from '../tensor/create.ts';
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

/** An embedding whose rows come out multiplied by `scale`, which is rounded to their dtype first: √3072 is 55.5 in bfloat16. */
export class ScaledEmbedding extends Embedding {
  readonly scale: number;

  constructor(count: number, width: number, { scale, ...options }: { scale: number; init?: Init }) {
    super(count, width, options);
    this.scale = scale;
  }

  override forward(ids: Tensor): Tensor {
    const { dtype, device } = this.weight;
    return super.forward(ids).mul(tensor([this.scale], { dtype, device }));
  }
}
