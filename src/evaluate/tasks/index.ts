import type { Task } from '../task.ts';
import { easyVqa } from './easy-vqa.ts';
import { mme } from './mme.ts';
import { pope } from './pope.ts';
import { scienceQa } from './science-qa.ts';
import { vqa } from './vqa.ts';

/** Benchmarks by name. */
export const tasks = {
  'easy-vqa': easyVqa,
  vqa,
  pope,
  mme,
  scienceqa: scienceQa,
} satisfies Record<string, Task>;
