import type { PartConfig } from '../model/part.ts';
import { isComposed } from '../nn/activation.ts';
import { Linear } from '../nn/linear.ts';
import { LoraLinear } from '../nn/lora.ts';
import type { Module } from '../nn/module.ts';
import { Norm, OffsetRmsNorm, RmsNorm } from '../nn/norm.ts';
import { QuantizedLinear } from '../nn/quantized-linear.ts';

/** What a block takes for each row that goes through it, in bytes. */
export interface BlockMemory {
  readonly input: number;
  /** What autograd keeps of it until its backward pass, its input included. */
  readonly kept: number;
  /** What of it is kept behind attention. */
  readonly keptBehind: number;
  /** All that its forward pass makes. */
  readonly made: number;
  /** The most that its backward pass needs beside what was kept. */
  readonly backward: number;
}

/** How the linear layers of a part learn. */
export interface Learning {
  readonly full: boolean;
  readonly adapted: ReadonlySet<Module>;
  readonly rank: number;
  readonly dropout: boolean;
}

type AnyLinear = Linear | LoraLinear | QuantizedLinear;
const isLinear = (module: Module): module is AnyLinear =>
  module instanceof Linear || module instanceof LoraLinear || module instanceof QuantizedLinear;
const isNorm = (module: Module): module is Norm => module instanceof Norm;
/** The linear layers inside a module, in the order in which they are gone through; a low-rank change is one with its base. */
export function linearsOf(module: Module): AnyLinear[] {
  return Array.from(module.children(), ([, child]) => child).flatMap((child) => (isLinear(child) ? [child] : linearsOf(child)));
}

const sumOfOutputs = (layers: readonly AnyLinear[]): number => layers.reduce((sum, { weightShape }) => sum + weightShape[0], 0);

/** Adds up what one block takes. */
class Tally {
  readonly #config: PartConfig;
  readonly #learning: Learning;
  readonly #bytes: number;
  readonly #width: number;
  readonly #norms: readonly Norm[];
  #kept = 0;
  #keptBehind = 0;
  #made = 0;
  #backward = 0;

  constructor(block: Module, config: PartConfig, learning: Learning, { bytes, rowTokens }: { bytes: number; rowTokens: number }) {
    [this.#config, this.#learning, this.#bytes] = [config, learning, bytes];
    const children = [...block.children()];
    this.#norms = children.map(([, child]) => child).filter(isNorm);
    this.#width = this.#norms[0]?.weight.size(0) ?? 0;
    let readers = 0;
    for (const [name, child] of children) {
      const before = this.#kept;
      const attends = /att/.test(name);
      const layers = linearsOf(child);
      const out = layers.pop();
      if (out) {
        this.#linear(...layers, out);
        if (layers.some((layer) => this.#keepsInput(layer))) readers++;
        if (attends) this.#attention(child, layers, out, rowTokens);
        else this.#perceptron(layers, out);
        this.#add({ made: 2 * this.#width });
        if (!attends) this.#keptBehind += this.#kept - before;
      } else if (!isNorm(child) && learning.full) this.#add({ kept: this.#width, made: this.#width });
    }
    for (const [i, norm] of this.#norms.entries()) {
      const before = this.#kept;
      this.#norm(norm, this.#width);
      if (i > 0) this.#keptBehind += this.#kept - before;
    }
    // Neighbours that read one norm share what it gave.
    if (!this.#givesAgain()) this.#add({ kept: Math.min(readers, this.#norms.length) * this.#width });
  }

  get memory(): BlockMemory {
    return { input: this.#bytes * this.#width, kept: this.#kept, keptBehind: this.#keptBehind, made: this.#made, backward: this.#backward };
  }

  /** Counts numbers. */
  #add({ kept = 0, made = 0, backward = 0 }: { kept?: number; made?: number; backward?: number }): void {
    this.#kept += this.#bytes * kept;
    this.#made += this.#bytes * made;
    this.#backward = Math.max(this.#backward, this.#bytes * backward);
  }

  #keepsInput(layer: AnyLinear): boolean {
    return this.#learning.full || (this.#learning.adapted.has(layer) && !this.#learning.dropout);
  }

  #linear(...layers: readonly AnyLinear[]): void {
    const { adapted, rank, dropout } = this.#learning;
    for (const layer of layers) {
      const [outputs, inputs] = layer.weightShape;
      this.#add({ made: outputs });
      if (!adapted.has(layer)) continue;
      // With dropout its mask, and what that left.
      const own = rank + (dropout ? 2 * inputs : 0);
      this.#add({ kept: own, made: own + 3 * outputs });
    }
  }

  /** Whether linear layers can compute again what the norms gave instead of keeping it. */
  #givesAgain(): boolean {
    return this.#norms.every((norm) => norm instanceof RmsNorm || (norm instanceof OffsetRmsNorm && this.#bytes === 4));
  }

  /** Norms keep their input; one that computes in float32 to its end keeps it in that. */
  #norm(norm: Norm, width: number): void {
    this.#add({ made: width });
    const copied = norm instanceof OffsetRmsNorm && this.#bytes < 4;
    this.#kept += width * (copied ? 4 : this.#bytes);
    this.#made += copied ? 8 * width : 0;
  }

  #attention(child: Module, into: readonly AnyLinear[], out: AnyLinear, rowTokens: number): void {
    const projected = sumOfOutputs(into);
    const attended = out.weightShape[1];
    const queriesAndKeys = (projected + attended) / 2;
    this.#add({ kept: projected, made: queriesAndKeys + attended });
    // Values are a view of a projection for all three, which stays with them.
    if (into.length === 1) this.#add({ kept: queriesAndKeys });
    const norm = Array.from(child.children(), ([, inner]) => inner).find(isNorm);
    if (norm) this.#norm(norm, queriesAndKeys);
    if (this.#config['attnLogitSoftcapping']) this.#bentScores(rowTokens);
    if (!this.#config['attnLogitSoftcapping'] || this.#keepsInput(out)) this.#add({ kept: attended });
  }

  /** Where no kernel bends scores, as on GPUs, they are there as a whole, and their tanh, softmax in float32 and weights are kept. */
  #bentScores(rowTokens: number): void {
    const scores = rowTokens * Number(this.#config['numAttentionHeads']);
    const narrow = this.#bytes < 4 ? 1 : 0;
    const wide = 4 / this.#bytes;
    this.#add({ kept: scores * (1 + wide + narrow), made: scores * (4 + narrow + 3 * wide), backward: scores * (3 + 3 * wide) });
  }

  #perceptron(into: readonly AnyLinear[], out: AnyLinear): void {
    const spread = sumOfOutputs(into);
    const inner = out.weightShape[1];
    const gated = spread >= 2 * inner;
    const activation = this.#config['hiddenAct'] ?? this.#config['hiddenActivation'] ?? this.#config['activationFnName'];
    const composed = isComposed(activation);
    const factors = gated && composed ? inner : 0;
    const given = this.#keepsInput(out) && composed ? inner : 0;
    this.#add({ kept: spread + factors + given, made: inner + factors });
    this.#add({ backward: (gated ? 3 : 2) * inner + this.#width - given });
  }
}

/** What a block takes for each row of packed sequences that have `rowTokens` each, computing in numbers of so many `bytes`. */
export function blockMemory(
  block: Module,
  { config, learning, ...options }: { config: PartConfig; learning: Learning; bytes: number; rowTokens: number },
): BlockMemory {
  return new Tally(block, config, learning, options).memory;
}
