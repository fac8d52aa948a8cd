import { ConfigError, UsageError } from '../errors.ts';

/** Throws UsageError for one process, which has nobody to share with. */
export function checkSeveral(processes: number): void {
  if (processes > 1) return;
  throw new UsageError('sharded is for several processes, and this is one', {
    hint: 'leave --sharded out, or start several with --processes, torchrun or srun',
  });
}

/** Throws ConfigError for an optimizer that looks at whole matrices. */
export function checkElementwise(stage: string, type: string): void {
  if (type === 'adafactor' || type === 'muon') {
    throw new ConfigError(`stage ${stage}: ${type} works on whole matrices, which no rank has when weights are sharded`, {
      hint: 'use adamw, or train without --sharded',
    });
  }
}
