import { z } from 'zod';
import { activationNames } from '../../nn/activation.ts';

const size = z.int().positive();

/** Fields that config.json of most language models spells alike, without their defaults. */
export const shape = {
  vocabSize: size,
  hiddenSize: size,
  intermediateSize: size,
  numHiddenLayers: size,
  numAttentionHeads: size,
  numKeyValueHeads: size,
  headDim: size.multipleOf(2),
  maxPositionEmbeddings: size,
  hiddenAct: z.enum(activationNames),
  /** What a norm adds to the mean square, or to the variance. */
  eps: z.number().positive(),
  /** Standard deviation of the starting weights. */
  initializerRange: z.number().positive().default(0.02),
};

/** Tokens that the architecture does not need and whoever generates does. */
export const tokenIds = {
  bosTokenId: z.int().optional(),
  eosTokenId: z.union([z.int(), z.array(z.int())]).optional(),
  padTokenId: z.int().optional(),
};

/** The fields that heads follow from. */
export interface HeadFields {
  readonly hiddenSize: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads?: number | undefined;
  readonly headDim?: number | undefined;
}

/** Heads of queries, heads of keys and values, and the width of one. */
export interface HeadSizes {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
}

/** As many key/value heads as query heads, and heads that share the width, unless said otherwise. */
export function headSizes({ hiddenSize, numAttentionHeads, numKeyValueHeads, headDim }: HeadFields): HeadSizes {
  return { heads: numAttentionHeads, kvHeads: numKeyValueHeads ?? numAttentionHeads, headSize: headDim ?? hiddenSize / numAttentionHeads };
}

/** A schema's refinement: width divides into heads, and query heads into groups. */
export function checkHeads(config: HeadFields, context: z.RefinementCtx): void {
  const { heads, kvHeads, headSize } = headSizes(config);
  const complain = (message: string): void => context.addIssue({ code: 'custom', message });
  if (headSize % 2 !== 0) complain('hiddenSize must divide into numAttentionHeads heads of an even size, unless headDim is given');
  if (heads % kvHeads !== 0) complain('numAttentionHeads must be a multiple of numKeyValueHeads');
}

/** Whether a layer sees its whole sequence or a window of it. */
export const LayerType = z.enum(['full_attention', 'sliding_attention']);
export type LayerType = z.output<typeof LayerType>;

/** A schema's refinement: where layers are typed one by one, every layer is. */
export function checkLayerTypes(
  { layerTypes, numHiddenLayers }: { readonly layerTypes?: readonly LayerType[] | undefined; readonly numHiddenLayers: number },
  context: z.RefinementCtx,
): void {
  if (layerTypes && layerTypes.length !== numHiddenLayers) {
    context.addIssue({ code: 'custom', path: ['layerTypes'], message: `expected ${numHiddenLayers} layers, got ${layerTypes.length}` });
  }
}
