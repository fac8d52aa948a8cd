import { z } from 'zod';
import { type Init, normal, ones, zeros } from '../../nn/init.ts';
import { runLayers } from '../../nn/layers.ts';
import { Module, parameter, statistic } from '../../nn/module.ts';
import { Norm } from '../../nn/norm.ts';
import { conv2d, pad } from '../../tensor/functional.ts';
import { sizes } from '../../tensor/sizes.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { part } from '../part.ts';
import { VisionTower } from './vision-tower.ts';

const count = z.int().positive();

/** Blocks of one shape, one behind the other; the first of them has the stride. */
const Stage = z.strictObject({ repeats: count, kernel: count, stride: count, expand: count, channels: count });

const lite0 = [
  { repeats: 1, kernel: 3, stride: 1, expand: 1, channels: 16 },
  { repeats: 2, kernel: 3, stride: 2, expand: 6, channels: 24 },
  { repeats: 2, kernel: 5, stride: 2, expand: 6, channels: 40 },
  { repeats: 3, kernel: 3, stride: 2, expand: 6, channels: 80 },
  { repeats: 3, kernel: 5, stride: 1, expand: 6, channels: 112 },
  { repeats: 4, kernel: 5, stride: 2, expand: 6, channels: 192 },
  { repeats: 1, kernel: 3, stride: 1, expand: 6, channels: 320 },
];

/** Settings of an EfficientNet-Lite tower; the defaults are those of Lite0, which gives 49 tokens of 1280. */
export const EfficientNetLiteConfig = z.strictObject({
  type: z.literal('efficientnet-lite'),
  imageSize: count.default(224),
  numChannels: count.default(3),
  stemChannels: count.default(32),
  stages: z.array(Stage).min(1).default(lite0),
  hiddenSize: count.default(1280),
  batchNormEps: z.number().positive().default(1e-3),
});
export type EfficientNetLiteConfig = z.output<typeof EfficientNetLiteConfig>;

/** Kaiming's start for a convolution followed by a rectifier. */
const fanOut = (outputs: number, kernel: number, groups: number): Init => normal(Math.sqrt((2 * groups) / (outputs * kernel ** 2)));

class ConvWeight extends Module {
  readonly weight: Tensor;

  constructor(inputs: number, outputs: number, { kernel, groups = 1 }: { kernel: number; groups?: number }) {
    super();
    this.weight = parameter([outputs, inputs / groups, kernel, kernel], fanOut(outputs, kernel, groups));
  }
}

/** Batch normalization with the statistics of pre-training, which stay as they are. Ioffe & Szegedy 2015, arXiv:1502.03167. */
class BatchNorm extends Norm {
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly runningMean: Tensor;
  readonly runningVar: Tensor;

  constructor(channels: number) {
    super();
    this.weight = parameter([channels], ones);
    this.bias = parameter([channels], zeros);
    this.runningMean = statistic([channels], zeros);
    this.runningVar = statistic([channels], ones);
  }

  /** What every channel is multiplied by, and what is added then. */
  affine(eps: number): { gain: Tensor; offset: Tensor } {
    const gain = this.weight.mul(this.runningVar.add(eps).rsqrt());
    return { gain, offset: this.bias.sub(this.runningMean.mul(gain)) };
  }
}

/** A convolution and its norm as one convolution, padded so that a stride divides the side and rounds up. `x` [B, I, H, W]. */
function convNorm(x: Tensor, { weight }: ConvWeight, norm: BatchNorm, { stride = 1, eps }: { stride?: number; eps: number }): Tensor {
  const { gain, offset } = norm.affine(eps);
  const kernel = weight.size(3);
  const side = x.size(3);
  const missing = Math.max((Math.ceil(side / stride) - 1) * stride + kernel - side, 0);
  const before = Math.floor(missing / 2);
  const even = missing % 2 === 0;
  // TensorFlow puts the odd pixel of padding last.
  const padded = even ? x : pad(x, [before, before + 1, before, before + 1]);
  const groups = x.size(1) / weight.size(1);
  return conv2d(padded, weight.mul(gain.view(-1, 1, 1, 1)), offset, { stride, padding: even ? before : 0, groups });
}

