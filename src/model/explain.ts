import { z } from 'zod';
import { nearest } from './registry.ts';

/** One thing that is wrong in a document: where, and what was expected and found. */
export interface Problem {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

const english = z.locales.en().localeError;

function shown(value: unknown): string {
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'a map';
  const text = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? 'nothing');
  return text.length > 80 ? `${text.slice(0, 60)}…` : text;
}

const kinds: Readonly<Record<string, string>> = { int: 'a whole number', object: 'a map', array: 'a list', record: 'a map' };

/** What may stand where a choice between shapes fits none, as far as they are told apart by their kinds. */
function expectedOf(errors: readonly (readonly z.core.$ZodIssue[])[]): string | undefined {
  const found = errors.map(([issue]) => (issue?.code === 'invalid_type' && issue.path.length === 0 ? issue.expected : undefined));
  return found.includes(undefined) ? undefined : `expected ${[...new Set(found.map((kind = '') => kinds[kind] ?? kind))].join(' or ')}`;
}

/** What a schema has against a value, in the words of somebody who reads a YAML file; for unknown keys, the known ones. */
export const explain: z.core.$ZodErrorMap = (issue) => {
  if (issue.code === 'custom') return undefined;
  if (issue.code === 'unrecognized_keys') return issue.inst instanceof z.ZodObject ? Object.keys(issue.inst.shape).join(', ') : '';
  const found = (issue.code === 'invalid_union' && expectedOf(issue.errors)) || english(issue);
  const message = (typeof found === 'string' ? found : (found?.message ?? 'not allowed'))
    .replace(/^(Invalid input|Invalid option|Too small|Too big): /, '')
    .replace(/, received .*$/, '')
    .replace(/\bint\b/, 'a whole number')
    .replace(/expected object$/, 'expected a map')
    .replace(/expected array$/, 'expected a list')
    .replace(/expected array to have/, 'expected a list of');
  if (issue.input !== undefined) return `${message}, got ${shown(issue.input)}`;
  return message === 'Invalid input' ? 'missing' : `missing, ${message}`;
};

function unknownKey(key: string, known: string): string {
  const guess = nearest(key, known.split(', '));
  return `unknown key, ${guess ? `did you mean "${guess}"?` : `expected one of ${known}`}`;
}

/** Checks a value; the problems name the place and the value found there. */
export function examine<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
):
  | { readonly data: z.output<Schema>; readonly problems?: undefined }
  | { readonly data?: undefined; readonly problems: readonly Problem[] } {
  const parsed = schema.safeParse(value, { error: explain });
  if (parsed.success) return { data: parsed.data };
  const problems = parsed.error.issues.flatMap((issue): Problem[] =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) => ({ path: [...issue.path, key], message: unknownKey(key, issue.message) }))
      : [issue],
  );
  return { problems };
}

/** A value of one of several shapes: `choose` looks at it and says which is meant, so that only that one's problems are told. */
export function choice<Schema extends z.ZodType>(choose: (value: unknown) => Schema): z.ZodType<z.output<Schema>, z.input<Schema>> {
  return z.custom<z.input<Schema>>().transform((value, context): z.output<Schema> => {
    const found = examine(choose(value), value);
    if (!found.problems) return found.data;
    for (const { path, message } of found.problems) context.addIssue({ code: 'custom', path: [...path], message });
    return z.NEVER;
  });
}

/** True for a map that has the key. */
export const has = (value: unknown, key: string): boolean => typeof value === 'object' && value !== null && key in value;
