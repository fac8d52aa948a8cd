import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Batch } from '../../src/generate/batch.ts';
import { ImageStore } from '../../src/generate/image-store.ts';
import { Sampler } from '../../src/generate/sample.ts';
import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { wholeImage } from '../../src/model/image-layout.ts';
import { ImageProcessor } from '../../src/processor/image.ts';
import { print } from '../measure.ts';

const [folder = '', shape = '', tokens = ''] = process.argv.slice(2);
const [answerTokens, slots] = [2, 16];
const { model } = await loadCheckpoint(join(folder, tokens));
const questions = JSON.parse(readFileSync(join(folder, `${shape}-${tokens}.json`), 'utf8')) as { image: number; ids: number[] }[];
const side = model.visionTower?.imageSize ?? 0;
const half = [0.5, 0.5, 0.5] as const;
const image = new ImageProcessor({ size: { height: side, width: side }, mean: [...half], std: [...half] });

/** The answers of all, with no more images in memory than an evaluation has. */
async function answer(asked: typeof questions): Promise<number[]> {
  const store = new ImageStore(model, { image });
  const batch = new Batch(model, store, { slots, remembered: 2 });
  const answers = asked.map((): number[] => []);
  const waiting = [...asked.entries()];
  while (waiting.length > 0 || batch.size > 0) {
    while (waiting.length > 0 && batch.size < 2 * slots) {
      const [number, question] = waiting.shift() ?? [0, { image: 0, ids: [] }];
      const start = question.ids.indexOf(model.config.imageTokenId ?? 0);
      const place = {
        source: join(folder, `${shape}-${tokens}-${question.image}.png`),
        layout: wholeImage,
        start,
        end: start + Number(tokens),
      };
      const images = await store.acquire([place]);
      const given = answers[number] ?? [];
      batch.add({
        ids: Int32Array.from(question.ids),
        images,
        sampler: new Sampler({}),
        maxNewTokens: answerTokens,
        begin: () => {},
        take(id) {
          given.push(id);
          if (given.length === answerTokens) store.release(images);
          return given.length < answerTokens;
        },
      });
    }
    batch.step();
  }
  batch.clear();
  store.free();
  return answers.flat();
}

await answer(questions.slice(0, 1));
const start = performance.now();
const answers = await answer(questions);
print({ metrics: { questions: (1000 * questions.length) / (performance.now() - start) }, check: answers });
