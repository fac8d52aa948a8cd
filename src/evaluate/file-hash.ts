import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';

/** The SHA-256 of files, one behind the other, read piece by piece. */
export async function sha256(files: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const file of files) for await (const piece of createReadStream(file)) hash.update(piece as Buffer);
  return hash.digest('hex');
}
