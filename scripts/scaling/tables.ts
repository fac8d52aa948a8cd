import { combinations, type LanguageName, type TowerName } from '../../bench/full-size/models.ts';
import { anchorHours, anchors, fittedUtilization, utilizationOf } from './anchors.ts';
import { type Cluster, type Gpu, gpus } from './cluster.ts';
import { rowWork, tokensOf, type Work, workOf } from './flops.ts';
import { predictMemory, type RankMemory } from './memory.ts';
import { type Kind, meanOf } from './rows.ts';
import { learnedOf, microBatchRows, parametersOf, predictStep, type StepTime, type Strategy } from './step.ts';
import { type StageName, type Study, studied } from './studies.ts';

/** What a table is made for. */
export interface Setting {
  readonly cluster: Cluster;
  readonly microBatch: number;
  readonly utilization: number;
}

const sizes = [8, 16, 64, 256, 1024];
const strategies = ['replicated', 'sharded'] as const;

/** Eight GPUs a node, each with a card of its own unless said otherwise. */
export const clusterOf = (gpu: Gpu, { cards = 8, gigabits }: { cards?: number; gigabits: number }): Cluster => ({
  gpu,
  gpusPerNode: 8,
  cards,
  cardBits: gigabits * 1e9,
});

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

const percent = (share: number): string => `${Math.round(100 * share)} %`;
const whole = (value: number): string => Math.round(value).toLocaleString('en');
const giga = (bytes: number): string => (bytes / 1e9 < 10 ? (bytes / 1e9).toFixed(1) : whole(bytes / 1e9));
const brief = (value: number): string => (value < 0.0995 ? value.toFixed(3) : value < 9.95 ? value.toFixed(2) : value.toFixed(1));

/** The work of the mean row. */
function meanWork({ counts, data }: Study): Work {
  const works = data.kinds.map((kind) => ({ share: kind.share, work: rowWork(counts, kind) }));
  const pass = (name: keyof Work) => {
    const part = (key: keyof Work[typeof name]): number => meanOf(works, ({ work }) => work[name][key]);
    return {
      vision: part('vision'),
      connector: part('connector'),
      language: part('language'),
      attention: part('attention'),
      head: part('head'),
    };
  };
  return { forward: pass('forward'), recompute: pass('recompute'), backward: pass('backward') };
}

/** What a row takes: work by pass, and what of it is attention and head. */
export function workTable(studies: readonly (readonly [string, Study])[]): string {
  const rows = studies.map(([name, study]) => {
    const { counts, data, stage } = study;
    const work = meanWork(study);
    const all = workOf(work);
    const passes = [work.forward, work.recompute, work.backward];
    const sum = (part: keyof Work['forward']): number => passes.reduce((total, pass) => total + pass[part], 0);
    const everyRow = meanOf(data.kinds, (kind: Kind) => workOf(rowWork(counts, { ...kind, supervised: tokensOf(counts, kind) })));
    const teraflops = passes.map((pass) => brief(Object.values(pass).reduce((total, part) => total + part, 0) / 1e12));
    return [
      name,
      stage.name,
      `${brief(parametersOf(counts) / 1e9)}, ${brief(learnedOf(counts) / 1e9)}`,
      whole(meanOf(data.kinds, (kind) => tokensOf(counts, kind))),
      ...teraflops,
      brief(all / 1e12),
      percent(sum('vision') / all),
      percent(sum('attention') / all),
      `${percent(sum('head') / all)}; +${percent(everyRow / all - 1)}`,
    ];
  });
  const head = [
    'model',
    'stage',
    'parameters, of them learning, 1e9',
    'tokens',
    'forward',
    'again',
    'backward',
    'TFLOP a row',
    'tower',
    'attention',
  ];
  return table([...head, 'head; if on every row'], rows);
}

/** The paper's six models in the stages of the base recipe, and one with low-rank changes. */
function paperWorkTable(): string {
  const stages = ['align', 'instruct'] as const;
  const studies = combinations.flatMap(([tower, language]) =>
    stages.map((stage) => [`${language}, ${tower}`, studied(tower, language, stage)] as const),
  );
  const [tower, language] = ['SigLIP-so400m/14-384', 'Phi-2'] as const;
  return workTable([...studies, [`${language}, ${tower}`, studied(tower, language, 'lora')]]);
}

