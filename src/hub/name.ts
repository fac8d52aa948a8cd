/** What a hub id names: a repository, what of its history, and, for GGUF, which of its files. */
export interface HubName {
  /** `owner/name`. */
  readonly repo: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
  readonly file?: string;
}

const word = /^[A-Za-z0-9](?:[\w.-]{0,94}\w)?$/;
// A path to such a file that is not there is a mistyped path, not a repository.
const otherFile = /\.(bin|jsonl?|pth?|safetensors|ya?ml)$/i;

const isRepo = (text: string): boolean => {
  const words = text.split('/');
  return words.length === 2 && words.every((part) => word.test(part) && !/--|\.\./.test(part)) && !otherFile.test(text);
};

const isGgufPath = (path: string): boolean =>
  path.endsWith('.gguf') && path.split('/').every((part) => part !== '' && !part.startsWith('.'));

/** Reads `owner/name`, `owner/name@revision`, `owner/name/file.gguf` and `owner/name/file.gguf@revision`; undefined for any other text. */
export function parseHubName(text: string): HubName | undefined {
  const at = text.indexOf('@');
  const path = at < 0 ? text : text.slice(0, at);
  const revision = at < 0 ? 'main' : text.slice(at + 1);
  if (!/^[\w.-]+(\/[\w.-]+)*$/.test(revision) || revision.split('/').includes('..')) return undefined;
  const [owner = '', name = '', ...inside] = path.split('/');
  const repo = `${owner}/${name}`;
  if (!isRepo(repo)) return undefined;
  const file = inside.join('/');
  if (file === '') return repo.endsWith('.gguf') || inside.length > 0 ? undefined : { repo, revision };
  return isGgufPath(file) ? { repo, revision, file } : undefined;
}
