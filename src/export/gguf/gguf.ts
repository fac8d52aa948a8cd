import { join } from 'node:path';
import { ConfigError } from '../../errors.ts';
import { pick } from '../../model/registry.ts';
import { type GgufField, type GgufTensor, type GgufType, ggufBytes, writeGguf } from '../../tensor/gguf-write.ts';
import { oneByOne, type Plan } from '../plan.ts';
import type { Source } from '../source.ts';
import { ggufLanguage } from './language.ts';
import { ggufProjector } from './projector.ts';
import { text, whole } from './settings.ts';
import { ggufTensors } from './tensors.ts';
import { tokenizerFields, tokenizerNotes } from './tokenizer.ts';

/** The names that `--type` takes: how matrices are stored, and llama.cpp's number of such a file. */
const types: Readonly<Record<string, { readonly type: GgufType; readonly file: number }>> = {
  f32: { type: 'F32', file: 0 },
  f16: { type: 'F16', file: 1 },
  bf16: { type: 'BF16', file: 32 },
  q8_0: { type: 'Q8_0', file: 7 },
  q5_1: { type: 'Q5_1', file: 9 },
  q5_0: { type: 'Q5_0', file: 8 },
  q4_1: { type: 'Q4_1', file: 3 },
  q4_0: { type: 'Q4_0', file: 2 },
};

/** One file to be. */
interface GgufDraft {
  readonly name: string;
  readonly metadata: Readonly<Record<string, GgufField>>;
  readonly tensors: readonly GgufTensor[];
}

const general = (architecture: string, kind: string, name: string, file: number): Record<string, GgufField> => ({
  'general.architecture': text(architecture),
  'general.type': text(kind),
  'general.name': text(name),
  'general.file_type': whole(file),
  'general.quantization_version': whole(2),
});

function languageFile(source: Source, stem: string, chosen: string): GgufDraft {
  const { type, file } = pick(types, 'type', chosen, { asked: true });
  const { architecture, fields, made } = ggufLanguage(source);
  if (!source.tokenizer) {
    throw new ConfigError(`${source.folder}: no tokenizer.json, and llama.cpp keeps the tokenizer in the model's file`, {
      hint: "in Python, AutoTokenizer.from_pretrained('…').save_pretrained(folder) writes one",
    });
  }
  const settings = Object.fromEntries(Object.entries(fields).map(([name, field]) => [`${architecture}.${name}`, field]));
  const words = tokenizerFields(source.tokenizer, { rows: source.model.languageModel.vocabSize, template: source.template });
  return {
    name: `${stem}.gguf`,
    metadata: { ...general(architecture, 'model', stem, file), ...settings, ...words },
    tensors: ggufTensors(source, made, type),
  };
}

/** Image encoders keep 16 bits or more: little is saved on them. */
function projectorFile(source: Source, stem: string, chosen: string): { draft: GgufDraft; notes: readonly string[] } {
  const { type, file } = chosen === 'f32' ? { type: 'F32' as const, file: 0 } : { type: 'F16' as const, file: 1 };
  const { fields, made, notes } = ggufProjector(source);
  const metadata = { ...general('clip', 'mmproj', stem, file), ...fields };
  return { draft: { name: `mmproj-${stem}.gguf`, metadata, tensors: ggufTensors(source, made, type) }, notes };
}

/** Files for llama.cpp: the language model and, for a model that sees, its tower and connector. Throws ConfigError for what llama.cpp lacks. */
export function planGguf(source: Source, { type, stem }: { type?: string | undefined; stem: string }): Plan {
  const { weights, model, config } = source;
  const [embeddings = ''] = Array.from(model.languageModel.namedParameters(), ([key]) => key);
  const whole16 = weights.names.find((key) => key.endsWith(embeddings));
  const chosen = type ?? (whole16 !== undefined && weights.dtype(whole16) === 'bfloat16' ? 'bf16' : 'f16');
  const language = languageFile(source, stem, chosen);
  const projector = config.vision ? projectorFile(source, stem, chosen) : undefined;
  const drafts = [language, ...(projector ? [projector.draft] : [])];
  const narrow = language.tensors.filter((tensor) => tensor.type !== pick(types, 'type', chosen).type && tensor.type === 'F16');
  const notes = narrow.length > 0 ? [`${narrow.length} matrices have rows that no block of ${chosen} fills: they are stored as f16`] : [];
  return {
    bytes: drafts.reduce((sum, { tensors }) => sum + ggufBytes(tensors), 0),
    stored: chosen,
    notes: [...source.notes, ...notes, ...(source.tokenizer ? tokenizerNotes(source.tokenizer) : []), ...(projector?.notes ?? [])],
    write: async (folder, signal) => {
      for (const { name, metadata, tensors } of drafts) await oneByOne(writeGguf(join(folder, name), metadata, tensors), signal);
    },
  };
}
