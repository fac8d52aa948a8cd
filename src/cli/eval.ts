import { Command } from 'commander';
import type { Profile, Task } from '../evaluate/task.ts';
import type { Log } from '../log.ts';
import { interruptible } from './interrupt.ts';
import { type JudgeFlags, judgeOf, withJudgeOptions } from './judge-options.ts';
import { type ModelFlags, modelArgument, openModel, wholeNumber, withModelOptions } from './options.ts';
import { print, printJson } from './print.ts';
import { StatusLine } from './quickstart/status-line.ts';
import { profileOption } from './score.ts';

interface EvalFlags extends ModelFlags, JudgeFlags {
  readonly tasks?: string;
  readonly data?: string;
  readonly profile: Profile;
  readonly batchSize: number;
  readonly limit?: number;
  readonly out?: string;
  readonly list?: true;
}

/** Shows how far an evaluation is. */
export function evaluationProgress(line: StatusLine, now: () => number = () => performance.now()): Log {
  let startMs = now();
  return ({ event, task, done, samples, meanScore }) => {
    if (event === 'evaluating') startMs = now();
    if (event === 'evaluated') line.finish([String(task), 'done', `${((now() - startMs) / 1000).toFixed(1)} s`]);
    if (event !== 'answered') return;
    const seconds = (now() - startMs) / 1000;
    const left = (seconds / Number(done)) * (Number(samples) - Number(done));
    const score = `score ${(100 * Number(meanScore)).toFixed(1)} %`;
    line.update([
      String(task),
      `${done} of ${samples}`,
      score,
      `${Math.ceil(left)} s left`,
      `${(Number(done) / seconds).toFixed(1)} questions/s`,
    ]);
  };
}

async function list(json: true | undefined): Promise<void> {
  const { tasks } = await import('../evaluate/tasks/index.ts');
  const rows = Object.values<Task>(tasks).map(({ name, about, wants = [] }) => ({ name, about, wants }));
  if (json) return printJson(rows);
  for (const { name, about, wants } of rows) {
    print(`${name}: ${about}`);
    for (const { layout, files, from } of wants) print(`    ${layout}: ${files.join(', ').replaceAll('|', ' or ')}\n        from ${from}`);
  }
}

/** The verb `eval`. */
export function evalCommand(): Command {
  const command: Command = new Command('eval')
    .description('run benchmarks, write results and every sample')
    .argument('[model]', modelArgument)
    .option('--tasks <names>', 'tasks with commas between them')
    .option('--data <folder>', "folder that holds the tasks' files")
    .addOption(profileOption())
    .option('--batch-size <count>', 'answers that grow together', wholeNumber(1), 16)
    .option('--limit <count>', 'the first so many samples of each task', wholeNumber(1))
    .option('--out <folder>', 'where results.json and samples_<task>.jsonl go')
    .option('--list', 'say what tasks there are and what files they want');
  return withModelOptions(withJudgeOptions(command)).action(async (path: string | undefined, flags: EvalFlags) => {
    if (flags.list) return list(flags.json);
    const { tasks, data, batchSize, limit, out, profile } = flags;
    if (path === undefined) command.error("error: missing required argument 'model'");
    if (tasks === undefined) command.error("error: required option '--tasks <names>' not specified");
    if (data === undefined) command.error("error: required option '--data <folder>' not specified");
    const [{ evaluate }, { openTasks }, { markdown }] = await Promise.all([
      import('../evaluate/evaluate.ts'),
      import('../evaluate/open-tasks.ts'),
      import('../evaluate/report.ts'),
    ]);
    const what = { tasks: tasks.split(','), data, profile, judge: await judgeOf(flags, process.env) };
    // Missing files are found before a model is loaded.
    const opened = await openTasks(what);
    const model = await openModel(path, flags);
    using line = new StatusLine(process.stderr);
    const log = evaluationProgress(line);
    const results = await interruptible((signal) => evaluate(model, { ...what, opened, batchSize, limit, out, log, signal }));
    if (flags.json) printJson(results);
    else print(markdown(results).trimEnd());
  });
}
