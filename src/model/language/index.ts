import { llama } from './llama.ts';
import { phi } from './phi.ts';
import { qwen2 } from './qwen2.ts';
import { stablelm } from './stablelm.ts';

/** Language models by the `type` in a configuration. */
export const languageModels = { llama, phi, qwen2, stablelm };
