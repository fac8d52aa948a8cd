import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { HubError } from '../errors.ts';
import { fetchThroughProxy } from './proxy.ts';

/** Where the hub is, where its files are kept, and who asks. */
export interface HubSettings {
  readonly endpoint: string;
  readonly cacheFolder: string;
  readonly token: string | undefined;
  /** Only the cache is used. */
  readonly offline: boolean;
  /** Silence after which a connection counts as broken. */
  readonly timeoutMs: number;
  readonly fetch: typeof fetch;
}

const isTrue = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? '');

async function readToken(env: NodeJS.ProcessEnv, home: string): Promise<string | undefined> {
  const given = (env['HF_TOKEN'] || env['HUGGING_FACE_HUB_TOKEN'])?.trim();
  if (given) return given;
  const file = await readFile(env['HF_TOKEN_PATH'] || join(home, 'token'), 'utf8').catch(() => '');
  return file.trim() || undefined;
}

/**
 * The settings in the environment variables of Python's huggingface_hub (https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables):
 * HF_HOME, HF_HUB_CACHE, XDG_CACHE_HOME, HF_TOKEN, HF_TOKEN_PATH, HF_ENDPOINT, HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT; and the proxy's. Throws HubError for an endpoint that is none.
 */
export async function hubSettings(env: NodeJS.ProcessEnv): Promise<HubSettings> {
  const userHome = env['HOME'] || homedir();
  const expand = (path: string): string => path.replace(/^~(?=\/|$)/, userHome);
  const home = expand(env['HF_HOME'] || join(env['XDG_CACHE_HOME'] || join(userHome, '.cache'), 'huggingface'));
  const endpoint = (env['HF_ENDPOINT'] || 'https://huggingface.co').replace(/\/+$/, '');
  if (!/^https?:/.test(endpoint) || !URL.canParse(endpoint)) {
    throw new HubError(`HF_ENDPOINT is "${endpoint}", which is no address of a hub`, { hint: 'leave it unset, or set it to https://host' });
  }
  const seconds = Number(env['HF_HUB_DOWNLOAD_TIMEOUT'] || 10);
  return {
    endpoint,
    cacheFolder: expand(env['HF_HUB_CACHE'] || env['HUGGINGFACE_HUB_CACHE'] || join(home, 'hub')),
    token: await readToken(env, home),
    offline: isTrue(env['HF_HUB_OFFLINE'] || env['TRANSFORMERS_OFFLINE']),
    timeoutMs: (seconds > 0 ? seconds : 10) * 1000,
    fetch: await fetchThroughProxy(env),
  };
}
