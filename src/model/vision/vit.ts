import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { type ActivationName, activationNames, activations } from '../../nn/activation.ts';
import { packedAttention } from '../../nn/attention.ts';
import { xavierUniform } from '../../nn/init.ts';
import { runLayers } from '../../nn/layers.ts';
import { Linear } from '../../nn/linear.ts';
import { Module } from '../../nn/module.ts';
import { multiHeadAttention } from '../../nn/multi-head.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { cat } from '../../tensor/create.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** One layer's output, counted from 0 (the embeddings) or from the end (-1, the last layer's), or several, put side by side. */
export const FeatureLayer = z.union([z.int(), z.array(z.int()).min(1)]);

/** Side of the square images that are given, where it is not the `imageSize` that the position embeddings were learned for. */
export const InputSize = z.int().positive().optional();

/** The settings that every vision transformer here shares. */
export const vitShape = {
  hiddenSize: z.int().positive(),
  intermediateSize: z.int().positive(),
  numHiddenLayers: z.int().positive(),
  numAttentionHeads: z.int().positive(),
  hiddenAct: z.enum(activationNames),
  layerNormEps: z.number().positive(),
};

interface BlockConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly hiddenAct: ActivationName;
  readonly layerNormEps: number;
}

/** Dims: B images, T tokens, C width. */
class VitAttention extends Module {
  readonly kProj: Linear;
  readonly vProj: Linear;
  readonly qProj: Linear;
  readonly outProj: Linear;
  readonly #heads: number;

  constructor({ hiddenSize, numAttentionHeads }: BlockConfig) {
    super();
    if (hiddenSize % numAttentionHeads !== 0) {
      throw new ConfigError(`hiddenSize ${hiddenSize} is not a multiple of the ${numAttentionHeads} attention heads`);
    }
    this.kProj = new Linear(hiddenSize, hiddenSize, { init: xavierUniform });
    this.vProj = new Linear(hiddenSize, hiddenSize, { init: xavierUniform });
    this.qProj = new Linear(hiddenSize, hiddenSize, { init: xavierUniform });
    this.outProj = new Linear(hiddenSize, hiddenSize, { init: xavierUniform });
    this.#heads = numAttentionHeads;
  }

  forward(x: Tensor, lengths?: readonly number[]): Tensor {
    const [q, k, v] = [this.qProj.forward(x), this.kProj.forward(x), this.vProj.forward(x)];
    if (!lengths) return this.outProj.forward(multiHeadAttention(q, k, v, { heads: this.#heads }));
    const [queries, keys, values] = [q, k, v].map((rows) => rows.view(rows.size(0), this.#heads, rows.size(1) / this.#heads)) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    return this.outProj.forward(packedAttention(queries, keys, values, { lengths }, { layer: 0, causal: false }));
  }
}

/** The two-layer perceptron of a block. */
export class VitMlp extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly #activation: (x: Tensor) => Tensor;

  constructor({ hiddenSize, intermediateSize, hiddenAct }: BlockConfig) {
    super();
    this.fc1 = new Linear(hiddenSize, intermediateSize, { init: xavierUniform });
    this.fc2 = new Linear(intermediateSize, hiddenSize, { init: xavierUniform });
    this.#activation = activations[hiddenAct];
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.#activation(this.fc1.forward(x)));
  }
}

/** A transformer block that normalizes first, as CLIP and SigLIP have it. Dosovitskiy et al. 2021, arXiv:2010.11929. */
export class VitBlock extends Module {
  readonly selfAttn: VitAttention;
  readonly layerNorm1: LayerNorm;
  readonly mlp: VitMlp;
  readonly layerNorm2: LayerNorm;

  constructor(config: BlockConfig) {
    super();
    this.selfAttn = new VitAttention(config);
    this.layerNorm1 = new LayerNorm(config.hiddenSize, { eps: config.layerNormEps });
    this.mlp = new VitMlp(config);
    this.layerNorm2 = new LayerNorm(config.hiddenSize, { eps: config.layerNormEps });
  }

  /** `x` [B, T, C], or the rows [N, C] of images that have so many each, one behind the other; same shape out. */
  forward(x: Tensor, lengths?: readonly number[]): Tensor {
    const h = x.add(this.selfAttn.forward(this.layerNorm1.forward(x), lengths));
    return h.add(this.mlp.forward(this.layerNorm2.forward(h)));
  }
}

/** A stack of blocks. Layers behind the last wanted feature keep their weights and are never run. */
export class VitEncoder extends Module {
  readonly layers: readonly VitBlock[];

  constructor(config: BlockConfig) {
    super();
    this.layers = Array.from({ length: config.numHiddenLayers }, () => new VitBlock(config));
  }

  /** Every wanted layer's number counted from 0, the embeddings. Throws ConfigError for one that is not there. */
  featureIndices(wanted: number | readonly number[]): number[] {
    return featureIndices(wanted, this.layers.length);
  }

  /** `x` [B, T, C] to the wanted layers' outputs side by side, [B, T, C · wanted]; with `lengths` [N, C] to [N, C · wanted]. */
  features(x: Tensor, wanted: readonly number[], lengths?: readonly number[]): Tensor {
    return layerFeatures(this.layers, x, wanted, (layer, h) => layer.forward(h, lengths));
  }
}

/** Every wanted layer's number counted from 0, the embeddings, in a tower of `count` layers. Throws ConfigError for one that is not there. */
export function featureIndices(wanted: number | readonly number[], count: number): number[] {
  return (typeof wanted === 'number' ? [wanted] : wanted).map((layer) => {
    const index = layer < 0 ? count + 1 + layer : layer;
    if (index >= 0 && index <= count) return index;
    throw new ConfigError(`feature layer ${layer} of a tower with ${count} layers`, {
      hint: `use 0 (the embeddings) to ${count}, or -1 (the last layer) to ${-count - 1}`,
    });
  });
}

/** `x` [..., C] to the outputs [..., C · wanted] of the wanted layers side by side; layers behind the last of them are not run. */
export function layerFeatures<Layer>(
  layers: readonly Layer[],
  x: Tensor,
  wanted: readonly number[],
  step: (layer: Layer, x: Tensor) => Tensor,
): Tensor {
  const outputs = new Map<number, Tensor>();
  let [done, hidden] = [0, x];
  for (const index of [...new Set(wanted)].sort((a, b) => a - b)) {
    hidden = runLayers(layers.slice(done, index), hidden, step);
    outputs.set(index, hidden);
    done = index;
  }
  const found = wanted.flatMap((index) => outputs.get(index) ?? []);
  return found.length === 1 ? hidden : cat(found, -1);
}
