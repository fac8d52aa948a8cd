// Writes the table of language models in docs/models.md: what each family serves, and how far its logits are from the references'.
// Usage: npx tsx scripts/model-table.ts
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadCheckpoint } from '../src/model/checkpoint.ts';
import type { languageModels } from '../src/model/language/index.ts';
import { published } from '../test/model/published.ts';
import { languageReferences, reference } from '../test/model/reference.ts';

/** What a table cannot find out by itself. */
const families: Readonly<Record<keyof typeof languageModels, { serves: string; special: string; licence: string }>> = {
  llama: {
    serves: 'TinyLlama, Llama 1 to 3.2, Vicuna, SmolLM 1 and 2',
    special: 'grouped queries, biases, tied head, `llama3` and linear rope scaling',
    licence: 'Apache-2.0 (TinyLlama, SmolLM), Llama',
  },
  phi: { serves: 'Phi-1, 1.5, 2', special: 'parallel residual, partial rotary, layer norms, bias in the head, q/k norms', licence: 'MIT' },
  phi3: {
    serves: 'Phi-3 and 3.5 mini, Phi-4 mini',
    special: 'fused qkv and gate/up, partial rotary, LongRoPE, sliding window',
    licence: 'MIT',
  },
  stablelm: {
    serves: 'StableLM 3B-4E1T, StableLM 2, Zephyr',
    special: 'partial rotary, layer norms, qkv bias; norms per head, parallel residual',
    licence: 'Stability AI',
  },
  qwen2: { serves: 'Qwen 1.5, 2, 2.5', special: 'qkv bias, sliding windows in upper layers', licence: 'Apache-2.0, Qwen' },
  qwen3: { serves: 'Qwen 3', special: 'q/k norms, heads of their own size', licence: 'Apache-2.0' },
  gemma: { serves: 'Gemma 1', special: 'scaled embeddings, norms by 1 + w, wide heads', licence: 'Gemma' },
  gemma2: {
    serves: 'Gemma 2',
    special: 'the same; soft caps on scores and logits, windows in turns, norms on both sides',
    licence: 'Gemma',
  },
  gemma3_text: { serves: 'Gemma 3 (270M, 1B)', special: 'the same without caps; q/k norms, two rotary bases', licence: 'Gemma' },
  smollm3: { serves: 'SmolLM3', special: 'layers without rotary positions', licence: 'Apache-2.0' },
  openelm: { serves: 'OpenELM', special: 'heads and inner width per layer, fused qkv, q/k norms', licence: 'Apple' },
};

/** The largest difference of a logit over the references of one family. */
async function difference(names: readonly string[]): Promise<number> {
  let worst = 0;
  for (const name of names) {
    const { folder, expected, ids, lengths } = reference(name);
    const { model } = await loadCheckpoint(folder);
    const logits = model.logits(model.hidden({ ids: ids(), lengths: lengths() }));
    worst = Math.max(worst, logits.sub(expected.tensor('logits')).abs().amax().item());
  }
  return worst;
}

const llamas = ['llama-mqa', 'llama-tied-biases', 'llama-linear-rope'];
const rows: string[] = [];
for (const [family, { serves, special, licence }] of Object.entries(families)) {
  const names = family === 'llama' ? llamas : languageReferences.filter((name) => name.split('-')[0] === family);
  const sizes = Object.entries(published)
    .filter(([, { json }]) => json['model_type'] === family)
    .map(([name, { parameters }]) => `${name.split('/')[1]} ${parameters.toLocaleString('en')}`);
  rows.push(
    `| \`${family}\` | ${serves} | ${special} | ${sizes.join('<br>')} | ${licence} | ${(await difference(names)).toExponential(1)} |`,
  );
}

const [begin, end] = ['<!-- language models: scripts/model-table.ts -->', '<!-- end of language models -->'];
const section = `${begin}
## Language models

| \`model_type\` | serves | what is special | published sizes (parameters) | weights' licence | largest difference of a logit |
|---|---|---|---|---|---|
${rows.join('\n')}

The difference is to transformers 5.23 (OpenELM: to its definition written out in \`scripts/make-language-references.py\`), in float32, over tiny random
checkpoints in usual and in odd sizes that \`test/reference\` holds. The tests also compare gradients, decoding with caches, and what Python
reads of the checkpoints that this package writes. The parameters are counted from the published configurations.

Inside a LLaVA, transformers has no place for the bias of Phi's head and leaves out the soft cap of Gemma's logits: such models are written with
\`model_type\` "tinyllava". LongRoPE changes its frequencies when a sequence outgrows the original length, so a cache cannot cross it: Phi-3.5 and Phi-4 mini read
longer prompts at once, but do not generate from below 4096 tokens to above.
${end}
`;
const path = join(import.meta.dirname, '../docs/models.md');
const before = existsSync(path) ? readFileSync(path, 'utf8') : `# Models\n\n${begin}${end}\n`;
const [head = '', rest = ''] = before.split(begin);
writeFileSync(path, `${head.trimEnd()}\n\n${section}${(rest.split(end)[1] ?? '').replace(/^\n/, '')}`);
