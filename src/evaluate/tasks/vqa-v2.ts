import { z } from 'zod';
import { questionAnd, shortAnswer } from '../prompts.ts';
import { published } from '../published.ts';
import { readRows } from '../questions-file.ts';
import { means } from '../score.ts';
import type { Task } from '../task.ts';
import { agreement, evalAiAnswer, officialVqa, vqaAnswer } from '../vqa-answer.ts';
import { llavaQuestions, officialSamples, peopleRows, type VqaSample } from './vqa-files.ts';

const Id = z.looseObject({ question_id: z.union([z.string(), z.number()]).transform(String) });

/** Short answers about COCO images, each compared with those of ten people. Goyal et al. 2017, arXiv:1612.00837. */
export const vqaV2: Task<VqaSample> = {
  name: 'vqav2',
  about:
    'short answers about photographs, against those of ten people; the truth of test-dev is with EvalAI, so that a file to upload is written',
  maxNewTokens: 128,
  ...published<VqaSample>(
    ['vqav2', 'VQAv2'],
    [
      {
        layout: 'VQA',
        files: ['v2_OpenEnded_mscoco_val2014_questions.json', 'v2_mscoco_val2014_annotations.json', 'val2014/'],
        from: 'visualqa.org/download.html and images.cocodataset.org/zips/val2014.zip',
        read: (found) => officialSamples(found.one(0), found.one(1), found.one(2)),
      },
      {
        layout: 'lmms-eval',
        files: ['data/validation-*.parquet|validation-*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/VQAv2',
        read: (found, options) => peopleRows(found.all(0), options),
      },
      {
        layout: 'LLaVA',
        files: ['llava_vqav2_mscoco_test-dev2015.jsonl', '?llava_vqav2_mscoco_test2015.jsonl', 'test2015/'],
        from: "LLaVA's eval.zip and images.cocodataset.org/zips/test2015.zip",
        async read(found) {
          const samples = await llavaQuestions(found.one(0), found.one(2));
          const asked = new Set(samples.map(({ id }) => id));
          const all = found.one(1) === '' ? [] : await readRows(found.one(1), Id);
          return { samples, alsoUploaded: all.map(({ question_id }) => question_id).filter((id) => !asked.has(id)) };
        },
      },
    ],
  ),
  prompt: questionAnd(shortAnswer),
  score: ({ targets }, answer) => officialVqa(answer, targets),
  aggregate: (scored) => {
    const known = scored.filter(({ sample }) => sample.targets.length > 0);
    return known.length === 0
      ? []
      : means(known, { name: 'accuracy', by: [({ category }) => category, ({ questionType }) => questionType] });
  },
  submission: (scored, { alsoUploaded = [] }) => [
    ...scored.map(({ sample, answer = '' }) => ({ question_id: Number(sample.id), answer: evalAiAnswer(answer) })),
    ...alsoUploaded.map((id) => ({ question_id: Number(id), answer: '' })),
  ],
  lmmsEval: {
    maxNewTokens: 16,
    score({ targets }, answer) {
      const parsed = vqaAnswer(answer);
      return { parsed, score: agreement(parsed, targets.map(vqaAnswer)) };
    },
  },
};
