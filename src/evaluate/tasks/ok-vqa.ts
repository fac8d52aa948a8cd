import { mayBeUnanswerable, questionAnd, shortAnswer } from '../prompts.ts';
import { published } from '../published.ts';
import { means } from '../score.ts';
import type { Task } from '../task.ts';
import { officialVqa } from '../vqa-answer.ts';
import { evalAiVerdict } from './viz-wiz.ts';
import { officialSamples, peopleRows, type VqaSample } from './vqa-files.ts';

/** Questions that need knowledge from outside the image. Marino et al. 2019, arXiv:1906.00067; 5046 in val2014. */
export const okVqa: Task<VqaSample> = {
  name: 'ok-vqa',
  about: 'short answers that need outside knowledge, against those of ten people',
  maxNewTokens: 128,
  ...published<VqaSample>(
    ['ok-vqa', 'okvqa', 'OK-VQA'],
    [
      {
        layout: 'OK-VQA',
        files: ['OpenEnded_mscoco_val2014_questions.json', 'mscoco_val2014_annotations.json', 'val2014/'],
        from: 'okvqa.allenai.org/download.html and images.cocodataset.org/zips/val2014.zip',
        read: (found) => officialSamples(found.one(0), found.one(1), found.one(2)),
      },
      {
        layout: 'lmms-eval',
        files: ['data/val2014-*.parquet|val2014-*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/OK-VQA',
        read: (found, options) => peopleRows(found.all(0), options),
      },
    ],
  ),
  prompt: questionAnd(shortAnswer),
  score: ({ targets }, answer) => officialVqa(answer, targets),
  aggregate: (scored) => means(scored, { name: 'accuracy', by: [({ questionType }) => questionType] }),
  lmmsEval: { stop: ['ASSISTANT:'], prompt: questionAnd(mayBeUnanswerable), score: evalAiVerdict },
};
