import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { HubError } from '../errors.ts';
import { type Log, silent } from '../log.ts';
import { HubApi, HubRefusal, isPassing, reasonOf } from './api.ts';
import { CachedModel, isCommit } from './cache.ts';
import { parseHubName } from './name.ts';
import { type HubUse, missingFiles, neededFiles } from './needed.ts';
import { fetchOutline, standIn } from './outline.ts';
import type { HubEvent } from './progress.ts';
import { type Asked, explainRefusal, notCached } from './refusals.ts';
import { type HubSettings, hubSettings } from './settings.ts';
import { fetchFiles } from './snapshot.ts';

/** How a model is found. */
export interface ResolveOptions {
  /** What it is opened for, and so which of its files are fetched; the whole `model` unless said otherwise. */
  readonly use?: HubUse | undefined;
  /**
   * For who looks at a model and needs no weights: of safetensors files that are not cached the headers alone are fetched, into a folder in this one, which
   * is what is given then.
   */
  readonly outlines?: string | undefined;
  /** Where relative paths start; the working directory unless said otherwise. */
  readonly root?: string | undefined;
  /** Gets `HubEvent`s. */
  readonly log?: Log | undefined;
  /** Aborting it ends a download, which a later one goes on with. */
  readonly signal?: AbortSignal | undefined;
  /** The variables of Python's huggingface_hub are read from here. */
  readonly env?: NodeJS.ProcessEnv | undefined;
}

/** A model that was asked for, and what is known of it before the hub is. */
interface Search extends ResolveOptions {
  readonly use: HubUse;
  readonly asked: Asked;
  readonly settings: HubSettings;
  readonly model: CachedModel;
}

/**
 * The local folder, or GGUF file, of a model: a path that exists, else the hub id `owner/name`, `owner/name@revision` or
 * `owner/name/file.gguf@revision`, whose needed files are fetched into the cache that Python's huggingface_hub uses too. A whole commit hash that is cached takes no
 * request, other cached revisions one. A path that is neither comes back as it is, for the error of whoever opens it. Throws HubError.
 */
export async function resolveModel(nameOrPath: string, options: ResolveOptions = {}): Promise<string> {
  const root = options.root === undefined ? undefined : resolve(options.root);
  const path = root === undefined ? nameOrPath : resolve(root, nameOrPath);
  if (existsSync(path)) return path;
  const name = parseHubName(nameOrPath);
  if (!name) return path;
  const asked = { ...name, text: nameOrPath, root };
  const settings = await hubSettings(options.env ?? process.env);
  const model = new CachedModel(settings.cacheFolder, name.repo);
  return find({ ...options, use: options.use ?? 'model', asked, settings, model });
}

/** For what a file in a folder names: a path from there, else whatever `resolveModel` finds. */
export const resolveFrom =
  (options: ResolveOptions = {}) =>
  async (name: string, folder: string): Promise<string> => {
    const beside = resolve(folder, name);
    return existsSync(beside) ? beside : resolveModel(name, options);
  };

async function find(search: Search): Promise<string> {
  const { asked, settings, model, signal, log = silent } = search;
  const { revision, file } = asked;
  const at = (commit: string): string => (file === undefined ? model.snapshot(commit) : join(model.snapshot(commit), file));
  const known = await model.commitOf(revision);
  const missing = known === undefined ? undefined : await lacking(search, known);
  const cached = known !== undefined && missing?.length === 0 ? known : undefined;
  if (cached !== undefined && (isCommit(revision) || settings.offline)) return at(cached);
  if (settings.offline) throw notCached(asked, settings, { missing, reason: 'HF_HUB_OFFLINE forbids to ask the hub' });
  const api = new HubApi(asked.repo, settings, signal);
  try {
    const { commit, names } = await api.revision(revision);
    const folder = await complete(search, { api, commit, names });
    await model.remember(revision, commit);
    return folder ?? at(commit);
  } catch (error) {
    signal?.throwIfAborted();
    if (cached !== undefined && canDoWithout(error)) {
      log({ event: 'hub-unreachable', model: asked.text, commit: cached, reason: reasonOf(error) } satisfies HubEvent);
      return at(cached);
    }
    if (isPassing(error)) {
      const reason = `the hub (${settings.endpoint}) cannot be reached: ${reasonOf(error)}`;
      throw notCached(asked, settings, { missing, reason, cause: error });
    }
    throw explainRefusal(error, asked, settings);
  }
}

/** A hub that is away or wants another token is no reason not to use what it gave before. */
const canDoWithout = (error: unknown): boolean =>
  isPassing(error) || (error instanceof HubRefusal && [401, 403].includes(error.status)) || isPassing((error as Error).cause);

/** What the cache lacks of a commit. */
async function lacking({ model, use, asked: { file } }: Search, commit: string): Promise<string[]> {
  if (file !== undefined) return model.has(commit, file) ? [] : [file];
  const snapshot = model.snapshot(commit);
  const names = await model.names(commit);
  if (!names) return missingFiles(use, snapshot);
  return neededFiles(use, new Set(names), snapshot).filter((name) => !model.has(commit, name));
}

/** Fetches what the snapshot lacks: in two rounds where an index says which shards there are. Gives the folder of outlines, where there are any. */
async function complete(
  search: Search,
  { api, commit, names }: { api: HubApi; commit: string; names: readonly string[] },
): Promise<string | undefined> {
  const { asked, settings, model, use, log, outlines, signal = new AbortController().signal } = search;
  checkUsable(asked, use, names);
  const folder = outlines === undefined ? undefined : join(outlines, basename(model.folder), commit);
  const outlined = (name: string): boolean => folder !== undefined && existsSync(join(folder, name));
  let files: Awaited<ReturnType<HubApi['files']>> | undefined;
  for (;;) {
    const needed = asked.file === undefined ? neededFiles(use, new Set(names), model.snapshot(commit)) : [asked.file];
    const missing = needed.filter((name) => !model.has(commit, name) && !outlined(name));
    if (missing.length === 0) {
      if (folder === undefined || !existsSync(folder)) return undefined;
      await standIn(folder, model.snapshot(commit), needed);
      return folder;
    }
    files ??= await api.files(commit);
    const weights = folder === undefined ? [] : missing.filter((name) => name.endsWith('.safetensors'));
    const whole = missing.filter((name) => !weights.includes(name));
    await fetchFiles(whole, files, { asked, settings, api, model, commit, log, signal });
    for (const name of weights) await fetchOutline(folder ?? '', files.get(name)?.bytes ?? 0, { api, commit, name, signal });
  }
}

/** Throws HubError where a repository holds nothing that can be opened. */
function checkUsable({ text, repo, file }: Asked, use: HubUse, names: readonly string[]): void {
  const gguf = names.filter((name) => name.endsWith('.gguf'));
  const list = `its GGUF files are ${gguf.map((name) => `${repo}/${name}`).join(', ')}`;
  if (file !== undefined && !names.includes(file)) {
    throw new HubError(`${text}: ${repo} has no file ${file}`, {
      hint: gguf.length > 0 ? list : 'it has no GGUF files; name it without a file',
    });
  }
  if (
    file !== undefined ||
    use === 'tokenizer' ||
    use === 'processor' ||
    neededFiles(use, new Set(names), '').some((name) => /\.(safetensors|bin)(\.index\.json)?$/.test(name))
  )
    return;
  throw new HubError(
    `${text}: ${repo} has no weights that can be read: no model.safetensors and no pytorch_model.bin, in shards or whole`,
    {
      hint: gguf.length > 0 ? list : 'the weights of other frameworks are not read',
    },
  );
}
