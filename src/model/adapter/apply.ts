import { CheckpointError } from '../../errors.ts';
import { Linear } from '../../nn/linear.ts';
import { LoraLinear } from '../../nn/lora.ts';
import type { Module } from '../../nn/module.ts';
import type { Device } from '../../tensor/device.ts';
import type { DType } from '../../tensor/dtype.ts';
import type { WeightSource } from '../../tensor/safetensors.ts';
import { Scope } from '../../tensor/scope.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { type KeyRows, translate } from '../dialect.ts';
import { connectorRows } from '../dialects/connector-rows.ts';
import type { Adapter, Factors } from './adapter.ts';
import { alphaOf, scaleOf } from './config.ts';

/** An adapter in the terms of a model: what changes by the keys of its weights. */
interface Translated {
  readonly adapter: Adapter;
  readonly layers: ReadonlyMap<string, Factors & { readonly name: string }>;
  readonly whole: ReadonlyMap<string, string>;
}

// An adapter of a model in its authors' layout is one of the same model as it was saved by others, too.
const foreignRows: KeyRows = [
  [/^vision_tower\._vision_tower\.|^model\.vision_tower\.vision_tower\./, 'model.vision_tower.'],
  [/^connector\._connector\.|^model\.mm_projector\./, 'model.multi_modal_projector.'],
  ...connectorRows,
];
// An adapter of a language model alone is one of the same model inside another, too.
const bareRows: KeyRows = [
  [/^(?:model|transformer)\.(?!language_model\.|vision_tower\.|multi_modal_projector\.)/, 'model.language_model.'],
];

/** `wanted` are the model's keys; what belongs to no part of it is left out, and what is unknown throws CheckpointError. */
export function translateAdapter(adapter: Adapter, rows: KeyRows, wanted: ReadonlySet<string>): Translated {
  const unknown: string[] = [];
  const spelling = [...foreignRows, ...rows, ...bareRows];
  const keyOf = (name: string): string | undefined => {
    const key = translate(name, spelling, wanted);
    if (key !== null && !wanted.has(key)) unknown.push(name);
    return key === null || !wanted.has(key) ? undefined : key;
  };
  const layers = new Map<string, Factors & { name: string }>();
  for (const [name, factors] of adapter.layers) {
    const key = keyOf(`${name}.weight`);
    if (key !== undefined) layers.set(key, { ...factors, name });
  }
  const whole = new Map<string, string>();
  for (const [name, stored] of adapter.whole) {
    // A tied head that was saved all the same is the embeddings once more.
    if (translate(name, spelling, wanted) === 'lm_head.weight' && !wanted.has('lm_head.weight')) {
      if (!adapter.layers.has(name.replace(/\.weight$/, ''))) checkTied(adapter, stored);
      continue;
    }
    const key = keyOf(name);
    if (key !== undefined) whole.set(key, stored);
  }
  if (unknown.length === 0) return { adapter, layers, whole };
  const shown = unknown.slice(0, 3).join(', ');
  throw new CheckpointError(`${adapter.folder}: changes what the model does not have: ${shown}${unknown.length > 3 ? ', …' : ''}`, {
    hint: unknown.includes('lm_head.weight')
      ? 'the head is tied to the embeddings here; an adapter of it needs a base whose head is its own'
      : 'the adapter belongs to another base',
  });
}

/** Throws CheckpointError where a head was learned that is no longer the embeddings, as PEFT lets it be. */
function checkTied({ folder, weights, whole }: Adapter, head: string): void {
  const embeddings = [...whole].find(([name]) => /\b(embed_tokens|token_embeddings)\.weight$/.test(name))?.[1];
  using _scope = new Scope();
  if (embeddings !== undefined && weights.tensor(head).equal(weights.tensor(embeddings))) return;
  throw new CheckpointError(`${folder}: ${head} was learned apart from the embeddings, which it is tied to in the model`, {
    hint: 'merge it with PEFT into a model whose head is its own (tie_word_embeddings: false)',
  });
}

function checkFactors(
  { adapter: { folder, weights } }: Translated,
  { a, b, name }: Factors & { name: string },
  base: readonly number[],
): void {
  const [first, second] = [weights.shape(a), weights.shape(b)];
  const [outputs, inputs] = base;
  const fits =
    base.length === 2 &&
    first.length === 2 &&
    second.length === 2 &&
    first[1] === inputs &&
    second[0] === outputs &&
    first[0] === second[1];
  if (fits) return;
  throw new CheckpointError(
    `${folder}: ${name}: factors [${second.join(', ')}] and [${first.join(', ')}] for a weight [${base.join(', ')}]`,
    {
      hint: base.length === 2 ? 'the adapter belongs to another base' : 'only adapters of linear layers are read',
    },
  );
}

