import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parts } from '../model/config.ts';
import { families } from '../model/families.ts';
import { configToJson, jsonText } from '../model/hugging-face.ts';
import { pick } from '../model/registry.ts';
import type { DType } from '../tensor/dtype.ts';
import { streamSafetensors } from '../tensor/safetensors.ts';
import { withImageToken } from './image-token.ts';
import { bytesOf, commonDtype, oneByOne, type Plan, weightsToWrite, writeCompanions } from './plan.ts';
import type { Source } from './source.ts';

/** The parts of a model that transformers' LLaVA, or for a language model alone transformers itself, has not. */
function missingInTransformers({ config: { language, vision, connector, family } }: Source): string[] {
  if (family) return [];
  const kind = pick(parts.languageModels, 'language model', language.type);
  if (!vision || !connector) return language.type === 'openelm' ? ['language model openelm'] : [];
  return [
    ...(kind.inTransformers(language) ? [] : [`language model ${language.type}`]),
    ...(pick(parts.visionTowers, 'vision tower', vision.type).inTransformers(vision) ? [] : [`vision tower ${vision.type}`]),
    ...(pick(parts.connectors, 'connector', connector.type).inTransformers(connector) ? [] : [`connector ${connector.type}`]),
  ];
}

/** A folder that transformers loads: as LLaVA, or as the language model that it is; with parts that transformers lacks, a folder of this package. */
export function planHuggingFace(found: Source, { dtype }: { dtype?: DType | undefined }): Plan {
  const source = withImageToken(found);
  const { family } = source.config;
  const tensors = weightsToWrite(source, { dtype, ...(family && { rename: families[family].key }) });
  const stored = commonDtype(tensors);
  const missing = missingInTransformers(source);
  return {
    bytes: bytesOf(tensors),
    stored,
    notes: [
      ...source.notes,
      ...(missing.length > 0
        ? [`transformers' LLaVA has no ${missing.join(', no ')} with these settings: the folder is one of tinyllava`]
        : []),
    ],
    write: async (folder, signal) => {
      const json = configToJson(source.config, { dtype: stored === 'mixed' ? 'float32' : stored, imageTokens: source.model.imageTokens });
      await writeFile(join(folder, 'config.json'), jsonText(json));
      await writeCompanions(folder, source);
      await oneByOne(streamSafetensors(join(folder, 'model.safetensors'), tensors), signal);
    },
  };
}
