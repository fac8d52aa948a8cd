import { join } from 'node:path';
import { cacheFolder } from '../cache-folder.ts';

export { cacheFolder };

/** Where set-up puts easy-vqa: train/ and test/, each with questions.json and images/, and answers.txt. */
export function easyVqaFolder(env: NodeJS.ProcessEnv): string {
  return join(cacheFolder(env), 'data/easy-vqa-1.0');
}
