import { DataError } from '../../errors.ts';
import { textPieces } from '../text.ts';

/**
 * The cells of each row of a file with tabs or commas between them; a cell in quotes may hold those, and line breaks. The file is read piece by piece. Throws
 * DataError where the last cell does not end, or the text is not UTF-8.
 */
export async function* tableRecords(path: string, separator: '\t' | ','): AsyncGenerator<string[]> {
  let cells: string[] = [];
  // Pieces of the open cell: base64 cells are megabytes long, and adding to a string by the letter is slow.
  let pieces: string[] = [];
  let quoted = false;
  let afterQuote = false;
  let empty = true;
  const endCell = ({ endsRow }: { endsRow: boolean }): void => {
    const cell = pieces.join('');
    cells.push(endsRow && !afterQuote && cell.endsWith('\r') ? cell.slice(0, -1) : cell);
    pieces = [];
    afterQuote = false;
    empty = true;
  };
  for await (const chunk of textPieces(path)) {
    let from = 0;
    for (let i = 0; i < chunk.length; i++) {
      const letter = chunk[i];
      if (quoted) {
        if (letter !== '"') continue;
        pieces.push(chunk.slice(from, i));
        from = i + 1;
        quoted = false;
        afterQuote = true;
        continue;
      }
      if (letter === '"' && (afterQuote || (empty && i === from))) {
        // A quote behind a closing one stands for a quote in the cell.
        if (afterQuote) pieces.push('"');
        quoted = true;
        afterQuote = false;
        empty = false;
        from = i + 1;
      } else if (letter === separator || letter === '\n') {
        pieces.push(chunk.slice(from, i));
        endCell({ endsRow: letter === '\n' });
        from = i + 1;
        if (letter === '\n') {
          if (cells.length > 1 || cells[0] !== '') yield cells;
          cells = [];
        }
      } else {
        afterQuote = false;
        empty = false;
      }
    }
    pieces.push(chunk.slice(from));
    if (from < chunk.length) empty = false;
  }
  if (quoted) throw new DataError(`${path}: the last cell has no closing quote`, { hint: 'the file may be cut off; get it again' });
  if (pieces.some((piece) => piece !== '') || cells.length > 0) {
    endCell({ endsRow: true });
    yield cells;
  }
}
