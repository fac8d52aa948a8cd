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
    }
  /** Each frequency is divided by its own factor, and what is rotated grows by `amplitude`. Ding et al. 2024, arXiv:2402.13753. */
  | { readonly ropeType: 'factors'; readonly factors: readonly number[]; readonly amplitude: number };

/** Cosines and sines of every position's angles, each [N, size / 2] in float32. */
export interface RotaryAngles {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/**
 * Rotary position embedding in the half-split layout of Hugging Face checkpoints: of `size` elements, which may be the first ones of a
 * larger head. Su et al. 2021, arXiv:2104.09864.
 */
export class Rotary {
  readonly #size: number;
  readonly #theta: number;
  readonly #scaling: RopeScaling;
  #frequencies: Float32Array | undefined;

  constructor(size: number, { theta, scaling = { ropeType: 'default' } }: { theta: number; scaling?: RopeScaling }) {
    this.#size = size;
    this.#theta = theta;
    this.#scaling = scaling;
  }

  /** Radians a position, [size / 2], after scaling. */
  get frequencies(): Float32Array {
    this.#frequencies ??= this.#computeFrequencies();
    return this.#frequencies;
  }

  #computeFrequencies(): Float32Array {
    using _scope = new Scope();
    const halves = this.#size / 2;
    const exponents = tensor(Float32Array.from({ length: halves }, (_, i) => Math.fround((2 * i) / this.#size)));
    // libtorch's float32 power, as transformers takes it: one unit in the last place here is 1e-4 radians at position 2000.
    const wavelengths = full([halves], this.#theta).pow(exponents);
    const { ropeType } = this.#scaling;
    if (ropeType === 'factors') {
      return tensor(Float32Array.from(this.#scaling.factors)).mul(wavelengths).reciprocal().toArray() as Float32Array;
    }
    const plain = wavelengths.reciprocal().toArray() as Float32Array;
    return plain.map((frequency) => scaled(frequency, this.#scaling));
  }

  /** The angles at `positions` [N]. */
  at(positions: Float32Array, { device }: { device: Device }): RotaryAngles {
    const angles = tensor(positions, { device }).unsqueeze(1).mul(tensor(this.frequencies, { device }));
    const [cos, sin] = [angles.cos(), angles.sin()];
    if (this.#scaling.ropeType !== 'factors') return { cos, sin };
    const { amplitude } = this.#scaling;
    return { cos: cos.mul(amplitude), sin: sin.mul(amplitude) };
  }
}

function scaled(frequency: number, scaling: RopeScaling): number {
  if (scaling.ropeType === 'default' || scaling.ropeType === 'factors') return frequency;
  if (scaling.ropeType === 'linear') return frequency / scaling.factor;
  // Llama 3.1: slow frequencies are divided, fast ones kept, those between blended.
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings } = scaling;
  const turns = (originalMaxPositionEmbeddings * frequency) / (2 * Math.PI);
  const kept = Math.min(1, Math.max(0, (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)));
  return (1 - kept) * (frequency / factor) + kept * frequency;
}

/** Rotates `x` [N, H, D], or the first elements of its heads, by the angles of its N positions. */
export const rotate = (x: Tensor, { cos, sin }: RotaryAngles): Tensor => rope(x, cos, sin);
