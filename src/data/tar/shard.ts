import { extname, posix } from 'node:path';
import { isImageName } from '../image-names.ts';
import { tarMembers } from './members.ts';

/** What a member is for. */
type MemberKind = 'image' | 'text' | 'json';
const kinds: readonly MemberKind[] = ['image', 'text', 'json'];

/** A member of a row. */
export interface RowMember {
  readonly kind: MemberKind;
  readonly offset: number;
  readonly size: number;
}

function kindOf(path: string): MemberKind | undefined {
  if (isImageName(path)) return 'image';
  const ending = extname(path).toLowerCase();
  if (ending === '.json') return 'json';
  return ending === '.txt' || ending === '.caption' ? 'text' : undefined;
}

/** The path up to the first dot of the file's name, as WebDataset has it. */
function keyOf(path: string): string {
  const name = posix.basename(path);
  const dot = name.indexOf('.', 1);
  return dot < 0 ? path : path.slice(0, path.length - name.length + dot);
}

/** Names that are no data: WebDataset's own, and what other systems leave. */
const isHidden = (path: string): boolean => /(^|\/)(\.|__[^/]*__(\.|$))/.test(path);

/** Where the rows of one archive lie in it: neighbours with one key are a row. Some 60 bytes a row. */
export class Shard {
  readonly path: string;
  readonly keys: readonly string[];
  /** Endings of files that are no part of a row. */
  readonly otherEndings: ReadonlySet<string>;
  /** The first member of each row, and the end. */
  readonly #firsts: Uint32Array;
  readonly #kinds: Uint8Array;
  readonly #offsets: Float64Array;
  readonly #sizes: Float64Array;

  private constructor(path: string, { keys, firsts, members, otherEndings }: Found) {
    this.path = path;
    this.keys = keys;
    this.otherEndings = otherEndings;
    this.#firsts = Uint32Array.from([...firsts, members.length]);
    this.#kinds = Uint8Array.from(members, ({ kind }) => kinds.indexOf(kind));
    this.#offsets = Float64Array.from(members, ({ offset }) => offset);
    this.#sizes = Float64Array.from(members, ({ size }) => size);
  }

  /** Reads the headers of an archive. Throws DataError. */
  static async open(path: string): Promise<Shard> {
    const found: Found = { keys: [], firsts: [], members: [], otherEndings: new Set() };
    for await (const { path: stored, offset, size } of tarMembers(path)) {
      const name = stored.replace(/^(\.\/)+/, '');
      if (isHidden(name)) continue;
      const [key, kind] = [keyOf(name), kindOf(name)];
      if (key !== found.keys.at(-1)) {
        found.keys.push(key);
        found.firsts.push(found.members.length);
      }
      if (kind) found.members.push({ kind, offset, size });
      else found.otherEndings.add(extname(name).toLowerCase() || name);
    }
    return new Shard(path, found);
  }

  get length(): number {
    return this.keys.length;
  }

  /** Whether any row has more than images. */
  get hasTexts(): boolean {
    return this.#kinds.some((kind) => kinds[kind] !== 'image');
  }

  /** The members of a row, in the order of the archive. */
  members(row: number): RowMember[] {
    const [from = 0, to = 0] = [this.#firsts[row], this.#firsts[row + 1]];
    return Array.from({ length: to - from }, (_, i) => ({
      kind: kinds[this.#kinds[from + i] ?? 0] as MemberKind,
      offset: this.#offsets[from + i] ?? 0,
      size: this.#sizes[from + i] ?? 0,
    }));
  }
}

interface Found {
  readonly keys: string[];
  readonly firsts: number[];
  readonly members: RowMember[];
  readonly otherEndings: Set<string>;
}
