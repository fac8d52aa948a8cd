import { basename, extname, join, relative } from 'node:path';
import { Command } from 'commander';
import type { LeftOut } from '../data/rows.ts';
import { count, duration, short } from '../evaluate/html/format.ts';
import type { Log } from '../log.ts';
import type { BeyondContext } from '../train/check.ts';
import type { DryRun } from '../train/dry-run.ts';
import type { StepEvent } from '../train/stage.ts';
import type { Trained, TrainResult } from '../train/trainer.ts';
import { findModel, hubProgress } from './hub.ts';
import { interruptible } from './interrupt.ts';
import { collect, type DeviceFlags, prepareDevice, wholeNumber, withDeviceOptions } from './options.ts';
import { columns, Interrupted, print, printJson, resumable, screenColumns } from './print.ts';
import { StatusLine, wrap } from './quickstart/status-line.ts';
import { asRank, launchRanks } from './ranks.ts';

const usualPort = 6007;

interface TrainFlags extends DeviceFlags {
  readonly set?: readonly string[];
  readonly with?: readonly string[];
  readonly out?: string;
  readonly data: string;
  readonly stage?: readonly string[];
  readonly from?: string;
  readonly dryRun?: true;
  readonly printRecipe?: true;
  readonly microBatch?: number;
  readonly recompute?: true;
  readonly features?: string;
  readonly resume?: true;
  readonly watch?: number | true;
  readonly saveEvery?: number;
  readonly saveMinutes: number;
  readonly keep: number;
  readonly processes?: number;
  readonly sharded?: true;
}

/** What is skipped is named so many times. */
const namedSkips = 10;

/** Shows how far training is: one line that changes, and one that stays for each stage and checkpoint. */
export function trainingProgress(line: StatusLine): Log {
  let last: string[] = [];
  const skipped = new Set<unknown>();
  return ({ event, ...facts }) => {
    if (event === 'stage')
      line.say(
        `${facts['stage']}: ${count(Number(facts['rows']))} rows, ${count(Number(facts['steps']))} steps, ${short(Number(facts['trainable']))} parameters learn`,
      );
    if (event === 'beyond-context') line.say(`${facts['stage']}: ${beyondContextText(facts as unknown as BeyondContext)}`);
    if (event === 'left-out') line.say(`${facts['stage']}: ${leftOutText(facts as unknown as LeftOut)}`);
    // a row that cannot be used comes again in every epoch
    if ((event === 'skipped-row' || event === 'skipped-step') && skipped.size < namedSkips && !skipped.has(facts['reason'])) {
      skipped.add(facts['reason']);
      line.say(`skipped: ${facts['reason']}`);
      if (skipped.size === namedSkips) line.say('what else is skipped is named in metrics.jsonl');
    }
    if (event === 'unreadable-state') line.say(`passed over ${facts['folder']}: ${facts['reason']}`);
    if (event === 'resume' && facts['stage'] === undefined) line.say('nothing is left to do: the run is done');
    else if (event === 'resume') line.say(`goes on with ${facts['stage']} behind step ${facts['step']}`);
    if (event === 'validation') {
      line.say(
        `validation behind step ${facts['step']}: loss ${Number(facts['loss']).toPrecision(4)}${facts['best'] === true ? ', the best' : ''}`,
      );
    }
    if (event === 'early-stop') line.say(`ends early: nothing is better than step ${facts['best']}`);
    if (event === 'checkpoint') {
      line.finish(last);
      line.say(`saved ${facts['folder']}${leftOutIn(facts)}`);
    }
    if (event !== 'step') return;
    const [loss, rate, speed] = [Number(facts['loss']), Number(facts['learningRate']), Number(facts['tokensPerSecond'])];
    last = [
      `${facts['stage']} ${facts['step']}/${facts['steps']}`,
      `loss ${loss.toPrecision(4)}`,
      `${duration(Number(facts['secondsLeft']))} left`,
      `lr ${rate.toExponential(2)}`,
      `${count(Math.round(speed))} tokens/s`,
    ];
    line.update(last);
  };
}

/** What ratings left out. */
const leftOutText = ({ rows, questions }: LeftOut): string =>
  `ratings leave out ${count(rows)} rows, and ${count(questions)} questions of others`;

const beyondContextText = ({ maxLength, contextTokens }: BeyondContext): string =>
  `maxLength is ${count(maxLength)}, but the language model was made for ${count(contextTokens)} tokens; what is longer teaches it positions that it does not know`;

