/** The last number whose start is not behind `value`, by starts in rising order that begin with 0. */
export function placeIn(starts: { readonly [index: number]: number; readonly length: number }, value: number): number {
  let [low, high] = [0, starts.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if ((starts[middle] ?? 0) <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}
