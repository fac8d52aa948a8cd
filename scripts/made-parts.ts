import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';

/** How made parts are put into a page. */
interface MadeOptions {
  /** Only compare, and say so on standard error and in the exit code when the page is behind. */
  readonly check: boolean;
  /** The command that makes them, for the message. */
  readonly command: string;
  /** What of two texts has to be the same; everything unless said otherwise. */
  readonly compared?: (text: string) => string;
}

/** Writes the parts of a page between `<!-- made: NAME -->` and `<!-- end: NAME -->`. Throws for a name whose marks are not there. */
export function writeMadeParts(path: string, parts: Readonly<Record<string, string>>, { check, command, compared }: MadeOptions): void {
  const before = readFileSync(path, 'utf8');
  let after = before;
  for (const [name, text] of Object.entries(parts)) {
    const [start, end] = [`<!-- made: ${name} -->`, `<!-- end: ${name} -->`];
    const [from, until] = [after.indexOf(start), after.indexOf(end)];
    if (from < 0 || until < from) throw new Error(`${basename(path)} has no part between ${start} and ${end}`);
    after = `${after.slice(0, from + start.length)}\n${text}\n${after.slice(until)}`;
  }
  const view = compared ?? ((text: string) => text);
  if (!check) writeFileSync(path, after);
  else if (view(before) !== view(after)) {
    console.error(`${basename(path)} is behind what it is made from; run \`${command}\``);
    process.exitCode = 1;
  }
}
