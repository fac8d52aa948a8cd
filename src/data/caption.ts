/** A caption as an answer of LLaVA's JSON: what it answers is the image alone, as in LLaVA's first stage, or the image and a prompt. */
export const captioned = (caption: string, prompt?: string): { from: string; value: string }[] => [
  { from: 'human', value: prompt === undefined ? '<image>' : `<image>\n${prompt}` },
  { from: 'gpt', value: caption },
];

/** What the columns of captioned images are called, the first one that a row has counts; Hugging Face's imagefolder has `file_name` and `text`. */
export const imageNames = ['file_name', 'image'] as const;
export const captionNames = ['text', 'caption'] as const;

/** A JSON row that is an image with a caption as one of LLaVA's; any other as it is. */
export function withConversations(row: unknown, prompt?: string): unknown {
  if (typeof row !== 'object' || row === null || 'conversations' in row) return row;
  const fields = row as Readonly<Record<string, unknown>>;
  const [image, caption] = [imageNames, captionNames].map((names) =>
    names.map((name) => fields[name]).find((value) => value !== undefined),
  );
  if (image === undefined || typeof caption !== 'string') return row;
  return { id: fields['id'], image, conversations: captioned(caption, prompt) };
}
