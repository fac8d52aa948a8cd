export { type Adapter, openAdapter, type ResolveBase } from './adapter/adapter.ts';
export { type SaveAdapterOptions, saveAdapter } from './adapter/save.ts';
export { type ArrangementConfig, Unpad } from './arrangement.ts';
export {
  type Checkpoint,
  type LoadOptions,
  loadCheckpoint,
  loadLanguageModel,
  loadMofTower,
  loadVisionTower,
  type OpenCheckpoint,
  openCheckpoint,
  readConfig,
  saveCheckpoint,
} from './checkpoint.ts';
export { type Parts, parseConfig, parts, type TinyLlavaConfig } from './config.ts';
export { CAbstractorConfig, CAbstractorConnector } from './connector/c-abstractor.ts';
export { Connector, type ConnectorContext } from './connector/connector.ts';
export { IdentityConfig, IdentityConnector } from './connector/identity.ts';
export { connectors } from './connector/index.ts';
export { LdpV2Config, LdpV2Connector } from './connector/ldp-v2.ts';
export { LinearConfig, LinearConnector } from './connector/linear.ts';
export { MlpConfig, MlpConnector } from './connector/mlp.ts';
export { MofMlpConfig, MofMlpConnector } from './connector/mof-mlp.ts';
export { PixelShuffleConfig, PixelShuffleConnector } from './connector/pixel-shuffle.ts';
export { PixelShuffleMlpConfig, PixelShuffleMlpConnector } from './connector/pixel-shuffle-mlp.ts';
export { QFormerConfig, QFormerConnector } from './connector/qformer.ts';
export { ResamplerConfig, ResamplerConnector } from './connector/resampler.ts';
export { loadConnector } from './dialects/connector-file.ts';
export { dialects } from './dialects/index.ts';
export type { PublishedDialect } from './dialects/published.ts';
export { type FamilyName, families } from './families.ts';
export { configFromJson, configToJson, visionFromJson } from './hugging-face.ts';
export { type ImageLayout, viewsOf, wholeImage } from './image-layout.ts';
export { Gemma, GemmaConfig } from './language/gemma.ts';
export { Gemma2, Gemma2Config } from './language/gemma2.ts';
export { Gemma3, Gemma3Config } from './language/gemma3.ts';
export { languageModels } from './language/index.ts';
export { LanguageModel } from './language/language-model.ts';
export { Llama, LlamaConfig } from './language/llama.ts';
export { OpenElm, OpenElmConfig } from './language/openelm.ts';
export { Phi, PhiConfig } from './language/phi.ts';
export { Phi3, Phi3Config } from './language/phi3.ts';
export { Qwen2, Qwen2Config } from './language/qwen2.ts';
export { Qwen3, Qwen3Config } from './language/qwen3.ts';
export { SmolLm3, SmolLm3Config } from './language/smollm3.ts';
export { StableLm, StableLmConfig } from './language/stablelm.ts';
export { type ModelFiles, type OpenOptions, openModelFiles } from './model-files.ts';
export { type Json, type Part, type PartConfig, type PartDefinition, part } from './part.ts';
export { check, nearest, pick } from './registry.ts';
export { placeholders, splice } from './splice.ts';
export { createTinyLlava, type ModelBatch, TinyLlava } from './tinyllava.ts';
export { ClipConfig, ClipTower } from './vision/clip.ts';
export { ConvVitConfig, ConvVitTower } from './vision/conv-vit.ts';
export { Dinov2Config, Dinov2Tower } from './vision/dinov2.ts';
export { Dinov2RegistersConfig, Dinov2RegistersTower } from './vision/dinov2-registers.ts';
export { Dinov3Config, Dinov3Tower } from './vision/dinov3.ts';
export { EfficientNetLiteConfig, EfficientNetLiteTower } from './vision/efficientnet-lite.ts';
export { visionTowers } from './vision/index.ts';
export { InternVlConfig, InternVlTower } from './vision/internvl.ts';
export { type LoadedTower, MofConfig, MofTower } from './vision/mof.ts';
export { type NaflexLimits, naflexSize } from './vision/naflex.ts';
export { SiglipConfig, SiglipTower } from './vision/siglip.ts';
export { Siglip2Config, Siglip2Tower } from './vision/siglip2.ts';
export { VisionTower } from './vision/vision-tower.ts';
