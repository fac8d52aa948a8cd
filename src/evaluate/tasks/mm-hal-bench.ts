import { basename, join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import type { AnswerRow } from '../answers-file.ts';
import { bootstrapped } from '../bootstrap.ts';
import { questionAnd } from '../prompts.ts';
import { published } from '../published.ts';
import { readRows, readText } from '../questions-file.ts';
import type { Metric, Sample, Scored, Task, Verdict } from '../task.ts';

interface MmHalSample extends Sample {
  /** What is in the image, in words. */
  readonly content: readonly string[];
  /** What the judge is told, with four places `{}`. */
  readonly template: string;
}

const Question = z.looseObject({
  question_type: z.string(),
  image_src: z.string(),
  image_content: z.array(z.string()),
  question: z.string(),
  gt_answer: z.string(),
});
const Completion = z.array(z.looseObject({ message: z.looseObject({ content: z.string() }) })).min(1);

/** The text of `template = '''…'''` in the benchmark's own script. */
async function judgeTemplate(script: string): Promise<string> {
  if (script === '') return '';
  const found = /template\s*=\s*'''(.*?)'''/s.exec(await readText(script))?.[1];
  if (found === undefined || found.split('{}').length !== 5) throw new DataError(`${script}: no template with four places {} in it`);
  return found;
}

async function samples(file: string, script: string, images: string): Promise<MmHalSample[]> {
  const template = await judgeTemplate(script);
  const rows = await readRows(file, Question);
  return rows.map(({ question_type, image_src, image_content, question, gt_answer }, i) => ({
    id: String(i),
    question,
    images: [join(images, basename(image_src))],
    targets: [gt_answer],
    category: question_type,
    content: image_content,
    template,
  }));
}

/** The only rating from 0 to 6 in a reply; six is best, and from three on there is no hallucination. */
function rating(reply: string): Verdict | undefined {
  const said = reply.toLowerCase();
  const found = [0, 1, 2, 3, 4, 5, 6].filter((grade) => said.includes(`rating: ${grade}`));
  const [grade] = found;
  return found.length === 1 && grade !== undefined ? { parsed: String(grade), score: grade / 6 } : undefined;
}

const noRating: Verdict = { parsed: '0', score: 0, unparsed: true };

function aggregate(scored: readonly Scored<MmHalSample>[]): readonly Metric[] {
  const kinds = [...new Set(scored.map(({ sample }) => sample.category))];
  return bootstrapped(scored, {
    sums(group, add) {
      for (const { sample, parsed } of group) {
        const grade = Number(parsed);
        for (const name of ['all', sample.category]) {
          add(`${name} n`, 1);
          add(`${name} grades`, grade);
        }
        add('made up', grade < 3 ? 1 : 0);
      }
    },
    values: (sum) => [
      { name: 'average score', value: sum('all grades') / sum('all n'), count: sum('all n'), max: 6 },
      { name: 'hallucination rate', value: sum('made up') / sum('all n'), count: sum('all n'), lowerIsBetter: true },
      ...(kinds.length > 1 ? kinds : []).map((name) => ({
        name,
        value: sum(`${name} grades`) / sum(`${name} n`),
        count: sum(`${name} n`),
        max: 6,
      })),
    ],
  });
}

/** Replies of a judge, as the benchmark's script keeps them. */
function graded(rows: readonly AnswerRow[], known: readonly MmHalSample[] | undefined): Scored<MmHalSample>[] | undefined {
  const scored = rows.map(({ row }, i): Scored<MmHalSample> | undefined => {
    const choices = Completion.safeParse(row['choices']);
    if (!choices.success) return undefined;
    const sample = known?.[i] ?? { id: String(i), question: '', images: [], targets: [], category: '', content: [], template: '' };
    return { sample, answer: '', ...(rating(choices.data[0]?.message.content ?? '') ?? noRating) };
  });
  return scored.every((one) => one !== undefined) ? scored : undefined;
}

/** Questions that tempt to make things up, graded from 0 to 6 by a judge. Sun et al. 2023, arXiv:2309.14525; 96 questions of 8 kinds. */
export const mmHalBench: Task<MmHalSample> = {
  name: 'mmhal-bench',
  about: 'questions that tempt to make things up, graded from 0 to 6; needs a judge (usually gpt-4-0314)',
  maxNewTokens: 512,
  ...published<MmHalSample>(
    ['mmhal-bench', 'MMHal-Bench'],
    [
      {
        layout: 'MMHal-Bench',
        files: ['response_template.json', 'eval_gpt4.py', 'images/'],
        from: 'huggingface.co/datasets/Shengcao1006/MMHal-Bench; the judge is told what eval_gpt4.py says',
        read: (found) => samples(found.one(0), found.one(1), found.one(2)),
      },
    ],
  ),
  prompt: questionAnd(''),
  score: (_, answer) => ({ parsed: answer, score: 0 }),
  needsJudge: true,
  graded,
  judge: {
    usual: 'gpt-4-0314',
    attempts: 1,
    call({ content, question, targets: [truth = ''], template }, answer) {
      const values = [content.join(', '), question, truth, answer];
      const [first = '', ...rest] = template.split('{}');
      return {
        messages: [{ role: 'user', content: first + rest.map((text, i) => `${values[i]}${text}`).join('') }],
        temperature: 0,
        maxTokens: 1024,
      };
    },
    verdict: (_, reply) => rating(reply),
    giveUp: () => noRating,
  },
  aggregate,
};
