import type { Batch } from '../data/batch.ts';
import type { SkippedRow, StepData } from '../data/loader.ts';
import type { TinyLlava } from '../model/tinyllava.ts';
import { layersRunBy } from '../nn/layers.ts';
import type { Module } from '../nn/module.ts';
import { unlabelled } from '../processor/processor.ts';
import { noGrad } from '../tensor/autograd.ts';
import { zeros } from '../tensor/create.ts';
import { outliving, Scope } from '../tensor/scope.ts';
import { batchLoss, type StepInput } from './step.ts';
import type { Team } from './team.ts';

/** What a rank tells the others in front of a step. */
interface Said extends Pick<StepData, 'examples' | 'tokens' | 'supervisedTokens' | 'cut' | 'pictured' | 'skipped'> {
  readonly stop: boolean;
  readonly save: boolean;
}

/** One step as all ranks know it, and this rank's share of it. */
export interface SharedStep {
  readonly input: StepInput;
  readonly examples: number;
  readonly tokens: number;
  readonly supervisedTokens: number;
  readonly cut: number;
  readonly skipped: readonly SkippedRow[];
  /** A rank wants to stop in front of this step, or rank 0 to save. */
  readonly stop: boolean;
  readonly save: boolean;
}

/** What a rank wants beside its share. */
export interface Wishes {
  readonly stop?: boolean;
  readonly save?: boolean;
  /** Has every rank run the same parts of the model equally often, with blank sequences where its rows do not: their layers are put together by all. */
  readonly aligned?: TinyLlava | undefined;
}

const nothing: Batch = { ids: new Int32Array(0), labels: new Int32Array(0), lengths: [], rows: [] };

const total = (all: readonly Said[], what: 'examples' | 'tokens' | 'supervisedTokens' | 'cut'): number =>
  all.reduce((sum, said) => sum + said[what], 0);

/** Tells the others of this rank's share of a step, and hears of theirs. */
export function shareStep(team: Team, step: StepData, { stop = false, save = false, aligned }: Wishes = {}): SharedStep {
  const { examples, tokens, supervisedTokens, cut, pictured, skipped, microBatches } = step;
  const all = team.gather<Said>({ examples, tokens, supervisedTokens, cut, pictured, skipped, stop, save });
  const counted = total(all, 'supervisedTokens');
  const most = aligned ? Math.max(...all.map((said) => said.pictured.length)) : microBatches;
  const needed = Array.from({ length: most }, (_, i) => all.some((said) => said.pictured[i] === true));
  return {
    input: {
      supervisedTokens: counted,
      microBatches: most,
      batches: () => (aligned ? alignedBatches(step, needed, aligned) : step.batches()),
    },
    examples: total(all, 'examples'),
    tokens: total(all, 'tokens'),
    supervisedTokens: counted,
    cut: total(all, 'cut'),
    skipped: all.flatMap((said) => said.skipped),
    stop: all.some((said) => said.stop),
    save: all[0]?.save === true,
  };
}

/** The layers of a model in the order in which they run, which a pass of a black image through them tells. */
export function layersOf(model: TinyLlava): Module[] {
  using _scope = new Scope();
  return layersRunBy(() => {
    for (const batch of withBlank(nothing, model, model.visionTower !== undefined)) noGrad(() => batchLoss(model, batch));
  });
}

/** The micro-batches of a step, with images in all that need them, and as many as needed. */
function* alignedBatches(step: StepData, needed: readonly boolean[], model: TinyLlava): Iterable<Batch> {
  let i = 0;
  for (const batch of step.batches()) yield* needed[i++] && !batch.pixels && !batch.towerFeatures ? withBlank(batch, model) : [batch];
  for (; i < needed.length; i++) yield* withBlank(nothing, model, needed[i]);
}

/** Behind what there is, one sequence with a black image, or of one token. */
function* withBlank(batch: Batch, model: TinyLlava, pictured = true): Iterable<Batch> {
  const { imageSize: side = 0 } = model.visionTower ?? {};
  const { imageTokenId = 0 } = model.config;
  const tokens = pictured ? model.imageTokens : 1;
  const pixels = pictured ? outliving(() => zeros([1, 3, side, side])) : undefined;
  const join = (own: Int32Array, value: number): Int32Array => {
    const joined = new Int32Array(own.length + tokens).fill(value);
    joined.set(own);
    return joined;
  };
  try {
    yield {
      ...batch,
      ids: join(batch.ids, pictured ? imageTokenId : 0),
      labels: join(batch.labels, unlabelled),
      lengths: [...batch.lengths, tokens],
      ...(pixels && { pixels }),
      blank: { tokens, views: pictured ? 1 : 0 },
    };
  } finally {
    pixels?.free();
  }
}
