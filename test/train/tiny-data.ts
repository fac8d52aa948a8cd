import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';

const colours = { red: '#e02020', green: '#20c040', blue: '#2040e0', yellow: '#e0d020' };

const row = (image: string | undefined, question: string, answer: string) => ({
  image,
  conversations: [
    { from: 'human', value: [...(image === undefined ? [] : ['<image>']), ...(question === '' ? [] : [question])].join('\n') },
    { from: 'gpt', value: answer },
  ],
});

/** Draws squares of four colours in a folder of its own, with the conversations that `recipes/tiny.cpu.yaml` asks for. Gives the folder. */
export async function tinyData(): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'tinyllava-'));
  await mkdir(join(root, 'tiny'));
  const [captions, questions]: ReturnType<typeof row>[][] = [[], []];
  for (const [name, background] of Object.entries(colours)) {
    for (const side of [16, 20, 24]) {
      const image = `${name}-${side}.png`;
      await sharp({ create: { width: side, height: side, channels: 3, background } })
        .png()
        .toFile(join(root, 'tiny', image));
      captions?.push(row(image, '', `a ${name} square`));
      questions?.push(row(image, 'what color is it?', name), row(image, 'is it red?', name === 'red' ? 'yes' : 'no'));
    }
  }
  questions?.push(row(undefined, 'is water wet?', 'yes'));
  await writeFile(join(root, 'tiny/captions.json'), JSON.stringify(captions));
  await writeFile(join(root, 'tiny/questions.json'), JSON.stringify(questions));
  return root;
}
