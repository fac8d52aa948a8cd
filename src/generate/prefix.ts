/** Where an image stands in a prompt. */
export interface Place {
  readonly start: number;
  readonly end: number;
}

/** A prompt and its images in order, each known by its key. */
export interface Prompt {
  readonly ids: ArrayLike<number>;
  readonly images: readonly (Place & { readonly image: { readonly key: string } })[];
}

/** The beginning that prompts have in common. */
export interface Shared {
  readonly tokens: number;
  readonly images: number;
}

/** What two prompts begin with, at most `limit` tokens of it; an image is shared as a whole or not at all. */
export function commonPrefix(a: Prompt, b: Prompt, limit: number): Shared {
  const end = Math.min(a.ids.length, b.ids.length, limit);
  let tokens = 0;
  while (tokens < end && a.ids[tokens] === b.ids[tokens]) tokens += 1;
  for (const [i, { start, end, image }] of a.images.entries()) {
    if (start >= tokens) return { tokens, images: i };
    if (end > tokens || image.key !== b.images[i]?.image.key) return { tokens: start, images: i };
  }
  return { tokens, images: a.images.length };
}
