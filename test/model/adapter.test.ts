import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { TinyLlavaError } from '../../src/errors.ts';
import { saveAdapter } from '../../src/model/adapter/save.ts';
import { loadCheckpoint, loadLanguageModel, saveCheckpoint } from '../../src/model/checkpoint.ts';
import { openModelFiles } from '../../src/model/model-files.ts';
import type { TinyLlava } from '../../src/model/tinyllava.ts';
import { Linear } from '../../src/nn/linear.ts';
import { LoraLinear, type LoraOptions, loraLayers, mergeLora } from '../../src/nn/lora.ts';
import type { Module } from '../../src/nn/module.ts';
import { randn, tensor } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { Generator } from '../../src/tensor/random.ts';
import { openSafetensors, writeSafetensors } from '../../src/tensor/safetensors.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';
import '../matchers.ts';
import { languageReferences, reference } from './reference.ts';

const root = join(import.meta.dirname, '../reference');
const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-adapters-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const adapters = [
  ['adapter-llava', 'llava-clip'],
  ['adapter-biases', 'llama-tied-biases'],
  ['adapter-dora', 'phi'],
  ['adapter-fused', 'phi3'],
  ['adapter-factory', 'adapter-factory'],
  ['adapter-llava15', 'adapter-llava15'],
] as const;
const expectedOf = (name: string): Tensor => openSafetensors(join(root, name, 'expected.safetensors')).tensor('logits');

/** Logits for the inputs that the base's reference has; -200 stands for images in what others published. */
function logits(inputs: string, model: TinyLlava): Tensor {
  const { expected, ids, lengths } = reference(inputs);
  const images = expected.names.includes('pixel_values') ? { pixels: expected.tensor('pixel_values') } : {};
  const batch = { ids: ids().map((id) => (id === -200 ? (model.config.imageTokenId ?? 0) : id)), lengths: lengths() };
  return model.logits(model.hidden({ ...batch, ...images }));
}

/** A copy of an adapter whose base is named by its path, with changes to its config. */
function copy(name: string, label: string, config: Record<string, unknown> = {}): string {
  const folder = join(scratch, label);
  cpSync(join(root, name), folder, { recursive: true });
  const path = join(folder, 'adapter_config.json');
  const json = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  const base = join(root, name, String(json['base_model_name_or_path']));
  writeFileSync(path, JSON.stringify({ ...json, base_model_name_or_path: base, ...config }));
  return folder;
}

async function failure(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => new Error('did not fail'),
    (cause: unknown) => cause as Error,
  );
  const hint = error instanceof TinyLlavaError && error.hint ? `\nhint: ${error.hint}` : '';
  return `${error.name}: ${error.message}${hint}`.replaceAll(`${scratch}/`, '').replaceAll(`${root}/`, '');
}

describe('adapters that PEFT wrote', () => {
  test.each(adapters)('%s gives the logits of the model that was trained', async (name, base) => {
    const { model } = await loadCheckpoint(join(root, name), { dtype: 'float32' });
    expect(loraLayers(model).size).toBe(0);
    expect(logits(base, model)).toMatchTensor(expectedOf(name));
  });

  test.each(adapters.filter(([name]) => name !== 'adapter-dora' && name !== 'adapter-fused'))(
    '%s gives them beside its weights too, and merged afterwards',
    async (name, base) => {
      const { model } = await loadCheckpoint(join(root, name), { dtype: 'float32', keepAdapter: true });
      expect(loraLayers(model).size).toBeGreaterThan(0);
      expect(logits(base, model)).toMatchTensor(expectedOf(name));
      mergeLora(model);
      expect(loraLayers(model).size).toBe(0);
      expect(logits(base, model)).toMatchTensor(expectedOf(name));
    },
  );

  test('an adapter is put on a model that is named beside it', async () => {
    const { model } = await loadCheckpoint(join(root, 'llava-clip'), { adapter: join(root, 'adapter-llava') });
    expect(logits('llava-clip', model)).toMatchTensor(expectedOf('adapter-llava'));
  });
});

/** Puts random changes beside the linear layers for which there are options. */
function change(model: TinyLlava, options: (key: string) => LoraOptions | undefined): TinyLlava {
  const generator = new Generator(5);
  model.replaceModules<Linear, Linear>(Linear, (layer, key) => {
    const chosen = options(key);
    if (!chosen) return undefined;
    const changed = new LoraLinear(layer, chosen);
    const [outputs, inputs] = layer.weightShape;
    const factor = (shape: number[]): Tensor => randn(shape, { generator }).mul(0.3);
    changed.setFactors(factor([chosen.rank, inputs]), factor([outputs, chosen.rank]));
    return changed;
  });
  return model;
}