/** Trainings whose hours are known beside those that the model gives for them with its one fitted number. */
function fitTable(): string {
  const utilization = fittedUtilization();
  const rows = anchors.flatMap((anchor) =>
    (['align', 'instruct'] as const).map((stage) => {
      const [known, predicted] = [anchor.hours[stage], anchorHours(anchor, stage, utilization)];
      const off = Math.round(100 * (predicted / known - 1));
      return [
        `${anchor.language}, ${anchor.tower}`,
        stage,
        `${known}`,
        predicted.toFixed(1),
        `${off > 0 ? '+' : ''}${off} %`,
        percent(utilizationOf(anchor, stage)),
      ];
    }),
  );
  return [
    table(['model', 'stage', 'hours known', 'predicted', 'off by', 'utilization that would fit'], rows),
    '',
    `Fitted on Phi-2 with SigLIP, instruct: products run at ${percent(utilization)} of the peak of 312 TFLOP/s.`,
  ].join('\n');
}

interface Predicted {
  readonly strategy: Strategy;
  readonly ranks: number;
  readonly step: StepTime;
  readonly memory: RankMemory;
}

/** A study on so many GPUs. */
function predict(
  { model, stage, counts, data }: Study,
  { cluster, microBatch, utilization }: Setting,
  ranks: number,
  { strategy, shared = false }: { strategy: Strategy; shared?: boolean },
): Predicted {
  const { kinds } = data;
  const precision = 'bfloat16';
  const run = { counts, kinds, batchSize: stage.batchSize, microBatch, cluster, ranks, strategy, precision, utilization, shared } as const;
  const [most = 1] = microBatchRows(run);
  return { strategy, ranks, step: predictStep(run), memory: predictMemory({ model, stage, counts, kinds }, { ...run, microBatch: most }) };
}

/** Where the time of a step goes, for more and more GPUs. */
export function stepTable(study: Study, setting: Setting): string {
  const rows = sizes.flatMap((ranks) =>
    strategies.map((strategy) => {
      const { step, memory } = predict(study, setting, ranks, { strategy });
      const { compute, waiting, communication, optimizer, total, efficiency, sent } = step;
      const shared = predict(study, setting, ranks, { strategy, shared: true }).step.waiting;
      return [
        `${ranks}`,
        brief(study.stage.batchSize / ranks),
        strategy,
        ...[compute, waiting, shared, communication, optimizer, total].map(brief),
        percent(efficiency),
        giga(sent.allReduce + sent.allGather + sent.reduceScatter),
        `${giga(memory.total)}${memory.total > setting.cluster.gpu.memoryBytes ? ' (too much)' : ''}`,
      ];
    }),
  );
  const head = ['GPUs', 'rows each', 'strategy', 'even work, s', 'waiting', 'if shared by length', 'communication', 'optimizer'];
  return table([...head, 'step, s', 'efficiency', 'sent, GB', 'memory, GB'], rows);
}

/** The quicker strategy among those that fit. */
function best(study: Study, setting: Setting, ranks: number): Predicted | undefined {
  return strategies
    .map((strategy) => predict(study, setting, ranks, { strategy }))
    .filter(({ memory }) => memory.total <= setting.cluster.gpu.memoryBytes)
    .sort((a, b) => a.step.total - b.step.total)[0];
}

/** Rows of a micro-batch, as TinyLLaVA Factory has them. */
const microBatches: Record<StageName, number> = { align: 32, instruct: 8, lora: 8 };

function stageHours(
  tower: TowerName,
  language: LanguageName,
  name: StageName,
  cluster: Cluster,
  ranks: number,
): { hours: number; best: Predicted } | undefined {
  const study = studied(tower, language, name);
  const found = best(study, { cluster, microBatch: microBatches[name], utilization: fittedUtilization() }, ranks);
  return found && { hours: (study.data.rows / study.stage.batchSize / 3600) * found.step.total, best: found };
}