const relu6 = (x: Tensor): Tensor => x.clamp({ min: 0, max: 6 });

/** Wide inside, narrow between blocks. Sandler et al. 2018, arXiv:1801.04381. The keys are those of the published weights. */
class InvertedBottleneck extends Module {
  readonly _expandConv: ConvWeight | undefined;
  readonly _bn0: BatchNorm | undefined;
  readonly _depthwiseConv: ConvWeight;
  readonly _bn1: BatchNorm;
  readonly _projectConv: ConvWeight;
  readonly _bn2: BatchNorm;
  readonly #stride: number;
  readonly #eps: number;

  constructor(inputs: number, { kernel, stride, expand, channels }: z.output<typeof Stage>, eps: number) {
    super();
    const wide = inputs * expand;
    if (expand > 1) {
      this._expandConv = new ConvWeight(inputs, wide, { kernel: 1 });
      this._bn0 = new BatchNorm(wide);
    }
    this._depthwiseConv = new ConvWeight(wide, wide, { kernel, groups: wide });
    this._bn1 = new BatchNorm(wide);
    this._projectConv = new ConvWeight(wide, channels, { kernel: 1 });
    this._bn2 = new BatchNorm(channels);
    this.#stride = stride;
    this.#eps = eps;
  }

  forward(x: Tensor): Tensor {
    const [eps, stride] = [this.#eps, this.#stride];
    const wide = this._expandConv && this._bn0 ? relu6(convNorm(x, this._expandConv, this._bn0, { eps })) : x;
    const mixed = relu6(convNorm(wide, this._depthwiseConv, this._bn1, { stride, eps }));
    const narrow = convNorm(mixed, this._projectConv, this._bn2, { eps });
    return stride === 1 && narrow.size(1) === x.size(1) ? narrow.add(x) : narrow;
  }
}

/** A small convolutional network that needs few operations: each cell of its last map is a token. Tan & Le 2019, arXiv:1905.11946. */
export class EfficientNetLiteTower extends VisionTower {
  readonly _convStem: ConvWeight;
  readonly _bn0: BatchNorm;
  readonly _blocks: readonly InvertedBottleneck[];
  readonly _convHead: ConvWeight;
  readonly _bn1: BatchNorm;
  readonly imageSize: number;
  readonly hiddenSize: number;
  readonly tokens: number;
  readonly #channels: number;
  readonly #eps: number;

  constructor({ imageSize, numChannels, stemChannels, stages, hiddenSize, batchNormEps: eps }: EfficientNetLiteConfig) {
    super();
    this._convStem = new ConvWeight(numChannels, stemChannels, { kernel: 3 });
    this._bn0 = new BatchNorm(stemChannels);
    let [inputs, side] = [stemChannels, Math.ceil(imageSize / 2)];
    this._blocks = stages.flatMap((stage) =>
      Array.from({ length: stage.repeats }, (_, i) => {
        const block = new InvertedBottleneck(inputs, { ...stage, stride: i === 0 ? stage.stride : 1 }, eps);
        inputs = stage.channels;
        return block;
      }),
    );
    for (const { stride } of stages) side = Math.ceil(side / stride);
    this._convHead = new ConvWeight(inputs, hiddenSize, { kernel: 1 });
    this._bn1 = new BatchNorm(hiddenSize);
    this.imageSize = imageSize;
    this.hiddenSize = hiddenSize;
    this.tokens = side ** 2;
    this.#channels = numChannels;
    this.#eps = eps;
  }

  forward(pixels: Tensor): Tensor {
    sizes(pixels, 'B channels H W', { channels: this.#channels, H: this.imageSize, W: this.imageSize });
    const eps = this.#eps;
    const stem = relu6(convNorm(pixels.cast(this._convStem.weight.dtype), this._convStem, this._bn0, { stride: 2, eps }));
    const map = runLayers(this._blocks, stem, (block, x) => block.forward(x));
    return relu6(convNorm(map, this._convHead, this._bn1, { eps }))
      .flatten(2)
      .transpose(1, 2); // [B, N, C]
  }
}

/** The registry entry of EfficientNet-Lite towers. */
export const efficientNetLite = part({ modelType: 'efficientnet_lite', schema: EfficientNetLiteConfig, make: EfficientNetLiteTower });
