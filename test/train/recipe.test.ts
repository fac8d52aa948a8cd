import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseRecipe, type RecipeInput, selectStages } from '../../src/train/recipe.ts';
import { parseOverride, readOverrides, readRecipe, readRecipeText, writeRecipe } from '../../src/train/recipe-file.ts';

const yaml = `
model:
  vision: { type: conv-vit, imageSize: 32 }
  connector: { type: mlp }
  language: { type: llama, hiddenSize: 32, numAttentionHeads: 2 }
processor: { tokenizer: { type: word-level } }
stages:
  - name: align
    learns: { connector: full, vision: { tune: full, learningRate: 1e-4 } }
    data: { conversations: a.json }
    template: plain
    optimizer: { learningRate: 1e-3, warmupRatio: 0.03 }
    batchSize: 8
    steps: 4
`;

/** The message that the recipe gives when one text in it is replaced by another. */
function complaint(from: string, to: string, overrides: readonly string[] = []): string {
  expect(yaml).toContain(from);
  try {
    readRecipeText(yaml.replace(from, to), 'tiny.yaml', overrides.map(parseOverride));
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('the recipe was accepted');
}

test('every default is filled in, and the resolved recipe reads back the same', () => {
  const recipe = readRecipeText(yaml, 'tiny.yaml');
  expect(readRecipeText(writeRecipe(recipe), 'written.yaml')).toEqual(recipe);
  expect(recipe.stages[0]).toMatchInlineSnapshot(`
    {
      "batchSize": 8,
      "data": [
        {
          "conversations": "a.json",
          "repeat": 1,
        },
      ],
      "learns": {
        "connector": {
          "tune": "full",
        },
        "language": {
          "tune": "frozen",
        },
        "vision": {
          "learningRate": 0.0001,
          "tune": "full",
        },
      },
      "maxLength": 2048,
      "name": "align",
      "nonFiniteLoss": "stop",
      "optimizer": {
        "betas": [
          0.9,
          0.999,
        ],
        "eps": 1e-8,
        "finalRatio": 0,
        "learningRate": 0.001,
        "maxGradNorm": 1,
        "schedule": "cosine",
        "type": "adamw",
        "warmupRatio": 0.03,
        "weightDecay": 0,
      },
      "sampling": {
        "modalities": "mixed",
        "order": "shuffle",
      },
      "steps": 4,
      "template": "plain",
      "unusableRows": "stop",
    }
  `);
});

test('the size of the vocabulary stays open unless the recipe gives one', () => {
  expect(readRecipeText(yaml, 'tiny.yaml').model).not.toHaveProperty('language.vocabSize');
  const given = readRecipeText(yaml, 'tiny.yaml', [parseOverride('model.language.vocabSize=50')]);
  expect(given.model).toHaveProperty('language.vocabSize', 50);
});

test('a recipe in TypeScript is the same object', () => {
  const input: RecipeInput = {
    model: { from: 'checkpoint' },
    stages: [
      {
        name: 'instruct',
        learns: { language: 'full', connector: { tune: 'full', learningRate: 1e-4 } },
        data: [{ conversations: 'a.json', repeat: 2 }, { conversations: 'b.json' }],
        optimizer: { learningRate: 2e-5 },
        batchSize: 128,
        epochs: 1,
      },
    ],
  };
  const recipe = parseRecipe(input);
  expect(readRecipeText(writeRecipe(recipe), 'written.yaml')).toEqual(recipe);
  expect(() => parseRecipe({ ...input, seed: -1 })).toThrowErrorMatchingInlineSnapshot(
    `[ConfigError: seed: expected number to be >=0, got -1]`,
  );
});

test('overrides replace, add and reach into lists, typed as YAML', () => {
  const set = [
    'stages.0.batchSize=16',
    'stages.0.optimizer.betas=[0.9, 0.95]',
    'stages.0.learns.language=full',
    'seed=7',
    'stages.0.name="7"',
  ];
  const { seed, stages } = readRecipeText(yaml, 'tiny.yaml', set.map(parseOverride));
  expect(seed).toBe(7);
  expect(stages[0]).toMatchObject({ name: '7', batchSize: 16, optimizer: { betas: [0.9, 0.95] }, learns: { language: { tune: 'full' } } });
});

test('mistakes are told with file, line, path, what is expected and what is there', () => {
  expect(complaint('batchSize: 8', 'batchsize: 8')).toMatchInlineSnapshot(`
    "tiny.yaml:8: stages.0.batchSize: missing, expected number
    tiny.yaml:13: stages.0.batchsize: unknown key, did you mean "batchSize"?"
  `);
  expect(complaint('type: mlp', 'type: mpl')).toMatchInlineSnapshot(
    `"tiny.yaml:4: model.connector.type: expected one of "identity"|"linear"|"mlp"|"pixel-shuffle"|"pixel-shuffle-mlp"|"ldp-v2"|"c-abstractor"|"resampler"|"qformer"|"mof-mlp"|"class-words", got "mpl""`,
  );
  expect(complaint('imageSize: 32', 'imageSize: big, imagesize: 3')).toMatchInlineSnapshot(`
    "tiny.yaml:3: model.vision.imageSize: expected number, got "big"
    tiny.yaml:3: model.vision.imagesize: unknown key, did you mean "imageSize"?"
  `);
  expect(complaint('warmupRatio: 0.03', 'warmupRatio: 3, epss: 1')).toMatchInlineSnapshot(`
    "tiny.yaml:12: stages.0.optimizer.warmupRatio: expected number to be <=1, got 3
    tiny.yaml:12: stages.0.optimizer.epss: unknown key, did you mean "eps"?"
  `);
  expect(complaint('connector: full', 'connector: from-layer, language: 3')).toMatchInlineSnapshot(`
    "tiny.yaml:9: stages.0.learns.connector: expected one of "frozen"|"full"|"lora"|"qlora", got "from-layer"
    tiny.yaml:9: stages.0.learns.language: expected one of "frozen"|"full"|"lora"|"qlora", got 3"
  `);
  expect(complaint('tune: full, learningRate: 1e-4', 'tune: full, learningrate: 1e-4')).toMatchInlineSnapshot(
    `"tiny.yaml:9: stages.0.learns.vision.learningrate: unknown key, did you mean "learningRate"?"`,
  );
  expect(complaint('tune: full, learningRate: 1e-4', "tune: lora, rank: 0, aplha: 2, dropout: 1, targets: '(q'")).toMatchInlineSnapshot(`
    "tiny.yaml:9: stages.0.learns.vision.rank: expected number to be >0, got 0
    tiny.yaml:9: stages.0.learns.vision.dropout: expected number to be <1, got 1
    tiny.yaml:9: stages.0.learns.vision.targets: expected a regular expression
    tiny.yaml:9: stages.0.learns.vision.aplha: unknown key, did you mean "alpha"?"
  `);
  expect(complaint('tune: full, learningRate: 1e-4', 'tune: qlora, bits: 3')).toMatchInlineSnapshot(
    `"tiny.yaml:9: stages.0.learns.vision.bits: expected one of 4|8, got 3"`,
  );
  expect(complaint('tune: full, learningRate: 1e-4', 'tune: from-layer')).toMatchInlineSnapshot(
    `"tiny.yaml:9: stages.0.learns.vision.layer: missing, expected number"`,
  );
  expect(complaint('steps: 4', 'steps: 4\n    merge: false')).toMatchInlineSnapshot(
    `"tiny.yaml:15: stages.0.merge: there is no adapter to keep: no part learns by lora or qlora"`,
  );
  expect(complaint('steps: 4', 'steps: 4\n    epochs: 1')).toMatchInlineSnapshot(`"tiny.yaml:8: stages.0: give either epochs or steps"`);
  expect(complaint('{ conversations: a.json }', '[{ conversations: a.json, repeat: 0 }, {}]')).toMatchInlineSnapshot(`
    "tiny.yaml:10: stages.0.data.0.repeat: expected number to be >0, got 0
    tiny.yaml:10: stages.0.data.1.conversations: missing, expected string"
  `);
  expect(complaint('{ conversations: a.json }', '[{ conversations: a.json, weight: 2 }, { conversations: b.json }]')).toMatchInlineSnapshot(
    `"tiny.yaml:10: stages.0.data: some have a weight and some have none; give all of them one, or use repeat"`,
  );
  expect(complaint('{ conversations: a.json }', '[{ conversations: a.json, weight: 2, repeat: 3 }]')).toMatchInlineSnapshot(
    `"tiny.yaml:10: stages.0.data: a weight says how often rows come, leave repeat out"`,
  );
  expect(complaint('steps: 4', 'steps: 4\n    sampling: random')).toMatchInlineSnapshot(
    `"tiny.yaml:15: stages.0.sampling: expected one of "shuffle"|"length-grouped"|"sequential", got "random""`,
  );
  expect(complaint('steps: 4', 'steps: 4\n    sampling: { order: sequential, buffer: 10 }')).toMatchInlineSnapshot(
    `"tiny.yaml:15: stages.0.sampling: rows that keep their order are neither put apart nor drawn from a buffer"`,
  );
  expect(complaint('template: plain', 'template: plan')).toMatchInlineSnapshot(
    `"tiny.yaml:11: stages.0.template: expected one of "plain"|"llama"|"phi"|"gemma"|"qwen2_base"|"qwen2_instruct"|"prismatic"|"chatml"|"phi3"|"llama3"|"nanovlm"|"tiny", got "plan""`,
  );
  expect(complaint('connector: full, vision: { tune: full, learningRate: 1e-4 }', 'vision: frozen')).toMatchInlineSnapshot(
    `"tiny.yaml:9: stages.0.learns: every part is frozen, so nothing would learn"`,
  );
  expect(complaint('name: align', 'name: ..')).toMatchInlineSnapshot(
    `"tiny.yaml:8: stages.0.name: expected letters, digits, "_" and "-" alone"`,
  );
  expect(complaint('name: align', 'name: state')).toMatchInlineSnapshot(
    `"tiny.yaml:8: stages.0.name: state, tensorboard, sample-images are folders of the run itself"`,
  );
  expect(complaint('name: align', 'name: align\n   x: y')).toMatchInlineSnapshot(
    `"tiny.yaml:9: not YAML: Sequence item without - indicator"`,
  );
  expect(complaint('{ type: conv-vit, imageSize: 32 }', '{ from: tower, featureLayer: -2 }\n  x: 1')).toMatchInlineSnapshot(
    `"tiny.yaml:4: model.x: unknown key, expected one of vision, connector, language"`,
  );
});

test('mistakes of an override are told as such', () => {
  expect(complaint('align', 'align', ['stages.0.optimizer.schedule=cosin'])).toMatchInlineSnapshot(
    `"--set stages.0.optimizer.schedule: expected one of "cosine"|"linear"|"constant", got "cosin""`,
  );
  expect(complaint('align', 'align', ['stages.first.steps=1'])).toMatchInlineSnapshot(
    `"--set stages.first.steps: there is no such place in tiny.yaml"`,
  );
  expect(complaint('align', 'align', ['stages.7.steps=1'])).toMatchInlineSnapshot(
    `"--set stages.7.steps: there is no such place in tiny.yaml"`,
  );
  expect(complaint('align', 'align', ['stages.1.steps=1'])).toMatchInlineSnapshot(
    `"--set stages.1.steps: there is no such place in tiny.yaml"`,
  );
  expect(complaint('align', 'align', ['stages.0.optimizer.learningRate=.nan'])).toMatchInlineSnapshot(
    `"--set stages.0.optimizer.learningRate: expected number, got NaN"`,
  );
  expect(() => parseOverride('stages.0.steps')).toThrowErrorMatchingInlineSnapshot(`[UsageError: "stages.0.steps" is no override]`);
});

test('an empty recipe is told as nothing, and of a long wrong value the beginning is shown', () => {
  expect(() => readRecipeText('', 'empty.yaml')).toThrow('empty.yaml:1: recipe: expected a map, got nothing');
  expect(() => readRecipeText('x'.repeat(500), 'long.yaml')).toThrow(/got "x{59}…$/);
});

test('a recipe that is not there is named', async () => {
  await expect(readRecipe('recipes/none.yaml')).rejects.toThrowErrorMatchingInlineSnapshot(`[UsageError: recipes/none.yaml: no such file]`);
  const folder = await mkdtemp(join(tmpdir(), 'tinyllava-'));
  const refused = readRecipe(folder);
  await expect(refused).rejects.toThrow(`${folder} is a folder`);
  await expect(refused).rejects.toMatchObject({ hint: 'name a recipe file (.yaml)' });
  await writeFile(join(folder, 'recipe.yaml'), yaml);
  await expect(readRecipe(folder)).rejects.toMatchObject({ hint: `did you mean ${join(folder, 'recipe.yaml')}?` });
});

test('stages are chosen by name', () => {
  const recipe = readRecipeText(yaml, 'tiny.yaml');
  expect(selectStages(recipe, ['align'])).toEqual(recipe);
  expect(() => selectStages(recipe, ['algin'])).toThrowErrorMatchingInlineSnapshot(`[UsageError: no stage "algin"]`);
});

test('stages go by their names in overrides, and files of overrides replace several settings', async () => {
  const tiny = join(import.meta.dirname, '../../recipes/tiny.cpu.yaml');
  const named = await readRecipe(tiny, [parseOverride('stages.instruct.batchSize=3')]);
  expect(named).toEqual(await readRecipe(tiny, [parseOverride('stages.1.batchSize=3')]));
  expect(named.stages.map(({ batchSize }) => batchSize)).toEqual([8, 3]);
  const folder = await mkdtemp(join(tmpdir(), 'tinyllava-'));
  const file = join(folder, 'over.yaml');
  await writeFile(file, 'seed: 4\nstages.instruct.optimizer: { learningRate: 1e-4 }\n');
  const { seed, stages } = await readRecipe(tiny, await readOverrides(file));
  expect([seed, stages[1]?.optimizer.learningRate, stages[1]?.optimizer.weightDecay]).toEqual([4, 1e-4, 0]);
  await writeFile(file, 'stages.instruct.batchSize: none\n');
  await expect(readRecipe(tiny, await readOverrides(file))).rejects.toThrow(
    `--with ${file}: stages.1.batchSize: expected number, got "none"`,
  );
  await writeFile(file, '- seed');
  await expect(readOverrides(file)).rejects.toThrow(`${file}: expected a map from paths to values, as stages.instruct.template: llama`);
  await expect(readOverrides(join(folder, 'none.yaml'))).rejects.toThrow(`${join(folder, 'none.yaml')}: no such file`);
  await expect(readRecipe(tiny, [parseOverride('stages.polish.batchSize=3')])).rejects.toThrow(
    `--set stages.polish.batchSize: there is no such place in ${tiny}`,
  );
});

test('rounding is for weights that are kept in bfloat16, and momentum for muon', () => {
  const given = (precision: 'bfloat16' | 'bfloat16-pure') => ({
    precision,
    model: { from: 'somewhere' },
    stages: [
      {
        name: 'one',
        learns: { connector: 'full' as const },
        data: { conversations: 'rows.json' },
        optimizer: { type: 'adamw-8bit' as const, rounding: 'kahan' as const, learningRate: 1e-3 },
        batchSize: 1,
        steps: 1,
      },
    ],
  });
  expect(parseRecipe(given('bfloat16-pure')).stages[0]?.optimizer).toMatchObject({ type: 'adamw-8bit', rounding: 'kahan' });
  expect(() => parseRecipe(given('bfloat16'))).toThrow('stages: optimizer.rounding is for precision: bfloat16-pure alone');
  const { stages, ...rest } = given('bfloat16-pure');
  const heavy = stages.map((stage) => ({ ...stage, optimizer: { ...stage.optimizer, momentum: 0.9 } }));
  expect(() => parseRecipe({ ...rest, stages: heavy })).toThrow('stages.0.optimizer.momentum: momentum is for muon alone');
});