/** Hours of the base recipe's two stages for the paper's six models. */
function recipeTable(cluster: Cluster): string {
  const rows = combinations.map(([tower, language]) => [
    `${language}, ${tower}`,
    ...sizes.map((ranks) => {
      const [align, instruct] = (['align', 'instruct'] as const).map((stage) => stageHours(tower, language, stage, cluster, ranks));
      if (!align || !instruct) return 'too large';
      const letter = ({ best: { strategy } }: { best: Predicted }): string => (strategy === 'sharded' ? 's' : 'r');
      return `${brief(align.hours + instruct.hours)} (${letter(align)}, ${letter(instruct)}; ${percent(instruct.best.step.efficiency)})`;
    }),
  ]);
  return table(['hours on', ...sizes.map((ranks) => `${ranks} GPUs`)], rows);
}

/** Memory of a rank by kind. */
export function memoryTable(studies: readonly (readonly [string, Study])[], { microBatch }: { microBatch?: number } = {}): string {
  const rows = studies.flatMap(([name, study]) =>
    [
      ['replicated', 8],
      ['sharded', 8],
      ['sharded', 64],
    ].map(([strategy, ranks]) => {
      const { model, stage, counts, data } = study;
      const options = {
        strategy: strategy as Strategy,
        ranks: Number(ranks),
        microBatch: microBatch ?? microBatches[stage.name as StageName] ?? 8,
        precision: 'bfloat16' as const,
      };
      const { reserved: _, ...memory } = predictMemory({ model, stage, counts, kinds: data.kinds }, options);
      return [name, stage.name, strategy === 'sharded' ? `sharded, ${ranks}` : 'replicated', ...Object.values(memory).map(giga)];
    }),
  );
  return table(
    ['model', 'stage', 'strategy, GPUs', 'weights', 'gradients', 'lower halves', 'optimizer', 'gathered', 'activations', 'all, GB'],
    rows,
  );
}

/** The paper's models with SigLIP in both stages, and low-rank changes of the largest. */
function paperMemoryTable(): string {
  const tower = 'SigLIP-so400m/14-384';
  const studies = (['TinyLlama-1.1B', 'Phi-2'] as const).flatMap((language) =>
    (language === 'Phi-2' ? (['align', 'instruct', 'lora'] as const) : (['instruct'] as const)).map(
      (stage) => [`${language}, ${tower}`, studied(tower, language, stage)] as const,
    ),
  );
  return memoryTable(studies);
}

/** The smallest batch, doubled from one row a GPU on, with which four fifths of a step are work. */
function batchTable(clusters: readonly (readonly [string, Cluster])[]): string {
  const study = studied('SigLIP-so400m/14-384', 'Phi-2', 'instruct');
  const rows = sizes.map((ranks) => [
    `${ranks}`,
    ...clusters.flatMap(([, cluster]) =>
      strategies.map((strategy) => {
        for (let rows = 1; rows <= 128; rows *= 2) {
          const stage = { ...study.stage, batchSize: rows * ranks };
          const { step } = predict({ ...study, stage }, { cluster, microBatch: 8, utilization: fittedUtilization() }, ranks, { strategy });
          if (step.efficiency >= 0.8) return `${whole(rows * ranks)} (${rows} each)`;
        }
        return 'none';
      }),
    ),
  ]);
  return table(['GPUs', ...clusters.flatMap(([name]) => strategies.map((strategy) => `${name}, ${strategy}`))], rows);
}

/** The parts of docs/scaling.md. */
export function paperTables(): Record<string, string> {
  const study = studied('SigLIP-so400m/14-384', 'Phi-2', 'instruct');
  const a100 = clusterOf(gpus['a100-40g'], { gigabits: 200 });
  const oneCard = clusterOf(gpus['a100-80g'], { cards: 1, gigabits: 200 });
  const h100 = clusterOf(gpus.h100, { gigabits: 400 });
  const setting = { microBatch: 8, utilization: fittedUtilization() };
  return {
    work: paperWorkTable(),
    fit: fitTable(),
    step: stepTable(study, { ...setting, cluster: a100 }),
    'one card': stepTable(study, { ...setting, cluster: oneCard }),
    h100: stepTable(study, { ...setting, cluster: h100 }),
    'recipe a100': recipeTable(a100),
    'recipe h100': recipeTable(h100),
    memory: paperMemoryTable(),
    batch: batchTable([
      ['8 cards', a100],
      ['1 card', oneCard],
    ]),
  };
}
