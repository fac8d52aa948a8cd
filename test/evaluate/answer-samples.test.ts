import { expect, test } from 'vitest';
import { answerSamples } from '../../src/evaluate/answer-samples.ts';
import type { Respondent } from '../../src/evaluate/respondent/respondent.ts';
import { inProfile, type Profile, type Task } from '../../src/evaluate/task.ts';
import { tasks } from '../../src/evaluate/tasks/index.ts';

/** Says the same to every question. */
const saying = (answer: string): Respondent => ({
  identity: {},
  async *responses(questions) {
    let index = 0;
    for await (const _ of questions) yield { index: index++, answer };
  },
});

const sample = { id: '1', question: 'Which?', images: [], targets: ['A'], category: 'image', options: 2 };

test.each<Profile>(['official', 'lmms-eval'])(
  'an answer is scored and kept without the white space around it by the %s profile',
  async (profile) => {
    for (const name of ['scienceqa', 'seed-bench'] as const) {
      const task = inProfile(tasks[name] as Task, profile);
      for await (const { scored } of answerSamples(saying('\u00a0A\n'), task, [sample]))
        expect(scored).toMatchObject({ answer: 'A', parsed: 'A', score: 1 });
    }
  },
);
