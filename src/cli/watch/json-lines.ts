import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';

/** A file of JSON lines that grows while it is read, and may be cut back and grow again when its run is resumed. */
export class GrowingLines<Line> {
  readonly #file: string;
  #lines: Line[] = [];
  #end = 0;
  /** The last line that was read, as it stood in the file. */
  #last = Buffer.alloc(0);

  constructor(file: string) {
    this.#file = file;
  }

  /** All whole lines that are there now; only what is new is read. Lines that are no JSON are passed over. */
  read(): Line[] {
    if (existsSync(this.#file)) this.#catchUp();
    else this.#forget();
    return [...this.#lines];
  }

  #forget(): void {
    [this.#lines, this.#end, this.#last] = [[], 0, Buffer.alloc(0)];
  }

  #catchUp(): void {
    const file = openSync(this.#file, 'r');
    const bytes = (from: number, until: number): Buffer => {
      const room = Buffer.alloc(Math.max(0, until - from));
      return room.subarray(0, readSync(file, room, 0, room.length, from));
    };
    try {
      if (!bytes(this.#end - this.#last.length, this.#end).equals(this.#last)) this.#forget();
      const fresh = bytes(this.#end, fstatSync(file).size);
      for (let start = 0, end = fresh.indexOf(10); end >= 0; start = end + 1, end = fresh.indexOf(10, start)) {
        this.#last = Buffer.from(fresh.subarray(start, end + 1));
        this.#end += this.#last.length;
        const line = parsed(this.#last.toString());
        if (line !== undefined) this.#lines.push(line as Line);
      }
    } finally {
      closeSync(file);
    }
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
