import { z } from 'zod';
import { check } from '../model/registry.ts';
import { indices, rand, where } from '../tensor/create.ts';
import { Generator } from '../tensor/random.ts';
import type { Tensor } from '../tensor/tensor.ts';

/** How the next token is chosen; each filter means what it means in transformers, and they apply in this order. */
export const SamplingOptions = z.strictObject({
  /** Above 1 makes tokens that the prompt or the answer has already less likely. Keskar et al. 2019, arXiv:1909.05858. */
  repetitionPenalty: z.number().positive().default(1),
  /** What logits are divided by; 0 takes the likeliest token always. */
  temperature: z.number().nonnegative().default(0),
  /** Keeps this many tokens. */
  topK: z.int().positive().optional(),
  /** Keeps the fewest likeliest tokens with this share of the probability. Holtzman et al. 2019, arXiv:1904.09751. */
  topP: z.number().positive().max(1).optional(),
  /** Keeps tokens that are at least this many times as likely as the likeliest. Nguyen et al. 2024, arXiv:2407.01082. */
  minP: z.number().min(0).max(1).optional(),
  /** The same seed draws the same answer. */
  seed: z.int().nonnegative().optional(),
});
export type SamplingOptions = z.input<typeof SamplingOptions>;

/** Tokens that may follow, the likeliest first. */
export interface Candidates {
  readonly ids: readonly number[];
  /** Their shares of the whole distribution; where a filter cut it they add up to less than 1. */
  readonly probabilities: readonly number[];
  /** Whether these are all that the filters keep. */
  readonly complete: boolean;
}

/** Candidates looked at first where nothing bounds them; few draws need more. */
const firstLook = 256;

/** Chooses the tokens of one answer. */
export class Sampler {
  readonly #options: z.output<typeof SamplingOptions>;
  readonly #generator: Generator | undefined;

  /** Throws ConfigError. */
  constructor(options: SamplingOptions = {}) {
    this.#options = check(SamplingOptions, options, { where: 'generation' });
    const { temperature, seed = Math.floor(Math.random() * 2 ** 32) } = this.#options;
    this.#generator = temperature > 0 ? new Generator(seed) : undefined;
  }

  /** True when every choice is the largest logit, so that a whole batch can be chosen by one argmax. */
  get isArgmax(): boolean {
    return this.#generator === undefined && this.#options.repetitionPenalty === 1;
  }

  /** The next token. `logits` [V] in float32 on the CPU; `seen` are the ids of the prompt and of the answer so far. */
  choose(logits: Tensor, seen: Iterable<number>): number {
    const row = this.#penalize(logits, seen);
    if (!this.#generator) return row.argmax(0).item();
    return this.#draw(row, rand([1], { dtype: 'float64', generator: this.#generator }).item());
  }

  /** What `choose` draws from. */
  candidates(logits: Tensor, seen: Iterable<number>): Candidates {
    return this.#rank(this.#penalize(logits, seen), logits.numel);
  }

  #penalize(logits: Tensor, seen: Iterable<number>): Tensor {
    const { repetitionPenalty } = this.#options;
    if (repetitionPenalty === 1) return logits;
    const ids = indices([...new Set(seen)].filter((id) => id < logits.numel));
    const found = logits.indexSelect(0, ids);
    return logits.indexCopy(0, ids, where(found.lt(0), found.mul(repetitionPenalty), found.div(repetitionPenalty)));
  }

  /** The token at `share` (0 until before 1) of the kept probability, counted from the likeliest. */
  #draw(row: Tensor, share: number): number {
    const { topP = 1, minP = 0 } = this.#options;
    for (let look = firstLook; ; look *= 16) {
      const { ids, probabilities, complete } = this.#rank(row, look);
      if (!complete && (topP < 1 || minP > 0)) continue;
      const goal = share * (complete ? sum(probabilities) : 1);
      let reached = 0;
      for (const [rank, id] of ids.entries()) {
        reached += probabilities[rank] ?? 0;
        if (reached > goal) return id;
      }
      if (complete) return ids.at(-1) ?? 0;
    }
  }

  /** The kept tokens among the `look` likeliest. Every filter keeps a first part of the falling order. */
  #rank(row: Tensor, look: number): Candidates {
    const { temperature, topK, topP = 1, minP = 0 } = this.#options;
    const count = temperature === 0 ? 1 : Math.min(topK ?? look, row.numel);
    const [values, places] = row.topk(count, 0);
    const sorted = values.toArray() as Float32Array;
    const largest = sorted[0] ?? 0;
    const weights = Array.from(sorted, (value) => (temperature === 0 ? 1 : Math.exp((value - largest) / temperature)));
    const cut = topK !== undefined || count === row.numel || temperature === 0;
    // Top-k comes first: the other filters count shares of what it kept.
    const total = cut ? sum(weights) : Math.exp(row.sub(largest).div(temperature).logsumexp(0).item());
    let end = 0;
    for (let before = 0; end < count; end++) {
      const weight = weights[end] ?? 0;
      if (end > 0 && (before >= topP || weight < minP)) break;
      before += weight / total;
    }
    return {
      ids: Array.from(places.toArray() as BigInt64Array, Number).slice(0, end),
      probabilities: weights.slice(0, end).map((weight) => weight / total),
      complete: cut || end < count,
    };
  }
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
