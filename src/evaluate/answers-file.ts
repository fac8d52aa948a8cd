import { extname } from 'node:path';
import { z } from 'zod';
import { DataError } from '../errors.ts';
import { strip } from './python.ts';
import { pythonList } from './python-list.ts';
import { checkedRow, parsedRows, readText } from './questions-file.ts';
import { tsvRows } from './tables/tsv.ts';
import { xlsxRows } from './tables/xlsx.ts';
import type { Sample } from './task.ts';

/** An answer as a file has it. */
export interface AnswerRow {
  readonly place: string;
  /** What the answer belongs to; without one, the number of the question. */
  readonly id?: string | undefined;
  readonly index?: number | undefined;
  /** What was asked, where the file says it. */
  readonly prompt?: string | undefined;
  readonly text: string;
  /** Why there is no answer. */
  readonly error?: string | undefined;
  /** The whole row. */
  readonly row: Readonly<Record<string, unknown>>;
}

const Id = z.union([z.string(), z.number()]).transform(String);
const Nested: z.ZodType<string> = z
  .union([z.string(), z.lazy(() => z.array(Nested).min(1))])
  .transform((one) => (typeof one === 'string' ? one : (one[0] ?? ''))) as never;
/** What lmms-eval has of one question: a list, which it takes apart when there is one thing in it. */
const Responses = z.union([z.string().transform((one) => [one]), z.array(Nested)]);
const Text = z.union([z.string(), z.number()]).transform(String);

/** The names that harnesses give to id and answer. */
const Row = z.looseObject({
  question_id: Id.optional(),
  questionId: Id.optional(),
  id: Id.optional(),
  index: Id.optional(),
  image_id: Id.optional(),
  image: z.unknown().optional(),
  doc_id: z.int().optional(),
  doc: z.looseObject({ id: Id.optional() }).optional(),
  prompt: z.string().optional(),
  question: z.unknown().optional(),
  text: Text.optional(),
  answer: z.unknown().optional(),
  prediction: Text.optional(),
  response: Text.optional(),
  caption: Text.optional(),
  pred: Text.optional(),
  resps: Responses.optional(),
  filtered_resps: Responses.optional(),
  input: z.unknown().optional(),
  error: z.string().optional(),
});

/**
 * The answers in a file: LLaVA's JSONL, samples of this package and of lmms-eval, upload files of benchmarks, a JSON object of answers by id, ScienceQA's
 * judged output, VLMEvalKit's xlsx and TSV. Throws DataError naming the file and the row in which no answer is found.
 */
export async function readAnswers(file: string): Promise<AnswerRow[]> {
  const kind = extname(file).toLowerCase();
  if (kind === '.tsv' || kind === '.xlsx') return predictions(file, kind === '.tsv' ? tsvRows(file) : await xlsxRows(file));
  if (kind === '.csv' || kind === '.xls') {
    throw new DataError(`${file}: answers are not read from ${kind}`, { hint: 'save it as .tsv or .xlsx, or write JSONL' });
  }
  const text = await readText(file);
  const whole = extname(file) === '.json' ? wholeObject(text) : undefined;
  if (whole) return byId(whole, file);
  // Rows that name no question are in the order of the questions.
  const rows = parsedRows(text, file).map(({ value, place }, index) => ({ index, ...answer(value, place) }));
  if (rows.length === 0) throw new DataError(`${file}: no answers`);
  return rows;
}

/** VLMEvalKit's tables, whose column "answer" is the truth. An empty cell is an empty answer, a file of them none at all. */
async function predictions(
  file: string,
  table: AsyncIterable<Record<string, string>> | Iterable<Record<string, string>>,
): Promise<AnswerRow[]> {
  const rows: AnswerRow[] = [];
  let some = false;
  for await (const row of table) {
    some ||= 'prediction' in row;
    rows.push(answer({ ...row, prediction: row['prediction'] ?? '' }, `${file}#${rows.length}`));
  }
  if (!some) throw new DataError(`${file}: no answers in a column called prediction`, { hint: 'is it a file of questions?' });
  return rows;
}

function wholeObject(text: string): Record<string, unknown> | undefined {
  if (!text.trimStart().startsWith('{')) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function byId(whole: Record<string, unknown>, file: string): AnswerRow[] {
  const { correct, incorrect } = whole;
  // LLaVA's ScienceQA scorer splits the answers by whether it finds them right.
  if (Array.isArray(correct) && Array.isArray(incorrect)) {
    return [...(correct as unknown[]), ...(incorrect as unknown[])].map((value, i) => answer(value, `${file}#${i}`));
  }
  return Object.entries(whole).map(([id, value]) => {
    const place = `${file}: ${id}`;
    const text = Text.safeParse(value);
    if (text.success) return { place, id, text: text.data, row: { id, text: text.data } };
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new DataError(`${place}: ${JSON.stringify(value)} is no answer`, { hint: 'it should be a text, a number, or a row' });
    }
    return answer({ id, ...value }, place, true);
  });
}

