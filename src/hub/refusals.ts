import { HubError, TinyLlavaError } from '../errors.ts';
import { HubRefusal, isPassing, reasonOf } from './api.ts';
import type { HubName } from './name.ts';
import type { HubSettings } from './settings.ts';

/** What was asked for: as the user wrote it, and as it was read. */
export interface Asked extends HubName {
  readonly text: string;
  /** The folder that it was looked for in as a path, if not the working directory. */
  readonly root?: string | undefined;
}

const noFolder = ({ root }: Asked): string => (root === undefined ? 'no such folder' : `no such folder in ${root}`);

const makeToken = 'set HF_TOKEN to a token of yours (https://huggingface.co/settings/tokens)';

/** Bytes in decimal units, as disks and the hub's pages count them. */
const size = (bytes: number): string => (bytes < 1e9 ? `${Math.ceil(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);

/** A cached model that is not whole, where nothing can be fetched. */
export function notCached(
  asked: Asked,
  { cacheFolder }: HubSettings,
  { missing, reason, cause }: { missing: readonly string[] | undefined; reason: string; cause?: unknown },
): HubError {
  const { text, repo } = asked;
  const lack = missing ? `the cache lacks ${missing.join(', ')} of ${repo}` : `${repo} is not in the cache`;
  return new HubError(`${text}: ${noFolder(asked)}, ${lack} (${cacheFolder}), and ${reason}`, {
    hint: 'check the spelling of the path, or fetch the model while there is a connection; HF_HOME says where the cache is',
    cause,
  });
}

/** What a refusal of the hub means to the user. */
export function explainRefusal(error: unknown, asked: Asked, { endpoint, token }: HubSettings): unknown {
  if (error instanceof TinyLlavaError || !(error instanceof Error)) return error;
  const { text, repo, revision } = asked;
  const refused = (what: string, hint: string): HubError => new HubError(`${text}: ${what}`, { hint, cause: error });
  if (!(error instanceof HubRefusal)) {
    if (isPassing(error))
      return refused(`${noFolder(asked)}, and the hub (${endpoint}) cannot be reached: ${reasonOf(error)}`, 'try again');
    return refused(`${endpoint} does not answer as a hub does: ${error.message}`, 'check HF_ENDPOINT and the proxy, if there is one');
  }
  const { status, code } = error;
  if (code === 'GatedRepo') {
    const who = token === undefined ? makeToken : 'let HF_TOKEN be a token of the account that did, with the right to read gated models';
    return refused('the hub gives this model only to those who accepted its licence', `accept it at ${endpoint}/${repo}, then ${who}`);
  }
  if (code === 'RevisionNotFound') {
    return refused(
      `${repo} has no revision "${revision}" on the hub (${endpoint})`,
      `a revision is a branch, a tag or a whole commit hash; see ${endpoint}/${repo}/tree/main`,
    );
  }
  // Without a token the hub does not tell a private model from none.
  if (status === 404 || (status === 401 && (token === undefined || code === 'RepoNotFound'))) {
    const secret = token === undefined ? `for a private model, ${makeToken}` : 'a private model needs a token (HF_TOKEN) that may read it';
    return refused(`${noFolder(asked)}, and no such model on the hub (${endpoint})`, `check the spelling; ${secret}`);
  }
  if (status === 401 || status === 403) {
    return refused(
      `the hub (${endpoint}) does not accept the token: ${error.message}`,
      `HF_TOKEN, or the file that \`hf auth login\` wrote, must hold a valid token that may read ${repo}`,
    );
  }
  return refused(`${reasonOf(error)} (${endpoint})`, error.passing ? 'try again later' : 'check HF_ENDPOINT');
}

/** Too little room for what is to come. */
export function diskFull(
  { text }: Asked,
  { cacheFolder }: HubSettings,
  { needed, free, cause }: { needed: number; free: number; cause?: unknown },
) {
  return new HubError(`${text}: the disk is too full: ${size(needed)} are to come, ${cacheFolder} has room for ${size(free)}`, {
    hint: 'free some space, or set HF_HOME to a folder on another disk; what came so far is kept and gone on with',
    cause,
  });
}