/** What a stage left out, where it did. */
function leftOutIn(facts: Readonly<Record<string, unknown>>): string {
  const [rows, steps, cut] = [Number(facts['skippedRows']), Number(facts['skippedSteps']), Number(facts['cutRows'])];
  const skipped = rows + steps === 0 ? '' : `; skipped on the way: ${count(rows)} rows, ${count(steps)} steps`;
  return skipped + (cut > 0 ? `; cut to maxLength: ${count(cut)} rows` : '');
}

const size = (bytes: number): string => (bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);

/** A dry run as lines to read, of at most so many columns. */
export function describeDryRun(
  { parts, parameters, stages }: DryRun,
  { processes, width }: Pick<TrainFlags, 'processes'> & { readonly width: number },
): string {
  const each = processes === undefined ? '' : ` in each of ${processes} processes`;
  const lines = columns([
    ...Object.entries(parts).map(([name, part]) => [name, part.type, part.parameters, part.shape]),
    ['all', '', parameters, ''],
  ]);
  for (const { name, rows, leftOut, beyondContext, steps, warmupSteps, trainable, sample, memory } of stages) {
    const learning = Object.entries(trainable).filter(([, parameters]) => parameters > 0);
    const unusable = sample.unusable === 0 ? '' : `; ${sample.unusable} more cannot be used`;
    const { parameters: weights, gradients, optimizer, activations, gathered, total } = memory;
    lines.push(
      '',
      `${name}: ${count(rows)} rows, ${count(steps)} steps, ${count(warmupSteps)} of them warm-up`,
      ...columns([
        ...(leftOut ? [['  data', leftOutText(leftOut)]] : []),
        ['  learns', learning.map(([part, parameters]) => `${part} ${count(parameters)}`).join(', ')],
        [
          '  tokens',
          `${sample.meanTokens.toFixed(1)} a row, ${sample.meanSupervised.toFixed(1)} of them learned, at most ${sample.maxTokens} (of ${sample.rows} rows; ${sample.cut} are cut${unusable})`,
        ],
        ...(beyondContext ? [['', beyondContextText(beyondContext)]] : []),
        ['  images', `${(sample.images / sample.rows).toFixed(2)} a row`],
        [
          '  memory',
          `about ${size(total)}${each}: weights ${size(weights)}, gradients ${size(gradients)}, optimizer ${size(optimizer)}, activations ${size(activations)}${
            gathered === undefined ? '' : `, gathered ${size(gathered)}`
          }`,
        ],
      ]),
    );
  }
  return lines.map((line) => wrap(line, width, ' '.repeat(10))).join('\n');
}

const summary = ({ stages, seconds, stopped }: TrainResult) => ({
  stages: stages.map(({ name, folder, steps, seconds }) => ({ name, folder, steps: steps.length, seconds, loss: steps.at(-1)?.loss })),
  seconds,
  stopped,
});

/** The verb `train`. */
export function trainCommand(): Command {
  const command = new Command('train')
    .description('train the stages of a recipe, one after another')
    .argument('<recipe>', 'YAML file')
    .option('--with <file>', 'replace the settings that a file names, as recipes/language/qwen2.5-0.5b.yaml; may be given again', collect)
    .option('--set <path=value>', 'replace a setting, as stages.instruct.batchSize=64; may be given again', collect)
    .option('--out <folder>', 'where checkpoints and metrics.jsonl go; runs/ and the name of the recipe unless given')
    .option('--data <folder>', 'where the relative paths of the recipe start', '.')
    .option('--stage <name>', 'only this stage; may be given again', collect)
    .option('--from <model>', 'start from this checkpoint, or model of the hub, instead of the model of the recipe')
    .option('--dry-run', 'open data and weights, print sizes, steps and memory, and train nothing')
    .option('--print-recipe', 'print the recipe with every default filled in')
    .option(
      '--micro-batch <count>',
      'conversations that go through the model at once, instead of as many as have the tokens beyond which nothing gets faster',
      wholeNumber(1),
    )
    .option('--watch [port]', 'show curves and answers on a page while it trains, on port 6007 unless given', wholeNumber(0, 65_535))
    .option('--resume', 'go on with the run that --out holds, if it holds one')
    .option('--save-every <steps>', 'save what is needed to resume, every so many steps', wholeNumber(1))
    .option('--save-minutes <minutes>', 'and after so many minutes', wholeNumber(1), 15)
    .option('--keep <count>', 'such states that are kept', wholeNumber(1), 2)
    .option('--processes <count>', 'processes on this machine that train together; torchrun and srun start them on many', wholeNumber(1))
    .option('--sharded', 'with several processes: each keeps a part of weights, gradients and optimizer state, as FSDP and ZeRO-3 do')
    .option('--recompute', 'compute layers again in the backward pass, for less memory')
    .option('--features <folder>', "keep a frozen tower's features of the images there, for this run and later ones");
  return withDeviceOptions(command).action((file: string, flags: TrainFlags) => {
    const { processes = 1, dryRun, printRecipe } = flags;
    if (processes === 1 || dryRun || printRecipe) return asRank(() => run(file, flags));
    return launchRanks(processes, withoutProcesses(process.argv.slice(1)), flags);
  });
}

