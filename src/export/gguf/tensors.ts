import { type GgufTensor, type GgufType, ggufBlock } from '../../tensor/gguf-write.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { readWeight } from '../plan.ts';
import type { Source } from '../source.ts';

/** One tensor of a GGUF file: which weights it is made of, and how. */
export interface Made {
  readonly name: string;
  readonly keys: readonly string[];
  readonly shape: readonly number[];
  /** From the weights of `keys`; without it the one weight goes as it is. */
  readonly make?: ((...weights: readonly Tensor[]) => Tensor) | undefined;
  /** How it is stored, where that is not the file's to say. */
  readonly type?: GgufType;
}

/** Norms, biases and other vectors keep 32 bits; rows that no block fills get 16, as llama.cpp's converter has it. */
function typeOf({ name, shape, type }: Made, wanted: GgufType): GgufType {
  if (type) return type;
  if (shape.length < 2 || name.endsWith('_norm.weight')) return 'F32';
  return (shape.at(-1) ?? 0) % ggufBlock(wanted) === 0 ? wanted : 'F16';
}

/** What to write, in the types that each tensor can have. */
export function ggufTensors(source: Source, made: readonly Made[], wanted: GgufType): GgufTensor[] {
  return made.map((one) => ({
    name: one.name,
    shape: one.shape,
    type: typeOf(one, wanted),
    tensor: () => {
      const weights = one.keys.map((key) => readWeight(source, key));
      const [first] = weights as [Tensor];
      return one.make ? one.make(...weights) : first;
    },
  }));
}
