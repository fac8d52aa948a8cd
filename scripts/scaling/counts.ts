import { ConfigError } from '../../src/errors.ts';
import type { PartConfig } from '../../src/model/part.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { featureIndices } from '../../src/model/vision/vit.ts';
import { Conv2d } from '../../src/nn/conv.ts';
import { Linear } from '../../src/nn/linear.ts';
import type { Module } from '../../src/nn/module.ts';
import { loraTargets } from '../../src/train/low-rank.ts';
import { isLora, type PartName, type Stage, type Tuning } from '../../src/train/recipe.ts';
import { partsOf } from '../../src/train/tune.ts';

/** What a piece of a model holds, low-rank factors among it, and what its matrix products take for each row that goes through it. */
export interface Counts {
  readonly parameters: number;
  /** Those that have a gradient. */
  readonly learned: number;
  readonly tensors: readonly ParameterCount[];
  /** Multiplications of a row with the weights. */
  readonly products: number;
  /** Those that the gradients of the inputs take, and those of the weights. */
  readonly inputProducts: number;
  readonly weightProducts: number;
  /** Width of the attention, heads times their size. */
  readonly attention: number;
}

/** A parameter. */
export interface ParameterCount {
  readonly numbers: number;
  readonly learns: boolean;
}

/** The pieces of a model. */
export interface ModelCounts {
  /** Rows that the tower runs for a view, and embeddings that the connector makes of them. */
  readonly towerRows: number;
  readonly viewTokens: number;
  /** The tower's blocks that are run, and those behind the wanted features. */
  readonly towerBlocks: readonly Counts[];
  readonly idleBlocks: readonly Counts[];
  readonly blocks: readonly Counts[];
  readonly patches: Counts;
  readonly connector: Counts;
  readonly head: Counts;
  /** What belongs to no block: connector, embeddings, norm and head, and of the tower. */
  readonly root: Counts;
  readonly towerRoot: Counts;
}

const none: Counts = {
  parameters: 0,
  learned: 0,
  tensors: [],
  products: 0,
  inputProducts: 0,
  weightProducts: 0,
  attention: 0,
};

/** The sum of something over all pieces. */
export const sumOf = <Item>(items: readonly Item[], what: (item: Item) => number): number =>
  items.reduce((sum, item) => sum + what(item), 0);

const blockNumber = (key: string): number | undefined => {
  const number = /(?:^|\.)(?:layers?|blocks)\.(\d+)\./.exec(key)?.[1];
  return number === undefined ? undefined : Number(number);
};

/** Layers whose inputs are the heads side by side. */
const isOutput = (key: string): boolean => /\.(?:o_proj|out_proj|dense)$/.test(key);

interface Parameter {
  readonly key: string;
  readonly numbers: number;
}

/** A layer that multiplies, with the inputs that each row has. */
interface Weight extends Parameter {
  readonly inputs: number;
  readonly outputs: number;
}

/** What is counted of a part. */
interface Piece {
  readonly parameters: readonly Parameter[];
  readonly weights: readonly Weight[];
}

/** Pieces by their block's number; undefined is what belongs to none. */
function piecesOf(model: TinyLlava, part: Module): Map<number | undefined, Piece> {
  const modules = new Set(Array.from(part.namedModules(), ([, module]) => module));
  const tensors = new Set(part.parameters());
  const pieces = new Map<number | undefined, { parameters: Parameter[]; weights: Weight[] }>();
  const pieceOf = (key: string) => {
    const block = blockNumber(key);
    const piece = pieces.get(block) ?? { parameters: [], weights: [] };
    pieces.set(block, piece);
    return piece;
  };
  for (const [key, tensor] of model.namedParameters())
    if (tensors.has(tensor)) pieceOf(key).parameters.push({ key, numbers: tensor.numel });
  for (const [key, module] of model.namedModules()) {
    if (!modules.has(module) || !(module instanceof Linear || module instanceof Conv2d)) continue;
    const { numel: numbers } = module.weight;
    const outputs = module.weight.size(0);
    pieceOf(`${key}.weight`).weights.push({ key, numbers, inputs: numbers / outputs, outputs });
  }
  return pieces;
}

/** How a part learns: which of its parameters do, and the layers that have low-rank changes. */
interface Learning {
  readonly learns: (key: string) => boolean;
  readonly adapted: ReadonlySet<string>;
  readonly rank: number;
}

function learningOf(model: TinyLlava, part: Module, tuning: Tuning): Learning {
  const learns = (key: string): boolean =>
    tuning.tune === 'full' || (tuning.tune === 'from-layer' && (blockNumber(key) ?? -1) >= tuning.layer);
  if (!isLora(tuning)) return { learns, adapted: new Set(), rank: 0 };
  return { learns, adapted: new Set(loraTargets(model, part, tuning, 'lora').keys()), rank: tuning.rank };
}

