import { type Command, Option } from 'commander';
import type { Judge } from '../evaluate/judge/judge.ts';

/** Who judges. */
export interface JudgeFlags {
  readonly judge?: string;
  readonly judgeUrl?: string;
}

/** Adds --judge and --judge-url. */
export function withJudgeOptions(command: Command): Command {
  return command
    .option(
      '--judge <model>',
      'model that grades open answers; none unless named. Its key comes from TINYLLAVA_JUDGE_KEY or OPENAI_API_KEY',
    )
    .addOption(new Option('--judge-url <url>', "OpenAI-compatible server of the judge, up to /v1; OpenAI's unless given"));
}

/** The judge that the flags name. */
export async function judgeOf({ judge, judgeUrl }: JudgeFlags, env: NodeJS.ProcessEnv): Promise<Judge | undefined> {
  if (judge === undefined) return undefined;
  const { Judge } = await import('../evaluate/judge/judge.ts');
  return new Judge({ model: judge, baseUrl: judgeUrl, key: env['TINYLLAVA_JUDGE_KEY'] ?? env['OPENAI_API_KEY'] });
}
