/** Where progress goes: a terminal, or a file or pipe, of which `columns` is undefined. */
export interface Screen {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

const pipeColumns = 80;
/** A pipe gets one line of progress in this time, so that logs stay short. */
const pipeIntervalMs = 15_000;

/** The fields that fit beside each other, the first ones being the most important; a single field too long is cut. */
export function fitFields(fields: readonly string[], columns: number): string {
  let text = '';
  for (const field of fields) {
    const longer = text === '' ? field : `${text}  ${field}`;
    if (longer.length > columns) break;
    text = longer;
  }
  return text === '' ? (fields[0] ?? '').slice(0, columns) : text;
}

/** Words broken into lines of at most `columns`, each after the first indented. */
export function wrap(text: string, columns: number, indent = ''): string {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= columns) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(lines.length === 0 ? word : indent + word);
  }
  return lines.join('\n');
}

/** Progress that stays on one line of a terminal, and comes as a line now and then where there is no terminal. */
export class StatusLine implements Disposable {
  readonly #screen: Screen;
  readonly #now: () => number;
  #printedMs = Number.NEGATIVE_INFINITY;
  #open = false;

  constructor(screen: Screen, now: () => number = () => performance.now()) {
    this.#screen = screen;
    this.#now = now;
  }

  /** How wide a line may be; one less than the terminal, which would wrap a full one. */
  get columns(): number {
    return this.#screen.isTTY ? Math.max(20, (this.#screen.columns ?? pipeColumns) - 1) : pipeColumns;
  }

  /** Replaces the line. */
  update(fields: readonly string[]): void {
    const nowMs = this.#now();
    const line = fitFields(fields, this.columns);
    if (this.#screen.isTTY) {
      if (nowMs - this.#printedMs < 100) return;
      this.#screen.write(`\r\x1b[2K${line}`);
      this.#open = true;
    } else {
      // the first update starts the clock, so that short work prints its end alone
      if (this.#printedMs === Number.NEGATIVE_INFINITY) this.#printedMs = nowMs;
      if (nowMs - this.#printedMs < pipeIntervalMs) return;
      this.#screen.write(`${line}\n`);
    }
    this.#printedMs = nowMs;
  }

  /** Writes a line that stays, in place of the one that changes. */
  finish(fields: readonly string[]): void {
    this.#screen.write(`${this.#open ? '\r\x1b[2K' : ''}${fitFields(fields, this.columns)}\n`);
    this.#open = false;
    this.#printedMs = Number.NEGATIVE_INFINITY;
  }

  /** Takes the line that changes away. */
  clear(): void {
    if (this.#open) this.#screen.write('\r\x1b[2K');
    this.#open = false;
  }

  /** Ends a line that still changes, so that an error does not stand behind it. */
  [Symbol.dispose](): void {
    if (this.#open) this.#screen.write('\n');
    this.#open = false;
  }

  /** Writes sentences that stay, broken at the width of the terminal. */
  say(text: string): void {
    this.clear();
    this.#screen.write(`${wrap(text, this.columns, '  ')}\n`);
  }
}
