import { xlsxOf } from './tables/xlsx.ts';

/** Kinds of files that servers take. */
export const submissionForms = ['json', 'jsonl', 'xlsx'] as const;
export type SubmissionForm = (typeof submissionForms)[number];

/** The content of a file with a submission; lines and tables hold a list of rows. */
export async function submissionContent(submission: unknown, form: SubmissionForm = 'json'): Promise<string | Uint8Array> {
  const rows = Array.isArray(submission) ? (submission as readonly Record<string, string | number>[]) : [];
  if (form === 'xlsx') return xlsxOf(rows);
  if (form === 'jsonl') return rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  return `${JSON.stringify(submission)}\n`;
}
