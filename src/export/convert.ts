import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { UsageError } from '../errors.ts';
import { resolveModel } from '../hub/resolve.ts';
import { pick } from '../model/registry.ts';
import type { DType } from '../tensor/dtype.ts';
import { checkDestination, checkSpace, type Destination, writeDestination } from './destination.ts';
import { planFactory } from './factory/factory.ts';
import { planGguf } from './gguf/gguf.ts';
import { planHuggingFace } from './hugging-face.ts';
import type { Plan } from './plan.ts';
import { openSource, type Source } from './source.ts';

/** How weights are stored; each format takes one of the two. */
export interface ConvertOptions {
  readonly dtype?: DType | undefined;
  /** For GGUF: how matrices are stored. */
  readonly type?: string | undefined;
  /** A chat template, by name or as Jinja text, in place of the source's. */
  readonly template?: string | undefined;
  /** Replaces a model that is there already. */
  readonly force?: boolean | undefined;
  /** Ends the conversion between two tensors, and leaves nothing. */
  readonly signal?: AbortSignal | undefined;
}

/** What was written. */
export interface Conversion {
  readonly to: string;
  readonly source: string;
  /** The files, by the paths that they have now. */
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
  readonly stored: string;
  readonly notes: readonly string[];
}

/** A format that models are converted to. */
interface Format {
  /** The option that says how weights are stored. */
  readonly takes: 'dtype' | 'type';
  /** What ends the path of a destination that is a file. */
  readonly extension?: string;
  /** Throws ConfigError or CheckpointError for what the format cannot express; `stem` is what its files may be called. */
  plan(source: Source, options: ConvertOptions & { readonly stem: string }): Plan;
}

/** What models can be converted to, by the name that `--to` takes. */
export const formats = {
  hf: { takes: 'dtype', plan: planHuggingFace },
  'factory-v1': { takes: 'dtype', plan: planFactory },
  gguf: { takes: 'type', extension: '.gguf', plan: planGguf },
} satisfies Readonly<Record<string, Format>>;

function destination(path: string, { extension }: Format, sees: boolean): Destination & { readonly stem: string } {
  if (extension === undefined || !path.endsWith(extension)) return { path, stem: basename(resolve(path)) };
  const name = basename(path);
  return { path, stem: name.slice(0, -extension.length), files: sees ? [name, `mmproj-${name}`] : [name] };
}

/**
 * Converts a model that `loadCheckpoint` opens, or one of the hub by its id, one tensor after another, so that memory holds little more than the largest of them. What is
 * written appears under its name when it is finished, or not at all. Throws ConfigError, CheckpointError or HubError.
 */
export async function convert(
  source: string,
  path: string,
  { to, ...options }: ConvertOptions & { readonly to: string },
): Promise<Conversion> {
  const format: Format = pick<Format>(formats, 'format', to, { asked: true });
  const other = format.takes === 'dtype' ? 'type' : 'dtype';
  if (options[other] !== undefined) throw new UsageError(`--${other} does not go with --to ${to}`, { hint: `use --${format.takes}` });
  const opened = await openSource(await resolveModel(source, { signal: options.signal }), options);
  const target = destination(path, format, opened.config.vision !== undefined);
  await checkDestination(target, source, { force: options.force ?? false });
  const plan = format.plan(opened, { ...options, stem: target.stem });
  await checkSpace(target, plan.bytes);
  await writeDestination(target, plan.write, options.signal);
  const folder = target.files ? dirname(path) : path;
  const names = target.files ?? (await readdir(path)).sort();
  const files = await Promise.all(names.map(async (name) => ({ path: join(folder, name), bytes: (await stat(join(folder, name))).size })));
  return { to, source, files, stored: plan.stored, notes: plan.notes };
}
