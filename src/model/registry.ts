import type { z } from 'zod';
import { ConfigError, UsageError } from '../errors.ts';

/** Edits (insert, delete, replace one letter) from `a` to `b`. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      next.push(Math.min((row[j] ?? 0) + (letter === b[j] ? 0 : 1), (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}

/** The known name that was probably meant, if one is near enough. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const [best] = known.map((other) => ({ other, edits: distance(name, other) })).sort((a, b) => a.edits - b.edits);
  return best && best.edits <= Math.max(2, name.length / 3) ? best.other : undefined;
}

/**
 * The entry of a registry by its exact name. Throws ConfigError that proposes the nearest name, UsageError where the caller has given it (`asked`); `file` is
 * where the name was found.
 */
export function pick<Entry>(
  registry: Readonly<Record<string, Entry>>,
  what: string,
  name: string,
  { file, asked }: { file?: string; asked?: true } = {},
): Entry {
  if (Object.hasOwn(registry, name)) return registry[name] as Entry;
  const known = Object.keys(registry);
  const guess = nearest(name, known);
  throw new (asked ? UsageError : ConfigError)(`${file ? `${file}: ` : ''}unknown ${what} "${name}"`, {
    hint: `${guess ? `did you mean "${guess}"? ` : ''}known: ${known.join(', ')}`,
  });
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce(
    (inner, key) => (typeof inner === 'object' && inner !== null ? (inner as Record<PropertyKey, unknown>)[key] : undefined),
    value,
  );
}

/** How a value is checked: `where` is its own path, `file` the file that it stands in, `spell` how that file spells the fields. */
interface Place {
  readonly where?: string;
  readonly file?: string;
  readonly spell?: (field: string) => string;
}

/** `value` as the schema's output. Throws ConfigError with a line for each thing that is wrong: file, path, what is expected, what is there. */
export function check<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  { where, file, spell = (field) => field }: Place,
): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const lines = parsed.error.issues.map(({ path, message, code }) => {
    const place = [...(where ? [where] : []), ...path.map((key) => spell(String(key)))].join('.');
    const got = code === 'unrecognized_keys' || code === 'custom' ? '' : `, got ${JSON.stringify(valueAt(value, path))}`;
    return `${[file, place].filter(Boolean).join(': ')}: ${message}${got}`;
  });
  throw new ConfigError(lines.join('\n'));
}
