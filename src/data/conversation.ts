import { z } from 'zod';
import { DataError, type ErrorDetails } from '../errors.ts';
import { examine, type Problem } from '../model/explain.ts';
import type { ContentPart, ImageSource, InputMessage, VideoPart } from '../processor/message.ts';

const Turn = z.object({ from: z.enum(['human', 'gpt', 'system']), value: z.string() });

const Files = z.union([z.string().min(1), z.array(z.string().min(1))], 'expected a file, or a list of files').nullish();

/**
 * One row of LLaVA's JSON: turns of a conversation in which `<image>` marks each image and `<video>` each video, or `<image>` too where a row
 * has videos alone, as LLaVA-Video writes them. Other keys may be there and are ignored.
 */
const Conversation = z.object({
  id: z.union([z.string(), z.number()]).optional(),
  image: Files,
  video: Files,
  conversations: z.array(Turn).min(1, 'has no turns'),
});
type Conversation = z.output<typeof Conversation>;

const roles = { human: 'user', gpt: 'assistant', system: 'system' } as const;
const imageTag = '<image>';
const videoTag = '<video>';

const list = (files: z.output<typeof Files>): readonly string[] => (files == null ? [] : typeof files === 'string' ? [files] : files);

/** A row as messages, and which of its turns took no part. */
export interface ParsedConversation {
  readonly id: string | undefined;
  readonly messages: readonly InputMessage[];
  /** Answers before the first question, which LLaVA skips as well. */
  readonly skippedAnswers: number;
  /** 1 when the row ends with a question that nobody answers. */
  readonly droppedQuestions: number;
}

/** A row that cannot be used, and in what way. */
export class RowError extends DataError {
  readonly kind: 'broken row' | 'roles' | 'image tags';

  constructor(kind: RowError['kind'], message: string, details: ErrorDetails) {
    super(message, details);
    this.kind = kind;
  }
}

/** Where the images and videos of a row come from. */
export interface RowFiles {
  /** The place of a file that the row names. */
  readonly resolve: (file: string) => string;
  /** Images that came with the row, in place of those that it names. */
  readonly images?: readonly ImageSource[] | undefined;
}

/** Checks one row and turns it into messages. `name` (file#index) begins every message. Throws RowError. */
export function parseConversation(row: unknown, name: string, { resolve, images: given }: RowFiles): ParsedConversation {
  const parsed = examine(Conversation, row);
  if (parsed.problems) {
    const [problem = { path: [], message: 'not a conversation' }] = parsed.problems;
    throw new RowError(problem.path.at(-1) === 'from' ? 'roles' : 'broken row', `${name}: ${described(problem)}`, { hint: hintFor(row) });
  }
  const { id, image, video } = parsed.data;
  const [images, videos] = [given ?? list(image).map(resolve), list(video)];
  const onlyVideos = images.length === 0 && videos.length > 0;
  const conversations = onlyVideos
    ? parsed.data.conversations.map(({ from, value }) => ({ from, value: value.replaceAll(imageTag, videoTag) }))
    : parsed.data.conversations;
  const first = conversations.findIndex(({ from }) => from !== 'gpt');
  const skippedAnswers = first === -1 ? conversations.length : first;
  const answered = conversations.findLastIndex(({ from }) => from === 'gpt') + 1;
  const turns = conversations.slice(skippedAnswers, answered);
  checkOrder(turns, skippedAnswers, name);
  checkTags(conversations, { tag: imageTag, noun: 'image', count: images.length, name });
  if (videos.length > 0) checkTags(conversations, { tag: videoTag, noun: 'video', count: videos.length, name });
  const left: Left = { images: [...images], videos: videos.map(resolve) };
  const messages = turns.map(({ from, value }) => ({ role: roles[from], content: contentOf(value, left) }));
  if (left.images.length + left.videos.length > 0)
    throw new RowError('image tags', `${name}: ${left.images.length > 0 ? 'an image' : 'a video'} belongs to a turn that takes no part`, {
      hint: 'begin with a human turn and end with an answer of gpt',
    });
  return {
    id: id === undefined ? undefined : String(id),
    messages,
    skippedAnswers,
    droppedQuestions: conversations.length - Math.max(answered, skippedAnswers),
  };
}

function checkTags(
  conversations: Conversation['conversations'],
  { tag, noun, count, name }: { tag: string; noun: string; count: number; name: string },
): void {
  const tags = conversations.reduce((sum, { value }) => sum + value.split(tag).length - 1, 0);
  if (tags === count) return;
  throw new RowError('image tags', `${name}: ${plural(tags, `${tag} tag`)} but ${plural(count, noun)}`, {
    hint: tags > count ? `add the missing ${noun}, or remove a tag` : `add a tag where the ${noun} belongs, or remove the ${noun}`,
  });
}

/** Files of a row that no tag has taken yet. */
interface Left {
  readonly images: ImageSource[];
  readonly videos: string[];
}

/** Roles have to alternate, a system turn only comes first, and there has to be an answer. */
function checkOrder(turns: Conversation['conversations'], skipped: number, name: string): void {
  if (turns.length === 0)
    throw new RowError('roles', `${name}: no question is answered`, { hint: 'a row needs a turn of "human" followed by one of "gpt"' });
  for (const [i, { from }] of turns.entries()) {
    const before = turns[i - 1]?.from;
    const fits = from === 'system' ? i === 0 : from === 'human' ? before !== 'human' : before === 'human';
    if (fits) continue;
    const place = `${name}: turn ${i + skipped + 1} is of ${JSON.stringify(from)}`;
    throw new RowError('roles', before === undefined ? place : `${place} after one of ${JSON.stringify(before)}`, {
      hint: 'turns of "human" and "gpt" alternate; "system" may come first; join or remove turns',
    });
  }
}

/**
 * The text of a turn as parts. As in LLaVA, a single image moves in front of its text; several stay where they are. Line breaks around images that
 * come first are left to the chat template. Takes its images and videos from `left`.
 */
function contentOf(value: string, left: Left): InputMessage['content'] {
  // A video's tag in a row without videos is text.
  const tags = left.videos.length > 0 ? /<image>|<video>/g : /<image>/g;
  const found = value.match(tags) ?? [];
  if (found.length === 0) return value;
  const shown = found.map((tag): ContentPart | VideoPart =>
    tag === imageTag ? { type: 'image', image: left.images.shift() ?? '' } : { type: 'video', video: left.videos.shift() ?? '' },
  );
  const pieces = value.split(tags);
  if (shown.length === 1) {
    const text = pieces.join('').trim();
    return text === '' ? shown : [...shown, { type: 'text', text }];
  }
  const parts: (ContentPart | VideoPart)[] = [];
  let leading = true;
  for (const [i, piece] of pieces.entries()) {
    const before = shown[i - 1];
    if (before) parts.push(before);
    if (leading && piece.trim() === '') continue;
    parts.push({ type: 'text', text: leading && i > 0 ? piece.trimStart() : piece });
    leading = false;
  }
  return parts;
}

function described({ path, message }: Problem): string {
  const place = path.map((key, i) => (typeof key === 'number' ? `[${key}]` : i === 0 ? String(key) : `.${String(key)}`)).join('');
  return place ? `${place}: ${message}` : message;
}

function hintFor(row: unknown): string {
  if (typeof row === 'object' && row !== null && 'messages' in row)
    return 'this looks like chat messages; LLaVA rows have "conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]';
  return 'a row is {"image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\\n…"}, {"from": "gpt", "value": "…"}]}';
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
