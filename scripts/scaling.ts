// Predicts time and memory of training steps on many GPUs (docs/scaling.md). Without a model it writes the tables of docs/scaling.md; `--check` only compares.
//   npx tsx scripts/scaling.ts [--check]
//   npx tsx scripts/scaling.ts --model FOLDER --recipe FILE --stage NAME [--data FILE --images FOLDER] [--gpu h100] [--cards 8] [--gigabits 400]
//     [--micro-batch 8] [--utilization 0.4]
import { join } from 'node:path';
import { Command } from 'commander';
import { share, wholeNumber } from '../src/cli/options.ts';
import { complain } from '../src/cli/print.ts';
import { UsageError } from '../src/errors.ts';
import { readConfig } from '../src/model/checkpoint.ts';
import { pick } from '../src/model/registry.ts';
import { createTinyLlava } from '../src/model/tinyllava.ts';
import { type Stage, selectStages } from '../src/train/recipe.ts';
import { readRecipe } from '../src/train/recipe-file.ts';
import { writeMadeParts } from './made-parts.ts';
import { fittedUtilization } from './scaling/anchors.ts';
import { gpus } from './scaling/cluster.ts';
import { countModel } from './scaling/counts.ts';
import { llavaData, readData } from './scaling/data.ts';
import { clusterOf, memoryTable, paperTables, stepTable, workTable } from './scaling/tables.ts';

const root = join(import.meta.dirname, '..');

interface Flags {
  readonly check?: true;
  readonly model?: string;
  readonly recipe: string;
  readonly stage: string;
  readonly data?: string;
  readonly images?: string;
  readonly gpu: string;
  readonly cards: number;
  readonly gigabits: number;
  readonly microBatch: number;
  readonly utilization?: number;
}

/** The work, the time and the memory of a stage of a model, as tables. Throws ConfigError, CheckpointError or DataError. */
async function predict(
  folder: string,
  { recipe: file, stage: name, data: rows, images, gpu, cards, gigabits, ...flags }: Flags,
): Promise<string> {
  const model = createTinyLlava(await readConfig(folder));
  const [stage] = selectStages(await readRecipe(file), [name]).stages as [Stage];
  const known = llavaData(model.viewTokens);
  const usual = stage.learns.language.tune === 'frozen' ? known.align : known.instruct;
  const data = rows === undefined ? usual : await readData(rows, { folder, model, images, stage });
  const study = { model, stage, counts: countModel(model, stage), data };
  const { microBatch, utilization = fittedUtilization() } = flags;
  const setting = { cluster: clusterOf(pick(gpus, 'GPU', gpu), { cards, gigabits }), microBatch, utilization };
  const named = [[folder, study]] as const;
  return [workTable(named), stepTable(study, setting), memoryTable(named, { microBatch })].join('\n\n');
}

const command = new Command('scaling')
  .description('predict time and memory of training steps on many GPUs')
  .option('--check', 'only compare the tables of docs/scaling.md')
  .option('--model <folder>', 'a checkpoint; without one the tables of docs/scaling.md are written')
  .option('--recipe <file>', 'YAML file', join(root, 'recipes/phi2-siglip.base.yaml'))
  .option('--stage <name>', 'of the recipe', 'instruct')
  .option('--data <file>', "conversations, instead of LLaVA-1.5's")
  .option('--images <folder>', 'where their images are')
  .option('--gpu <name>', Object.keys(gpus).join(', '), 'a100-80g')
  .option('--cards <count>', 'network cards of a node of 8 GPUs', wholeNumber(1), 8)
  .option('--gigabits <count>', 'of a network card, each second', wholeNumber(1), 200)
  .option('--micro-batch <count>', 'conversations that a GPU takes at once', wholeNumber(1), 8)
  .option('--utilization <share>', "of the GPU's peak, instead of what was fitted to published runs", share)
  .action(async (flags: Flags) => {
    if (flags.model !== undefined) return console.log(await predict(flags.model, flags));
    writeMadeParts(join(root, 'docs/scaling.md'), paperTables(), { check: flags.check === true, command: 'npx tsx scripts/scaling.ts' });
  });
await command.parseAsync().catch((error: unknown) => {
  complain(error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
});
