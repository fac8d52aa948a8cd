// One member of a group in the tests: where it stands and how long it waits come as JSON; what all ranks together sum up, or why it could not join,
// goes to standard output. It stays until standard input ends.
import { type Patience, type Place, ProcessGroup } from '../../src/tensor/distributed.ts';

const { place, patience } = JSON.parse(process.argv[2] ?? '') as { place: Place; patience: Patience };
try {
  const group = new ProcessGroup(place, patience);
  process.stdout.write(`together ${group.sum([1])}\n`);
} catch (error) {
  process.stdout.write(`${(error as Error).message}\n`);
}
process.stdin.resume().on('end', () => process.exit());
