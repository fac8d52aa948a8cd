import type { TinyLlava } from '../model/tinyllava.ts';
import type { Module } from '../nn/module.ts';
import { dtypeBytes } from '../tensor/dtype.ts';
import { activationBytes, type MicroBatch } from './activations.ts';
import { blocksOf } from './blocks.ts';
import { linearNumbers } from './low-rank.ts';
import { besideBytes, type Precision, precisions } from './precision.ts';
import { isLora, partNames, type Stage, type Tuning } from './recipe.ts';
import { partsOf, trainableOf } from './tune.ts';

/** The most bytes that a stage of training takes in each process; activations are estimated from what blocks consist of. */
export interface MemoryEstimate {
  readonly parameters: number;
  readonly gradients: number;
  readonly optimizer: number;
  readonly activations: number;
  /** What sharded ranks bring together: two layers and what is in none, and the gradients of layers on their way. */
  readonly gathered?: number;
  readonly total: number;
}

/** What goes through the model at once, and how. */
export interface EstimateOptions extends MicroBatch {
  readonly precision: Precision;
  /** Whether a process has several micro-batches in a step, whose gradients are summed in float32. */
  readonly accumulates?: boolean;
  /** Ranks that train together, and whether each keeps a part of the weights. */
  readonly processes?: number;
  readonly sharded?: boolean;
}

/** Layers whose gradients are on their way to the ranks that keep them. */
const travelling = 3;

/** Bytes of a part's weights: so many for a number, but in qlora's linear layers half a byte or one, and 1/57 for the scales of the former. */
function weightsOf(model: TinyLlava, part: Module, tuning: Tuning, bytes: number): number {
  const all = bytes * part.parameterCount();
  if (tuning.tune !== 'qlora') return all;
  const each = tuning.bits === 8 ? 1 : 0.5 + 1 / 64 + 4 / (64 * 256);
  return all - Math.round((bytes - each) * linearNumbers(model, part));
}

/** Estimates the memory of a stage for such micro-batches. Throws ConfigError as `trainableOf` does. */
export function estimateMemory(
  model: TinyLlava,
  stage: Pick<Stage, 'name' | 'learns' | 'optimizer'>,
  { precision, accumulates = false, processes = 1, sharded = false, ...batch }: EstimateOptions,
): MemoryEstimate {
  const share = sharded ? processes : 1;
  const { learns } = stage;
  const { compute, weights } = precisions[precision];
  const [bytes, kept] = [dtypeBytes(compute), dtypeBytes(weights)];
  const parts = partsOf(model);
  const factors = partNames.reduce((sum, part) => sum + (isLora(learns[part]) ? trainableOf(model, stage)[part] : 0), 0);
  const trainable = Object.values(trainableOf(model, stage)).reduce((sum, count) => sum + count, 0);
  const stored = partNames.reduce((sum, part) => sum + (parts[part] ? weightsOf(model, parts[part], learns[part], bytes) : 0), 0);
  const masters = besideBytes(precision) * trainable;
  const whole = sharded && parts.vision && learns.vision.tune === 'frozen' ? weightsOf(model, parts.vision, learns.vision, bytes) : 0;
  const parameters = whole + Math.round((stored - whole + bytes * factors + masters) / share);
  const activations = activationBytes(model, stage, { ...batch, recompute: batch.recompute || sharded, bytes });
  // AdamW remembers two moments, or a byte of each and two scales for 256, Muon one in float32, Adafactor a row and a column of each matrix.
  const { type, rounding } = stage.optimizer;
  const compensation = rounding === 'kahan' ? kept : 0;
  const remembered = { adamw: 2 * kept, 'adamw-8bit': 2 + 8 / 256, muon: 4, adafactor: 0 }[type] + compensation;
  const gradients = Math.round(((processes > 1 || accumulates ? 4 : bytes) * trainable) / share);
  const optimizer = Math.round((remembered * trainable) / share);
  const own = { parameters, gradients, optimizer, activations };
  const all = { ...own, ...(sharded && { gathered: gatheredBy(model, stage, bytes) }) };
  return { ...all, total: Object.values(all).reduce((sum, part) => sum + part, 0) };
}

/** What a sharded rank holds of others for a while. */
function gatheredBy(model: TinyLlava, { learns }: Pick<Stage, 'learns'>, bytes: number): number {
  const parts = partsOf(model);
  const spread = partNames.filter((name) => parts[name] && (name !== 'vision' || learns.vision.tune !== 'frozen'));
  const layers = spread.flatMap((name) => blocksOf(parts[name] as Module).map(({ block }) => block.parameterCount()));
  const largest = Math.max(0, ...layers);
  const rest = spread.reduce((sum, name) => sum + (parts[name]?.parameterCount() ?? 0), 0) - layers.reduce((sum, count) => sum + count, 0);
  const gradient = bytes + 4;
  return bytes * (2 * largest + rest) + (gradient + 4 * travelling) * largest + gradient * rest;
}
