/** The results of `one` for each number below `count`, eight at a time, so that some are read while others are worked on. */
export async function inLanes<Result>(count: number, one: (i: number) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = new Array(count);
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let i = next++; i < count; i = next++) results[i] = await one(i);
  };
  await Promise.all(Array.from({ length: Math.min(8, count) }, lane));
  return results;
}
