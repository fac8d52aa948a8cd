import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isArchive } from '../data/text.ts';
import { DataError } from '../errors.ts';
import type { Benchmark, OpenOptions, Sample, Task, Wanted } from './task.ts';

/**
 * One form in which a benchmark is published. A name in `files` may have alternatives (`a|b`) and `*`; one that ends in a slash is a folder of images, which
 * scoring does without. A name that begins with `?` need not be there.
 */
interface Form<S extends Sample> extends Wanted {
  /** What was found, in the order of `files`. */
  read(
    found: Found,
    options: OpenOptions,
  ): Promise<readonly S[] | (Pick<Benchmark<S>, 'samples' | 'alsoUploaded'> & { readonly files?: readonly string[] })>;
}

/** The paths found for each name of a form. */
class Found {
  readonly #paths: readonly (readonly string[])[];

  constructor(paths: readonly (readonly string[])[]) {
    this.#paths = paths;
  }

  /** All paths that fit the name of this number. */
  all(index: number): readonly string[] {
    return this.#paths[index] ?? [];
  }

  /** The only path, or the first. */
  one(index: number): string {
    return this.all(index)[0] ?? '';
  }
}

/**
 * How a task finds its files: in the data folder, or in one of `folders` in it, the first form that is whole. Gives `wants` and `open` of a task.
 */
export function published<S extends Sample>(
  folders: readonly string[],
  forms: readonly Form<S>[],
): Required<Pick<Task<S>, 'wants' | 'open'>> {
  return {
    wants: forms.map(({ layout, files, from }) => ({
      layout,
      files: files.map((name) => (name.startsWith('?') ? `${name.slice(1)} (optional)` : name)),
      from,
    })),
    async open(folder, options = {}): Promise<Benchmark<S>> {
      const tried: { form: Form<S>; home: string; missing: string[]; there: number }[] = [];
      for (const form of forms) {
        for (const home of [...folders.map((name) => join(folder, name)), folder]) {
          const paths = form.files.map((name) => places(home, name.replace(/^\?/, '')));
          const needed = form.files.filter((name) => !name.startsWith('?') && !(name.endsWith('/') && options.images === false));
          const missing = needed.filter((name) => (paths[form.files.indexOf(name)] ?? []).length === 0);
          tried.push({ form, home, missing, there: needed.length - missing.length });
          if (missing.length > 0) continue;
          // A folder of images that is not needed has its first name, so that samples still say where an image belongs.
          const found = paths.map((list, i) =>
            list.length === 0 && form.files[i]?.endsWith('/') ? [join(home, firstName(form.files[i]))] : list,
          );
          const read = await form.read(new Found(found), options);
          const whole: Exclude<typeof read, readonly S[]> = 'samples' in read ? read : { samples: read };
          if (whole.samples.length === 0) throw new DataError(`${home}: no questions in ${form.files.join(', ')}`);
          const files = found
            .filter((_, i) => !form.files[i]?.endsWith('/'))
            .flat()
            .filter((path) => statSync(path).isFile());
          return { ...whole, files: [...files, ...(whole.files ?? [])], layout: form.layout };
        }
      }
      throw nothingWhole(folder, folders, tried);
    },
  };
}

const firstName = (name: string): string => name.replace(/^\?/, '').split('|')[0] ?? '';

const namesShown = 5;

/** The first few of some names, and how many more there are. */
function few(names: readonly string[]): string {
  const shown = names
    .slice(0, namesShown)
    .map((name) => name.replaceAll('|', ' or '))
    .join(', ');
  return names.length > namesShown ? `${shown} and ${names.length - namesShown} more` : shown;
}

/** Says what is missing from the form that is nearest to being whole, or all forms when nothing is there. */
function nothingWhole<S extends Sample>(
  folder: string,
  folders: readonly string[],
  tried: readonly { form: Form<S>; home: string; missing: string[]; there: number }[],
): DataError {
  const [best] = [...tried].sort((a, b) => b.there - a.there);
  if (best && best.there > 0) {
    const { form, home, missing } = best;
    return new DataError(`${home}: ${few(missing)} ${missing.length > 1 ? 'are' : 'is'} missing (${form.layout}'s layout)`, {
      hint: `get it from ${form.from}`,
    });
  }
  const forms = [...new Set(tried.map(({ form }) => form))];
  const listed = forms.map(({ layout, files, from }) => `${layout}: ${few(files.filter((name) => !name.startsWith('?')))}, from ${from}`);
  const isFolder = statSync(folder, { throwIfNoEntry: false })?.isDirectory();
  const none = `none of ${folders[0]}'s files, neither here nor in ${folders.map((name) => `${name}/`).join(' or ')}`;
  const what = isFolder === undefined ? 'no such folder' : isFolder ? none : 'a file, and not the folder that holds it';
  return new DataError(`${folder}: ${what}`, {
    hint: [isFolder === false ? fixOfFile(folder) : 'put one of these there:', ...listed].join('\n    '),
  });
}

const fixOfFile = (file: string): string => `${isArchive(file) ? 'unpack it, and ' : ''}name a folder with one of these:`;

/** The paths that a name stands for, sorted; none when nothing is there. */
function places(home: string, name: string): string[] {
  for (const alternative of name.split('|')) {
    const fit = alternative.split('/').reduce<string[]>((folders, part) => folders.flatMap((folder) => inside(folder, part)), [home]);
    if (fit.length > 0) return fit;
  }
  return [];
}

function inside(folder: string, part: string): string[] {
  if (!part.includes('*')) return existsSync(join(folder, part)) ? [join(folder, part)] : [];
  if (!existsSync(folder) || !statSync(folder).isDirectory()) return [];
  const pattern = new RegExp(`^${part.replace(/[.+?^$()[\]{}\\]/g, '\\$&').replaceAll('*', '.*')}$`);
  const fit = readdirSync(folder).filter((file) => pattern.test(file));
  return fit.sort().map((file) => join(folder, file));
}
