export { bleu } from './bleu.ts';
export { cider } from './cider.ts';
export type { CaptionPair } from './ngrams.ts';
export { rougeL } from './rouge.ts';
export { captionTokens } from './tokens.ts';