/** `source` with the weights that the adapter learned as a whole, and with its factors multiplied into the others; `dtype` is what these get, their own unless given. */
export function withAdapter(
  source: WeightSource,
  translated: Translated,
  { dtype, factors = true }: { dtype?: DType | ((key: string) => DType) | undefined; factors?: boolean },
): WeightSource {
  const { adapter, layers, whole } = translated;
  const { weights } = adapter;
  const there = new Set(source.names);
  if (factors) for (const [key, found] of layers) if (there.has(key)) checkFactors(translated, found, source.shape(key));
  const base = (key: string): { from: WeightSource; name: string } => {
    const name = whole.get(key);
    return name === undefined ? { from: source, name: key } : { from: weights, name };
  };
  const changed = (key: string) => (factors ? layers.get(key) : undefined);
  const own = (key: string): DType => (there.has(key) ? source.dtype(key) : weights.dtype(whole.get(key) ?? key));
  const dtypeOf = (key: string): DType => (typeof dtype === 'function' ? dtype(key) : dtype) ?? own(key);
  return {
    path: `${source.path} with ${adapter.folder}`,
    names: [...source.names, ...[...whole.keys()].filter((key) => !there.has(key))],
    shape: (key) => {
      const { from, name } = base(key);
      return from.shape(name);
    },
    dtype: (key) => (changed(key) || whole.has(key) ? dtypeOf(key) : source.dtype(key)),
    tensor: (key, memory) => {
      const { from, name } = base(key);
      const found = changed(key);
      if (!found && !whole.has(key)) return from.tensor(name, memory);
      using scope = new Scope();
      const weight = from.tensor(name);
      return scope.keep((found ? merged(weight, translated.adapter, found) : weight).cast(dtypeOf(key)).contiguous());
    },
  };
}

/** Weight + scale · B A in float32; with DoRA's magnitudes its rows get these lengths. Liu et al. 2024, arXiv:2402.09353. */
function merged(weight: Tensor, { fields, weights }: Adapter, { a, b, magnitude, name }: Factors & { name: string }): Tensor {
  const scale = scaleOf(fields, name, weights.shape(a)[0] ?? 0);
  const [second, first] = [weights.tensor(b).cast('float32'), weights.tensor(a).cast('float32')];
  const sum = weight.cast('float32').add(second.matmul(first).mul(scale));
  if (magnitude === undefined) return sum;
  const lengths = sum.square().sum(1).sqrt(); // [O]
  return sum.mul(weights.tensor(magnitude).cast('float32').reshape(-1).div(lengths).unsqueeze(1));
}

/** Puts the factors of an adapter beside the weights that they change, to go on learning. Throws CheckpointError for what only merges. */
export function installAdapter(module: Module, translated: Translated, { device = 'cpu' }: { device?: Device | undefined }): void {
  const { adapter, layers } = translated;
  const { fields, weights, folder } = adapter;
  const left = new Map(layers);
  module.replaceModules<Linear, Linear>(Linear, (layer, key) => {
    const found = left.get(`${key}.weight`);
    // The head's product is a part of the loss, and of decoding.
    if (!found || key === 'lm_head') return undefined;
    left.delete(`${key}.weight`);
    checkFactors(translated, found, layer.weightShape);
    if (found.magnitude !== undefined) throw new CheckpointError(`${folder}: DoRA's adapters are merged only`, { hint: 'open it merged' });
    const rank = weights.shape(found.a)[0] ?? 0;
    const alpha = alphaOf(fields, found.name);
    const adapted = new LoraLinear(layer, { rank, alpha, dropout: fields.lora_dropout, rankStabilized: fields.use_rslora ?? false });
    const factor = (name: string): Tensor => Scope.release(weights.tensor(name).cast('float32').to({ device }).clone());
    adapted.setFactors(factor(found.a), factor(found.b));
    return adapted;
  });
  const [other] = left.values();
  if (other)
    throw new CheckpointError(`${folder}: ${other.name} is no linear layer inside of the model, so its factors can be merged only`, {
      hint: 'open it merged',
    });
}
