/** A prompt and the images behind its placeholders, each known by its key. */
export interface Prompt {
  readonly ids: ArrayLike<number>;
  readonly images: readonly { readonly key: string }[];
}

/** How a model writes images into prompts. */
export interface ImageSpelling {
  readonly imageTokenId: number | undefined;
  /** Placeholders of one image. */
  readonly imageTokens: number;
}

/** The beginning that prompts have in common. */
export interface Shared {
  readonly tokens: number;
  readonly images: number;
}

/** What two prompts begin with, at most `limit` tokens of it; an image is shared as a whole or not at all. */
export function commonPrefix(a: Prompt, b: Prompt, limit: number, { imageTokenId, imageTokens }: ImageSpelling): Shared {
  const end = Math.min(a.ids.length, b.ids.length, limit);
  let [tokens, images] = [0, 0];
  while (tokens < end && a.ids[tokens] === b.ids[tokens]) {
    const isImage = a.ids[tokens] === imageTokenId;
    const next = tokens + (isImage ? imageTokens : 1);
    if (next > end || (isImage && a.images[images]?.key !== b.images[images]?.key)) break;
    tokens = next;
    if (isImage) images += 1;
  }
  return { tokens, images };
}
