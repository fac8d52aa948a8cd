// npx tsx scripts/check-evaluation-memory.ts [--questions N] [--images N] [--model FOLDER]: the memory of an evaluation as it goes on, with everything that
// `eval --out` does. Without a model, answers are made up; with one they are its own. Fails when the last tenth takes more than the first by a fifth.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { evaluate } from '../src/evaluate/evaluate.ts';
import type { Respondent } from '../src/evaluate/respondent/respondent.ts';
import { loadModel } from '../src/generate/generate.ts';

const { values } = parseArgs({
  options: {
    questions: { type: 'string', default: '100000' },
    images: { type: 'string', default: '5000' },
    model: { type: 'string' },
  },
});
const [questions, images] = [Number(values.questions), Number(values.images)];

const madeUp: Respondent = {
  identity: {},
  async *responses(asked) {
    let index = 0;
    for await (const { messages } of asked) {
      yield { index, answer: index % 3 === 0 ? 'yes' : JSON.stringify(messages).slice(-40, -10) };
      index += 1;
    }
  },
};

const root = mkdtempSync(join(tmpdir(), 'tinyllava-memory-'));
try {
  const data = join(root, 'data');
  mkdirSync(data);
  for (let i = 0; i < images; i++) {
    const background = { r: i % 256, g: (i >> 8) % 256, b: 99 };
    await sharp({ create: { width: 64, height: 64, channels: 3, background } })
      .png()
      .toFile(join(data, `${i}.png`));
  }
  const lines = Array.from({ length: questions }, (_, i) =>
    JSON.stringify({ question_id: i, image: `${i % images}.png`, text: `what is the colour of number ${i}?`, answer: 'yes' }),
  );
  writeFileSync(join(data, 'questions.jsonl'), lines.join('\n'));
  lines.length = 0;
  const seen: number[] = [];
  const respondent = values.model === undefined ? madeUp : await loadModel(values.model);
  await evaluate(respondent, {
    tasks: ['vqa'],
    data,
    out: join(root, 'out'),
    batchSize: 32,
    log({ event, done }) {
      if (event !== 'answered' || Number(done) % (questions / 10) !== 0) return;
      const { rss, heapUsed } = process.memoryUsage();
      seen.push(rss);
      console.log(`${done} answered: ${(rss / 1e6).toFixed(0)} MB resident, ${(heapUsed / 1e6).toFixed(0)} MB of them JavaScript's`);
    },
  });
  const [first = 0, last = 0] = [seen[0], seen.at(-1)];
  console.log(`after the last tenth ${(last / first).toFixed(2)} times what the first took`);
  if (last > 1.2 * first) process.exitCode = 1;
} finally {
  rmSync(root, { recursive: true });
}
