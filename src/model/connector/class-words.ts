import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { normal, uniformFanIn } from '../../nn/init.ts';
import { type KeyTable, Module, statistic } from '../../nn/module.ts';
import { cat } from '../../tensor/create.ts';
import { linear } from '../../tensor/functional.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { Connector, type ConnectorContext } from './connector.ts';
import { Perceptron } from './mlp.ts';
import { averagePool, mapToTokens, tokensToMap } from './pooling.ts';

const count = z.int().positive();

/** Settings of the class-words connector. */
export const ClassWordsConfig = z.strictObject({
  type: z.literal('class-words'),
  /** Classes that the tower was trained to tell apart. */
  classes: count.default(1000),
  /** Tokens that the name of a class is spelled with. */
  words: count.default(3),
  /** Side of the square of tokens that come behind the words. */
  side: count.default(4),
});
export type ClassWordsConfig = z.output<typeof ClassWordsConfig>;

/** The classifier of the tower, `weight` [K, visionSize] and `bias` [K]. Training leaves it alone: what it learned of the world a small set would undo. */
class Classifier extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor;

  constructor(inputs: number, classes: number) {
    super();
    this.weight = statistic([classes, inputs], uniformFanIn(inputs));
    this.bias = statistic([classes], uniformFanIn(inputs));
  }

  /** `x` [B, visionSize] to probabilities [B, K]. */
  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias).softmax(1);
  }
}

/** What each class is called, `weight` [K, L, C]; training leaves it alone too. */
class Names extends Module {
  readonly weight: Tensor;

  constructor(classes: number, words: number, width: number) {
    super();
    this.weight = statistic([classes, words, width], normal(0.02));
  }
}

/**
 * For a tower that was trained as a classifier. The first tokens are the name of what the classifier sees in the whole image: each an average
 * of the classes' embeddings, weighted by their probabilities. A perceptron on averages of neighbouring features adds what the name does
 * not say. Started from the tower's own classifier and the language model's embeddings of the names, it speaks from the first step of
 * a thousand things of which the training has no picture. Dims: B images, N tokens in, K classes, L words, C width; M = L + side² tokens out.
 */
export class ClassWordsConnector extends Connector {
  readonly classifier: Classifier;
  readonly names: Names;
  readonly mlp: Perceptron;
  readonly #side: number;

  constructor({ classes, words, side }: ClassWordsConfig, { visionSize, visionTokens, languageSize }: ConnectorContext) {
    super();
    if (!Number.isInteger(Math.sqrt(visionTokens))) {
      throw new ConfigError(`class-words of ${visionTokens} tokens, which make no square`, { hint: 'leave the class token out' });
    }
    this.classifier = new Classifier(visionSize, classes);
    this.names = new Names(classes, words, languageSize);
    this.mlp = new Perceptron(visionSize, languageSize, { layers: 2, hiddenAct: 'gelu', bias: true });
    this.#side = side;
  }

  protected override get keys(): KeyTable {
    return { 'names.weight': 'names' };
  }

  tokens(): number {
    return this.names.weight.size(1) + this.#side ** 2;
  }

  forward(features: Tensor): Tensor {
    const [K, L, C] = this.names.weight.shape as [number, number, number];
    const probabilities = this.classifier.forward(features.mean(1)); // [B, K]
    const words = probabilities.matmul(this.names.weight.view(K, L * C)).view(-1, L, C);
    const pooled = mapToTokens(averagePool(tokensToMap(features), this.#side)); // [B, side², visionSize]
    return cat([words, this.mlp.forward(pooled)], 1);
  }
}

/** The registry entry of the class-words connector. */
export const classWords = part({ modelType: 'class_words', schema: ClassWordsConfig, make: ClassWordsConnector });
