/**
 * Does the work for each of the list, `atOnce` of them at a time, and answers in the order of the list.
 * The first failure is that of the whole; what was begun before goes on.
 */
export async function someAtOnce<T, R>(
  list: Iterable<T>,
  atOnce: number,
  work: (each: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const waiting = [...list].entries();
  const worker = async () => {
    for (const [index, each] of waiting) results[index] = await work(each, index);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return results;
}
