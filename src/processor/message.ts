/** An image as its file's path, a `data:` URL or the encoded bytes. */
export type ImageSource = string | Uint8Array;

/** One piece of a message. */
export type ContentPart = { readonly type: 'text'; readonly text: string } | { readonly type: 'image'; readonly image: ImageSource };

/** One turn of a conversation, in the shape of OpenAI's chat messages. Text is plain: `<image>` in it is five letters in brackets, an image is a part. */
export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string | readonly ContentPart[];
}

/** The parts of a message's content; a string is one text part. */
export function contentParts({ content }: Message): readonly ContentPart[] {
  return typeof content === 'string' ? [{ type: 'text', text: content }] : content;
}

/** All images of a conversation, in order. */
export function imagesOf(messages: readonly Message[]): ImageSource[] {
  return messages.flatMap((message) => contentParts(message).flatMap((part) => (part.type === 'image' ? [part.image] : [])));
}
