import { ShapeError } from '../errors.ts';
import type { Tensor } from './tensor.ts';

type Sizes<Names extends string> = Names extends `${string} ${infer Rest}` ? [number, ...Sizes<Rest>] : [number];

/** The sizes of `x` as a typed tuple, checked against named dims. Throws ShapeError when the rank or an expected size differs. */
export function sizes<const Names extends string>(x: Tensor, names: Names, expected: Readonly<Record<string, number>> = {}): Sizes<Names> {
  const wanted = names.split(' ');
  const { shape } = x;
  const fits = shape.length === wanted.length && wanted.every((name, i) => (expected[name] ?? shape[i]) === shape[i]);
  if (fits) return [...shape] as Sizes<Names>;
  const described = wanted.map((name) => (name in expected ? `${name}=${expected[name]}` : name));
  throw new ShapeError(`expected [${described.join(', ')}], got [${shape.join(', ')}]`);
}
