import { markdownCells } from '../markdown-row.ts';
import { html, Markup } from './markup.ts';

/** A Markdown table with the lines that follow it, as HTML. */
export function markdownTable(text: string): Markup {
  const lines = text.trim().split('\n');
  const [head = '', , ...rest] = lines.filter((line) => line.startsWith('|'));
  const after = lines.filter((line) => line !== '' && !line.startsWith('|'));
  const inline = (cell: string): Markup | string => {
    const bold = /^\*\*(.*)\*\*$/.exec(cell)?.[1];
    return bold === undefined ? cell : html`<strong>${bold}</strong>`;
  };
  const row = (line: string): Markup => {
    const [first = '', ...others] = markdownCells(line);
    return html`<tr><th scope="row">${inline(first)}</th>${others.map((cell) => html`<td class="number">${inline(cell)}</td>`)}</tr>`;
  };
  const heads = markdownCells(head).map(
    (cell, i) => html`<th scope="col"${i > 0 ? new Markup(' class="number"') : undefined}>${cell}</th>`,
  );
  return html`<div class="wide"><table><thead><tr>${heads}</tr></thead><tbody>${rest.map(row)}</tbody></table></div>
${after.map((line) => html`<p class="muted">${line}</p>`)}`;
}
