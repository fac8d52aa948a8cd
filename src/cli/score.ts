import { writeFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { Command, Option } from 'commander';
import { ConfigError, DataError, UsageError } from '../errors.ts';
import type { Profile, Task } from '../evaluate/task.ts';
import { interruptible } from './interrupt.ts';
import { type JudgeFlags, judgeOf, withJudgeOptions } from './judge-options.ts';
import { print, printJson } from './print.ts';

interface ScoreFlags extends JudgeFlags {
  readonly answers: string;
  readonly data: string;
  readonly profile: Profile;
  readonly submission?: string;
  readonly json?: true;
}

/** The option --profile, as `eval` and `score` have it. */
export const profileOption = (): Option =>
  new Option('--profile <name>', "the benchmark's own prompts and scorers, or lmms-eval's")
    .choices(['official', 'lmms-eval'])
    .default('official');

/** The verb `score`. */
export function scoreCommand(): Command {
  const command = new Command('score')
    .description('score answers that exist')
    .argument('<task>', 'benchmark; `tinyllava eval --list` names them')
    .requiredOption('--answers <file>', 'JSONL, JSON, TSV or xlsx with an answer for each question')
    .requiredOption('--data <folder>', "folder that holds the task's files")
    .addOption(profileOption())
    .option('--submission <file>', "write what the benchmark's server takes");
  return withJudgeOptions(command)
    .option('--json', 'print one JSON document')
    .action(async (name: string, flags: ScoreFlags) => {
      const [{ taskOf }, { scoreAnswers }, { scoreTable }] = await Promise.all([
        import('../evaluate/open-tasks.ts'),
        import('../evaluate/score-answers.ts'),
        import('../evaluate/report.ts'),
      ]);
      const { answers, data, profile, json } = flags;
      const task = await taskOf(name);
      if (flags.submission !== undefined) checkSubmission(task, flags.submission);
      const judge = await judgeOf(flags, process.env);
      const { submission, ...shown } = await interruptible((signal) => scoreAnswers(task, { answers, data, profile, judge, signal }));
      if (flags.submission !== undefined) {
        if (submission === undefined) throw new DataError(`${data} has no questions of ${task.name}, which a submission is made of`);
        const { submissionContent } = await import('../evaluate/submission.ts');
        await writeFile(flags.submission, await submissionContent(submission, task.submissionForm));
      }
      if (json) printJson(shown);
      else print(scoreTable(shown).trimEnd());
    });
}

/** Finds out before the work that a submission is not what the server of a task takes. */
function checkSubmission({ name, submission, submissionForm }: Task, path: string): void {
  if (submission === undefined) throw new ConfigError(`${name} has no server that takes answers`, { hint: 'leave out --submission' });
  if (submissionForm !== undefined && extname(path) !== `.${submissionForm}`) {
    throw new UsageError(`the server of ${name} takes .${submissionForm}, not ${path}`, { hint: `--submission FILE.${submissionForm}` });
  }
}