/** A model with changes beside its weights, of other ranks in the tower. */
async function adapted(): Promise<TinyLlava> {
  const { model } = await loadCheckpoint(join(root, 'llava-clip'));
  return change(model, (key) => {
    if (/vision_tower.*(q_proj|fc1)$/.test(key)) return { rank: 3, alpha: 4, rankStabilized: true };
    return /language_model.*(q_proj|down_proj)$/.test(key) ? { rank: 2, alpha: 5, dropout: 0.1 } : undefined;
  });
}

test('what LLaVA learned beside its adapter comes with it onto a whole model', async () => {
  const { model } = await loadCheckpoint(join(root, 'adapter-llava15'), { dtype: 'float32' });
  const whole = join(scratch, 'llava15');
  await saveCheckpoint(whole, model);
  for (const parameter of model.connector?.parameters() ?? []) parameter.zero_();
  await saveCheckpoint(join(scratch, 'llava15-without'), model);
  const factors = openSafetensors(join(root, 'adapter-llava15/adapter_model.safetensors')).names.length;
  const files = await openModelFiles(join(scratch, 'llava15-without'), { adapter: join(root, 'adapter-llava15') });
  expect(files.adapters.map(({ layers, whole: learned }) => [2 * layers.size, learned.size])).toEqual([[factors, 4]]);
  const { model: again } = await loadCheckpoint(join(scratch, 'llava15-without'), { adapter: join(root, 'adapter-llava15') });
  const wanted = new Map((await loadCheckpoint(whole)).model.namedParameters());
  for (const [key, parameter] of again.connector?.namedParameters('model.multi_modal_projector.') ?? []) {
    expect(parameter.equal(wanted.get(key) as Tensor), key).toBe(true);
  }
});

describe('adapters that we write', () => {
  test('come back the same, with the parts that learned as a whole', async () => {
    const model = await adapted();
    const { connector } = model;
    for (const parameter of connector?.parameters() ?? []) parameter.mul_(1.5);
    const folder = join(scratch, 'ours');
    await saveAdapter(folder, model, { base: join(root, 'llava-clip'), whole: connector ? [connector] : [] }, { 'notes.txt': 'kept' });
    expect(readFileSync(join(folder, 'notes.txt'), 'utf8')).toBe('kept');
    const wanted = logits('llava-clip', model);
    for (const keepAdapter of [false, true]) {
      const back = await loadCheckpoint(folder, { keepAdapter });
      expect(logits('llava-clip', back.model)).toMatchTensor(wanted);
      expect(loraLayers(back.model).size).toBe(keepAdapter ? loraLayers(model).size : 0);
    }
    const { base_model_name_or_path: _, ...config } = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    expect(config).toMatchInlineSnapshot(`
      {
        "alpha_pattern": {
          "model\\.language_model\\.layers\\.\\d+\\.self_attn\\.q_proj|model\\.language_model\\.layers\\.\\d+\\.mlp\\.down_proj": 5,
        },
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": 6.9282032302755105,
        "lora_dropout": 0.1,
        "modules_to_save": [
          "multi_modal_projector",
        ],
        "peft_type": "LORA",
        "r": 3,
        "rank_pattern": {
          "model\\.language_model\\.layers\\.\\d+\\.self_attn\\.q_proj|model\\.language_model\\.layers\\.\\d+\\.mlp\\.down_proj": 2,
        },
        "target_modules": "model\\.vision_tower\\.encoder\\.layers\\.\\d+\\.self_attn\\.q_proj|model\\.vision_tower\\.encoder\\.layers\\.\\d+\\.mlp\\.fc1|model\\.language_model\\.layers\\.\\d+\\.self_attn\\.q_proj|model\\.language_model\\.layers\\.\\d+\\.mlp\\.down_proj",
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
      }
    `);
    expect(openSafetensors(join(folder, 'adapter_model.safetensors')).names.slice().sort().slice(0, 6)).toMatchInlineSnapshot(`
      [
        "base_model.model.model.language_model.layers.0.mlp.down_proj.lora_A.weight",
        "base_model.model.model.language_model.layers.0.mlp.down_proj.lora_B.weight",
        "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_B.weight",
        "base_model.model.model.language_model.layers.1.mlp.down_proj.lora_A.weight",
        "base_model.model.model.language_model.layers.1.mlp.down_proj.lora_B.weight",
      ]
    `);
  });

  test('a checkpoint is not written while an adapter stands beside its weights', async () => {
    expect(await failure(saveCheckpoint(join(scratch, 'whole'), await adapted()))).toMatchInlineSnapshot(`
      "CheckpointError: whole: model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj has a LoRA adapter that is not merged
      hint: call mergeLora first, or saveAdapter"
    `);
  });

  test('a model without changes is no adapter', async () => {
    const { model } = await loadCheckpoint(join(root, 'llava-clip'));
    expect(await failure(saveAdapter(join(scratch, 'none'), model, { base: '.' }))).toMatchInlineSnapshot(`
      "TinyLlavaError: the model has no low-rank changes to save
      hint: use saveCheckpoint"
    `);
  });
});

