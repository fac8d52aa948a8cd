const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Where two values differ, as `path value`, the values being those of `wanted`. Settings that only shape a fresh start do not count. */
export function differences(wanted: unknown, found: unknown, path: string): string[] {
  if (isRecord(wanted) && isRecord(found)) {
    const keys = new Set(
      [...Object.keys(wanted), ...Object.keys(found)].filter((key) => key !== 'initializerRange' && key !== 'layerscaleValue'),
    );
    return [...keys].flatMap((key) => differences(wanted[key], found[key], `${path}.${key}`));
  }
  return JSON.stringify(wanted) === JSON.stringify(found) ? [] : [`${path} ${JSON.stringify(wanted) ?? 'unset'}`];
}
