/** An image as its file's path, a `data:` URL or the encoded bytes. */
export type ImageSource = string | Uint8Array;

interface TextPart {
  readonly type: 'text';
  readonly text: string;
}

/** One piece of a message. */
export type ContentPart =
  | TextPart
  /** `whole` shows it in one view even where images of high resolution are cut into tiles, as for frames of a video. */
  | { readonly type: 'image'; readonly image: ImageSource; readonly whole?: boolean };

/** A video as its file's path, which becomes as many images as it has frames sampled. */
export interface VideoPart {
  readonly type: 'video';
  readonly video: string;
  readonly frames?: number;
}

/** A turn as it is given, in which videos may stand. */
export interface InputMessage {
  readonly role: Message['role'];
  readonly content: string | readonly (ContentPart | VideoPart)[];
}

/** One turn of a conversation, in the shape of OpenAI's chat messages. Text is plain: `<image>` in it is five letters in brackets, an image is a part. */
export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string | readonly ContentPart[];
}

/** The parts of a message's content; a string is one text part. */
export function contentParts<Part>({ content }: { readonly content: string | readonly Part[] }): readonly (Part | TextPart)[] {
  return typeof content === 'string' ? [{ type: 'text', text: content }] : content;
}

/** An image of a conversation. */
export interface ImageRequest {
  readonly source: ImageSource;
  /** Whether it is shown in one view whatever its size. */
  readonly whole: boolean;
}

/** All images of a conversation, in order; those of videos come with their frames. */
export function imagesOf(messages: readonly InputMessage[]): ImageRequest[] {
  return messages.flatMap((message) =>
    contentParts(message).flatMap((part) => (part.type === 'image' ? [{ source: part.image, whole: part.whole ?? false }] : [])),
  );
}
