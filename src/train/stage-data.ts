import type { Mixture } from '../data/mixture.ts';
import type { RowSource } from '../data/rows.ts';
import { holdOut } from '../data/subset.ts';
import { DataError } from '../errors.ts';
import { openData } from './build.ts';
import type { Stage } from './recipe.ts';

/** The rows of a stage. */
export class StageData implements Disposable {
  /** All of its own data. */
  readonly whole: Mixture;
  /** What of them is learned from. */
  readonly rows: RowSource;
  /** For its validation: rows of `whole`, or of other data. */
  readonly heldOut: RowSource | undefined;
  readonly #other: Mixture | undefined;

  private constructor(whole: Mixture, other: Mixture | undefined, count: number | undefined, seed: number) {
    const { rest, heldOut } = count === undefined ? { rest: whole, heldOut: other } : holdOut(whole, count, seed);
    this.whole = whole;
    this.rows = rest;
    this.heldOut = heldOut;
    this.#other = other;
  }

  /** Opens them; rows are held out by the seed. Throws DataError, and ConfigError when more are to be held out than there are. */
  static async open({ name, data, validation }: Stage, { root, seed }: { root: string; seed: number }): Promise<StageData> {
    const opened: Mixture[] = [];
    const open = async (sources: Stage['data'], what: string): Promise<Mixture> => {
      const found = await openData(sources, root);
      opened.push(found);
      if (found.length > 0) return found;
      throw new DataError(`${what}: the data has no rows`, { hint: 'see what a file holds by `tinyllava inspect FILE`' });
    };
    const what = `stage ${name}`;
    try {
      const whole = await open(data, what);
      return new StageData(whole, validation?.data && (await open(validation.data, `${what}: validation`)), validation?.rows, seed);
    } catch (error) {
      for (const one of opened) one.close();
      throw error;
    }
  }

  close(): void {
    this.whole.close();
    this.#other?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
