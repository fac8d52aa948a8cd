import { z } from 'zod';
import { extractedChoice } from '../choice.ts';
import { optionLines, questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { rstrip, strip } from '../python.ts';
import { means, unparsed, verdict } from '../score.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample, Task } from '../task.ts';

const Option = z.string().optional();
const Row = z.looseObject({
  index: z.string().optional(),
  question: z.string(),
  answer: z.string(),
  A: Option,
  B: Option,
  C: Option,
  D: Option,
  image: z.union([z.string(), z.array(z.string())]).optional(),
});

async function samples(files: readonly string[], options: OpenOptions): Promise<Sample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ index, question, answer, A, B, C, D, image = [] }, i) => {
    const apart = [A, B, C, D].filter((option) => option !== undefined);
    const truth = strip(answer);
    return {
      id: index ?? String(i),
      question: strip(apart.length > 0 ? `${question}\n${optionLines(apart)}` : question),
      images: typeof image === 'string' ? [image] : image,
      targets: [truth],
      category: /^[A-D]$/i.test(truth) ? 'multiple choice' : 'open',
    };
  });
}

/** Questions about photographs from everyday life, the form of the answer said in each; xAI 2024, 765 questions. It has no evaluation of its own: lmms-eval's is followed. */
export const realWorldQa: Task = {
  name: 'realworldqa',
  about: 'everyday photographs: letters, numbers and short words',
  maxNewTokens: 128,
  ...published<Sample>(
    ['realworldqa', 'RealWorldQA'],
    [
      {
        layout: 'lmms-eval',
        files: ['data/test-*.parquet|test-*.parquet'],
        from: 'huggingface.co/datasets/lmms-lab/RealWorldQA',
        read: (found, options) => samples(found.all(0), options),
      },
      {
        layout: 'VLMEvalKit',
        files: ['RealWorldQA.tsv'],
        from: "VLMEvalKit's RealWorldQA.tsv",
        read: (found, options) => samples(found.all(0), options),
      },
    ],
  ),
  prompt: questionAnd(''),
  score({ targets: [truth = ''] }, answer) {
    if (/^[A-D]$/.test(truth.toUpperCase())) {
      const letter = extractedChoice(answer, [...'ABCD']);
      return letter === undefined ? unparsed(answer) : verdict(letter, letter === truth.toUpperCase());
    }
    const parsed = rstrip(strip(answer.toLowerCase()), '.');
    return verdict(parsed, parsed === truth.toLowerCase());
  },
  aggregate: (scored) => means(scored, { name: 'accuracy', by: [({ category }) => category] }),
  lmmsEval: { maxNewTokens: 16 },
};
