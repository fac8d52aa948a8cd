import { Random } from '../../src/data/random.ts';
import { languageModels } from '../../src/model/language/index.ts';
import type { PartConfig } from '../../src/model/part.ts';
import { precisions } from '../../src/train/precision.ts';
import { partNames, type RecipeInput } from '../../src/train/recipe.ts';
import { tinyConnectors, tinyTowers } from '../../test/model/tiny-parts.ts';

type Stage = RecipeInput['stages'][number];
type Learns = Stage['learns'];

const keysOf = <Key extends string>(table: Readonly<Record<Key, unknown>>): Key[] => Object.keys(table) as Key[];

/** Draws from a seed. */
export class Draw {
  readonly #random: Random;

  constructor(seed: number, stream: number) {
    this.#random = new Random(seed, stream);
  }

  chance(share: number): boolean {
    return this.#random.next() < share * 2 ** 32;
  }

  pick<const Items extends readonly unknown[]>(...items: Items): Items[number] {
    return items[this.#random.below(items.length)];
  }
}

/** Two layers of a few numbers, in the words of the family. */
function language(draw: Draw, hiddenSize: number): PartConfig {
  const type = draw.pick(...keysOf(languageModels));
  const [headDim, tied] = [8, draw.chance(0.5)];
  if (type === 'openelm') {
    return { type, modelDim: hiddenSize, headDim, numTransformerLayers: 2, ffnDimDivisor: 8, shareInputOutputLayers: tied };
  }
  const shape = { hiddenSize, intermediateSize: 24, numHiddenLayers: 2, numAttentionHeads: 2, initializerRange: 0.1 };
  const wide = ['gemma', 'gemma2', 'gemma3_text', 'qwen3'].includes(type) ? { headDim } : {};
  return { type, ...shape, ...wide, numKeyValueHeads: draw.pick(1, 2), tieWordEmbeddings: tied };
}

function tuning(draw: Draw, part: (typeof partNames)[number]) {
  const low = { rank: draw.pick(1, 3), dropout: draw.pick(0, 0, 0.2), rankStabilized: draw.chance(0.3) };
  const kinds = [
    { tune: 'full' } as const,
    { tune: 'full', learningRate: 1e-3 } as const,
    { tune: 'lora', ...low } as const,
    { tune: 'qlora', bits: draw.pick(4 as const, 8 as const), ...low } as const,
    // The last layer of a tower lies behind its features.
    { tune: 'from-layer', layer: part === 'vision' ? 0 : draw.pick(0, 1), layerDecay: 0.8 } as const,
  ];
  return draw.pick(...(part === 'connector' ? kinds.slice(0, 4) : kinds));
}

/** What each part does; some towers have no linear layers, and some connectors no parameters. */
function learning(draw: Draw, { tower, connector }: { tower: string; connector: string }): Learns {
  const frozen = { vision: tower === 'efficientnet-lite' ? 1 : 0.6, connector: connector === 'identity' ? 1 : 0.3, language: 0.3 };
  const drawn = partNames.map((part) => [part, draw.chance(frozen[part]) ? 'frozen' : tuning(draw, part)] as const);
  return drawn.every(([, tuned]) => tuned === 'frozen') ? { language: 'full' } : Object.fromEntries(drawn);
}

function stage(draw: Draw, name: string, { first, learns, pure }: { first: boolean; learns: Learns; pure: boolean }): Stage {
  const [captions, questions] = [
    { conversations: 'tiny/captions.json', images: 'tiny' },
    { conversations: 'tiny/questions.json', images: 'tiny' },
  ];
  const mix = [captions, { ...questions, repeat: draw.pick(0.5, 1, 1.5), limit: draw.pick(7, 25) }];
  const adapts = Object.values(learns).some((tuned) => typeof tuned === 'object' && tuned.tune.endsWith('lora'));
  const type = draw.pick('adamw', 'adamw', 'adamw-8bit', 'adafactor', 'muon');
  const learningRate = type === 'adafactor' ? 1e-2 : 3e-3;
  const validation = {
    rows: draw.pick(1, 3),
    every: draw.pick(1, 2),
    keep: draw.pick('last', 'best'),
    ...(draw.chance(0.5) && { patience: 1 }),
  };
  return {
    name,
    learns,
    data: draw.pick(captions, questions, mix),
    template: draw.pick('tiny', 'llama', 'nanovlm'),
    sampling: draw.pick('shuffle', 'length-grouped', 'sequential', { modalities: 'apart' }, { buffer: 4 }),
    optimizer: {
      type,
      learningRate,
      weightDecay: draw.pick(0, 0.1),
      warmupSteps: draw.pick(0, 2),
      ...(pure && { rounding: draw.pick('kahan', 'stochastic') }),
    },
    batchSize: draw.pick(1, 3, 8),
    steps: draw.pick(2, 3, 5),
    ...(draw.chance(0.4) && { validation }),
    ...(adapts && !first && draw.chance(0.4) && { merge: false }),
  };
}

/** A recipe of one to three stages on the data of `tinyData`. */
export function drawRecipe(draw: Draw): RecipeInput {
  const [tower, connector] = [draw.pick(...keysOf(tinyTowers)), draw.pick(...keysOf(tinyConnectors))];
  const hiddenSize = connector === 'identity' && tower !== 'mof' ? 8 : 16;
  const precision = draw.pick('float32', ...keysOf(precisions));
  const names = ['first', 'second', 'third'].slice(0, draw.pick(1, 2, 3));
  return {
    seed: draw.pick(0, 1, 2),
    precision,
    model: { vision: tinyTowers[tower], connector: tinyConnectors[connector].settings, language: language(draw, hiddenSize) },
    processor: { tokenizer: { type: 'word-level' } },
    stages: names.map((name, i) =>
      stage(draw, name, { first: i === 0, learns: learning(draw, { tower, connector }), pure: precision === 'bfloat16-pure' }),
    ),
  };
}
