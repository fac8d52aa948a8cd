import type { Plan } from '../plan.ts';
import type { Source } from '../source.ts';
export function planFactory(_source: Source, _options: object): Plan {
  throw new Error('later');
}
