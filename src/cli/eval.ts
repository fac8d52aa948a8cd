import { existsSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { Command } from 'commander';
import { ConfigError, isSystemError } from '../errors.ts';
import type { Profile, Task } from '../evaluate/task.ts';
import type { Log } from '../log.ts';
import { interruptible } from './interrupt.ts';
import { type JudgeFlags, judgeOf, withJudgeOptions } from './judge-options.ts';
import { address, modelArgument, wholeNumber, withModelOptions } from './options.ts';
import { Interrupted, print, printJson } from './print.ts';
import { StatusLine } from './quickstart/status-line.ts';
import { openRespondent, type RespondentFlags } from './respondent.ts';
import { profileOption } from './score.ts';

interface EvalFlags extends RespondentFlags, JudgeFlags {
  readonly tasks?: string;
  readonly data?: string;
  readonly profile: Profile;
  readonly limit?: number;
  readonly out?: string;
  readonly resume?: true;
  readonly list?: true;
}

/** Shows how far an evaluation is. */
export function evaluationProgress(line: StatusLine, now: () => number = () => performance.now()): Log {
  let startMs = now();
  let known = 0;
  return ({ event, task, done, samples, meanScore, ...more }) => {
    if (event === 'evaluating') [startMs, known] = [now(), Number(more['known'] ?? 0)];
    if (event === 'evaluated') line.finish([String(task), 'done', `${((now() - startMs) / 1000).toFixed(1)} s`]);
    if (event !== 'answered') return;
    const seconds = (now() - startMs) / 1000;
    const left = (seconds / (Number(done) - known)) * (Number(samples) - Number(done));
    const score = `score ${(100 * Number(meanScore)).toFixed(1)} %`;
    line.update([
      String(task),
      `${done} of ${samples}`,
      score,
      `${Math.ceil(left)} s left`,
      `${((Number(done) - known) / seconds).toFixed(1)} questions/s`,
    ]);
  };
}

/** The names between the commas. */
const namesIn = (text: string): string[] =>
  text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '');

/** What a model is called in results: by the name of its folder or file, wherever that is, so that equal runs leave equal files; else as it is named. */
const called = (model: string): string => (existsSync(model) ? basename(resolve(model)) : model);

/** Says what tasks there are, or what the named ones want. */
async function list(names: readonly string[], json: true | undefined): Promise<void> {
  const [{ tasks }, { taskOf }] = await Promise.all([import('../evaluate/tasks/index.ts'), import('../evaluate/open-tasks.ts')]);
  const wanted = names.length > 0 ? await Promise.all(names.map(taskOf)) : Object.values<Task>(tasks);
  const rows = wanted.map(({ name, about, wants = [] }) => ({ name, about, wants }));
  if (json) return printJson(rows);
  for (const { name, about, wants } of rows) {
    print(`${name}: ${about}`);
    for (const { layout, files, from } of wants) print(`    ${layout}: ${files.join(', ').replaceAll('|', ' or ')}\n        from ${from}`);
  }
}

/** An error in the middle of a run whose answers are kept, with how to go on. */
async function goingOn(error: unknown, out: string): Promise<unknown> {
  const { ServerError } = await import('../evaluate/chat-server.ts');
  if (error instanceof Interrupted) return new Interrupted('interrupted; go on with --resume');
  if (isSystemError(error)) {
    return new ConfigError(`${out}: ${error.message}`, {
      hint: 'what was answered is kept; see to the disk, and go on with --resume',
      cause: error,
    });
  }
  if (!(error instanceof ServerError)) return error;
  return new ConfigError(error.message, {
    hint: 'what was answered is kept; go on with --resume when the server answers, with a longer --timeout where it is only slow',
    cause: error,
  });
}

/** The verb `eval`. */
export function evalCommand(): Command {
  const command: Command = new Command('eval')
    .description('run benchmarks, write results and every sample')
    .argument('[model]', `${modelArgument}, or openai:MODEL for a model behind a server`)
    .option('--tasks <names>', 'tasks with commas between them')
    .option('--data <folder>', "folder that holds the tasks' files")
    .addOption(profileOption())
    .option('--batch-size <count>', 'answers that grow together, or calls under way', wholeNumber(1), 16)
    .option('--processes <count>', 'share the questions among so many copies of the model', wholeNumber(1))
    .option(
      '--base-url <url>',
      "OpenAI-compatible server of openai:MODEL, up to /v1; OpenAI's unless given. Its key comes from TINYLLAVA_API_KEY or OPENAI_API_KEY",
      address,
    )
    .option('--limit <count>', 'the first so many samples of each task', wholeNumber(1))
    .option('--out <folder>', 'where results.json, samples_<task>.jsonl, report.md and report.html go')
    .option('--resume', 'go on with the run that was left in --out')
    .option('--list', 'say what tasks there are and what files they want, or those of --tasks');
  return withModelOptions(withJudgeOptions(command)).action(async (path: string | undefined, flags: EvalFlags) => {
    if (flags.list) return list(namesIn(flags.tasks ?? ''), flags.json);
    const { tasks, data, batchSize, limit, out, profile, resume, adapter } = flags;
    if (path === undefined) command.error("error: missing required argument 'model'");
    if (tasks === undefined) command.error("error: required option '--tasks <names>' not specified");
    if (data === undefined) command.error("error: required option '--data <folder>' not specified");
    if (resume && out === undefined) command.error("error: option '--resume' needs '--out <folder>'");
    const [{ evaluate, withoutTimes }, { openTasks }, { markdown }, { writeReport }] = await Promise.all([
      import('../evaluate/evaluate.ts'),
      import('../evaluate/open-tasks.ts'),
      import('../evaluate/report.ts'),
      import('../evaluate/write-report.ts'),
    ]);
    const what = { tasks: namesIn(tasks), data, profile, judge: await judgeOf(flags, process.env) };
    // Missing files are found before a model is loaded.
    const opened = await openTasks(what);
    const model = await openRespondent(path, flags, process.env);
    using line = new StatusLine(process.stderr);
    const log = evaluationProgress(line);
    using _processes = Symbol.dispose in model ? model : undefined;
    const modelName = adapter === undefined ? called(path) : `${called(path)} with ${called(adapter)}`;
    const run = (signal: AbortSignal) => evaluate(model, { ...what, modelName, opened, batchSize, limit, out, resume, log, signal });
    const results = await interruptible(run).catch(async (error) => {
      throw out === undefined ? error : await goingOn(error, out);
    });
    if (out !== undefined) await writeReport(out, withoutTimes(results));
    if (flags.json) printJson(results);
    else print(markdown(results).trimEnd());
  });
}
