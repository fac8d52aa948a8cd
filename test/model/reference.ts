import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Connector, ConnectorContext } from '../../src/model/connector/connector.ts';
import { connectors } from '../../src/model/connector/index.ts';
import { languageModels } from '../../src/model/language/index.ts';
import type { Json } from '../../src/model/part.ts';
import { openSafetensors, type SafetensorsFile } from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import { openWeights } from '../../src/tensor/weight-files.ts';

/** What transformers computed, from scripts/make-references.py. */
export interface Reference {
  readonly folder: string;
  readonly expected: SafetensorsFile;
  ids(): Int32Array;
  lengths(): number[];
  labels(): Tensor;
  /** Names of the parameters whose gradients are there. */
  gradients(): string[];
}

/** References of scripts/make-language-references.py: a family, or a family and what is odd about the sizes. */
export const languageReferences: readonly string[] = readdirSync(join(import.meta.dirname, '../reference'))
  .filter((name) => Object.keys(languageModels).includes(name.split('-')[0] ?? '') && !name.startsWith('llama'))
  .sort();

/** References of make-references.py for Llama. */
export const llamaReferences = ['llama-mqa', 'llama-tied-biases', 'llama-linear-rope'] as const;

const whole = {
  clip: { select: 'cls_patch' },
  internvl: { select: 'cls_patch', featureLayer: -2 },
  siglip: {},
  siglip2: {},
  dinov2: { select: 'cls_patch' },
} as const;
const all = { select: 'full' };

/** Towers out of transformers, each with what keeps every token, and the sizes at which its positions are resized. */
export const towerReferences: readonly (readonly [name: string, select: Json, sizes: readonly number[]])[] = [
  ['vision-clip-resized', whole.clip, [16, 22]],
  ['vision-siglip-resized', whole.siglip, [16, 22]],
  ['vision-siglip2', whole.siglip2, [12, 24]],
  ['vision-siglip2-odd', whole.siglip2, [17]],
  ['vision-dinov2', whole.dinov2, [12, 24]],
  ['vision-dinov2-odd', whole.dinov2, [19]],
  ['vision-dinov2-swiglu', whole.dinov2, []],
  ['vision-dinov2-registers', all, [12, 24]],
  ['vision-dinov2-registers-odd', all, [19, 9]],
  ['vision-dinov3', all, [12]],
  ['vision-dinov3-odd', all, [22]],
  ['vision-internvl', whole.internvl, [12, 24]],
  ['vision-internvl-odd', whole.internvl, [19]],
];

/** Towers that the reference script defines itself. */
export const definedTowers = [
  'vision-efficientnet',
  'vision-efficientnet-odd',
  'vision-mof',
  'vision-mof-odd',
  'vision-conv-vit',
  'vision-conv-vit-odd',
] as const;

/** Connectors, out of transformers or defined by the reference script. */
export const connectorReferences: readonly string[] = readdirSync(join(import.meta.dirname, '../reference'))
  .filter((name) => name.startsWith('connector-'))
  .sort();

interface StoredConnector {
  readonly context: ConnectorContext;
  readonly connector_config: Json;
}

/** The connector that a reference's config.json describes, with its weights. */
export function referenceConnector(folder: string): { connector: Connector; type: string } {
  const { context, connector_config } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as StoredConnector;
  const found = Object.entries(connectors).find(([, { modelType }]) => modelType === connector_config['model_type']);
  if (!found) throw new Error(`no connector ${String(connector_config['model_type'])}`);
  const [type, kind] = found;
  return { type, connector: kind.create(kind.fromJson(connector_config, type, { file: folder }), context).load(openWeights(folder)) };
}

export function reference(name: string): Reference {
  const folder = join(import.meta.dirname, '../reference', name);
  const expected = openSafetensors(join(folder, 'expected.safetensors'));
  const whole = (tensor: string): number[] => Array.from(expected.tensor(tensor).toArray() as BigInt64Array, Number);
  return {
    folder,
    expected,
    ids: () => Int32Array.from(whole('input_ids')),
    lengths: () => whole('lengths'),
    labels: () => expected.tensor('labels'),
    gradients: () => expected.names.filter((key) => key.startsWith('grad.')).map((key) => key.slice(5)),
  };
}

/** Rows whose next token is in the same sequence, and the tokens after them. */
export function nextTokens(lengths: readonly number[]): { from: number[]; to: number[] } {
  const from: number[] = [];
  let row = 0;
  for (const length of lengths) {
    for (let i = 0; i + 1 < length; i++) from.push(row + i);
    row += length;
  }
  return { from, to: from.map((i) => i + 1) };
}
