import { Command, CommanderError } from 'commander';
import { UsageError } from '../errors.ts';
import { version } from '../version.ts';
import { askCommand } from './ask.ts';
import { chatCommand } from './chat.ts';
import { compareCommand } from './compare.ts';
import { convertCommand } from './convert.ts';
import { doctorCommand } from './doctor.ts';
import { evalCommand } from './eval.ts';
import { evalWorkerCommand } from './eval-worker.ts';
import { inspectCommand } from './inspect.ts';
import { logitsCommand } from './logits.ts';
import { complain, Interrupted } from './print.ts';
import { quickstartCommand } from './quickstart.ts';
import { scoreCommand } from './score.ts';
import { trainCommand } from './train.ts';

/** A usage error in the form of all others; commander says `error: …` and, on a line of its own, `(Did you mean …?)`. */
function usageError(text: string, verb: string): string {
  const [first = '', ...rest] = text.trim().split('\n');
  const guess = /\((.*)\)/s.exec(rest.join('\n'))?.[1];
  const fix = guess ? guess.charAt(0).toLowerCase() + guess.slice(1) : `see \`${verb} --help\``;
  return `${first}\n  fix: ${fix}\n`;
}

/** Has a verb's required options missed after what is misspelt was told, which may be one of them; commander looks for them first. */
function missLate(verb: Command): void {
  const required = verb.options.filter(({ mandatory }) => mandatory);
  for (const option of required) option.mandatory = false;
  verb.hook('preAction', () => {
    const missing = required.find((option) => verb.getOptionValue(option.attributeName()) === undefined);
    if (missing) verb.error(`error: required option '${missing.flags}' not specified`, { code: 'commander.missingMandatoryOptionValue' });
  });
}

/** The whole command line. */
export function program(): Command {
  const root = new Command('tinyllava')
    .description('Train, evaluate, compare and use small large multimodal models.')
    .version(version, '--version', 'print the version')
    .helpOption('--help', 'print help')
    .helpCommand(false);
  const verbs = [
    quickstartCommand(),
    trainCommand(),
    evalCommand(),
    scoreCommand(),
    compareCommand(),
    askCommand(),
    chatCommand(),
    logitsCommand(),
    inspectCommand(),
    convertCommand(),
    doctorCommand(),
  ];
  for (const verb of verbs) root.addCommand(verb);
  root.addCommand(evalWorkerCommand().exitOverride(), { hidden: true });
  for (const verb of verbs) missLate(verb);
  for (const command of [root, ...verbs]) {
    const name = command === root ? 'tinyllava' : `tinyllava ${command.name()}`;
    command
      .helpOption('--help', 'print help')
      .exitOverride()
      .configureOutput({ outputError: (text, write) => write(usageError(text, name)) });
  }
  return root;
}

/** Runs the command line; gives the exit code: 0 success, 1 failure, 2 usage, 130 interrupted. */
export async function run(argv: readonly string[]): Promise<number> {
  process.exitCode = 0;
  try {
    await program().parseAsync([...argv], { from: 'user' });
    return process.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    complain(error);
    if (error instanceof UsageError) return 2;
    return error instanceof Interrupted ? error.exitCode : 1;
  }
}