test('an adapter of a whole model changes the language model that is taken out of it', async () => {
  const { model } = await loadLanguageModel(join(root, 'adapter-llava'));
  const whole = (await loadCheckpoint(join(root, 'adapter-llava'))).model.languageModel;
  const wanted = new Map(whole.namedParameters());
  for (const [key, parameter] of model.namedParameters()) expect(parameter.equal(wanted.get(key) as Tensor), key).toBe(true);
});

test('an adapter of a language model alone changes it inside of a whole model', async () => {
  const folder = copy('adapter-llava', 'bare', { modules_to_save: null });
  const file = openSafetensors(join(root, 'adapter-llava/adapter_model.safetensors'));
  const inside = file.names.filter((name) => name.includes('language_model'));
  writeSafetensors(
    join(folder, 'adapter_model.safetensors'),
    inside.map((name) => [name.replace('model.language_model.', 'model.'), file.tensor(name)]),
  );
  const wanted = new Map((await loadCheckpoint(join(root, 'adapter-llava'))).model.languageModel.namedParameters());
  const { model } = await loadCheckpoint(join(root, 'llava-clip'), { adapter: folder });
  for (const [key, parameter] of model.languageModel.namedParameters()) {
    expect(parameter.equal(wanted.get(key) as Tensor), key).toBe(true);
  }
});

test('opening an adapter leaves no tensors behind but the parameters', async () => {
  const open = async (): Promise<number> => {
    const before = liveTensors();
    const { model } = await loadCheckpoint(join(root, 'adapter-llava'));
    return liveTensors() - before - [...model.parameters()].length;
  };
  await open();
  expect(await open()).toBe(0);
});

describe('what is refused', () => {
  test.each<[string, Record<string, unknown>]>([
    ['another method', { peft_type: 'LOHA' }],
    ['another kind of factors', { use_qalora: true }],
    ['a bias of the factors', { lora_bias: true }],
    ['new tokens', { trainable_token_indices: [1, 2] }],
    ['a base that was changed', { init_lora_weights: 'pissa_niter_4' }],
    ['a rank that is none', { r: 'four' }],
    ['a pattern that is none', { alpha_pattern: { '(q_proj': 3 } }],
    ['a base that is not here', { base_model_name_or_path: 'somebody/some-model' }],
    ['a base without a name', { base_model_name_or_path: null }],
    ['a base of other sizes', { base_model_name_or_path: join(root, 'llava-siglip') }],
    ['a base of another kind', { base_model_name_or_path: join(root, 'llama-mqa') }],
  ])('%s', async (label, config) => {
    expect(await failure(loadCheckpoint(copy('adapter-llava', label, config)))).toMatchSnapshot();
  });

  test('DoRA and the head stay beside no weights', async () => {
    expect(await failure(loadCheckpoint(join(root, 'adapter-dora'), { keepAdapter: true }))).toMatchInlineSnapshot(`
      "CheckpointError: adapter-dora: DoRA's adapters are merged only
      hint: open it merged"
    `);
    expect(await failure(loadCheckpoint(copy('adapter-fused', 'fused'), { keepAdapter: true }))).toMatchInlineSnapshot(`
      "CheckpointError: fused: lm_head is no linear layer inside of the model, so its factors can be merged only
      hint: open it merged"
    `);
  });

  test('a folder without an adapter, and one without its weights', async () => {
    expect(await failure(loadCheckpoint(join(root, 'llava-clip'), { adapter: join(root, 'phi') }))).toMatchInlineSnapshot(`
      "CheckpointError: phi: no adapter_config.json
      hint: an adapter is a folder that PEFT wrote"
    `);
    const folder = copy('adapter-llava', 'empty');
    rmSync(join(folder, 'adapter_model.safetensors'));
    expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(
      `"CheckpointError: empty: none of adapter_model.safetensors, adapter_model.bin beside adapter_config.json"`,
    );
  });

  test('an adapter of a head that is tied', async () => {
    const folder = copy('adapter-fused', 'tied', { base_model_name_or_path: join(root, 'phi3') });
    const base = join(scratch, 'phi3-tied');
    cpSync(join(root, 'phi3'), base, { recursive: true });
    const path = join(base, 'config.json');
    writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, 'utf8')) as object), tie_word_embeddings: true }));
    expect(await failure(loadCheckpoint(folder, { base }))).toMatchInlineSnapshot(`
      "CheckpointError: tied: changes what the model does not have: lm_head.weight
      hint: the head is tied to the embeddings here; an adapter of it needs a base whose head is its own"
    `);
  });
});

