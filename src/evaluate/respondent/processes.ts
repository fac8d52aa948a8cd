import type { ChildProcess } from 'node:child_process';
import { TinyLlavaError } from '../../errors.ts';
import { contentParts } from '../../processor/message.ts';
import type { Identity, Question, Respondent, RespondOptions, Response } from './respondent.ts';

/** What a process is sent: a question of a run of questions. */
export interface Sent {
  readonly run: number;
  readonly index: number;
  readonly question: Question;
}

/** What a process says: who it is once it can be asked, what came of a question, or what would befall every question. */
export type Said =
  | { readonly identity: Identity }
  | { readonly run: number; readonly response: Response }
  | { readonly failure: { readonly message: string; readonly hint: string | undefined } };

/** Questions about one image that are kept together at most. */
const together = 64;

/** A process, who it is once it can be asked, and how many questions it has that are not answered. */
interface Worker {
  readonly child: ChildProcess;
  readonly name: string;
  identity?: Identity;
  pending: number;
}

/** Several processes that each hold the model and share the questions; those about one image stay together, because they share what is computed of it. */
export class Processes implements Respondent, Disposable {
  readonly #workers: readonly Worker[];
  readonly #arrived: Response[] = [];
  #run = 0;
  #failure: Error | undefined;
  #wake = (): void => {};

  private constructor(children: readonly ChildProcess[]) {
    this.#workers = children.map((child, i) => ({ child, name: `process ${i + 1} of ${children.length} (pid ${child.pid})`, pending: 0 }));
    for (const worker of this.#workers) {
      worker.child.on('message', (said: Said) => this.#hear(worker, said));
      worker.child.on('error', ({ message }) => this.#fail(failed(worker, { message })));
      // Behind all that it has said, which cannot be known at its exit.
      worker.child.on('close', (code, signal) => this.#fail(died(worker, code, signal)));
    }
  }

  get identity(): Identity {
    return this.#workers[0]?.identity ?? {};
  }

  /** Waits until the processes, which run `serveQuestions`, can be asked. Throws what the first of them fails with; none is then left. */
  static async start(children: readonly ChildProcess[]): Promise<Processes> {
    const processes = new Processes(children);
    try {
      await processes.#ready();
      return processes;
    } catch (cause) {
      processes[Symbol.dispose]();
      throw cause;
    }
  }

  async *responses(
    questions: Iterable<Question> | AsyncIterable<Question>,
    { batchSize, signal }: RespondOptions,
  ): AsyncGenerator<Response, void> {
    this.#run += 1;
    this.#arrived.length = 0;
    for (const worker of this.#workers) worker.pending = 0;
    const abort = (): void => this.#wake();
    signal?.addEventListener('abort', abort);
    try {
      let [index, image, kept]: [number, unknown, number] = [0, undefined, 0];
      let worker: Worker | undefined;
      for await (const question of questions) {
        const shown = firstImage(question);
        kept = shown !== undefined && shown === image ? kept + 1 : 0;
        image = shown;
        if (kept % together === 0) worker = undefined;
        for (worker ??= this.#free(batchSize); worker === undefined || this.#failure; worker = this.#free(batchSize))
          yield* await this.#arrivals(signal);
        worker.pending += 1;
        // One that is gone cannot be sent anything, and says so by its end.
        worker.child.send({ run: this.#run, index, question } satisfies Sent, () => {});
        index += 1;
      }
      while (this.#arrived.length > 0 || this.#workers.some(({ pending }) => pending > 0)) yield* await this.#arrivals(signal);
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Ends the processes. */
  [Symbol.dispose](): void {
    for (const { child } of this.#workers) child.kill();
  }

  /** Waits until every process can be asked. Throws what the first of them fails with. */
  async #ready(): Promise<void> {
    while (this.#workers.some(({ identity }) => identity === undefined)) {
      if (this.#failure) throw this.#failure;
      await this.#change();
    }
  }

  /** Waits until a process has said something or has ended. */
  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** The least busy process, unless all have as much in waiting as they answer at a time. */
  #free(batchSize: number): Worker | undefined {
    const least = this.#workers.reduce((best, worker) => (worker.pending < best.pending ? worker : best));
    return least.pending < 2 * batchSize ? least : undefined;
  }

  /** What has been answered; waits until something has. */
  async #arrivals(signal: AbortSignal | undefined): Promise<Response[]> {
    for (;;) {
      signal?.throwIfAborted();
      // Answers that came before a failure are kept.
      if (this.#arrived.length > 0) return this.#arrived.splice(0);
      if (this.#failure) throw this.#failure;
      await this.#change();
    }
  }

  #hear(worker: Worker, said: Said): void {
    if ('failure' in said) this.#fail(failed(worker, said.failure));
    else if ('identity' in said) worker.identity = said.identity;
    else if (said.run === this.#run) {
      worker.pending -= 1;
      this.#arrived.push(said.response);
    }
    this.#wake();
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }
}

function firstImage({ messages }: Question): unknown {
  for (const message of messages) for (const part of contentParts(message)) if (part.type === 'image') return part.image;
  return undefined;
}

const died = ({ name }: Worker, code: number | null, signal: NodeJS.Signals | null): TinyLlavaError =>
  new TinyLlavaError(`${name} was ended by ${signal ?? `itself with code ${code}`} before all was answered`, {
    hint: 'what was answered is kept with --out: go on by --resume, with fewer --processes if memory ran out',
  });

const failed = ({ name }: Worker, { message, hint }: { message: string; hint?: string | undefined }): TinyLlavaError =>
  new TinyLlavaError(`${name}: ${message}`, hint === undefined ? {} : { hint });
