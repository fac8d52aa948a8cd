import { CheckpointError } from '../errors.ts';
import type { WeightSource } from '../tensor/safetensors.ts';

const LISTED = 6;

function list(title: string, lines: readonly string[]): string[] {
  const shown = lines.slice(0, LISTED).map((line) => `  ${title} ${line}`);
  return lines.length > LISTED ? [...shown, `  ${title} … and ${lines.length - LISTED} more`] : shown;
}

/** Throws CheckpointError unless `weights` holds, under `prefix`, exactly the wanted names in the wanted shapes. */
export function matchWeights(
  weights: WeightSource,
  wanted: ReadonlyMap<string, readonly number[]>,
  { prefix, into }: { prefix: string; into: string },
): void {
  const present = new Set([...weights.names].filter((name) => name.startsWith(prefix)));
  const missing: string[] = [];
  const misshaped: string[] = [];
  for (const [name, shape] of wanted) {
    if (!present.has(name)) missing.push(`${name} [${shape.join(', ')}]`);
    else if (weights.shape(name).join() !== shape.join()) {
      misshaped.push(`${name}: expected [${shape.join(', ')}], got [${weights.shape(name).join(', ')}]`);
    }
  }
  const unexpected = [...present].filter((name) => !wanted.has(name)).map((name) => `${name} [${weights.shape(name).join(', ')}]`);
  if (missing.length + unexpected.length + misshaped.length === 0) return;
  const counts = `${missing.length} missing, ${unexpected.length} unexpected, ${misshaped.length} mis-shaped`;
  const lines = [...list('missing', missing), ...list('unexpected', unexpected), ...list('mis-shaped', misshaped)];
  throw new CheckpointError(`${weights.path}: does not fit ${into}: ${counts}\n${lines.join('\n')}`, {
    hint: 'the sizes in config.json must be those of the weights, and the keys those of a layout that this version reads',
  });
}
