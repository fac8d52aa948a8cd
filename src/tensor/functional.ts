import { type DType, dtypeCode } from './dtype.ts';
import * as ops from './ops.generated.ts';
import { Tensor } from './tensor.ts';

/** x · wᵀ + b, on few rows at the speed of memory. `x` [..., I], `weight` [O, I], `bias` [O]. */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  return new Tensor(ops.linear(x.handle, weight.handle, bias?.handle ?? null));
}

/** Rows of `weight` [V, C] for int64 `ids`. */
export function embedding(weight: Tensor, ids: Tensor): Tensor {
  return new Tensor(ops.embedding(weight.handle, ids.handle));
}

/** Layer normalisation over the last dimension. Ba et al. 2016, arXiv:1607.06450. */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor | undefined, eps: number): Tensor {
  return new Tensor(ops.layerNorm(x.handle, weight.shape, weight.handle, bias?.handle ?? null, eps));
}

/** Root-mean-square normalisation over the last dimension, in float32 before the weight. Zhang and Sennrich 2019, arXiv:1910.07467. */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  return new Tensor(ops.rmsNorm(x.handle, weight.handle, eps));
}

/** Rotates element i of `x` [N, H, D] with element i + D / 2 by angles whose cosines and sines are [N, D / 2] in float32. */
export function rope(x: Tensor, cos: Tensor, sin: Tensor): Tensor {
  return new Tensor(ops.rope(x.handle, cos.handle, sin.handle));
}

/** Which x · sigmoid(p(x)): SiLU's, quick GELU's, or that of GELU by tanh. */
export type SigmoidForm = 'silu' | 'quick_gelu' | 'gelu_tanh';

/** x · sigmoid(p(x)), times `up` where it is given, keeping only its inputs for the gradients. */
export const sigmoidUnit = (x: Tensor, form: SigmoidForm, up?: Tensor): Tensor =>
  new Tensor(ops.sigmoidUnit(x.handle, up?.handle ?? null, form));

/** silu(gate) · up. Shazeer 2020, arXiv:2002.05202. */
export const swiglu = (gate: Tensor, up: Tensor): Tensor => sigmoidUnit(gate, 'silu', up);

/** `x` [B, I, H, W], `weight` [O, I / groups, kH, kW]. */
export function conv2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  { stride = 1, padding = 0, groups = 1 }: { stride?: number; padding?: number; groups?: number } = {},
): Tensor {
  return new Tensor(ops.conv2d(x.handle, weight.handle, bias?.handle ?? null, [stride, stride], [padding, padding], [1, 1], groups));
}

/** Gaussian error linear unit, exact or by tanh. Hendrycks and Gimpel 2016, arXiv:1606.08415. */
export const gelu = (x: Tensor, approximate: 'none' | 'tanh' = 'none'): Tensor =>
  approximate === 'tanh' ? sigmoidUnit(x, 'gelu_tanh') : new Tensor(ops.gelu(x.handle, approximate));

/** x · sigmoid(1.702 x), the GELU of OpenAI's CLIP. */
export const quickGelu = (x: Tensor): Tensor => sigmoidUnit(x, 'quick_gelu');

/** x · sigmoid(x). */
export const silu = (x: Tensor): Tensor => sigmoidUnit(x, 'silu');

/** max(x, 0). */
export const relu = (x: Tensor): Tensor => new Tensor(ops.relu(x.handle));

/** Zeroes values with the given probability and scales up the rest, from libtorch's default generator. */
export const dropout = (x: Tensor, probability: number, { training }: { training: boolean }): Tensor =>
  new Tensor(ops.dropout(x.handle, probability, training));

/** How a row's scores are taken. */
export interface Scores {
  /** What q · k is multiplied by, 1/√D unless said otherwise. */
  readonly scale?: number | undefined;
  /** A causal row sees this many rows, itself the last of them; all before it unless said otherwise. */
  readonly window?: number | undefined;
  /** Scores s become softcap · tanh(s / softcap). Gemma Team 2024, arXiv:2408.00118. */
  readonly softcap?: number | undefined;
}

