import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { DataError } from '../errors.ts';
import type { ChatModel } from '../generate/generate.ts';
import type { ContentPart, Message } from '../processor/message.ts';
import { follow } from './ask.ts';
import { interruptible } from './interrupt.ts';
import { type AnswerFlags, type ModelFlags, modelArgument, openModel, withAnswerOptions, withModelOptions } from './options.ts';
import { complain, Interrupted, print, printJson } from './print.ts';

const help = '/image FILE  goes with the next message\n/clear       begin a new conversation\n/exit        end (so does Ctrl-D)';

/** A conversation that grows by what is typed. */
class Conversation {
  readonly #model: ChatModel;
  readonly #answering: AnswerFlags;
  messages: Message[] = [];
  #images: string[] = [];

  constructor(model: ChatModel, answering: AnswerFlags) {
    this.#model = model;
    this.#answering = answering;
  }

  /** Carries out a line that begins with a slash; false ends the conversation. */
  command(line: string, say: (text: string) => void): boolean {
    const [verb = '', ...rest] = line.split(' ');
    const file = rest.join(' ').trim();
    if (verb === '/exit') return false;
    if (verb === '/clear') {
      this.messages = [];
      this.#images = [];
    } else if (verb === '/help') say(help);
    else if (verb === '/image' && existsSync(file)) this.#images.push(file);
    else if (verb === '/image') throw new DataError(file === '' ? '/image wants a file' : `${file}: no such file`);
    else throw new DataError(`${verb} is no command`, { hint: 'use /image FILE, /clear, /exit or /help' });
    return true;
  }

  /** Answers a message; one that cannot be answered is forgotten with its images, an answer that is cut off is kept as far as it came. */
  async answer(text: string, write: (text: string) => void): Promise<void> {
    const images = this.#images.map((image): ContentPart => ({ type: 'image', image }));
    this.#images = [];
    const messages: Message[] = [...this.messages, { role: 'user', content: [...images, { type: 'text', text }] }];
    let written = '';
    const tell = (piece: string): void => {
      written += piece;
      write(piece);
    };
    try {
      await interruptible((signal) => follow(this.#model.stream({ ...this.#answering, messages, signal }), tell));
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
    }
    this.messages = [...messages, { role: 'assistant', content: written.trim() }];
  }
}

async function converse(conversation: Conversation, { json, interactive }: { json: boolean; interactive: boolean }): Promise<void> {
  const lines = createInterface({ input: process.stdin, ...(interactive && { output: process.stderr, prompt: '> ' }) });
  const write = (text: string): void => void (json || process.stdout.write(text));
  // In a terminal Ctrl-C comes here: it ends the answer that is being given, else the conversation.
  lines.on('SIGINT', () => process.emit('SIGINT') || lines.close());
  if (interactive) process.stderr.write(`${help}\n`);
  lines.prompt();
  for await (const line of lines) {
    try {
      const text = line.trim();
      if (text.startsWith('/') && !conversation.command(text, (said) => process.stderr.write(`${said}\n`))) break;
      if (!text.startsWith('/') && text !== '') {
        await conversation.answer(text, write);
        write('\n');
      }
    } catch (error) {
      complain(error);
    }
    lines.prompt();
  }
  lines.close();
}

/** The verb `chat`. */
export function chatCommand(): Command {
  const command = new Command('chat').description('a conversation, line by line').argument('<model>', modelArgument);
  return withModelOptions(withAnswerOptions(command)).action(
    async (path: string, { device, dtype, mapped, template, threads, adapter, base, json, ...answering }: AnswerFlags & ModelFlags) => {
      const model = await openModel(path, { device, dtype, mapped, template, threads, adapter, base });
      const conversation = new Conversation(model, answering);
      await converse(conversation, { json: json ?? false, interactive: process.stdin.isTTY === true });
      if (json) printJson({ messages: conversation.messages });
      else if (process.stdin.isTTY) print('');
    },
  );
}
