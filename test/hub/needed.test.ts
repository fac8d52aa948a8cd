import { join } from 'node:path';
import { expect, test } from 'vitest';
import { missingFiles, neededFiles } from '../../src/hub/needed.ts';

const reference = join(import.meta.dirname, '../reference');

test('of an adapter its settings and its factors in one form are needed, and what LLaVA learned beside one', () => {
  const names = [
    'README.md',
    'adapter_config.json',
    'adapter_model.bin',
    'adapter_model.safetensors',
    'tokenizer.json',
    'trainer_state.json',
  ];
  expect(neededFiles('model', new Set(names), 'nowhere')).toEqual(['tokenizer.json', 'adapter_config.json', 'adapter_model.safetensors']);
  const llava = ['config.json', 'adapter_config.json', 'adapter_model.bin', 'non_lora_trainables.bin'];
  expect(neededFiles('model', new Set(llava), 'nowhere')).toEqual([
    'config.json',
    'adapter_config.json',
    'non_lora_trainables.bin',
    'adapter_model.bin',
  ]);
});

test('an adapter without a base beside it lacks nothing', () => {
  expect(missingFiles('model', join(reference, 'adapter-llava'))).toEqual([]);
  expect(missingFiles('model', join(reference, 'train-llava'))).not.toEqual([]);
});
