import { join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../errors.ts';
import { bareQuestion } from '../prompts.ts';
import { checkedRow, readRows, readText } from '../questions-file.ts';
import { tableRows } from '../tables/rows.ts';
import type { OpenOptions, Sample } from '../task.ts';

/** A question of VQA with the answers of ten people in `targets`. */
export interface VqaSample extends Sample {
  readonly questionType?: string | undefined;
}

const Id = z.union([z.string(), z.number()]).transform(String);
const Questions = z.looseObject({
  data_subtype: z.string().optional(),
  questions: z.array(z.looseObject({ question_id: Id, image_id: z.int(), question: z.string() })),
});
const Annotations = z.looseObject({
  annotations: z.array(
    z.looseObject({
      question_id: Id,
      question_type: z.string().optional(),
      answer_type: z.string().optional(),
      answers: z.array(z.looseObject({ answer: z.string() })),
    }),
  ),
});
const LlavaQuestion = z.looseObject({ question_id: Id, image: z.string(), text: z.string() });
const People = z.array(z.union([z.string(), z.looseObject({ answer: z.string() }).transform(({ answer }) => answer)]));
const Row = z.looseObject({
  question_id: Id.optional(),
  index: Id.optional(),
  question: z.string(),
  answers: People,
  question_type: z.string().optional(),
  answer_type: z.string().optional(),
  category: z.string().optional(),
  image: z.string().optional(),
  ocr_tokens: z.undefined({ error: "TextVQA's, which is another benchmark" }).optional(),
});

/** A JSON file as the schema says. Throws DataError. */
export async function readJson<Schema extends z.ZodType>(file: string, schema: Schema): Promise<z.output<Schema>> {
  const text = await readText(file);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new DataError(`${file}: cannot be read as JSON: ${(cause as Error).message}`, { cause });
  }
  return checkedRow(schema, value, file);
}

/** VQA's own files: questions and annotations, images called COCO_<subset>_<number>.jpg. */
export async function officialSamples(questionFile: string, annotationFile: string, images: string): Promise<VqaSample[]> {
  const { questions, data_subtype = 'val2014' } = await readJson(questionFile, Questions);
  const { annotations } = await readJson(annotationFile, Annotations);
  const truths = new Map(annotations.map((one) => [one.question_id, one]));
  return questions.map(({ question_id, image_id, question }) => {
    const truth = truths.get(question_id);
    if (!truth)
      throw new DataError(`${annotationFile}: no annotation of question ${question_id}`, { hint: `does it belong to ${questionFile}?` });
    return {
      id: question_id,
      question,
      images: [join(images, `COCO_${data_subtype}_${String(image_id).padStart(12, '0')}.jpg`)],
      targets: truth.answers.map(({ answer }) => answer),
      category: truth.answer_type ?? 'other',
      questionType: truth.question_type,
    };
  });
}

/** LLaVA's questions, whose truth is with the benchmark's server. */
export async function llavaQuestions(file: string, images: string): Promise<VqaSample[]> {
  const rows = await readRows(file, LlavaQuestion);
  return rows.map(({ question_id, image, text }) => ({
    id: question_id,
    question: bareQuestion(text),
    images: [join(images, image)],
    targets: [],
    category: 'test',
  }));
}

/** lmms-eval's rows. */
export async function peopleRows(files: readonly string[], options: OpenOptions): Promise<VqaSample[]> {
  const rows = await tableRows(files, Row, options);
  return rows.map(({ question_id, index, question, answers, question_type, answer_type, category, image }, i) => ({
    id: question_id ?? index ?? String(i),
    question,
    images: image === undefined ? [] : [image],
    targets: answers,
    category: answer_type ?? category ?? 'other',
    questionType: question_type,
  }));
}
