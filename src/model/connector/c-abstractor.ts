import { z } from 'zod';
import { ConfigError } from '../../errors.ts';
import { Conv2d } from '../../nn/conv.ts';
import { normal } from '../../nn/init.ts';
import { Linear } from '../../nn/linear.ts';
import { type KeyTable, Module, parameter } from '../../nn/module.ts';
import { LayerNorm } from '../../nn/norm.ts';
import { cat } from '../../tensor/create.ts';
import { silu } from '../../tensor/functional.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { Connector, type ConnectorContext } from './connector.ts';
import { averagePool, mapToTokens, tokensToMap } from './pooling.ts';

const MAX_LAYERS = 8;

/** Settings of Honeybee's convolutional abstractor. */
export const CAbstractorConfig = z.strictObject({
  type: z.literal('c-abstractor'),
  /** Tokens that come out, a square number. */
  numQueries: z
    .int()
    .positive()
    .refine((count) => Number.isInteger(Math.sqrt(count)), { error: 'must be a square number' })
    .default(144),
  hiddenSize: z.int().positive().default(1024),
  /** Convolutional blocks before, and as many behind the pooling. */
  depth: z.int().positive().max(MAX_LAYERS).default(3),
  mlpDepth: z.int().positive().max(MAX_LAYERS).default(2),
  /** Learned positions, added to the features. */
  posEmb: z.boolean().default(true),
  /** A norm in front of everything. */
  prenorm: z.boolean().default(false),
  /** Learned tokens that are put behind those of the image. */
  numEosTokens: z.int().nonnegative().default(0),
});
export type CAbstractorConfig = z.output<typeof CAbstractorConfig>;

/** A convolution and a norm over channels. Dims: B images, F channels, H and W the sides of the map. */
class ConvNorm extends Module {
  readonly conv: Conv2d;
  readonly bn: LayerNorm;

  constructor(inputs: number, outputs: number, { kernel = 1, groups = 1 }: { kernel?: number; groups?: number } = {}) {
    super();
    this.conv = new Conv2d(inputs, outputs, { kernel, groups, padding: (kernel - 1) / 2, bias: false });
    this.bn = new LayerNorm(outputs);
  }

  forward(x: Tensor): Tensor {
    return this.bn.forward(this.conv.forward(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2); // [B, F, H, W]
  }
}

/** Channels weighed by what the whole map holds. Hu et al. 2018, arXiv:1709.01507. */
class SqueezeExcitation extends Module {
  readonly fc1: Conv2d;
  readonly fc2: Conv2d;

  constructor(channels: number, inner: number) {
    super();
    this.fc1 = new Conv2d(channels, inner, { kernel: 1 });
    this.fc2 = new Conv2d(inner, channels, { kernel: 1 });
  }

  forward(x: Tensor): Tensor {
    const squeezed = x.mean([2, 3], { keepDim: true }); // [B, F, 1, 1]
    return x.mul(this.fc2.forward(silu(this.fc1.forward(squeezed))).sigmoid());
  }
}

/** A quarter, halves to the even side as Python rounds. */
function quarter(count: number): number {
  const down = Math.floor(count / 4);
  const rest = count % 4;
  return Math.max(1, rest > 2 || (rest === 2 && down % 2 === 1) ? down + 1 : down);
}

/** A RegNet bottleneck of depthwise convolutions. Radosavovic et al. 2020, arXiv:2003.13678. */
class Bottleneck extends Module {
  readonly conv1: ConvNorm;
  readonly conv2: ConvNorm;
  readonly se: SqueezeExcitation;
  readonly conv3: ConvNorm;
  readonly downsample: ConvNorm | undefined;

  constructor(inputs: number, outputs: number) {
    super();
    this.conv1 = new ConvNorm(inputs, outputs);
    this.conv2 = new ConvNorm(outputs, outputs, { kernel: 3, groups: outputs });
    this.se = new SqueezeExcitation(outputs, quarter(inputs));
    this.conv3 = new ConvNorm(outputs, outputs);
    this.downsample = inputs === outputs ? undefined : new ConvNorm(inputs, outputs);
  }

