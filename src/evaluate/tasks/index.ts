import type { Task } from '../task.ts';
import { easyVqa } from './easy-vqa.ts';
import { vqa } from './vqa.ts';

/** Benchmarks by name. */
export const tasks = { 'easy-vqa': easyVqa, vqa } satisfies Record<string, Task>;
