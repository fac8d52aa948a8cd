import { parentPort, workerData } from 'node:worker_threads';
import type { ImageLayout } from '../model/image-layout.ts';
import { ImageProcessor } from '../processor/image.ts';
import type { ImageConfig } from '../processor/image-config.ts';
import type { ImageSource } from '../processor/message.ts';
import { type SentError, sentError } from '../thread.ts';

/** What the pool asks for. */
export interface ImageJob {
  readonly id: number;
  readonly source: ImageSource;
  readonly layout: ImageLayout;
}

/** What comes back: bytes of [V, 3, H, W], or why there are none. */
export type ImageResult =
  | { readonly id: number; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly id: number; readonly error: SentError };

// Decoding happens on other threads still, so that a few at a time keep this one busy; more would only fill the memory with large images.
const atOnce = 4;

const processor = new ImageProcessor(workerData as ImageConfig);
const waiting: ImageJob[] = [];
let running = 0;

async function run({ id, source, layout }: ImageJob): Promise<void> {
  try {
    const bytes = Uint8Array.from(await processor.loadBytes(source, layout));
    parentPort?.postMessage({ id, bytes } satisfies ImageResult, [bytes.buffer]);
  } catch (cause) {
    parentPort?.postMessage({ id, error: sentError(cause as SentError) } satisfies ImageResult);
  }
}

function next(): void {
  while (running < atOnce) {
    const job = waiting.shift();
    if (!job) return;
    running++;
    void run(job).finally(() => {
      running--;
      next();
    });
  }
}

parentPort?.on('message', (job: ImageJob) => {
  waiting.push(job);
  next();
});