test('a head that was learned apart from the embeddings that it is tied to is refused', async () => {
  const folder = copy('adapter-biases', 'apart');
  rmSync(join(folder, 'adapter_model.bin'));
  const embeddings = randn([61, 24], { generator: new Generator(1) });
  const write = (head: Tensor): void =>
    writeSafetensors(join(folder, 'adapter_model.safetensors'), [
      ['base_model.model.model.embed_tokens.weight', embeddings],
      ['base_model.model.lm_head.weight', head],
    ]);
  write(embeddings.add(1));
  expect(await failure(loadCheckpoint(folder))).toMatchInlineSnapshot(`
    "CheckpointError: apart: base_model.model.lm_head.weight was learned apart from the embeddings, which it is tied to in the model
    hint: merge it with PEFT into a model whose head is its own (tie_word_embeddings: false)"
  `);
  write(embeddings);
  expect((await failure(loadCheckpoint(folder))).replace(/\d+/g, 'N')).toMatchInlineSnapshot(`"Error: did not fail"`);
});

test('the base of an adapter is found by whoever opens it', async () => {
  const folder = copy('adapter-llava', 'elsewhere', { base_model_name_or_path: 'somebody/llava' });
  const asked: string[] = [];
  const resolve = (name: string): string => {
    asked.push(name);
    return join(root, 'llava-clip');
  };
  for (const options of [{ resolve }, { base: join(root, 'llava-clip') }]) {
    const { model } = await loadCheckpoint(folder, options);
    expect(logits('llava-clip', model)).toMatchTensor(expectedOf('adapter-llava'));
    expect((await openModelFiles(folder, options)).folders).toEqual([folder, join(root, 'llava-clip')]);
  }
  expect(asked).toEqual(['somebody/llava', 'somebody/llava']);
});

const python = [process.env['TINYLLAVA_PYTHON'], 'python3'].find(
  (command) => command !== undefined && spawnSync(command, ['-c', 'import peft; from transformers import LlavaConfig']).status === 0,
);

test.skipIf(python === undefined)(
  'PEFT computes the same from what we wrote (needs a Python with peft: TINYLLAVA_PYTHON)',
  async () => {
    const folders: string[] = [];
    const write = async (name: string, base: string, model: TinyLlava, whole: Module[] = []): Promise<void> => {
      const folder = join(scratch, `python-${name}`);
      await saveAdapter(folder, model, { base: join(root, base), whole });
      const { expected, ids, lengths } = reference(base);
      const tensors = { input_ids: tensor(ids()), lengths: tensor(Int32Array.from(lengths())), logits: logits(base, model) };
      const images = expected.names.includes('pixel_values') ? { pixel_values: expected.tensor('pixel_values') } : {};
      writeSafetensors(join(folder, 'expected.safetensors'), Object.entries({ ...tensors, ...images }));
      folders.push(folder);
    };
    const model = await adapted();
    const { connector } = model;
    for (const parameter of connector?.parameters() ?? []) parameter.mul_(1.5);
    await write('llava', 'llava-clip', model, connector ? [connector] : []);
    for (const name of languageReferences.filter((reference) => !reference.startsWith('openelm'))) {
      const language = (await loadCheckpoint(join(root, name))).model;
      change(language, (key) => (key === 'lm_head' ? undefined : { rank: 3, alpha: 4, rankStabilized: true }));
      await write(name, name, language);
    }
    const { stdout, stderr, status } = spawnSync(python ?? '', ['scripts/check-peft-loads.py', ...folders], { encoding: 'utf8' });
    expect(status, `${stdout}\n${stderr}`).toBe(0);
    expect(stdout.trim().split('\n')).toHaveLength(folders.length);
  },
  240_000,
);
