import { basename } from 'node:path';
import { Random } from '../../data/random.ts';
import { answerSamples } from '../../evaluate/answer-samples.ts';
import type { CurvePoint } from '../../evaluate/html/data.ts';
import type { Sample, Scored } from '../../evaluate/task.ts';
import { easyVqa } from '../../evaluate/tasks/easy-vqa.ts';
import { ChatModel } from '../../generate/generate.ts';
import type { Log } from '../../log.ts';
import type { Trained } from '../../train/trainer.ts';

/** Answers that grow together. */
export const slots = 64;

/** How many questions of each type are asked after training. */
const wanted: readonly (readonly [category: string, count: number])[] = [
  ['shape', 1],
  ['colour', 1],
  ['yes/no', 3],
];

/** Five questions about five pictures, chosen by the seed. */
export function fiveQuestions(samples: readonly Sample[], seed: number): Sample[] {
  const order = new Random(seed).shuffle([...samples]);
  const chosen: Sample[] = [];
  for (const [category, count] of wanted) {
    for (const sample of order) {
      if (chosen.filter((other) => other.category === category).length === count) break;
      const seen = chosen.some(({ images }) => images[0] === sample.images[0]);
      if (sample.category === category && !seen) chosen.push(sample);
    }
  }
  return chosen;
}

/** `count` questions about the held-out pictures, chosen by the seed. */
export function heldOutSamples(
  train: readonly Sample[],
  pictures: ReadonlySet<number>,
  { seed, count }: { readonly seed: number; readonly count: number },
): Sample[] {
  const held = train.filter(({ images: [image = ''] }) => pictures.has(Number(basename(image, '.png'))));
  return new Random(seed).shuffle(held).slice(0, count);
}

/** Asks the samples and scores the answers, in the order of the samples. Throws the signal's reason. */
export async function scoredAnswers(model: ChatModel, samples: readonly Sample[], signal: AbortSignal): Promise<Scored[]> {
  const scored: Scored[] = new Array(samples.length);
  for await (const one of answerSamples(model, easyVqa, samples, { batchSize: slots, signal })) scored[one.index] = one.scored;
  return scored;
}

/** The steps of a stage behind which the curve has its points: the first, the last, and more at the beginning, where most is learned. */
export function curveSteps(steps: number, points: number): Set<number> {
  return new Set(Array.from({ length: points + 1 }, (_, i) => Math.max(1, Math.round(steps * (i / points) ** 2))));
}

/** The scores of a model on the same questions again and again while it learns. */
export class Curve {
  readonly points: CurvePoint[] = [];
  readonly #samples: readonly Sample[];
  readonly #options: { readonly log: Log; readonly signal: AbortSignal };

  constructor(samples: readonly Sample[], options: { readonly log: Log; readonly signal: AbortSignal }) {
    this.#samples = samples;
    this.#options = options;
  }

  /** Adds a point; `seconds` of training have gone by. */
  async measure({ model, processor }: Trained, seconds: number): Promise<void> {
    const { log, signal } = this.#options;
    const chat = new ChatModel(model, processor);
    try {
      const metrics = easyVqa.aggregate(await scoredAnswers(chat, this.#samples, signal));
      const scores = Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
      this.points.push({ seconds, scores });
      log({ event: 'curve', seconds, scores });
    } finally {
      chat.free();
    }
  }
}
