// A connector of one's own, without touching the package: npx tsx examples/connector.ts
import { z } from 'zod';
import { Connector, type ConnectorContext, createTinyLlava, part, parts } from '../src/model/index.ts';
import { LayerNorm, Linear } from '../src/nn/index.ts';
import { Generator, randn, type Tensor } from '../src/tensor/index.ts';

const NormedConfig = z.strictObject({ type: z.literal('normed'), eps: z.number().positive().default(1e-6) });

/** Normalizes features before it maps them. */
class Normed extends Connector {
  readonly norm: LayerNorm;
  readonly linear: Linear;

  constructor({ eps }: z.output<typeof NormedConfig>, { visionSize, languageSize }: ConnectorContext) {
    super();
    this.norm = new LayerNorm(visionSize, { eps });
    this.linear = new Linear(visionSize, languageSize);
  }

  tokens(visionTokens: number): number {
    return visionTokens;
  }

  forward(features: Tensor): Tensor {
    return this.linear.forward(this.norm.forward(features));
  }
}

const normed = part({ modelType: 'normed', schema: NormedConfig, make: Normed });
const sizes = { hiddenSize: 32, intermediateSize: 64, numHiddenLayers: 1, numAttentionHeads: 2 };
const model = createTinyLlava(
  {
    vision: { type: 'siglip', imageSize: 32, patchSize: 8, ...sizes },
    connector: { type: 'normed' },
    language: { type: 'llama', vocabSize: 100, ...sizes },
    imageTokenId: 99,
  },
  { ...parts, connectors: { ...parts.connectors, normed } },
).initialize(new Generator(0));

const pixels = randn([2, 3, 32, 32], { generator: new Generator(1) });
console.log(`2 images become embeddings [${model.encodeImages(pixels).shape.join(', ')}]`);
for (const [key, parameter] of model.connector?.namedParameters() ?? []) console.log(`${key} [${parameter.shape.join(', ')}]`);