function answer(value: unknown, place: string, textOptional = false): AnswerRow {
  const row = checkedRow(Row, value, place);
  const spoken = typeof row.answer === 'string' || typeof row.answer === 'number' ? String(row.answer) : undefined;
  // lmms-eval leaves out what was said where its filters have left it as it was.
  const resps = row.resps ?? row.filtered_resps;
  // Samples hold what a model wrote, which LLaVA's files have without white space around it.
  const given =
    (resps?.[0] === undefined ? undefined : strip(resps[0])) ??
    row.text ??
    row.prediction ??
    row.pred ??
    row.response ??
    row.caption ??
    spoken;
  if (given === undefined && !(resps || row.error !== undefined || textOptional || 'content' in row || 'choices' in row)) {
    throw new DataError(`${place}: no answer in it`, { hint: 'it should be called text, answer, prediction, response or resps' });
  }
  const imageId = typeof row.image === 'string' ? row.image : undefined;
  const id = row.question_id ?? row.questionId ?? row.doc?.id ?? row.id ?? row.index ?? row.image_id ?? imageId;
  const prompt = row.prompt ?? [row.question, row.input].find((one) => typeof one === 'string');
  // A sample that failed has no answer, which counts as an empty one; one that the judge did not grade has an error beside its answer.
  const error = given === undefined ? row.error : undefined;
  return { place, id, ...(row.doc_id !== undefined && { index: row.doc_id }), prompt, text: given ?? '', error, row };
}

const said = ['text', 'answer', 'prediction', 'pred', 'response', 'caption', 'resps', 'filtered_resps', 'error'];

/** Whether a file's rows name things but answer nothing, as files of questions do. */
export const answersNothing = (rows: readonly AnswerRow[]): boolean => !rows.some(({ row }) => said.some((name) => name in row));

/** Answers beside the samples they belong to, in the samples' order, and how many have none. */
export interface Matched<S extends Sample> {
  readonly pairs: readonly { readonly sample: S; readonly answer: AnswerRow | undefined }[];
  readonly missing: number;
}

/**
 * Finds the sample of each answer by its id; where samples share an id, by the question within the prompt, then by order. Throws DataError for an answer that
 * belongs to no sample, and for two answers to one.
 */
export function matchAnswers<S extends Sample>(samples: readonly S[], answers: readonly AnswerRow[], file: string): Matched<S> {
  const waiting = new Map<string, number[]>();
  const put = (id: string, i: number): void => void (waiting.get(id)?.push(i) ?? waiting.set(id, [i]));
  for (const [i, { id, sharedId }] of samples.entries()) {
    put(id, i);
    if (sharedId !== undefined && sharedId !== id) put(sharedId, i);
  }
  const found: (AnswerRow | undefined)[] = new Array(samples.length);
  for (const answer of answers) {
    const open = answer.id === undefined ? (answer.index === undefined ? [] : [answer.index]) : (waiting.get(answer.id) ?? []);
    const free = open.filter((i) => i < samples.length && found[i] === undefined);
    const { prompt } = answer;
    const asked = free.length > 1 && prompt !== undefined ? askedIn(prompt, free, samples) : undefined;
    const at = asked ?? free[0];
    if (at === undefined) {
      const name = answer.id ?? `number ${answer.index}`;
      if (open.length > 0 && open.some((i) => i < samples.length)) throw new DataError(`${answer.place}: a second answer to ${name}`);
      throw new DataError(`${answer.place}: no question ${name}`, {
        hint: `does ${file} belong to this benchmark and split? ids look like ${samples[0]?.id}`,
      });
    }
    const sample = samples[at];
    if (answer.id === undefined && sample && !isOf(answer, sample)) {
      throw new DataError(
        `${answer.place}: something else was asked than question number ${at} of the files here, ${JSON.stringify(sample.question)}`,
        {
          hint: 'answers without an id belong to the questions by their number: --data has to hold the very files that were asked',
        },
      );
    }
    found[at] = answer;
  }
  const pairs = samples.map((sample, i) => ({ sample, answer: found[i] }));
  return { pairs, missing: pairs.filter(({ answer }) => answer === undefined).length };
}

/** Whether an answer can be one to a sample, by what its row says was asked and, where all are asked the same, as for a caption, by what people said. */
function isOf({ prompt, row }: AnswerRow, { question, targets }: Sample): boolean {
  // Around the first line harnesses write options, hints and images each in their own way.
  const [first = ''] = question.trim().toLowerCase().split('\n');
  const asked = prompt?.toLowerCase();
  if (asked !== undefined && !first.split(/<image \d>/).every((part) => asked.includes(part.trim()))) return false;
  const target = row['target'];
  if (typeof target !== 'string' || !target.startsWith('[') || targets[1] === undefined) return true;
  return pythonList(target).includes(targets[0] ?? '');
}

/** The sample whose question is a line of the prompt, else the one whose question is somewhere in it. */
function askedIn(prompt: string, candidates: readonly number[], samples: readonly Sample[]): number | undefined {
  const lines = new Set(prompt.toLowerCase().split('\n'));
  const question = (i: number): string => (samples[i]?.question ?? '').toLowerCase();
  return candidates.find((i) => lines.has(question(i))) ?? candidates.find((i) => prompt.toLowerCase().includes(question(i)));
}
