import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { DataError } from '../errors.ts';

/** The order of texts by their code points, the same on every machine. */
export const byCodePoints = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

const range = /^(\d+)\.\.(\d+)$/;

/** Whether a name stands for several. */
export const isPattern = (name: string): boolean => /[*?]|\{[^{}]*(,|\.\.)[^{}]*\}/.test(name);

/** `a-{00..02}.tar` and `{a,b}.tar` as single names, in the order in which they are written. */
function expandBraces(name: string): string[] {
  const found = /\{([^{}]*)\}/.exec(name);
  if (!found) return [name];
  const [whole, inner = ''] = found;
  const [before, behind] = [name.slice(0, found.index), name.slice(found.index + whole.length)];
  return alternatives(inner).flatMap((one) => expandBraces(`${before}${one}${behind}`));
}

function alternatives(inner: string): string[] {
  const [, from = '', to = ''] = range.exec(inner) ?? [];
  if (from === '') return inner.split(',');
  const [first, last] = [Number(from), Number(to)];
  const digits = from.startsWith('0') ? from.length : 0;
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => String(first + i).padStart(digits, '0'));
}

/** The files of a pattern: braces name files that have to be there, `*` and `?` those of one folder that fit, in order of their names. Throws DataError. */
export async function filesOf(pattern: string): Promise<string[]> {
  const files: string[] = [];
  for (const name of expandBraces(pattern)) files.push(...(/[*?]/.test(name) ? await fitting(name) : [name]));
  if (files.length === 0) throw new DataError(`${pattern} names no files`);
  return files;
}

async function fitting(pattern: string): Promise<string[]> {
  const [folder, name] = [dirname(pattern), basename(pattern)];
  if (/[*?]/.test(folder))
    throw new DataError(`${pattern}: * and ? may stand in a file's name alone`, {
      hint: 'name the folder; shards in its subfolders are found',
    });
  const expression = new RegExp(
    `^${name
      .replace(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.')}$`,
    's',
  );
  const names = await readdir(folder).catch((cause: Error) => {
    throw new DataError(`${folder} cannot be read: ${cause.message}`, { cause });
  });
  const found = names.filter((file) => expression.test(file)).sort(byCodePoints);
  if (found.length === 0) throw new DataError(`${pattern} fits no file`, { hint: 'check the folder and the name' });
  return found.map((file) => join(folder, file));
}
