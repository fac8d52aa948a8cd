import { type Example, type Processor, unlabelled } from '../processor/processor.ts';

/** A stretch of an example that is learned, or is not, or is one or more images. */
export interface Span {
  readonly text: string;
  readonly supervised: boolean;
  readonly ids: readonly number[];
}

/** An example as it is seen by the loss: what is learned and what is not, in order; images as `<image> x 576`. */
export function spansOf({ ids, labels }: Example, { tokenizer, imageTokenId, imageToken }: Processor): Span[] {
  const kind = (i: number): string => (ids[i] === imageTokenId ? 'image' : labels[i] === unlabelled ? 'given' : 'learned');
  const spans: Span[] = [];
  for (let from = 0; from < ids.length; ) {
    let to = from + 1;
    while (to < ids.length && kind(to) === kind(from)) to++;
    const stretch = [...ids.slice(from, to)];
    const text = kind(from) === 'image' ? `${imageToken} x ${stretch.length}` : tokenizer.decode(stretch, { keepSpecial: true });
    spans.push({ text, supervised: kind(from) === 'learned', ids: stretch });
    from = to;
  }
  return spans;
}