/** Counts a piece; `reached` says whether what goes in has a gradient. */
function count({ parameters, weights }: Piece, { learns, adapted, rank }: Learning, { reached }: { reached: boolean }): Counts {
  const tensors = parameters.map(({ key, numbers }) => ({ numbers, learns: learns(key) }));
  const sum = { products: 0, inputProducts: 0, weightProducts: 0, attention: 0 };
  let hasGradient = reached;
  for (const { key, numbers, inputs, outputs } of weights) {
    const [own, factors] = [learns(`${key}.weight`), adapted.has(key) ? rank * (inputs + outputs) : 0];
    if (factors > 0) tensors.push({ numbers: rank * inputs, learns: true }, { numbers: rank * outputs, learns: true });
    sum.products += numbers + factors;
    // Where nothing in front learns, only the second factor has an input with a gradient.
    sum.inputProducts += hasGradient ? numbers + factors : factors > 0 ? rank * outputs : 0;
    sum.weightProducts += own ? numbers : factors;
    sum.attention += isOutput(key) ? inputs : 0;
    hasGradient ||= own || factors > 0;
  }
  return { ...held(tensors), ...sum };
}

/** A part's pieces, and how it learns. */
interface Counted {
  readonly pieces: ReadonlyMap<number | undefined, Piece>;
  readonly learning: Learning;
}
const absent: Counted = { pieces: new Map(), learning: { learns: () => false, adapted: new Set(), rank: 0 } };

/** A connector's layers are no blocks. */
const whole = (pieces: ReadonlyMap<number | undefined, Piece>): Piece => ({
  parameters: [...pieces.values()].flatMap(({ parameters }) => parameters),
  weights: [...pieces.values()].flatMap(({ weights }) => weights),
});

const held = (tensors: readonly ParameterCount[]): Counts => ({
  ...none,
  parameters: sumOf(tensors, ({ numbers }) => numbers),
  learned: sumOf(tensors, ({ numbers, learns }) => (learns ? numbers : 0)),
  tensors,
});

/** Blocks in order; gradients come to all of them, or to those behind the first that learns. */
function countBlocks(pieces: ReadonlyMap<number | undefined, Piece>, learning: Learning, { reached }: { reached: boolean }): Counts[] {
  const numbers = [...pieces.keys()].filter((number) => number !== undefined).sort((a, b) => a - b);
  let hasGradient = reached;
  return numbers.map((number) => {
    const counts = count(pieces.get(number) as Piece, learning, { reached: hasGradient });
    hasGradient ||= counts.learned > 0;
    return counts;
  });
}

/** Rows that a tower runs for a view, a class token and registers included. */
function rowsOf(config: PartConfig, tokens: number): number {
  const side = Math.floor(Number(config['inputSize'] ?? config['imageSize']) / Number(config['patchSize']));
  if (!Number.isFinite(side)) return tokens;
  return side ** 2 + (config.type === 'siglip' ? 0 : 1 + Number(config['numRegisterTokens'] ?? 0));
}

/**
 * Counts a model from the shapes of its weights, for what a stage trains. Throws ConfigError for towers that are not one stack of transformer blocks,
 * and where the stage's low-rank changes find no layers.
 */
export function countModel(model: TinyLlava, { learns }: Pick<Stage, 'learns'>): ModelCounts {
  const { visionTower, languageModel, config } = model;
  const parts = partsOf(model);
  const counted = (name: PartName): Counted => {
    const part = parts[name];
    return part ? { pieces: piecesOf(model, part), learning: learningOf(model, part, learns[name]) } : absent;
  };
  const [tower, between, language] = [counted('vision'), counted('connector'), counted('language')];
  const outside = ({ pieces, learning }: Counted, { reached }: { reached: boolean }): Counts => {
    const piece = pieces.get(undefined);
    return piece ? count(piece, learning, { reached }) : none;
  };
  const towerLearns = learns.vision.tune !== 'frozen';
  const visionBlocks = countBlocks(tower.pieces, tower.learning, { reached: learns.vision.tune === 'full' });
  if (visionTower && visionBlocks.length === 0) {
    throw new ConfigError(`${config.vision?.type}: only vision towers that are a stack of transformer blocks can be counted`);
  }
  const wanted = config.vision?.['featureLayer'] as number | readonly number[] | undefined;
  const run = visionTower ? Math.max(...featureIndices(wanted ?? -1, visionBlocks.length)) : 0;
  const connected = count(whole(between.pieces), between.learning, { reached: towerLearns });
  const patches = sumOf(
    (tower.pieces.get(undefined)?.weights ?? []).filter(({ key }) => key.includes('patch_embedding')),
    ({ numbers }) => numbers,
  );
  const [V, C] = [languageModel.vocabSize, languageModel.hiddenSize];
  return {
    towerRows: visionTower && config.vision ? rowsOf(config.vision, visionTower.tokens) : 0,
    viewTokens: model.viewTokens,
    towerBlocks: visionBlocks.slice(0, run),
    idleBlocks: visionBlocks.slice(run).map(({ tensors }) => held(tensors)),
    blocks: countBlocks(language.pieces, language.learning, {
      reached: towerLearns || learns.connector.tune !== 'frozen' || learns.language.tune === 'full',
    }),
    patches: { ...none, products: patches, weightProducts: learns.vision.tune === 'full' ? patches : 0 },
    connector: connected,
    head: { ...none, products: V * C, inputProducts: V * C, weightProducts: learns.language.tune === 'full' ? V * C : 0 },
    towerRoot: held(outside(tower, { reached: false }).tensors),
    root: held([connected, outside(language, { reached: true })].flatMap(({ tensors }) => tensors)),
  };
}
