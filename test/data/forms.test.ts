import { execFileSync } from 'node:child_process';
import { readFile, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { inspectData } from '../../src/data/inspect.ts';
import { lookAtRow } from '../../src/data/inspection/rows.ts';
import { openRows } from '../../src/data/open-rows.ts';
import type { RowOptions } from '../../src/data/rows.ts';
import { decodeImage } from '../../src/processor/image-decode.ts';
import { contentParts, imagesOf } from '../../src/processor/message.ts';
import { colour, folderWith } from './files.ts';

const reference = join(import.meta.dirname, '../reference/data');
const at = (name: string): string => join(reference, name);

const [red, green, blue] = [await colour(255, 0, 0), await colour(0, 128, 0), await colour(0, 0, 255)];
const names: Readonly<Record<string, string>> = { '255,0,0': 'red', '0,128,0': 'green', '0,0,255': 'blue', '255,255,0': 'yellow' };

/** A row as one line: what each turn says, images by their colour. */
async function lines(file: string, options: RowOptions = {}): Promise<string[]> {
  using rows = await openRows(file, options);
  const told: string[] = [];
  for (let i = 0; i < rows.length; i++) {
    try {
      const { id, messages } = await rows.row(i);
      const turns = await Promise.all(
        messages.map(async (message) => {
          const parts = await Promise.all(
            contentParts(message).map(async (part) => {
              if (part.type === 'text') return part.text;
              if (part.type === 'video') return part.video;
              const { data } = await decodeImage(part.image);
              return `<${names[data.subarray(0, 3).join()]}>`;
            }),
          );
          return parts.join(' ');
        }),
      );
      told.push([...(id === undefined ? [] : [`${id}:`]), turns.join(' | ')].join(' '));
    } catch (error) {
      told.push((error as Error).message.replaceAll(/\/\S*\//g, '…/'));
    }
  }
  return told;
}

/** What opening says, with its hint. */
async function refusal(file: string): Promise<string> {
  try {
    (await openRows(file)).close();
    return 'opened';
  } catch (error) {
    const { message, hint } = error as Error & { hint?: string };
    return `${message} (${hint})`.replaceAll(/\/\S*\//g, '…/');
  }
}

describe('Parquet', () => {
  const conversations = [
    '<red> what color is it? | red | is it green? | no',
    '<green> <blue> are they red? | no',
    'is water wet? | yes',
    '<yellow> so  is? | yellow',
  ];

  test.each(['cauldron', 'finevision'])('of %s gives its questions and answers behind its images', async (name) => {
    expect(await lines(at(`${name}.parquet`))).toEqual(conversations);
  });

  test('of LLaVA has images inside, beside the file, or none', async () => {
    const folder = await folderWith({ 'green.png': green });
    expect(await lines(at('llava.parquet'), { imageFolder: folder })).toEqual([
      'r: <red> what color is it? | red',
      't: is water wet? | yes',
      'p: <green> is it red? | no',
    ]);
  });

  test('of captions answers the image, or a prompt', async () => {
    expect(await lines(at('captions.parquet'))).toEqual([
      '<red> | a red square',
      '<green> | a green square',
      '<blue> | a blue square',
      '<yellow> | a yellow square',
    ]);
    expect((await lines(at('captions.parquet'), { prompt: 'what is it?' }))[0]).toBe('<red> what is it? | a red square');
  });

  test('is shards of a folder in the order of their names, row groups read as they are asked for', async () => {
    const shard = await readFile(at('cauldron.parquet'));
    const folder = await folderWith({
      'data/train-00001.parquet': await readFile(at('captions.parquet')),
      'data/train-00000.parquet/part-0.parquet': shard,
      'README.md': 'a set',
    });
    const all = [
      ...conversations,
      '<red> | a red square',
      '<green> | a green square',
      '<blue> | a blue square',
      '<yellow> | a yellow square',
    ];
    expect(await lines(folder)).toEqual(all);
    // room for one group alone
    expect(await lines(folder, { cacheBytes: 1 })).toEqual(all);
    expect(await lines(join(folder, 'data/train-{00001,00000.parquet/part-0}.parquet'))).toEqual([...all.slice(4), ...all.slice(0, 4)]);
    using rows = await openRows(folder);
    expect([5, 7].map((i) => rows.nameOf(i).slice(folder.length))).toEqual(['/data/train-00001.parquet#1', '/data/train-00001.parquet#3']);
    expect(rows.parts.flatMap(({ blocks }) => blocks.map((block) => block.rows))).toEqual([3, 1, 3, 1]);
    await expect(rows.row(8)).rejects.toThrow('has 8 rows, there is no row 8');
    const { text, images } = await rows.sizes();
    expect([...images]).toEqual([1, 2, 0, 1, 1, 1, 1, 1]);
    expect(text[0]).toBeGreaterThan(text[2] ?? 0);
  });

  test('keeps images in memory of their own', async () => {
    using rows = await openRows(at('captions.parquet'));
    const [message] = (await rows.row(0)).messages;
    const [part] = message ? contentParts(message) : [];
    const image = part?.type === 'image' ? (part.image as Uint8Array) : new Uint8Array(0);
    expect(image.buffer.byteLength).toBe(image.byteLength);
  });

  test('with a broken image names its row, and the others are read', async () => {
    const told = await lines(at('broken.parquet'));
    expect(told.slice(0, 3)).toEqual(['<red> | a red square', '<green> | a green square', '<blue> | a blue square']);
    expect(told[3]).toMatch(/^an image of 40 bytes cannot be decoded/);
  });

  test('that cannot be used is refused', async () => {
    const folder = await folderWith({ 'cut.parquet': (await readFile(at('cauldron.parquet'))).subarray(0, 2000), 'pages.parquet': '' });
    const bytes = Buffer.from(await readFile(at('captions.parquet')));
    await writeFile(join(folder, 'pages.parquet'), bytes.fill(0xff, 4, 400));
    expect(await refusal(join(folder, 'cut.parquet'))).toMatch(/^…\/cut.parquet: cannot be read as Parquet \(row 0 on\): /);
    await writeFile(join(folder, 'empty.parquet'), '');
    expect(await refusal(join(folder, 'empty.parquet'))).toContain(
      'cannot be read as Parquet (row 0 on): it has 0 bytes (get empty.parquet again',
    );
    const told = await lines(join(folder, 'pages.parquet'));
    expect(told[0]).toMatch(/^…\/pages.parquet: cannot be read as Parquet \(row 0 on\): /);
    expect(told[3]).toBe('<yellow> | a yellow square');
    expect(await refusal(join(reference, '../images-snappy.parquet'))).toMatchInlineSnapshot(
      `"…/images-snappy.parquet has no conversations, its columns are question_id, question, answers, types, image, images (conversations are in a column conversations, texts, caption, text, and images in images or image; rename them)"`,
    );
    expect(await refusal(join(folder, 'gone.parquet'))).toMatchInlineSnapshot(
      `"…/gone.parquet does not exist (check the path; a relative one in a recipe starts at --data)"`,
    );
    expect(await refusal(join(folder, 'shard-{0..2}.parquet'))).toMatchInlineSnapshot(
      `"…/shard-0.parquet does not exist (check the path; a relative one in a recipe starts at --data)"`,
    );
  });
});

describe('tar shards', () => {
  const long = `${'deep/'.repeat(30)}0007`;
  const files = {
    '0000.png': red,
    '0000.txt': '\n',
    '0001.jpg': red,
    '0001.txt': 'a red square\n',
    '0001.json': { url: 'x', caption: 'other', width: 8 },
    '0002.png': green,
    '0002.json': { caption: 'a green square' },
    '0003.json': {
      id: 'three',
      conversations: [
        { from: 'human', value: 'is water wet?' },
        { from: 'gpt', value: 'yes' },
      ],
    },
    '0004.0.png': red,
    '0004.1.PNG': blue,
    '0004.cls': '7',
    '0004.json': {
      image: ['x', 'y'],
      conversations: [
        { from: 'human', value: '<image> or <image>?' },
        { from: 'gpt', value: 'red' },
      ],
    },
    '0005.png': blue,
    '0006.png': blue,
    '0006.json': '{',
    [`${long}.png`]: blue,
    [`${long}.txt`]: 'a blue square',
    './0008.png': blue,
    './0008.txt': 'below here',
    '__meta__.txt': 'no row',
    '._0001.jpg': 'left by another system',
  };
  const told = [
    '…/a.tar#0000 has no caption',
    '0001: <red> | a red square',
    '0002: <green> | a green square',
    'three: is water wet? | yes',
    '<red> or  <blue> ? | red',
    '…/a.tar#0005 has no caption',
    "…/a.tar#0006: its .json is not valid: Expected property name or '}' in JSON at position 1",
    `${long}: <blue> | a blue square`,
    '0008: <blue> | below here',
  ];

  /** An archive of the files in their order. */
  async function archive(format: string, name = 'a.tar', kept: Readonly<Record<string, unknown>> = files): Promise<string> {
    const folder = await folderWith(kept);
    execFileSync('tar', [`--format=${format}`, '-cf', name, ...Object.keys(kept)], { cwd: folder });
    return join(folder, name);
  }

  test.each(['ustar', 'gnu', 'pax', 'v7'])('of the format %s give the files of one name as a row', async (format) => {
    const { [`${long}.png`]: _, [`${long}.txt`]: __, ...short } = files;
    const all = await lines(await archive(format, 'a.tar', format === 'v7' ? short : files));
    // Node versions tell more or less of an error in JSON
    const steady = all.map((line) => line.replace(/ \(line.*/, ''));
    expect(steady).toEqual(format === 'v7' ? [...told.slice(0, -2), told.at(-1)] : told);
  });

  test('are named by a range, each in its order, and their sizes come from headers', async () => {
    const [first, second] = [
      { 'b.png': red, 'b.txt': 'red' },
      { 'a.png': green, 'a.txt': 'green again', 'c.png': blue, 'c.txt': 'blue' },
    ];
    const folder = await folderWith({
      'shard-09.tar': await readFile(await archive('gnu', 'a.tar', first)),
      'shard-10.tar': await readFile(await archive('pax', 'a.tar', second)),
    });
    const all = ['b: <red> | red', 'a: <green> | green again', 'c: <blue> | blue'];
    expect(await lines(join(folder, 'shard-{09..10}.tar'))).toEqual(all);
    expect(await lines(join(folder, 'shard-*.tar'))).toEqual(all);
    expect(await lines(folder)).toEqual(all);
    using rows = await openRows(folder);
    expect(await rows.sizes()).toEqual({ text: Uint32Array.of(3, 11, 4), images: Uint16Array.of(1, 1, 1) });
    expect(await refusal(join(folder, 'shard-{09..11}.tar'))).toMatchInlineSnapshot(
      `"…/shard-11.tar does not exist (check the path; a relative one in a recipe starts at --data)"`,
    );
    expect(await refusal(join(folder, 'part-*.tar'))).toMatchInlineSnapshot(`"…/part-*.tar fits no file (check the folder and the name)"`);
  });

  test('are known to inspect as the same rows of Parquet are', async () => {
    using table = await openRows(at('captions.parquet'));
    const [image] = imagesOf((await table.row(0)).messages);
    using shard = await openRows(await archive('gnu', 'a.tar', { '0.png': image?.source, '0.txt': 'a red square' }));
    const look = { processor: undefined, maxLength: 0, decode: false, sample: false };
    const [first, second] = await Promise.all([table, shard].map((rows) => lookAtRow('', () => rows.row(0), look)));
    expect(second?.read?.key).toBe(first?.read?.key);
  });

  test('are in UTF-8', async () => {
    const latin = Buffer.from('größe', 'latin1');
    const path = await archive('gnu', 'a.tar', { 'a.png': red, 'a.txt': latin, 'b.png': red, 'b.json': latin });
    expect(await lines(path)).toEqual(['…/a.tar#a: its caption is not in UTF-8', '…/a.tar#b: its .json is not in UTF-8']);
  });

  test('that cannot be used are refused', async () => {
    const path = await archive('gnu');
    const { length } = await readFile(path);
    await truncate(path, 3000);
    expect(length).toBeGreaterThan(3000);
    expect(await refusal(path)).toMatchInlineSnapshot(
      `"…/a.tar ends in the middle of 0001.jpg (the shard is cut off: fetch it again, or leave it out)"`,
    );
    await truncate(path, 700);
    expect(await refusal(path)).toMatchInlineSnapshot(
      `"…/a.tar ends in the middle of 0000.png (the shard is cut off: fetch it again, or leave it out)"`,
    );
    await truncate(path, 0);
    expect(await refusal(path)).toMatchInlineSnapshot(
      `"…/a.tar ends in the middle of its first header (the shard is cut off: fetch it again, or leave it out)"`,
    );
    const folder = await folderWith({ 'text.tar': 'x'.repeat(2000) });
    expect(await refusal(join(folder, 'text.tar'))).toMatchInlineSnapshot(
      `"…/text.tar, byte 0: no header of a tar archive (fetch the shard again, or leave it out)"`,
    );
    execFileSync('tar', ['-czf', 'packed.tar', 'text.tar'], { cwd: folder });
    expect(await refusal(join(folder, 'packed.tar'))).toMatchInlineSnapshot(
      `"…/packed.tar is packed by gzip, rows of which cannot be found again (unpack it: gunzip)"`,
    );
    expect(await refusal(await archive('gnu', 'a.tar', { 'a.png': red, 'a.cls': '1' }))).toMatchInlineSnapshot(
      `"no row of …/a.tar has a .json or a .txt, but .cls (a row is files of one name, such as 0007.jpg with 0007.txt (a caption) or 0007.json (conversations))"`,
    );
  });
});

describe('images with captions', () => {
  test('have texts of their names, in the order of code points', async () => {
    const folder = await folderWith({
      'b.png': red,
      'b.txt': 'a red square\n',
      'a/z.png': green,
      'a/z.txt': ' a green square',
      'Z.png': blue,
      'Z.txt': 'a blue square',
      '\u{1f600}.png': blue,
      '\u{1f600}.txt': 'astral',
      '\uff5e.png': blue,
      '\uff5e.txt': 'wide',
      'none.png': blue,
      'empty.png': blue,
      'empty.txt': '\n',
      '.hidden/c.png': blue,
    });
    expect(await lines(folder)).toEqual([
      '<blue> | a blue square',
      '<green> | a green square',
      '<red> | a red square',
      '…/empty.png has no caption',
      '…/none.png has no caption',
      '<blue> | wide',
      '<blue> | astral',
    ]);
    expect((await lines(folder, { prompt: 'say it' }))[0]).toBe('<blue> say it | a blue square');
    using rows = await openRows(folder);
    expect([...(await rows.sizes()).text]).toEqual([13, 15, 13, 1, 0, 4, 6]);
  });

  const rows = ['<red> | a red, "bright" square', '<green> | a green\nsquare'];
  const quoted = [
    ['img/r.png', '"a red, ""bright"" square"'],
    ['img/g.png', '"a green\nsquare"'],
  ];
  const objects = [
    { file_name: 'img/r.png', text: 'a red, "bright" square' },
    { file_name: 'img/g.png', text: 'a green\nsquare' },
  ];
  test.each([
    ['metadata.csv', ['file_name,text', ...quoted.map((cells) => cells.join(','))].join('\n')],
    ['captions.csv', ['\uFEFFcaption,width,image', ...quoted.map(([file, text]) => [text, 8, file].join(','))].join('\r\n')],
    ['captions.tsv', ['image\tcaption', ...quoted.map((cells) => cells.join('\t'))].join('\n')],
    ['metadata.jsonl', objects.map((row) => JSON.stringify(row)).join('\n')],
    ['captions.json', objects.map(({ file_name, text }) => ({ image: file_name, caption: text }))],
  ])('have a %s', async (name, content) => {
    const folder = await folderWith({ [name]: content, 'img/r.png': red, 'img/g.png': green });
    expect(await lines(folder)).toEqual(rows);
    expect(await lines(join(folder, name))).toEqual(rows);
    expect(await lines(join(folder, name), { prompt: 'what?' })).toEqual(rows.map((row) => row.replace('> |', '> what? |')));
  });

  test.each(['img/r.png', '"img/r.png"'])('have tables whose line breaks a piece of the file may cut (%s)', async (cell) => {
    const [head, tail] = ['caption,image\r\n', `,${cell}\r`];
    const caption = 'x'.repeat(2 ** 20 - head.length - tail.length);
    const folder = await folderWith({ 'captions.csv': `${head}${caption}${tail}\n"a\r",${cell}\r\n`, 'img/r.png': red });
    expect((await lines(folder)).map((line) => line.replace(caption, 'xxx'))).toEqual(['<red> | xxx', '<red> | a\r']);
  });

  test('have letters that a piece of the file may cut, and no other encoding than UTF-8', async () => {
    const head = 'image,caption\nr.png,';
    const caption = '猫'.repeat(2 ** 19);
    const folder = await folderWith({ 'captions.csv': head + caption, 'r.png': red, 'photos/a.png': red });
    expect((await lines(folder)).map((line) => line.replace(caption, '猫'))).toEqual(['<red> | 猫']);
    await writeFile(join(folder, 'captions.csv'), Buffer.from(`${head}größe`, 'latin1'));
    expect(await refusal(folder)).toBe('…/captions.csv is not in UTF-8 (save the text again as UTF-8)');
    await writeFile(join(folder, 'photos/a.txt'), Buffer.from('größe', 'latin1'));
    expect(await lines(join(folder, 'photos'))).toEqual(['…/a.txt is not in UTF-8']);
  });

  test('that cannot be used are refused', async () => {
    const folder = await folderWith({
      'bare/a.png': red,
      'bare/data.json': [],
      'empty/readme.md': 'x',
      'both/captions.csv': 'image,text\n',
      'both/metadata.jsonl': '',
      'columns.csv': 'file,text\na.png,b\n',
      'cells.csv': 'image,text\n,b\na.png,\n',
      'mixed/a.parquet': '',
      'mixed/a.tar': '',
      'a.json': [],
      'b.json': [],
      'x.bin': '',
      'x.tar.gz': '',
    });
    const told: string[] = [];
    for (const name of ['bare', 'empty', 'both', 'columns.csv', 'mixed', '{a,b}.json', 'x.bin', 'x.tar.gz', 'gone.csv', 'gone'])
      told.push(await refusal(join(folder, name)));
    expect(told).toMatchInlineSnapshot(`
      [
        "…/bare has images, but no caption beside any of them (name the file of conversations, such as …/data.json)",
        "…/empty holds no training data (data is a .json or .jsonl file, .parquet or .tar shards (a file, a folder, or a pattern such as shard-{000..012}.tar), a .csv or .tsv of captions, or a folder of images with captions)",
        "…/both has metadata.jsonl and captions.csv (name the file that is meant)",
        "…/columns.csv has the columns file, text, none of which is file_name or image (name the columns in the first row: file_name or image, and text or caption)",
        "…/mixed has shards of Parquet and of tar (name those that are meant, such as folder/*.tar)",
        "…/{a,b}.json are 2 files that are not all shards of Parquet or tar (list them under data: instead)",
        "…/x.bin is no data that is known by its name (data is a .json or .jsonl file, .parquet or .tar shards (a file, a folder, or a pattern such as shard-{000..012}.tar), a .csv or .tsv of captions, or a folder of images with captions)",
        "…/x.tar.gz is no data that is known by its name (unpack it: rows are read where they lie)",
        "…/gone.csv does not exist (check the path; a relative one in a recipe starts at --data)",
        "…/gone does not exist (data is a .json or .jsonl file, .parquet or .tar shards (a file, a folder, or a pattern such as shard-{000..012}.tar), a .csv or .tsv of captions, or a folder of images with captions)",
      ]
    `);
    expect(await lines(join(folder, 'cells.csv'))).toEqual(['…/cells.csv#0 has no image', '…/cells.csv#1 has no caption']);
  });
});

describe('inspection', () => {
  const shards = async (): Promise<string> => {
    const [whole, broken] = [await readFile(at('cauldron.parquet')), await readFile(at('broken.parquet'))];
    return folderWith(Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`${i}.parquet`, i === 4 ? broken : whole])));
  };

  test('finds what is wrong in shards whatever the threads, and writes what is clean', async () => {
    const folder = await shards();
    const fix = join(await folderWith({}), 'clean.jsonl');
    const report = await inspectData(folder, { threads: 0, ignore: ['duplicate row'], fix });
    expect(await inspectData(folder, { threads: 2, ignore: ['duplicate row'] })).toEqual({ ...report, fixed: undefined });
    expect(report).toMatchObject({ rows: 24, usable: 23, clean: 23, images: { used: 24, files: 0, decoded: 24, textOnlyRows: 5 } });
    expect(report.problems.map(({ kind, name }) => [kind, name])).toEqual([['unreadable image', `${folder}/4.parquet#3`]]);
    expect(report.fixed).toMatchObject({ rows: 23, dropped: 1 });
    const [all, clean] = [await lines(folder), await lines(fix)];
    expect(clean).toEqual(all.filter((line) => !line.includes('cannot be decoded')));
  });

  test('names rows of an archive and images without a caption', async () => {
    const folder = await folderWith({ 'a.png': red, 'a.txt': 'red', 'b.png': blue, 'c.png': blue.subarray(0, 30), 'c.txt': 'blue' });
    execFileSync('tar', ['-cf', '../a.tar', 'a.png', 'a.txt', 'b.png', 'c.png', 'c.txt'], { cwd: folder });
    const problems = async (name: string) =>
      (await inspectData(name)).problems.map(({ kind, name, message }) => [kind, basename(name), message].join(': '));
    expect(await problems(folder)).toEqual([
      'broken row: b.png: has no caption',
      expect.stringMatching(/^unreadable image: c.png: cannot be decoded/),
    ]);
    expect(await problems(join(folder, '../a.tar'))).toEqual([
      'broken row: a.tar#b: has no caption',
      expect.stringMatching(/^unreadable image: a.tar#c: an image of 30 bytes cannot be decoded/),
    ]);
  });
});
