import { z } from 'zod';
import { ConfigError } from '../errors.ts';
import { type ArrangementConfig, parseArrangement } from './arrangement.ts';
import type { Connector, ConnectorContext } from './connector/connector.ts';
import { connectors } from './connector/index.ts';
import { type FamilyName, familyNames } from './families.ts';
import { languageModels } from './language/index.ts';
import type { LanguageModel } from './language/language-model.ts';
import type { Part, PartConfig } from './part.ts';
import { check, pick } from './registry.ts';
import { visionTowers } from './vision/index.ts';
import type { VisionTower } from './vision/vision-tower.ts';

/** The kinds of parts that a model can be made of; spread `parts` and add your own. */
export interface Parts {
  readonly visionTowers: Readonly<Record<string, Part<VisionTower, undefined>>>;
  readonly connectors: Readonly<Record<string, Part<Connector, ConnectorContext>>>;
  readonly languageModels: Readonly<Record<string, Part<LanguageModel, undefined>>>;
}

/** Every kind of part that this package has. */
export const parts = { visionTowers, connectors, languageModels } satisfies Parts;

const Section = z.looseObject({ type: z.string() });
const Outline = z.strictObject({
  language: Section,
  vision: Section.optional(),
  connector: Section.optional(),
  arrangement: Section.optional(),
  family: z.enum(familyNames).optional(),
  imageTokenId: z.int().nonnegative().optional(),
});

/**
 * A whole model's settings, every default filled in. Vision, connector and `imageTokenId` stand together or, for a language model alone, not
 * at all; `imageTokenId` is the token that is put once for every embedding of an image. Without an `arrangement` the embeddings of an
 * image's views stand one behind the other. `family` is what transformers calls a model that was published by others, and saves it as.
 */
export interface TinyLlavaConfig {
  readonly language: PartConfig;
  readonly vision?: PartConfig;
  readonly connector?: PartConfig;
  readonly arrangement?: ArrangementConfig;
  readonly family?: FamilyName;
  readonly imageTokenId?: number;
}

/** Settings checked by the schemas of their parts, with every default filled in. Throws ConfigError. */
export function parseConfig(config: unknown, { visionTowers, connectors, languageModels }: Parts = parts): TinyLlavaConfig {
  const { language, vision, connector, arrangement, family, imageTokenId } = check(Outline, config, { where: 'model' });
  const parsed = { language: pick(languageModels, 'language model', language.type).parse(language, 'language') };
  if (vision === undefined && connector === undefined && imageTokenId === undefined) return parsed;
  if (vision === undefined || connector === undefined || imageTokenId === undefined) {
    const missing = Object.entries({ vision, connector, imageTokenId }).flatMap(([name, value]) => (value === undefined ? [name] : []));
    throw new ConfigError(`model: ${missing.join(' and ')} missing`, {
      hint: 'a model that sees needs vision, connector and imageTokenId',
    });
  }
  return {
    ...parsed,
    vision: pick(visionTowers, 'vision tower', vision.type).parse(vision, 'vision'),
    connector: pick(connectors, 'connector', connector.type).parse(connector, 'connector'),
    ...(arrangement && { arrangement: parseArrangement(arrangement, 'arrangement') }),
    ...(family && { family }),
    imageTokenId,
  };
}
