import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadCheckpoint, saveCheckpoint } from '../../src/model/checkpoint.ts';
import { tensor } from '../../src/tensor/create.ts';
import { writeSafetensors } from '../../src/tensor/safetensors.ts';
import { reference } from './reference.ts';

const python = [process.env['TINYLLAVA_PYTHON'], 'python3'].find(
  (command) =>
    command !== undefined && spawnSync(command, ['-c', 'import torch, safetensors; from transformers import DINOv3ViTConfig']).status === 0,
);
const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-python-vision-'));
afterAll(() => rmSync(scratch, { recursive: true }));

test.skipIf(python === undefined)(
  'transformers computes the same from LLaVAs with DINO towers that we saved (needs a Python with transformers: TINYLLAVA_PYTHON)',
  async () => {
    const folders: string[] = [];
    for (const name of ['llava-dinov2', 'llava-dinov2-registers', 'llava-dinov3']) {
      const { folder, expected, ids } = reference(name);
      const { model } = await loadCheckpoint(folder);
      const pixels = expected.tensor('pixel_values');
      const saved = join(scratch, name);
      await saveCheckpoint(saved, model);
      const logits = model.logits(model.hidden({ ids: ids(), lengths: [ids().length], pixels }));
      const tensors = { input_ids: tensor(ids()), lengths: tensor(Int32Array.of(ids().length)), logits, pixel_values: pixels };
      writeSafetensors(join(saved, 'expected.safetensors'), Object.entries(tensors));
      folders.push(saved);
    }
    const { stdout, stderr, status } = spawnSync(python ?? '', ['scripts/check-python-loads.py', ...folders], { encoding: 'utf8' });
    expect(status, `${stdout}\n${stderr}`).toBe(0);
    expect(stdout.trim().split('\n')).toHaveLength(folders.length);
  },
  120_000,
);