/** Which rows see which, and how. A causal sequence's last query is at its last key. */
export interface AttentionOptions extends Scores {
  readonly lengths: readonly number[];
  readonly keyLengths: readonly number[];
  readonly causal: boolean;
}

/**
 * softmax(q kᵀ · scale) v of packed sequences, each over its own keys. Dims: N query rows, M key rows, H query heads, G key/value heads, D head
 * size. `q` [N, H, D], `k` and `v` [M, G, D] to [N, H, D].
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, { lengths, keyLengths, causal, ...scores }: AttentionOptions): Tensor {
  const { scale = 1 / Math.sqrt(q.size(2)), window, softcap = 0 } = scores;
  return new Tensor(ops.packedAttention(q.handle, k.handle, v.handle, lengths, keyLengths, causal, scale, window ?? null, softcap));
}

/** The rooms of a cache [G, capacity, D], of which the first `length` rows are filled. */
export interface CachedRows {
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly length: number;
}

/** The last T rows of a sequence over the cache of all its rows, themselves included, without gradients. `q` [T, H, D] to [T, H, D]. */
export function cachedAttention(q: Tensor, { keys, values, length }: CachedRows, scores: Scores = {}): Tensor {
  const { scale = 1 / Math.sqrt(q.size(2)), window, softcap = 0 } = scores;
  return new Tensor(ops.cachedAttention(q.handle, keys.handle, values.handle, length, scale, window ?? null, softcap));
}

/** Copies rows [T, G, D] of keys and values into the rooms [G, capacity, D] of a cache from `position` on. */
export function append_(room: { keys: Tensor; values: Tensor }, keys: Tensor, values: Tensor, position: number): void {
  ops.append_(room.keys.handle, room.values.handle, keys.handle, values.handle, position);
}

/** Cross-entropy of `logits` [N, V] against int64 `labels` [N], -100 = ignored. The mean is NaN when nothing is labelled. */
export function crossEntropy(logits: Tensor, labels: Tensor, { reduction = 'mean' }: { reduction?: 'mean' | 'sum' | 'none' } = {}): Tensor {
  const code = { none: 0, mean: 1, sum: 2 }[reduction];
  return new Tensor(ops.crossEntropyLoss(logits.handle, labels.handle, null, code, -100));
}

/**
 * The summed cross-entropy of a linear head, in float32 or wider, without ever holding more than `chunk` rows of logits. `hidden` [K, C],
 * `weight` [V, C], int64 `labels` [K], `bias` [V].
 */
export function linearCrossEntropy(
  hidden: Tensor,
  weight: Tensor,
  labels: Tensor,
  { bias, chunk }: { bias?: Tensor | undefined; chunk: number },
): Tensor {
  return new Tensor(ops.linearCrossEntropy(hidden.handle, weight.handle, bias?.handle ?? null, labels.handle, chunk));
}

/** Bicubic resizing of `x` [B, C, H, W] between pixel centres, without antialiasing. */
export function upsampleBicubic(x: Tensor, size: readonly [height: number, width: number]): Tensor {
  return new Tensor(ops.upsampleBicubic2d(x.handle, size, false));
}

/** Bicubic resizing of `x` [B, C, H, W] with antialiasing, as torchvision does, and Pillow nearly; uint8 wants channels-last strides. */
export function upsampleBicubicAa(x: Tensor, size: readonly [height: number, width: number]): Tensor {
  return new Tensor(ops._upsampleBicubic2dAa(x.handle, size, false));
}

/** Bilinear resizing of `x` [B, C, H, W] between pixel centres, without antialiasing. */
export function upsampleBilinear(x: Tensor, size: readonly [height: number, width: number]): Tensor {
  return new Tensor(ops.upsampleBilinear2d(x.handle, size, false));
}

/** Bilinear resizing of `x` [B, C, H, W] with antialiasing. */
export function upsampleBilinearAa(x: Tensor, size: readonly [height: number, width: number]): Tensor {
  return new Tensor(ops._upsampleBilinear2dAa(x.handle, size, false));
}

