// Predicts time and memory of training steps on many GPUs (docs/scaling.md). Without a model it writes the tables of docs/scaling.md; `--check` only compares.
//   npx tsx scripts/scaling.ts [--check]
//   npx tsx scripts/scaling.ts --model FOLDER --recipe FILE --stage NAME [--data FILE --images FOLDER] [--gpu h100] [--cards 8] [--gigabits 400]
//     [--micro-batch 8] [--utilization 0.4]
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readConfig } from '../src/model/checkpoint.ts';
import { pick } from '../src/model/registry.ts';
import { createTinyLlava } from '../src/model/tinyllava.ts';
import { selectStages } from '../src/train/recipe.ts';
import { readRecipe } from '../src/train/recipe-file.ts';
import { writeMadeParts } from './made-parts.ts';
import { fittedUtilization } from './scaling/anchors.ts';
import { gpus } from './scaling/cluster.ts';
import { countModel } from './scaling/counts.ts';
import { llavaData, readData } from './scaling/data.ts';
import { clusterOf, memoryTable, paperTables, stepTable, workTable } from './scaling/tables.ts';

const root = join(import.meta.dirname, '..');
const { values } = parseArgs({
  options: {
    check: { type: 'boolean', default: false },
    model: { type: 'string' },
    recipe: { type: 'string', default: join(root, 'recipes/phi2-siglip.base.yaml') },
    stage: { type: 'string', default: 'instruct' },
    data: { type: 'string' },
    images: { type: 'string' },
    gpu: { type: 'string', default: 'a100-80g' },
    cards: { type: 'string', default: '8' },
    gigabits: { type: 'string', default: '200' },
    'micro-batch': { type: 'string', default: '8' },
    utilization: { type: 'string' },
  },
});

if (values.model === undefined) {
  writeMadeParts(join(root, 'docs/scaling.md'), paperTables(), { check: values.check, command: 'npx tsx scripts/scaling.ts' });
} else {
  const model = createTinyLlava(await readConfig(values.model));
  const recipe = selectStages(await readRecipe(values.recipe), [values.stage]);
  const [stage] = recipe.stages;
  if (!stage) throw new Error(`${values.recipe} has no stage ${values.stage}`);
  const known = llavaData(model.viewTokens);
  const usual = stage.learns.language.tune === 'frozen' ? known.align : known.instruct;
  const data =
    values.data === undefined ? usual : await readData(values.data, { folder: values.model, model, images: values.images, stage });
  const study = { model, stage, counts: countModel(model, stage), data };
  const microBatch = Number(values['micro-batch']);
  const setting = {
    cluster: clusterOf(pick(gpus, 'GPU', values.gpu), { cards: Number(values.cards), gigabits: Number(values.gigabits) }),
    microBatch,
    utilization: values.utilization === undefined ? fittedUtilization() : Number(values.utilization),
  };
  const named = [[values.model, study]] as const;
  console.log([workTable(named), stepTable(study, setting), memoryTable(named, { microBatch })].join('\n\n'));
}
