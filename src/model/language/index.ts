import { llama } from './llama.ts';

/** Language models by the `type` in a configuration. */
export const languageModels = { llama };
