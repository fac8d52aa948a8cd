import { type Counts, type ModelCounts, sumOf } from './counts.ts';
import type { Row } from './rows.ts';

/** What a pass through the whole model takes, by part; attention apart from the products with weights. */
export interface Flops {
  readonly vision: number;
  readonly connector: number;
  readonly language: number;
  readonly attention: number;
  readonly head: number;
}

/** The three kinds of work of a step; what is recomputed are blocks whose insides were thrown away. */
interface Passes<Amount> {
  readonly forward: Amount;
  readonly recompute: Amount;
  readonly backward: Amount;
}
export type Work = Passes<Flops>;

/** How a row is computed. */
export interface WorkOptions {
  readonly recompute?: boolean;
  readonly attention?: AttentionWork;
}

/** How attention is computed. */
interface AttentionWork {
  /** The share of the scores of a causal block that is computed: kernels leave out what is masked, eager products do not. */
  readonly causalShare: number;
  /** The backward pass in forward passes: 2 for the gradients of two products, 2.5 where scores are computed again. Dao 2023, arXiv:2307.08691. */
  readonly backward: number;
}
const flash: AttentionWork = { causalShare: 0.5, backward: 2.5 };

const allOf = ({ vision, connector, language, attention, head }: Flops): number => vision + connector + language + attention + head;

/** All passes and parts together. */
export const workOf = ({ forward, recompute, backward }: Work): number => allOf(forward) + allOf(recompute) + allOf(backward);

/** Tokens of a row in the language model. */
export const tokensOf = ({ viewTokens }: Pick<ModelCounts, 'viewTokens'>, { views, text }: Row): number => views * viewTokens + text;

/** Products with weights, and attention. */
interface StackWork {
  readonly products: Passes<number>;
  readonly attention: Passes<number>;
}

/** Whether the backward pass comes through. */
export const isReached = ({ inputProducts, weightProducts }: Counts): boolean => inputProducts + weightProducts > 0;

/** The work of blocks on T rows that see each other, or only those before them. A multiplication and an addition count 2. */
function stackWork(
  blocks: readonly Counts[],
  rows: number,
  { causal, recompute = true, attention = flash }: WorkOptions & { readonly causal: boolean },
): StackWork {
  const reached = blocks.filter(isReached);
  const again = recompute ? reached : [];
  // Scores and mixtures are two products of T rows with T rows.
  const scores = (some: readonly Counts[]): number =>
    (causal ? attention.causalShare : 1) * 4 * rows ** 2 * sumOf(some, (block) => block.attention);
  const products = (some: readonly Counts[]): number => 2 * rows * sumOf(some, (block) => block.products);
  return {
    products: {
      forward: products(blocks),
      recompute: products(again),
      backward: 2 * rows * sumOf(reached, ({ inputProducts, weightProducts }) => inputProducts + weightProducts),
    },
    attention: { forward: scores(blocks), recompute: scores(again), backward: attention.backward * scores(reached) },
  };
}

/** The work of a row in the tower's blocks and in the language model's. */
export function blockWork(
  counts: ModelCounts,
  row: Row,
  options: WorkOptions = {},
): { readonly tower: StackWork; readonly language: StackWork } {
  const view = stackWork(counts.towerBlocks, counts.towerRows, { ...options, causal: false });
  const times = ({ forward, recompute, backward }: Passes<number>): Passes<number> => ({
    forward: row.views * forward,
    recompute: row.views * recompute,
    backward: row.views * backward,
  });
  return {
    tower: { products: times(view.products), attention: times(view.attention) },
    language: stackWork(counts.blocks, tokensOf(counts, row), { ...options, causal: true }),
  };
}

/** The work of one row. Norms, activations, rotations and the optimizer are not counted. */
export function rowWork(counts: ModelCounts, row: Row, options: WorkOptions = {}): Work {
  const { patches, connector, head, towerRows, viewTokens } = counts;
  const { tower, language } = blockWork(counts, row, options);
  // The convolution has a row for each patch, and none for a class token.
  const patchRows = 2 * row.views * Math.floor(Math.sqrt(towerRows)) ** 2;
  const connected = 2 * row.views * viewTokens;
  const attention = (pass: keyof Passes<number>): number => tower.attention[pass] + language.attention[pass];
  return {
    forward: {
      vision: tower.products.forward + patchRows * patches.products,
      connector: connected * connector.products,
      language: language.products.forward,
      attention: attention('forward'),
      head: 2 * row.supervised * head.products,
    },
    recompute: {
      vision: tower.products.recompute,
      connector: 0,
      language: language.products.recompute,
      attention: attention('recompute'),
      head: 0,
    },
    backward: {
      vision: tower.products.backward + patchRows * patches.weightProducts,
      connector: connected * (connector.inputProducts + connector.weightProducts),
      language: language.products.backward,
      attention: attention('backward'),
      head: 2 * row.supervised * (head.inputProducts + head.weightProducts),
    },
  };
}
