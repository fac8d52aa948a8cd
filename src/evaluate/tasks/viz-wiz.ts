import { basename, join } from 'node:path';
import { z } from 'zod';
import { ask, mayBeUnanswerable, questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { capitalize } from '../python.ts';
import { readRows } from '../questions-file.ts';
import { means } from '../score.ts';
import type { Sample, Task, Verdict } from '../task.ts';
import { agreement, evalAiAnswer } from '../vqa-answer.ts';
import { llavaQuestions, peopleRows, type VqaSample } from './vqa-files.ts';

const Annotation = z.looseObject({
  image: z.string(),
  question: z.string(),
  answer_type: z.string().optional(),
  answers: z.array(z.looseObject({ answer: z.string() })),
});
const Upload = z.looseObject({ image: z.string(), answer: z.string() });

async function annotated(file: string, images: string): Promise<VqaSample[]> {
  const rows = await readRows(file, Annotation);
  return rows.map(({ image, question, answer_type, answers }, i) => ({
    id: String(i),
    sharedId: image,
    question,
    images: [join(images, image)],
    targets: answers.map(({ answer }) => answer),
    category: answer_type ?? 'other',
  }));
}

/** Answers that were uploaded before: how many of the new ones are the same. */
async function uploaded(file: string): Promise<VqaSample[]> {
  const rows = await readRows(file, Upload);
  return rows.map(({ image, answer }, i) => ({
    id: String(i),
    sharedId: image,
    question: '',
    images: [image],
    targets: [answer],
    category: 'upload',
  }));
}

/** Agreement with people after EvalAI's processor has gone over all answers. */
export function evalAiVerdict({ targets }: Sample, answer: string): Verdict {
  const parsed = evalAiAnswer(answer);
  return { parsed, score: agreement(parsed, targets.map(evalAiAnswer)) };
}

/** Questions of blind people about their photographs, some without an answer. Gurari et al. 2018, arXiv:1802.08218; 8000 in test, 4319 in val. */
export const vizWiz: Task<VqaSample> = {
  name: 'vizwiz',
  about: 'short answers about photographs of blind people; the truth of test is with EvalAI, so that a file to upload is written',
  maxNewTokens: 128,
  ...published<VqaSample>(
    ['vizwiz', 'VizWiz'],
    [
      {
        layout: 'VizWiz',
        files: ['Annotations/val.json|val.json', 'val/'],
        from: 'vizwiz.org/tasks-and-datasets/vqa',
        read: (found) => annotated(found.one(0), found.one(1)),
      },
      {
        layout: 'lmms-eval',
        files: ['data/val-*.parquet|val-*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/VizWiz-VQA',
        read: (found, options) => peopleRows(found.all(0), options),
      },
      {
        layout: 'LLaVA',
        files: ['llava_test.jsonl', 'test/'],
        from: "LLaVA's eval.zip and vizwiz.org (test images)",
        read: (found) => llavaQuestions(found.one(0), found.one(1)),
      },
      {
        layout: 'an earlier upload',
        files: ['answers_upload.json'],
        from: 'a run of your own; scores how many answers stayed the same after normalising',
        read: (found) => uploaded(found.one(0)),
      },
    ],
  ),
  prompt: questionAnd(mayBeUnanswerable),
  score(sample, answer) {
    if (sample.category !== 'upload') return evalAiVerdict(sample, answer);
    const parsed = evalAiAnswer(answer);
    return { parsed, score: parsed === sample.targets[0] ? 1 : 0 };
  },
  aggregate(scored) {
    const known = scored.filter(({ sample }) => sample.targets.length > 0);
    if (known.length === 0) return [];
    const name = known[0]?.sample.category === 'upload' ? 'same as uploaded' : 'accuracy';
    return means(known, { name, by: [({ category }) => category] });
  },
  submission: (scored) =>
    scored.map(({ sample, answer = '' }) => ({ image: basename(sample.images[0] ?? ''), answer: evalAiAnswer(answer) })),
  lmmsEval: {
    stop: ['ASSISTANT:'],
    prompt: ({ images, question }) => ask(images, `${capitalize(question)}${mayBeUnanswerable}`),
  },
};
