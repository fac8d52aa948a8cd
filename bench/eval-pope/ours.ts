import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { evaluate } from '../../src/evaluate/evaluate.ts';
import { readSamples } from '../../src/evaluate/samples-file.ts';
import { tasks } from '../../src/evaluate/tasks/index.ts';
import { loadModel } from '../../src/generate/generate.ts';
import { print } from '../measure.ts';

const [folder = '', shape = '', tokens = ''] = process.argv.slice(2);
const known = shape === 'pope' ? tasks.pope : tasks.mme;
const batchSize = 32;
// A random model would write to the limit.
const task = { ...known, maxNewTokens: 2 };
const [data, out] = [join(folder, `${shape}-${tokens}`), join(folder, 'out')];
process.env['TINYLLAVA_CACHE'] = join(folder, 'cache');
for (const left of [out, join(folder, 'cache')]) rmSync(left, { recursive: true, force: true });

const model = await loadModel(join(folder, tokens));
await evaluate(model, { tasks: [task], data, limit: 1, batchSize });
// Forgets the image that was asked about.
model.free();
const start = performance.now();
await evaluate(model, { tasks: [task], data, out, batchSize });
const seconds = (performance.now() - start) / 1000;
const answers = (await readSamples(join(out, `samples_${shape}.jsonl`))).map(({ answer = '' }) => answer);
const words = answers.flatMap((answer) => answer.split(' '));
print({
  metrics: { questions: answers.length / seconds },
  check: words.map((word) => (/^w\d+$/.test(word) ? Number(word.slice(1)) : -1)),
});
