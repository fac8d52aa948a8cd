import { loadCheckpoint } from '../../src/model/checkpoint.ts';
import { configFromJson } from '../../src/model/hugging-face.ts';
import { languageModels } from '../../src/model/language/index.ts';
import { createTinyLlava } from '../../src/model/tinyllava.ts';
import { indices } from '../../src/tensor/create.ts';
import { crossEntropy } from '../../src/tensor/functional.ts';
import { published } from '../../test/model/published.ts';
import { languageReferences, llamaReferences, nextTokens, reference } from '../../test/model/reference.ts';
import { apart, cell, type Difference, largest } from './difference.ts';

type Family = keyof typeof languageModels;

/** What a table cannot find out by itself. */
const facts: Readonly<Record<Family, { serves: string; special: string; licence: string }>> = {
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

/** Against logits, and the gradients of the mean loss. */
async function difference(name: string): Promise<Difference> {
  const { folder, expected, ids, lengths, labels, gradients } = reference(name);
  const { model } = await loadCheckpoint(folder);
  model.trainable();
  const hidden = model.hidden({ ids: ids(), lengths: lengths() });
  const { from, to } = nextTokens(lengths());
  crossEntropy(model.logits(hidden.indexSelect(0, indices(from))), labels().indexSelect(0, indices(to))).backward();
  const parameters = new Map(model.namedParameters());
  return {
    outputs: apart(model.logits(hidden), expected.tensor('logits')),
    gradients: Math.max(...gradients().map((key) => apart(parameters.get(key)?.grad, expected.tensor(`grad.${key}`)))),
  };
}

/** Where transformers reads the published configurations as we write them; it has no OpenELM of its own. */
function inTransformers(family: Family, configs: readonly ReturnType<typeof configFromJson>[]): string {
  if (family === 'openelm') return 'no';
  return configs.every(({ language }) => languageModels[family].inTransformers(language)) ? 'alone, in a LLaVA' : 'alone';
}

/** The table of language models. Throws as the towers' does. */
export async function languageTable(): Promise<string> {
  const rows: string[] = [];
  for (const [family, { serves, special, licence }] of Object.entries(facts) as [Family, (typeof facts)[Family]][]) {
    const names = family === 'llama' ? llamaReferences : languageReferences.filter((name) => name.split('-')[0] === family);
    if (names.length < 2) throw new Error(`${family} has ${names.length} references`);
    const known = Object.entries(published)
      .filter(([, { json }]) => json['model_type'] === family)
      .map(([name, { json }]) => ({ name: name.split('/')[1], config: configFromJson(json, name) }));
    const sizes = known.map(({ name, config }) => {
      const model = createTinyLlava(config);
      return `${name} ${model.parameterCount().toLocaleString('en')} (${model.languageModel.hiddenSize})`;
    });
    const differences: Difference[] = [];
    for (const name of names) differences.push(await difference(name));
    const reads = inTransformers(
      family,
      known.map(({ config }) => config),
    );
    const shown = [`\`${family}\``, serves, special, sizes.join('<br>'), licence, reads, cell(family, largest(differences))];
    rows.push(`| ${shown.join(' | ')} |`);
  }
  return [
    "| type and `model_type` | serves | what is special | published sizes: parameters (width) | weights' licence | read by transformers | difference: logits, gradients |",
    '|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}
