import { existsSync } from 'node:fs';
import { Command } from 'commander';
import type { Answer } from '../generate/reply.ts';
import { interruptible } from './interrupt.ts';
import { type AnswerFlags, collect, type ModelFlags, openModel, withAnswerOptions, withModelOptions } from './options.ts';
import { print, printJson } from './print.ts';

/** Writes an answer as it comes, without white space before it; gives the whole of it back. */
export async function follow(stream: AsyncGenerator<string, Answer>, write: (text: string) => void): Promise<Answer> {
  let begun = false;
  for (;;) {
    const step = await stream.next();
    if (step.done) return step.value;
    const text: string = begun ? step.value : step.value.trimStart();
    begun ||= text !== '';
    if (text !== '') write(text);
  }
}

/** Words of the command line that are files, up to the first that is none, are images; the rest is the question. */
function split(words: readonly string[]): { images: string[]; question: string } {
  const first = words.slice(0, -1).findIndex((word) => !existsSync(word));
  const end = first < 0 ? words.length - 1 : first;
  return { images: words.slice(0, end), question: words.slice(end).join(' ') };
}

/** The verb `ask`. */
export function askCommand(): Command {
  const command = new Command('ask')
    .description('one answer about images')
    .argument('<model>', 'checkpoint folder')
    .argument('<question...>', 'what to ask')
    .option('--image <file>', 'image that the question is about; may be given again', collect);
  return withModelOptions(withAnswerOptions(command)).action(
    async (
      path: string,
      words: string[],
      { image = [], device, dtype, threads, json, ...answering }: AnswerFlags & ModelFlags & { image?: string[] },
    ) => {
      const { images, question } = split(words);
      const model = await openModel(path, { ...(device && { device }), ...(dtype && { dtype }), ...(threads && { threads }) });
      await interruptible(async (signal) => {
        const stream = model.stream({
          messages: [{ role: 'user', content: question }],
          images: [...image, ...images],
          ...answering,
          signal,
        });
        const { text, finishReason, usage } = await follow(stream, (piece) => json || process.stdout.write(piece));
        if (json) printJson({ text: text.trim(), finishReason, usage });
        else print('');
      });
    },
  );
}
