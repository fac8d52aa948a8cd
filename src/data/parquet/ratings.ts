import { DataError } from '../../errors.ts';
import type { MinRatings } from '../rows.ts';
import type { ParquetFile } from './file.ts';

type Cells = Readonly<Record<string, unknown>>;

/** Judges rows of a table by its columns of ratings: `NAME_ratings`, one for each question, as FineVision has them, or else `NAME_min`, one for the row. */
export class Ratings {
  readonly columns: readonly string[];
  readonly #least: readonly number[];
  readonly #whole: boolean;

  /** `whole` says that a row stays or goes as a whole. Throws DataError for a quality that the table does not rate. */
  constructor({ path, columns }: ParquetFile, minRatings: MinRatings, { whole }: { whole: boolean }) {
    this.columns = Object.keys(minRatings).map((name) => {
      const column = [`${name}_ratings`, `${name}_min`].find((column) => columns.includes(column));
      if (column !== undefined) return column;
      const rated = columns.flatMap((column) => /^(.+)_ratings$/.exec(column)?.[1] ?? []);
      throw new DataError(`${path} has no ratings of ${name}: there is no column ${name}_ratings or ${name}_min`, {
        hint: rated.length > 0 ? `it rates ${rated.join(', ')}` : 'remove minRatings for this source',
      });
    });
    this.#least = Object.values(minRatings);
    this.#whole = whole;
  }

  /** Which questions of a row are rated high enough; what has no rating is. Nothing where the row is left out, as all of its ratings are too low. */
  staying(cells: Cells): readonly boolean[] | undefined {
    const staying: boolean[] = [];
    for (const [i, column] of this.columns.entries()) {
      const [cell, least] = [cells[column], this.#least[i] ?? 0];
      const isLow = (rating: unknown): boolean => typeof rating === 'number' && rating < least;
      if (isLow(cell)) return undefined;
      if (Array.isArray(cell))
        for (const [question, rating] of cell.entries()) staying[question] = staying[question] !== false && !isLow(rating);
    }
    const none = this.#whole ? staying.includes(false) : staying.length > 0 && !staying.includes(true);
    return none ? undefined : staying;
  }
}
