import { Command, Option } from 'commander';
import type { Profile } from '../evaluate/task.ts';
import { print, printJson } from './print.ts';

interface ScoreFlags {
  readonly answers: string;
  readonly data: string;
  readonly profile: Profile;
  readonly json?: true;
}

/** The option --profile, as `eval` and `score` have it. */
export const profileOption = (): Option =>
  new Option('--profile <name>', "the benchmark's own prompts and scorers, or lmms-eval's")
    .choices(['official', 'lmms-eval'])
    .default('official');

/** The verb `score`. */
export function scoreCommand(): Command {
  return new Command('score')
    .description('score answers that exist')
    .argument('<task>', 'benchmark; `tinyllava eval --list` names them')
    .requiredOption('--answers <file>', 'JSONL, JSON or TSV with an answer for each question')
    .requiredOption('--data <folder>', "folder that holds the task's files")
    .addOption(profileOption())
    .option('--json', 'print one JSON document')
    .action(async (task: string, { answers, data, profile, json }: ScoreFlags) => {
      const [{ scoreAnswers }, { scoreTable }] = await Promise.all([
        import('../evaluate/score-answers.ts'),
        import('../evaluate/report.ts'),
      ]);
      const result = await scoreAnswers(task, { answers, data, profile });
      if (json) printJson(result);
      else print(scoreTable(result).trimEnd());
    });
}
