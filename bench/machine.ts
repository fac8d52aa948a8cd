import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

/** The processor's name, and a form of it that fits a file name. */
export function processor(): { name: string; slug: string } {
  const name = `${cpus()[0]?.model.trim() ?? 'unknown'}, ${cpus().length} cores`;
  return { name, slug: name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-') };
}

/** Seconds that all cores were busy since the machine started; undefined where the kernel does not say. */
export function busySeconds(): number | undefined {
  try {
    const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] =
      /^cpu +(.*)/.exec(readFileSync('/proc/stat', 'utf8'))?.[1]?.split(' ').map(Number) ?? [];
    return (user + nice + system + irq + softirq + steal) / 100;
  } catch {
    return undefined;
  }
}

/** Waits until other processes leave the machine nearly alone for two seconds, at most `patienceSeconds`; whether they did. */
export async function quiet({ patienceSeconds }: { patienceSeconds: number }): Promise<boolean> {
  if (busySeconds() === undefined) return true;
  const deadline = Date.now() + 1000 * patienceSeconds;
  do {
    const before = busySeconds() ?? 0;
    await sleep(2000);
    if (((busySeconds() ?? 0) - before) / (2 * cpus().length) < 0.1) return true;
  } while (Date.now() < deadline);
  return false;
}
