import type { PartConfig } from '../model/part.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { chunkElements } from './loss.ts';
import type { Stage } from './recipe.ts';
import { partsOf } from './tune.ts';

/** Bytes that a stage of float32 training takes; activations are estimated from the sizes of the blocks. */
export interface MemoryEstimate {
  readonly parameters: number;
  readonly gradients: number;
  readonly optimizer: number;
  readonly activations: number;
  readonly total: number;
}

const floatBytes = 4;

/** What autograd keeps of `tokens` rows in a stack of blocks: projections, norms and residuals are some 10 widths, the perceptron 4 of its own. */
function activationsOf(config: PartConfig, tokens: number, { recompute }: { recompute: boolean }): number {
  const [width, inner, layers] = ['hiddenSize', 'intermediateSize', 'numHiddenLayers'].map((key) => Number(config[key] ?? 0)) as [
    number,
    number,
    number,
  ];
  const block = tokens * (10 * width + 4 * inner);
  return Math.round(floatBytes * (recompute ? layers * tokens * width + block : layers * block));
}

/** Estimates the memory of a stage for micro-batches of so many tokens and images. `learns` as in the stage. */
export function estimateMemory(
  model: TinyLlava,
  { learns }: Pick<Stage, 'learns'>,
  { tokens, images, recompute }: { tokens: number; images: number; recompute: boolean },
): MemoryEstimate {
  const parts = partsOf(model);
  const learning = (['vision', 'connector', 'language'] as const).filter((part) => learns[part].tune !== 'frozen');
  const trainable = learning.reduce((sum, part) => sum + (parts[part]?.parameterCount() ?? 0), 0);
  const parameters = floatBytes * model.parameterCount();
  // A part keeps what its gradients need when it learns or when something before it does.
  const { vision, language } = model.config;
  const tower =
    vision && learns.vision.tune !== 'frozen' ? activationsOf(vision, images * (model.visionTower?.tokens ?? 0), { recompute }) : 0;
  const logits = floatBytes * Math.min(chunkElements, Math.round(tokens * model.languageModel.vocabSize));
  const activations = tower + activationsOf(language, tokens, { recompute }) + logits;
  const [gradients, optimizer] = [floatBytes * trainable, 2 * floatBytes * trainable];
  return { parameters, gradients, optimizer, activations, total: parameters + gradients + optimizer + activations };
}
