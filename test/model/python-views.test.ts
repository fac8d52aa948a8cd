import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { loadCheckpoint, saveCheckpoint } from '../../src/model/checkpoint.ts';
import { openProcessor } from '../../src/processor/open.ts';
import { referenceFolder } from '../processor/reference.ts';

const python = process.env['TINYLLAVA_PYTHON'];
const scratch = mkdtempSync(join(tmpdir(), 'tinyllava-python-views-'));
afterAll(() => rmSync(scratch, { recursive: true }));

test.skipIf(python === undefined)(
  'transformers computes the same from the models with several views that were read and written again (needs TINYLLAVA_PYTHON)',
  async () => {
    const folders: string[] = [];
    for (const family of ['llava_next', 'llava_onevision', 'idefics3', 'smolvlm', 'internvl', 'internvl_odd']) {
      const source = join(referenceFolder, `views-${family}`);
      const target = join(scratch, family);
      const { model } = await loadCheckpoint(source);
      await saveCheckpoint(target, model);
      await (await openProcessor(source, model, { template: 'chatml' })).save(target);
      for (const name of ['prompts.json', 'expected.safetensors']) cpSync(join(source, name), join(target, name));
      folders.push(target);
    }
    const script = join(import.meta.dirname, '../../scripts/check-python-views.py');
    const run = spawnSync(python ?? '', [script, join(referenceFolder, 'views-images'), ...folders], { encoding: 'utf8' });
    expect({ status: run.status, output: run.status === 0 ? '' : run.stdout + run.stderr }).toEqual({ status: 0, output: '' });
  },
  120_000,
);