/** Lanczos resizing of `x` [B, C, H, W] over three lobes with antialiasing, on the CPU alone; uint8 wants channels-last strides. */
export function upsampleLanczosAa(x: Tensor, size: readonly [height: number, width: number]): Tensor {
  return new Tensor(ops._upsampleLanczos2dAa(x.handle, size, false));
}

/** [B, C, H · r, W · r] to [B, C · r · r, H, W]. */
export const pixelUnshuffle = (x: Tensor, factor: number): Tensor => new Tensor(ops.pixelUnshuffle(x.handle, factor));

/** Pads the last dimensions with one value; `pads` counts from the last dimension: [before, after, before, after, …]. */
export const pad = (x: Tensor, pads: readonly number[], value = 0): Tensor => new Tensor(ops.constantPadNd(x.handle, pads, value));

/** int64 class numbers to rows of 0 and 1, int64. */
export const oneHot = (x: Tensor, classes: number): Tensor => new Tensor(ops.oneHot(x.handle, classes));

/** One fused AdamW step in place over lists of tensors of equal lengths. Loshchilov and Hutter 2019, arXiv:1711.05101. */
export function fusedAdamW(
  {
    parameters,
    gradients,
    means,
    squares,
    steps,
  }: Readonly<Record<'parameters' | 'gradients' | 'means' | 'squares' | 'steps', readonly Tensor[]>>,
  { learningRate, betas, weightDecay, eps }: { learningRate: number; betas: readonly [number, number]; weightDecay: number; eps: number },
): void {
  const handles = (list: readonly Tensor[]) => list.map((t) => t.handle);
  ops._fusedAdamw_(
    handles(parameters),
    handles(gradients),
    handles(means),
    handles(squares),
    [],
    handles(steps),
    learningRate,
    betas[0],
    betas[1],
    weightDecay,
    eps,
    false,
    false,
  );
}

/** What one parameter's AdamW step reads and writes: a float32 master beside it or its own lower half (int16), or, without one, bfloat16 alone. */
export interface AdamWState {
  readonly parameter: Tensor;
  readonly master?: Tensor | undefined;
  /** bfloat16: what rounding has cut off of a bfloat16 parameter. Without it parameters that have no master are rounded stochastically. */
  readonly compensation?: Tensor | undefined;
  readonly gradient: Tensor;
  readonly mean: Tensor;
  readonly square: Tensor;
}

/** Moments in eight bits, of the parameter's shape in uint8, with a float32 scale for each 256 of their elements in a row. */
export interface AdamW8bitState extends AdamWState {
  readonly meanScale: Tensor;
  readonly squareScale: Tensor;
}

interface AdamWStep {
  readonly learningRate: number;
  readonly betas: readonly [number, number];
  readonly weightDecay: number;
  readonly eps: number;
  readonly step: number;
  readonly scale: number;
  readonly noise: number;
}

const numbersOf = ({ learningRate, betas, weightDecay, eps, step, scale, noise }: AdamWStep) =>
  [learningRate, ...betas, eps, weightDecay, step, scale, noise] as const;

/**
 * One AdamW step of a bfloat16 or float16 parameter in place, in float32 inside. With a master the parameter becomes its rounded copy and the
 * moments are float32; without one all three are bfloat16 and rounded stochastically, by noise that follows from `noise` alone; with compensation
 * the parameter is not. `scale` multiplies the gradient, `step` counts from 1. Loshchilov and Hutter 2019, arXiv:1711.05101.
 */
export function adamW_({ parameter, master, compensation, gradient, mean, square }: AdamWState, options: AdamWStep): void {
  const moments = [mean.handle, square.handle] as const;
  ops.adamw_(parameter.handle, master?.handle ?? null, compensation?.handle ?? null, gradient.handle, ...moments, ...numbersOf(options));
}

/** `adamW_` with moments in eight bits; the parameter may be float32 without a master, too. Dettmers et al. 2022, arXiv:2110.02861. */
export function adamW8bit_(
  { parameter, master, compensation, gradient, mean, meanScale, square, squareScale }: AdamW8bitState,
  options: AdamWStep,
): void {
  const moments = [mean.handle, meanScale.handle, square.handle, squareScale.handle] as const;
  ops.adamw8bit_(
    parameter.handle,
    master?.handle ?? null,
    compensation?.handle ?? null,
    gradient.handle,
    ...moments,
    ...numbersOf(options),
  );
}

