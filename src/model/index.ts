export {
  type Checkpoint,
  type LoadOptions,
  loadCheckpoint,
  loadLanguageModel,
  loadVisionTower,
  readConfig,
  saveCheckpoint,
} from './checkpoint.ts';
export { type Parts, parseConfig, parts, type TinyLlavaConfig } from './config.ts';
export { Connector, type ConnectorContext } from './connector/connector.ts';
export { connectors } from './connector/index.ts';
export { configFromJson, configToJson, visionFromJson } from './hugging-face.ts';
export { languageModels } from './language/index.ts';
export { LanguageModel } from './language/language-model.ts';
export { type Json, type Part, type PartConfig, type PartDefinition, part } from './part.ts';
export { check, pick } from './registry.ts';
export { placeholders, splice } from './splice.ts';
export { createTinyLlava, type ModelBatch, TinyLlava } from './tinyllava.ts';
export { visionTowers } from './vision/index.ts';
export { VisionTower } from './vision/vision-tower.ts';
