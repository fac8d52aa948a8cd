import type { Json } from '../part.ts';
import { bench } from './bench.ts';
import { factory } from './factory.ts';
import { factory2 } from './factory2.ts';
import { idefics3 } from './idefics3.ts';
import { internVl } from './internvl.ts';
import { llava } from './llava.ts';
import { llavaNext, llavaOnevision } from './llava-next.ts';
import { nanovlm } from './nanovlm.ts';
import type { PublishedDialect } from './published.ts';

/** Layouts of published models other than this package's own and transformers' LLaVA; the first that knows a config.json reads it. */
export const dialects = { factory, factory2, bench, llava, nanovlm, llavaNext, llavaOnevision, idefics3, internVl } satisfies Readonly<
  Record<string, PublishedDialect>
>;

/** The layout of a config.json, unless it is transformers' or this package's own. */
export function publishedDialect(config: Json): PublishedDialect | undefined {
  return Object.values<PublishedDialect>(dialects).find((dialect) => dialect.matches(config));
}
