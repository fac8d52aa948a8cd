import { existsSync } from 'node:fs';
import { Command } from 'commander';
import type { Answer } from '../generate/reply.ts';
import { interruptible } from './interrupt.ts';
import {
  type AnswerFlags,
  collect,
  type ModelFlags,
  modelArgument,
  openModel,
  wholeNumber,
  withAnswerOptions,
  withModelOptions,
} from './options.ts';
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

const imageName = /^\S+\.(avif|gif|jpe?g|png|tiff?|webp)$/i;

/** Words of the command line that are files or are called as images are, up to the first that is neither, are images; the rest is the question. */
function split(words: readonly string[]): { images: string[]; question: string } {
  const last = words.length - 1;
  const first = words.findIndex((word, i) => !imageName.test(word) && (i === last || !existsSync(word)));
  const end = first < 0 ? words.length : first;
  return { images: words.slice(0, end), question: words.slice(end).join(' ').trim() };
}

interface AskFlags {
  readonly image?: string[];
  readonly video?: string[];
  readonly frames: number;
}

/** Frames of a video unless the library is told otherwise; written here so that help needs no libraries. */
const defaultFrames = 8;

/** The verb `ask`. */
export function askCommand(): Command {
  const command: Command = new Command('ask')
    .description('one answer about images')
    .argument('<model>', modelArgument)
    .argument('<question...>', 'what to ask; images may stand before it')
    .option('--image <file>', 'image that the question is about; may be given again', collect)
    .option('--video <file>', 'video that the question is about; may be given again', collect)
    .option('--frames <count>', 'frames that a video is sampled to', wholeNumber(1), defaultFrames);
  return withModelOptions(withAnswerOptions(command)).action(
    async (
      path: string,
      words: string[],
      {
        image = [],
        video = [],
        frames,
        device,
        dtype,
        mapped,
        template,
        threads,
        adapter,
        base,
        json,
        ...answering
      }: AnswerFlags & ModelFlags & AskFlags,
    ) => {
      const { images, question } = split(words);
      if (question === '') command.error('error: the question is missing');
      const model = await openModel(path, { device, dtype, mapped, template, threads, adapter, base });
      await interruptible(async (signal) => {
        const stream = model.stream({
          messages: [
            {
              role: 'user',
              content: [...video.map((file) => ({ type: 'video', video: file, frames }) as const), { type: 'text', text: question }],
            },
          ],
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
