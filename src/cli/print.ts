import { isSystemError, TinyLlavaError } from '../errors.ts';

/** Writes a result and a line break to standard output. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Writes the one JSON document that `--json` asks for. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, undefined, 2));
}

/** How wide a line of standard output may be; a pipe has no width. */
export const screenColumns = (): number => (process.stdout.isTTY ? process.stdout.columns : Number.POSITIVE_INFINITY);

/** What is found, as JSON and as lines to read. */
export interface Finding {
  readonly json: unknown;
  readonly lines: readonly string[];
}

/** Columns of text, numbers to the right. */
export function columns(rows: readonly (readonly (string | number)[])[]): string[] {
  const cells = rows.map((row) => row.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en-US') : cell)));
  const widths = cells.reduce<number[]>((most, row) => row.map((cell, i) => Math.max(most[i] ?? 0, cell.length)), []);
  return cells.map((row, r) =>
    row
      .map((cell, i) => (typeof rows[r]?.[i] === 'number' ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

/** Why a run ended: the user said so. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  /** 130 is what shells say of Ctrl-C. */
  readonly exitCode: number;

  constructor(message: string, { exitCode = 130 }: { exitCode?: number } = {}) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** The exit code of a run that was ended and can go on: EX_TEMPFAIL of sysexits.h. */
export const resumable = 75;

/** An error as the user reads it: what is wrong, then the fix; the stack only where TINYLLAVA_DEBUG is set. */
export function describeError(error: unknown, env: NodeJS.ProcessEnv): string {
  if (env['TINYLLAVA_DEBUG']) return error instanceof Error ? `${error.stack}${because(error)}` : String(error);
  const [message, hint] = explain(error);
  return `error: ${message}${hint === undefined ? '' : `\n  fix: ${hint}`}`;
}

function because({ cause }: Error): string {
  return cause === undefined ? '' : `\ncaused by: ${cause instanceof Error ? `${cause.stack}${because(cause)}` : String(cause)}`;
}

function explain(error: unknown): [message: string, hint: string | undefined] {
  if (error instanceof TinyLlavaError) return [error.message, error.hint];
  if (error instanceof Interrupted) return [error.message, undefined];
  const message = error instanceof Error ? error.message : String(error);
  // set-up's own failures, which come from outside src/
  if (error instanceof Error && 'fix' in error && typeof error.fix === 'string') return [message, error.fix];
  // What the operating system refuses names the file and the reason.
  if (isSystemError(error)) return [message, undefined];
  return [message, 'this is a mistake in tinyllava; set TINYLLAVA_DEBUG=1 to see where, and report it'];
}

/** Writes an error to standard error, unless another process tells of it. */
export function complain(error: unknown): void {
  if (error instanceof Interrupted && error.message === '') return;
  process.stderr.write(`${describeError(error, process.env)}\n`);
}
