// What llama.cpp makes of a prompt: `node probabilities.mjs MODULE JSON`, JSON being { file, prompt, mmproj?, image? }. It has a process of its own,
// because libtorch and llama.cpp bring a thread pool each. The last line on standard output is { tokens, probabilities }.
import { createRequire } from 'node:module';

const [module = '', job = ''] = process.argv.slice(2);
const { loadModel } = createRequire(import.meta.url)(module);
const { file, prompt, mmproj, image } = JSON.parse(job);
const exact = { cache_type_k: 'f32', cache_type_v: 'f32', flash_attn_type: 'off', swa_full: true, no_extra_bufts: true };
const context = await loadModel({ model: file, n_ctx: 2048, n_threads: 1, n_gpu_layers: 0, ...exact });
if (mmproj) await context.initMultimodal({ path: mmproj, use_gpu: false });
const media = image ? { media_paths: [image] } : {};
const { tokens } = await context.tokenize(prompt, media);
const even = { seed: 1, temperature: 1, top_k: 0, top_p: 1, min_p: 0, typical_p: 1, penalty_repeat: 1 };
const { completion_probabilities: found } = await context.completion({ prompt, n_predict: 1, n_probs: 100_000, ...even, ...media });
/** @type {{ prob: number }[]} */
const next = found[0].probs;
// their texts do not tell all tokens apart, so the probabilities are compared in order of size
const probabilities = next.map(({ prob }) => prob).sort((a, b) => b - a);
process.stdout.write(`\n${JSON.stringify({ tokens: [...tokens], probabilities })}\n`);