/** The command line of one of several processes. */
const withoutProcesses = (argv: readonly string[]): string[] =>
  argv.filter((word, i) => !word.startsWith('--processes') && argv[i - 1] !== '--processes');

/** Does what the flags say. */
async function run(file: string, flags: TrainFlags): Promise<void> {
  const { data: root, microBatch, recompute = false, processes = 1, sharded = false, features, json } = flags;
  const [{ parseOverride, readOverrides, readRecipe, writeRecipe }, { selectStages, startFrom }] = await Promise.all([
    import('../train/recipe-file.ts'),
    import('../train/recipe.ts'),
  ]);
  const files = await Promise.all((flags.with ?? []).map(readOverrides));
  const whole = await readRecipe(file, [...files.flat(), ...(flags.set ?? []).map(parseOverride)]);
  const staged = flags.stage ? selectStages(whole, flags.stage) : whole;
  const recipe = flags.from === undefined ? staged : startFrom(staged, relative(root, await findModel(flags.from)) || '.');
  if (flags.printRecipe) {
    if (json) printJson(recipe);
    else print(writeRecipe(recipe).trimEnd());
    return;
  }
  const { jobFromEnvironment } = await import('../train/job.ts');
  const job = flags.dryRun ? undefined : jobFromEnvironment(process.env);
  const own = job && flags.device === 'cuda' ? ({ ...flags, device: `cuda:${job.localRank}` } as const) : flags;
  const [{ train }, { dryRun }, device] = await Promise.all([
    import('../train/trainer.ts'),
    import('../train/dry-run.ts'),
    prepareDevice(own),
  ]);
  const launch = { root, device, recompute, ...(microBatch !== undefined && { microBatch }) };
  using line = new StatusLine(process.stderr);
  const downloads = hubProgress(line);
  if (flags.dryRun) {
    const found = await interruptible((signal) => dryRun(recipe, { ...launch, processes, sharded, log: downloads, signal }));
    if (json) printJson(found);
    else print(describeDryRun(found, { ...flags, width: screenColumns() }));
    return;
  }
  const out = flags.out ?? join('runs', basename(file, extname(file)));
  const training = trainingProgress(line);
  const log: Log = (event) => {
    downloads(event);
    training(event);
  };
  const group = job && new (await import('../tensor/distributed.ts')).ProcessGroup(job.place);
  const speaks = !group || group.rank === 0;
  const [{ watch, watched }, { SampleAnswers }] = await Promise.all([import('./watch/watch.ts'), import('./watch/samples.ts')]);
  const { saveEvery: steps, saveMinutes: minutes, keep } = flags;
  const save = { minutes, keep, ...(steps !== undefined && { steps }) };
  const stages = recipe.stages.map(({ name }) => name);
  await using page =
    flags.watch === undefined || !speaks ? undefined : await watch(out, flags.watch === true ? usualPort : flags.watch, stages);
  if (page) line.say(`watch it on ${page.url}`);
  // Weights that lie on many ranks cannot answer in between.
  const samples = page && !(group && sharded) ? new SampleAnswers(recipe, { root, out }) : undefined;
  const onStep = samples && ((event: StepEvent, trained: Trained) => samples.after(event, trained));
  const kept = { ...(features !== undefined && { features: { folder: features } }), ...(onStep && { onStep }) };
  await interruptible(async (signal) => {
    const together = { group, sharded };
    const options = { ...launch, ...kept, ...together, out, log, signal, save, resume: flags.resume === true };
    const result = await watched(page, () => train(recipe, options));
    group?.close();
    if (result.stopped) throw new Interrupted('interrupted; go on with --resume', { exitCode: resumable });
    if (!speaks) return;
    if (json) printJson(summary(result));
    else for (const { folder } of result.stages) if (folder !== undefined) print(folder);
  });
}
