import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { fullSize, type LanguageName, type TowerName } from '../../bench/full-size/models.ts';
import { countModel } from '../../scripts/scaling/counts.ts';
import { type Flops, rowWork } from '../../scripts/scaling/flops.ts';
import { stageOf } from './stage.ts';

interface Passed {
  readonly products: number;
  readonly attention: number;
}
interface Found {
  readonly tower: TowerName;
  readonly language: LanguageName;
  readonly stage: 'align' | 'instruct';
  readonly tokens: number;
  readonly forward: Passed;
  readonly backward: Passed;
}

const reference = JSON.parse(readFileSync(join(import.meta.dirname, '../reference/scaling-flops.json'), 'utf8')) as {
  readonly supervised: number;
  readonly found: readonly Found[];
};
const learns = { align: { connector: 'full' }, instruct: { connector: 'full', language: 'full' } } as const;
const passed = ({ attention, ...parts }: Flops): Passed => ({
  products: Object.values(parts).reduce((sum, part) => sum + part, 0),
  attention,
});

test.each(reference.found)(
  'a row of $tower with $language in $stage takes what PyTorch counts',
  ({ tower, language, stage, tokens, ...expected }) => {
    const { model } = fullSize(tower, language);
    const counts = countModel(model, stageOf(learns[stage]));
    const row = { views: 1, text: tokens - counts.viewTokens, supervised: reference.supervised };
    const { forward, backward } = rowWork(counts, row, { attention: { causalShare: 1, backward: 2 } });
    expect({ forward: passed(forward), backward: passed(backward) }).toEqual(expected);
  },
);