/** Rounds float32 values into bfloat16 ones in place, up or down with the probability that keeps their mean, by noise that follows from `noise` alone. */
export const roundStochastic_ = (to: Tensor, values: Tensor, noise: number): void => ops.roundStochastic_(to.handle, values.handle, noise);

/** The float32 numbers whose upper and lower 16 bits these are, as `splitHalves_` made them: bfloat16 and int16. */
export const joinHalves = (upper: Tensor, lower: Tensor): Tensor => new Tensor(ops.joinHalves(upper.handle, lower.handle));

/**
 * Puts float32 values into two places in whose bits nothing is lost: a bfloat16 one gets them rounded to the nearest, a tie away from zero, and an int16
 * one their lower 16 bits, which tell by their sign which way that was.
 */
export const splitHalves_ = (upper: Tensor, lower: Tensor, values: Tensor): void =>
  ops.splitHalves_(upper.handle, lower.handle, values.handle);

/** beta · x + alpha · a · b, for matrices. */
export const addmm = (x: Tensor, a: Tensor, b: Tensor, { beta = 1, alpha = 1 }: { beta?: number; alpha?: number } = {}): Tensor =>
  new Tensor(ops.addmm(x.handle, a.handle, b.handle, beta, alpha));

/** The 2-norms along a dimension. */
export const vectorNorm = (x: Tensor, dim: number, { keepDim = false }: { keepDim?: boolean } = {}): Tensor =>
  new Tensor(ops.linalgVectorNorm(x.handle, 2, dim, keepDim));

/** The sum of all squares, in float32 within blocks and float64 over them. */
export const squareSum = (list: readonly Tensor[]): number => ops.squareSum(list.map((t) => t.handle));

/** The 2-norm of each tensor, computed in `dtype`. */
export function foreachNorm(list: readonly Tensor[], { dtype }: { dtype?: DType } = {}): Tensor[] {
  return ops
    ._foreachNormScalar(
      list.map((t) => t.handle),
      2,
      dtype && dtypeCode(dtype),
    )
    .map((handle) => new Tensor(handle));
}

/** Scales every tensor in place. */
export const foreachMul_ = (list: readonly Tensor[], factor: number): void =>
  ops._foreachMul_Scalar(
    list.map((t) => t.handle),
    factor,
  );

/** A frozen weight in four bits (NF4 with double quantisation, `scales` being three tensors) or in eight (one scale a row). */
export interface QuantizedWeight {
  /** uint8 [O, ⌈I / 2⌉], the even column in the low half, or int8 [O, I]. */
  readonly codes: Tensor;
  /** int8 [O, ⌈I / 64⌉], float32 [⌈O · ⌈I / 64⌉ / 256⌉] and float32 []; or float32 [O]. */
  readonly scales: readonly Tensor[];
}

/** Weight [O, I] to NF4 codes and the largest magnitude of every 64 values of a row, [O, ⌈I / 64⌉]. Dettmers et al. 2023, arXiv:2305.14314. */
export function quantizeNf4(weight: Tensor): { codes: Tensor; magnitudes: Tensor } {
  const [codes, magnitudes] = ops.quantizeNf4(weight.handle);
  return { codes: new Tensor(codes), magnitudes: new Tensor(magnitudes) };
}

/** The weight [O, columns] in float32. */
export function dequantizeWeight({ codes, scales }: QuantizedWeight, columns: number): Tensor {
  return new Tensor(
    ops.dequantize(
      codes.handle,
      scales.map((t) => t.handle),
      columns,
    ),
  );
}

/** x · wᵀ + b, the weight being decoded for this call and for the gradient of `x`, the only one there is. `x` [..., I], `bias` [O]. */
export function quantizedLinear(x: Tensor, { codes, scales }: QuantizedWeight, bias?: Tensor): Tensor {
  return new Tensor(
    ops.quantizedLinear(
      x.handle,
      codes.handle,
      scales.map((t) => t.handle),
      bias?.handle ?? null,
    ),
  );
}
