import { full, tensor } from '../tensor/create.ts';
import type { Device } from '../tensor/device.ts';
import { rope } from '../tensor/functional.ts';
import { Scope } from '../tensor/scope.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** How the frequencies are stretched for sequences longer than those trained on. */
export type RopeScaling =
  | { readonly ropeType: 'default' }
  | { readonly ropeType: 'linear'; readonly factor: number }
  | {
      readonly ropeType: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxPositionEmbeddings: number;
    };

/** Cosines and sines of every position's angles, each [N, D / 2] in float32. */
export interface RotaryAngles {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/** Rotary position embedding in the half-split layout of Hugging Face checkpoints. Su et al. 2021, arXiv:2104.09864. */
export class Rotary {
  readonly #headSize: number;
  readonly #theta: number;
  readonly #scaling: RopeScaling;
  #frequencies: Float32Array | undefined;

  constructor(headSize: number, { theta, scaling = { ropeType: 'default' } }: { theta: number; scaling?: RopeScaling }) {
    this.#headSize = headSize;
    this.#theta = theta;
    this.#scaling = scaling;
  }

  /** Radians a position, [D / 2], after scaling. */
  get frequencies(): Float32Array {
    this.#frequencies ??= this.#computeFrequencies();
    return this.#frequencies;
  }

  #computeFrequencies(): Float32Array {
    using _scope = new Scope();
    const halves = this.#headSize / 2;
    const exponents = tensor(Float32Array.from({ length: halves }, (_, i) => Math.fround((2 * i) / this.#headSize)));
    // libtorch's float32 power, as transformers takes it: one unit in the last place here is 1e-4 radians at position 2000.
    const plain = full([halves], this.#theta).pow(exponents).reciprocal().toArray() as Float32Array;
    return plain.map((frequency) => scaled(frequency, this.#scaling));
  }

  /** The angles at `positions` [N]. */
  at(positions: Float32Array, { device }: { device: Device }): RotaryAngles {
    const angles = tensor(positions, { device }).unsqueeze(1).mul(tensor(this.frequencies, { device }));
    return { cos: angles.cos(), sin: angles.sin() };
  }
}

function scaled(frequency: number, scaling: RopeScaling): number {
  if (scaling.ropeType === 'default') return frequency;
  if (scaling.ropeType === 'linear') return frequency / scaling.factor;
  // Llama 3.1: slow frequencies are divided, fast ones kept, those between blended.
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings } = scaling;
  const turns = (originalMaxPositionEmbeddings * frequency) / (2 * Math.PI);
  const kept = Math.min(1, Math.max(0, (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)));
  return (1 - kept) * (frequency / factor) + kept * frequency;
}

/** Rotates `x` [N, H, D] by the angles of its N positions. */
export const rotate = (x: Tensor, { cos, sin }: RotaryAngles): Tensor => rope(x, cos, sin);
