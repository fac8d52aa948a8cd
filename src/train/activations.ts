import type { PartConfig } from '../model/part.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import type { Module } from '../nn/module.ts';
import { type BlockMemory, blockMemory, linearsOf } from './block-memory.ts';
import { blocksOf, blocksRun } from './blocks.ts';
import { chunkBytes } from './loss.ts';
import { loraTargets } from './low-rank.ts';
import { isLora, type Stage, type Tuning } from './recipe.ts';
import { partsOf } from './tune.ts';

/** What goes through the model at once, and how. */
export interface MicroBatch {
  readonly tokens: number;
  /** Of one conversation. */
  readonly rowTokens: number;
  /** Tokens that are learned. */
  readonly supervised: number;
  readonly images: number;
  readonly recompute: boolean;
}

const sumOf = <Item>(items: readonly Item[], what: (item: Item) => number): number => items.reduce((sum, item) => sum + what(item), 0);

/** What a part has in memory for a micro-batch, in bytes: what autograd keeps, and what comes on top for a while. */
interface PartMemory {
  readonly kept: number;
  readonly passing: number;
}

/** What goes through a part; of the last block's rows those behind its attention that are `wanted`. */
interface PartRows {
  readonly rows: number;
  readonly wanted?: number;
  readonly rowTokens: number;
  readonly recompute: boolean;
  readonly bytes: number;
}

/** `reached` says whether something before the part learns, so that gradients go through all of it. */
function partMemory(
  {
    model,
    part,
    config,
    tuning,
    reached,
    run = Number.POSITIVE_INFINITY,
  }: {
    readonly model: TinyLlava;
    readonly part: Module | undefined;
    readonly config: PartConfig | undefined;
    readonly tuning: Tuning;
    readonly reached: boolean;
    readonly run?: number;
  },
  { rows, wanted = rows, rowTokens, recompute, bytes }: PartRows,
): PartMemory {
  if (!part || !config || (tuning.tune === 'frozen' && !reached)) return { kept: 0, passing: 0 };
  const adapted = new Set<Module>(isLora(tuning) ? loraTargets(model, part, tuning, 'lora').values() : []);
  const changes = isLora(tuning) ? { rank: tuning.rank, dropout: tuning.dropout > 0 } : { rank: 0, dropout: false };
  const first = tuning.tune === 'from-layer' ? tuning.layer : 0;
  const blocks = blocksOf(part).flatMap(({ number, block }) => {
    if (number >= run || (number < first && !reached)) return [];
    const full = tuning.tune === 'full' || (tuning.tune === 'from-layer' && number >= first);
    return [blockMemory(block, { config, learning: { full, adapted, ...changes }, bytes, rowTokens })];
  });
  const most = (what: (block: BlockMemory) => number): number => Math.max(0, ...blocks.map(what));
  // What is kept stands also in what was made, but the input.
  const forward = ({ input, made, kept }: BlockMemory): number => made + input - kept;
  const passing = recompute
    ? most((block) => block.kept - block.input + Math.max(forward(block), block.backward))
    : most((block) => Math.max(forward(block), block.backward));
  const unwanted = recompute ? 0 : (rows - wanted) * (blocks.at(-1)?.keptBehind ?? 0);
  return { kept: rows * sumOf(blocks, ({ input, kept }) => (recompute ? input : kept)) - unwanted, passing: rows * passing };
}

/** The most that a stage has in memory for a micro-batch beside weights, gradients and what the optimizer remembers, in bytes. */
export function activationBytes(
  model: TinyLlava,
  { learns }: Pick<Stage, 'learns'>,
  { tokens, rowTokens, supervised, images, recompute, bytes }: MicroBatch & { readonly bytes: number },
): number {
  const { visionTower, connector, languageModel } = model;
  const { vision, language } = model.config;
  const parts = partsOf(model);
  const [towerLearns, connectorLearns] = [learns.vision.tune !== 'frozen', learns.connector.tune !== 'frozen'];
  const seen = images * (visionTower?.tokens ?? 0);
  const run = visionTower ? blocksRun(visionTower, vision?.['featureLayer']) : 0;
  const tower = partMemory(
    { model, part: parts.vision, config: vision, tuning: learns.vision, reached: false, run },
    { rows: seen, rowTokens: visionTower?.tokens ?? 0, recompute, bytes },
  );
  const text = partMemory(
    { model, part: parts.language, config: language, tuning: learns.language, reached: towerLearns || connectorLearns },
    { rows: tokens, wanted: supervised, rowTokens, recompute, bytes },
  );
  // Embeddings; of learned rows what goes into and comes out of the final norm, and its gradient.
  const width = languageModel.hiddenSize;
  const around = width * (tokens + 3 * supervised);
  // Features, and behind each linear layer of the connector an activation; in front of a tower's blocks that learn patches and positions.
  const connected = connector ? images * model.viewTokens * sumOf(linearsOf(connector), ({ weightShape }) => 2 * weightShape[0]) : 0;
  const features = seen * (visionTower?.hiddenSize ?? 0) * (towerLearns ? 4 : 1);
  // Capped ones are there as they were, cast, divided, tanh and multiplied, as probabilities, and with two gradients, all in float32.
  const capped = languageModel.logitCap !== undefined;
  const scored = capped ? bytes + 7 * 4 : bytes;
  const logits = scored * Math.min(chunkBytes / (capped ? 4 : bytes), supervised * languageModel.vocabSize);
  const passing = Math.max(tower.passing, text.passing, logits);
  return Math.round(tower.kept + text.kept + bytes * (around + connected + features) + passing);
}