  forward(x: Tensor): Tensor {
    const wide = silu(this.conv2.forward(silu(this.conv1.forward(x))));
    return silu(this.conv3.forward(this.se.forward(wide)).add(this.downsample?.forward(x) ?? x));
  }
}

const numbered = (spell: (i: number) => [path: string, key: string]): KeyTable =>
  Object.fromEntries(Array.from({ length: MAX_LAYERS }, (_, i) => spell(i)));

class Stage extends Module {
  readonly blocks: readonly Bottleneck[];
  static readonly #keys = numbered((i) => [`blocks.${i}`, `b${i + 1}`]);

  constructor(depth: number, inputs: number, outputs: number) {
    super();
    this.blocks = Array.from({ length: depth }, (_, i) => new Bottleneck(i === 0 ? inputs : outputs, outputs));
  }

  protected override get keys(): KeyTable {
    return Stage.#keys;
  }

  forward(x: Tensor): Tensor {
    return this.blocks.reduce((map, block) => block.forward(map), x);
  }
}

/** Convolutions, averages, convolutions, and a perceptron: locality is kept. Cha et al. 2024, arXiv:2312.06742. */
export class CAbstractorConnector extends Connector {
  readonly eosTokens: Tensor | undefined;
  readonly posEmb: Tensor | undefined;
  readonly prenorm: LayerNorm | undefined;
  readonly before: Stage;
  readonly after: Stage;
  readonly readout: readonly Linear[];
  readonly #queries: number;
  // In the published weights a list of modules with activations between them.
  static readonly #keys = { before: 'net.0', after: 'net.2', ...numbered((i) => [`readout.${i}`, `readout.${2 * i}`]) };

  constructor(config: CAbstractorConfig, { visionSize, visionTokens, languageSize }: ConnectorContext) {
    super();
    if (!Number.isInteger(Math.sqrt(visionTokens))) {
      throw new ConfigError(`c-abstractor of ${visionTokens} tokens, which make no square`, { hint: 'leave the class token out' });
    }
    const { hiddenSize, depth, mlpDepth, numEosTokens } = config;
    this.eosTokens = numEosTokens > 0 ? parameter([1, numEosTokens, languageSize], normal(0.02)) : undefined;
    this.posEmb = config.posEmb ? parameter([1, visionTokens, visionSize], normal(0.02)) : undefined;
    this.prenorm = config.prenorm ? new LayerNorm(visionSize, { eps: 1e-6 }) : undefined;
    this.before = new Stage(depth, visionSize, hiddenSize);
    this.after = new Stage(depth, hiddenSize, hiddenSize);
    this.readout = Array.from({ length: mlpDepth }, (_, i) => new Linear(i === 0 ? hiddenSize : languageSize, languageSize));
    this.#queries = config.numQueries;
  }

  protected override get keys(): KeyTable {
    return CAbstractorConnector.#keys;
  }

  tokens(): number {
    return this.#queries + (this.eosTokens?.size(1) ?? 0);
  }

  forward(features: Tensor): Tensor {
    const [B] = sizes(features, 'B N C');
    const normed = this.prenorm?.forward(features) ?? features;
    const placed = this.posEmb ? normed.add(this.posEmb) : normed;
    const pooled = averagePool(this.before.forward(tokensToMap(placed)), Math.sqrt(this.#queries));
    const tokens = mapToTokens(this.after.forward(pooled)); // [B, M, hiddenSize]
    const image = this.readout.reduce((h, layer, i) => layer.forward(i === 0 ? h : silu(h)), tokens);
    return this.eosTokens ? cat([image, this.eosTokens.expand(B, this.eosTokens.size(1), this.eosTokens.size(2))], 1) : image;
  }
}

/** The registry entry of Honeybee's abstractor. */
export const cAbstractor = part({ modelType: 'c_abstractor', schema: CAbstractorConfig, make: CAbstractorConnector });
