import { ConfigError } from '../errors.ts';
import { xlsxOf } from './tables/xlsx.ts';

/** Kinds of files that servers take. */
export const submissionForms = ['json', 'jsonl', 'xlsx'] as const;
export type SubmissionForm = (typeof submissionForms)[number];

/** The content of a file with a submission. Throws ConfigError where lines or a table are wanted of what is no list of rows. */
export async function submissionContent(submission: unknown, form: SubmissionForm = 'json'): Promise<string | Uint8Array> {
  if (form === 'json') return `${JSON.stringify(submission)}\n`;
  if (!Array.isArray(submission)) {
    throw new ConfigError(`a submission in the form ${form} is a list of rows, and this one is ${typeof submission}`, {
      hint: "let the task's submission() give a list, or leave out its submissionForm",
    });
  }
  const rows: readonly Record<string, string | number>[] = submission;
  return form === 'xlsx' ? xlsxOf(rows) : rows.map((row) => `${JSON.stringify(row)}\n`).join('');
}
