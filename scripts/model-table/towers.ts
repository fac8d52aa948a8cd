import { loadVisionTower } from '../../src/model/checkpoint.ts';
import { visionFromJson } from '../../src/model/hugging-face.ts';
import type { Json } from '../../src/model/part.ts';
import { pick } from '../../src/model/registry.ts';
import { visionTowers } from '../../src/model/vision/index.ts';
import type { VisionTower } from '../../src/model/vision/vision-tower.ts';
import { publishedTowers } from '../../test/model/published-towers.ts';
import { definedTowers, reference, towerReferences } from '../../test/model/reference.ts';
import { apart, cell, type Difference, largest } from './difference.ts';

/** The gradients of (features · probe) against those of the reference. */
function gradients(tower: VisionTower, name: string, input: string): number {
  const { expected, gradients: keys } = reference(name);
  tower.trainable();
  tower.forward(expected.tensor(input)).mul(expected.tensor('probe')).sum().backward();
  const parameters = new Map(tower.namedParameters());
  return Math.max(...keys().map((key) => apart(parameters.get(key)?.grad, expected.tensor(`grad.${key}`))));
}

/** Against every hidden state, and the last one at other sizes. */
async function fromTransformers(name: string, select: Json, sizes: readonly number[] = []): Promise<Difference> {
  const { expected, folder } = reference(name);
  const outputs: number[] = [];
  const states = expected.names.flatMap((key) => /^hidden\.(\d+)$/.exec(key)?.[1] ?? []);
  for (const featureLayer of states.map(Number)) {
    const { tower } = await loadVisionTower(folder, { overrides: { ...select, featureLayer } });
    outputs.push(apart(tower.forward(expected.tensor('pixel_values')), expected.tensor(`hidden.${featureLayer}`)));
  }
  for (const inputSize of sizes) {
    const { tower } = await loadVisionTower(folder, { overrides: { ...select, inputSize, featureLayer: -1 } });
    outputs.push(apart(tower.forward(expected.tensor(`pixel_values.${inputSize}`)), expected.tensor(`hidden.at.${inputSize}`)));
  }
  const { tower } = await loadVisionTower(folder, { overrides: select });
  return { outputs: Math.max(...outputs), gradients: gradients(tower, name, 'pixel_values') };
}

async function fromDefinition(name: string): Promise<Difference> {
  const { expected, folder } = reference(name);
  const { tower } = await loadVisionTower(folder);
  return { outputs: apart(tower.forward(expected.tensor('input')), expected.tensor('output')), gradients: gradients(tower, name, 'input') };
}

/** Differences by the type of the tower. */
async function differences(): Promise<Map<string, Difference[]>> {
  const found = new Map<string, Difference[]>();
  const add = async (name: string, difference: Difference): Promise<void> => {
    const { type } = (await loadVisionTower(reference(name).folder)).config;
    found.set(type, [...(found.get(type) ?? []), difference]);
  };
  for (const [name, select, sizes] of towerReferences) await add(name, await fromTransformers(name, select, sizes));
  await add('clip', await fromTransformers('clip', { select: 'cls_patch' }));
  await add('siglip', await fromTransformers('siglip', {}));
  for (const name of definedTowers) await add(name, await fromDefinition(name));
  return found;
}

/** Under which names of `select` transformers' LLaVA has a tower. */
function inTransformers(type: string, settings: Json): string {
  const kind = pick(visionTowers, 'vision tower', type);
  const names = ['patch', 'cls_patch', 'register_patch', 'full'].filter((select) => {
    try {
      return kind.inTransformers(kind.parse({ ...settings, select }, type));
    } catch {
      return false;
    }
  });
  if (names.length > 0) return names.map((name) => `\`${name}\``).join(', ');
  return kind.inTransformers(kind.parse(settings, type)) ? 'yes' : 'no';
}

/** The table of vision towers. Throws when one is further from its references than it may be, or has fewer than two. */
export async function towerTable(): Promise<string> {
  const found = await differences();
  const rows = Object.entries(publishedTowers).map(([name, { json, overrides, licence }]) => {
    const read = visionFromJson(json, name);
    const kind = pick(visionTowers, 'vision tower', read.type);
    const config = kind.parse({ ...read, ...overrides }, name);
    const tower = kind.create(config, undefined);
    const own = found.get(config.type) ?? [];
    if (own.length < 2) throw new Error(`${config.type} has ${own.length} references`);
    const size = `${tower.parameterCount().toLocaleString('en')} | ${tower.tokens}, ${tower.hiddenSize}`;
    const place = inTransformers(config.type, read);
    return `| \`${config.type}\` | \`${kind.modelType}\` | ${name} | ${size} | ${licence} | ${place} | ${cell(config.type, largest(own))} |`;
  });
  return [
    "| type | `model_type` | usual weights | parameters | tokens, width | licence of the weights | in transformers' LLaVA | difference: features, gradients |",
    '|---|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}
