import { gemma } from './gemma.ts';
import { gemma2 } from './gemma2.ts';
import { gemma3Text } from './gemma3.ts';
import { llama } from './llama.ts';
import { openelm } from './openelm.ts';
import { phi } from './phi.ts';
import { phi3 } from './phi3.ts';
import { qwen2 } from './qwen2.ts';
import { qwen3 } from './qwen3.ts';
import { smollm3 } from './smollm3.ts';
import { stablelm } from './stablelm.ts';

/** Language models by the `type` in a configuration. */
export const languageModels = { llama, phi, phi3, stablelm, qwen2, qwen3, gemma, gemma2, gemma3_text: gemma3Text, smollm3, openelm };
