import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { strip } from '../../src/evaluate/python.ts';
import { inProfile, type Sample, type Task } from '../../src/evaluate/task.ts';
import { tasks } from '../../src/evaluate/tasks/index.ts';

interface Golden {
  readonly sample: Sample;
  readonly answer: string;
  readonly expected: number | [number, number];
}

/** Predictions drawn by scripts/check-scorers.ts with what lmms-eval 0.7.3 says of them. */
const golden = JSON.parse(readFileSync(join(import.meta.dirname, '../reference/scorers.json'), 'utf8')) as Record<string, Golden[]>;

describe('the profile lmms-eval scores as lmms-eval does', () => {
  test.each(Object.entries(golden))('%s', (name, cases) => {
    const task = inProfile(tasks[name as keyof typeof tasks] as Task, 'lmms-eval');
    expect(cases.length).toBeGreaterThanOrEqual(20);
    for (const { sample, answer, expected } of cases) {
      const judged = task.needsJudge ? task.judge?.verdict(sample, strip(answer)) : task.score(sample, answer);
      if (typeof expected === 'number') expect([answer, judged?.score ?? 0]).toEqual([answer, expect.closeTo(expected, 9)]);
      else expect([answer, judged?.parsed ?? '-1 -1']).toEqual([answer, expected.join(' ')]);
    }
  });
});
