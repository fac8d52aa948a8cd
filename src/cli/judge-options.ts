import type { Command } from 'commander';
import { UsageError } from '../errors.ts';
import type { Judge } from '../evaluate/judge/judge.ts';
import { address, wholeNumber } from './options.ts';

/** How long a server may take. */
export interface ServerFlags {
  /** In seconds. */
  readonly timeout: number;
}

/** Who judges. */
export interface JudgeFlags extends ServerFlags {
  readonly judge?: string;
  readonly judgeUrl?: string;
}

/** Adds --judge, --judge-url and --timeout. */
export function withJudgeOptions(command: Command): Command {
  return command
    .option(
      '--judge <model>',
      'model that grades open answers; none unless named. Its key comes from TINYLLAVA_JUDGE_KEY or OPENAI_API_KEY',
    )
    .option('--judge-url <url>', "OpenAI-compatible server of the judge, up to /v1; OpenAI's unless given", address)
    .option('--timeout <seconds>', 'how long a server may take for an answer', wholeNumber(1), 120);
}

/** The judge that the flags name. Throws UsageError for the address of none. */
export async function judgeOf({ judge, judgeUrl, timeout }: JudgeFlags, env: NodeJS.ProcessEnv): Promise<Judge | undefined> {
  if (judge === undefined) {
    if (judgeUrl !== undefined) throw new UsageError('--judge-url is for a judge, and none is named', { hint: 'add --judge MODEL' });
    return undefined;
  }
  const { Judge } = await import('../evaluate/judge/judge.ts');
  const key = env['TINYLLAVA_JUDGE_KEY'] ?? env['OPENAI_API_KEY'];
  return new Judge({ model: judge, baseUrl: judgeUrl, key, timeoutMs: 1000 * timeout });
}
