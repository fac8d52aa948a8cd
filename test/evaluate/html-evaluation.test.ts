import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { promptText } from '../../src/evaluate/answer-samples.ts';
import { evaluate, type Results, withoutTimes } from '../../src/evaluate/evaluate.ts';
import { type Browsed, browsed } from '../../src/evaluate/html/browsed.ts';
import { fitsScript } from '../../src/evaluate/html/browser.ts';
import { markdownTable } from '../../src/evaluate/html/markdown-table.ts';
import { readRuns } from '../../src/evaluate/html/runs.ts';
import { thumbnails } from '../../src/evaluate/html/thumbnails.ts';
import { markdownRow } from '../../src/evaluate/markdown-row.ts';
import type { Question, Respondent } from '../../src/evaluate/respondent/respondent.ts';
import type { Task } from '../../src/evaluate/task.ts';
import { tasks } from '../../src/evaluate/tasks/index.ts';
import { writePage, writeReport } from '../../src/evaluate/write-report.ts';
import { chromium, Page } from '../browser.ts';
import { tinyllava } from '../cli/run.ts';
import { picture } from '../generate/tiny-model.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-page-'));
afterAll(() => rmSync(root, { recursive: true }));
const data = join(root, 'data');
const [first, second] = [join(root, 'first'), join(root, 'second')];

/** Gives answers that are written down: what is tested is the page. */
const recorded = (answers: readonly (string | undefined)[]): Respondent => ({
  identity: { weights: 'abc' },
  async *responses(questions: Iterable<Question> | AsyncIterable<Question>) {
    let index = 0;
    for await (const { messages } of questions) {
      const answer = answers[texts.findIndex((text) => promptText(messages).endsWith(text))];
      yield answer === undefined ? { index, error: 'x.png cannot be decoded' } : { index, answer };
      index += 1;
    }
  },
});
const texts = ['what is this?', 'is it red? </script><b>', 'what is that?', 'how many?', 'which one?', 'what then?'];

beforeAll(async () => {
  mkdirSync(data);
  for (const i of [0, 1]) writeFileSync(join(data, `${i}.png`), await picture(i, 300));
  const rows = texts.map((text, i) => ({
    question_id: i,
    image: `${i % 2}.png`,
    text,
    answer: ['a', `truth ${i}`],
    category: i < 3 ? 'early' : 'late',
  }));
  writeFileSync(join(data, 'questions.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
  for (const [out, answers] of [
    [first, ['a', 'b', 'a', 'b', undefined, 'a']],
    [second, ['a', 'a', 'b', 'b', 'a', 'A']],
  ] as const) {
    await writeReport(out, withoutTimes(await evaluate(recorded(answers), { tasks: ['vqa'], data, out })));
  }
});

describe('the filters of the page', () => {
  const none = { task: '', category: '', verdict: '', change: '', run: 0, text: '' };
  const shown = async (filters: object, folders = [first, second]): Promise<string[]> => {
    const { questions } = browsed(await readRuns(folders));
    const fits = runInNewContext(`${fitsScript}; fits`) as (question: Browsed, filters: object) => boolean;
    return questions.filter((question) => fits(question, { ...none, ...filters })).map(({ id }) => id);
  };

  test('find questions by what became of them', async () => {
    expect(await shown({})).toEqual(['0', '1', '2', '3', '4', '5']);
    expect(await shown({ verdict: 'right' })).toEqual(['0', '2', '5']);
    expect(await shown({ verdict: 'wrong' })).toEqual(['1', '3', '4']);
    expect(await shown({ verdict: 'failed' })).toEqual(['4']);
    expect(await shown({ verdict: 'right', run: 1 })).toEqual(['0', '1', '4', '5']);
  });

  test('find questions on which runs differ', async () => {
    expect(await shown({ change: 'changed' })).toEqual(['1', '2', '4']);
    expect(await shown({ change: 'better', run: 1 })).toEqual(['1', '4']);
    expect(await shown({ change: 'worse', run: 1 })).toEqual(['2']);
  });

  test('take no side where nobody says what answers are worth', async () => {
    const judged: Task = { ...tasks.vqa, name: 'judged', needsJudge: true };
    const out = join(root, 'unjudged');
    await writeReport(
      out,
      withoutTimes(await evaluate(recorded(['a', 'b', 'a', 'b', undefined, 'a']), { tasks: [judged, 'vqa'], data, out })),
    );
    const { questions } = browsed(await readRuns([out]));
    expect(questions.filter(({ t }) => t === 'judged').map(({ runs }) => [runs[0]?.v, runs[0]?.s])).toEqual([
      ...Array(4).fill(['unscored', undefined]),
      ['failed', undefined],
      ['unscored', undefined],
    ]);
    const ids = async (filters: object) => shown({ task: 'judged', ...filters }, [out, out]);
    expect(await ids({ verdict: 'unscored' })).toEqual(['0', '1', '2', '3', '5']);
    expect(await ids({ verdict: 'wrong' })).toEqual(['4']);
    expect(await ids({ change: 'changed' })).toEqual([]);
    const { stdout } = await tinyllava('compare', out, out);
    expect(stdout).toMatch(/^task .*\nvqa .*\njudged is not compared: judged needs a judge .*\n$/);
    expect(JSON.parse((await tinyllava('compare', out, out, '--json')).stdout)[0]).toEqual({
      task: 'judged',
      run: out,
      unscored: expect.stringContaining('judged needs a judge'),
    });
    await writePage(join(root, 'unjudged.html'), [out, out]);
    expect(readFileSync(join(root, 'unjudged.html'), 'utf8')).toContain('</small></th><td colspan="5">judged needs a judge');
    expect(readFileSync(join(out, 'report.html'), 'utf8')).toContain('2 benchmarks, profile official; 1 failed and counts as wrong.<');
  });

  test('find an answer that the judge did not grade by the reason, which is shown in the place of what was compared', () => {
    const sample = { id: '0', question: 'q', images: [], targets: ['a'], category: 'all' };
    const refused = { sample, answer: 'a long answer', parsed: '', score: 0, error: 'the judge does not grade it: HTTP 400' };
    const results: Results = { version: '', node: '', settings: { batchSize: 1, profile: 'official' }, tasks: {} };
    const { questions } = browsed([{ name: 'one', results, samples: { 'mm-vet': [refused] } }]);
    expect(questions[0]?.runs).toEqual([{ a: 'a long answer', e: 'the judge does not grade it: HTTP 400', s: 0, v: 'failed' }]);
    const fits = runInNewContext(`${fitsScript}; fits`) as (question: Browsed | undefined, filters: object) => boolean;
    expect(['long', 'http 400', 'nowhere'].map((text) => fits(questions[0], { ...none, text }))).toEqual([true, true, false]);
  });

  test('find questions by category and by any text in them', async () => {
    expect(await shown({ category: 'late', verdict: 'right' })).toEqual(['5']);
    expect(await shown({ text: 'WHAT' })).toEqual(['0', '2', '5']);
    expect(await shown({ text: 'truth 3' })).toEqual(['3']);
    expect(await shown({ text: 'cannot be decoded' })).toEqual(['4']);
    expect(await shown({ task: 'pope' })).toEqual([]);
  });
});

describe('the page', () => {
  test('stands alone: images are small copies in it, and nothing in an answer can end its script', () => {
    const page = readFileSync(join(first, 'report.html'), 'utf8');
    expect(page).not.toMatch(/(src|href)="(https?:)?\/\//);
    expect(page).not.toContain('is it red? </script>');
    expect(page.match(/data:image\/webp;base64,/g)).toHaveLength(2);
    expect(page).toContain('6 questions of the benchmark vqa, profile official; 1 failed and counts as wrong.');
    expect(page).toContain('1 failed, the first because x.png cannot be decoded');
    expect(readFileSync(join(first, 'report.md'), 'utf8')).toContain('| all       |     6 |  50.0 |');
  });

  test('says which questions were left out, and of which runs', async () => {
    const limited = join(root, 'limited');
    await evaluate(recorded(['a']), { tasks: ['vqa'], data, out: limited, limit: 2 });
    const html = join(root, 'limited.html');
    const lead = async (...folders: string[]): Promise<string | undefined> => {
      await writePage(html, folders);
      return /class="lead">(.*?)</.exec(readFileSync(html, 'utf8'))?.[1];
    };
    expect(await lead(limited)).toBe(
      '2 questions of the benchmark vqa, profile official; only the first 2 of each; 1 failed and counts as wrong.',
    );
    expect(await lead(first, limited)).toContain('profile official; only the first 2 of each in limited; ');
    expect(await lead(limited, limited)).toContain('profile official; only the first 2 of each; ');
  });

  test('is the same for equal runs, whatever they took', async () => {
    const again = join(root, 'again', 'first');
    await writeReport(
      again,
      withoutTimes(await evaluate(recorded(['a', 'b', 'a', 'b', undefined, 'a']), { tasks: ['vqa'], data, out: again })),
    );
    for (const name of ['report.md', 'results.json', 'samples_vqa.jsonl']) {
      expect(readFileSync(join(again, name), 'utf8')).toBe(readFileSync(join(first, name), 'utf8'));
    }
  });

  test('links further images to where they are', async () => {
    const paths = [join(data, '0.png'), join(data, '1.png'), join(data, 'none.png')];
    const found = await thumbnails(paths, join(root, 'some/pages'), 1);
    expect(found[paths[0] ?? '']).toEqual({ src: expect.stringMatching(/^data:/), href: '../../data/0.png' });
    expect(found[paths[1] ?? '']).toEqual({ src: '../../data/1.png', href: '../../data/1.png' });
    expect(found[paths[2] ?? '']).toBeUndefined();
    // A large image, which takes longer, keeps its place.
    const large = join(root, 'large.png');
    await sharp({ create: { width: 3000, height: 3000, channels: 3, background: 'red' } }).toFile(large);
    expect(Object.keys(await thumbnails([large, ...paths], root))).toEqual([large, paths[0], paths[1]]);
  });

  test('holds at most so many questions, those first that are worth a look', async () => {
    const runs = await readRuns([first, second]);
    const kept = (limit: number) => browsed(runs, limit).questions.map(({ id }) => id);
    expect(kept(3)).toEqual(['1', '2', '4']);
    expect(kept(4)).toEqual(['1', '2', '3', '4']);
    expect(browsed(runs, 4).all).toBe(6);
  });

  test('names runs by the ends of their paths that tell them apart', async () => {
    const folders = ['x/deep/out', 'y/deep/out', 'y/deep', 'x/deep/out'].map((name) => join(root, name));
    for (const folder of folders) cpSync(first, folder, { recursive: true });
    expect((await readRuns(folders)).map(({ name }) => name)).toEqual(['x/deep/out', 'y/deep/out', 'deep', 'x/deep/out (2)']);
    const results = JSON.parse(readFileSync(join(first, 'results.json'), 'utf8'));
    const [folder = ''] = folders;
    writeFileSync(join(folder, 'results.json'), JSON.stringify({ ...results, settings: { ...results.settings, model: 'phi' } }));
    expect((await readRuns([folder])).map(({ name }) => name)).toEqual(['phi']);
  });

  test('is written by compare, which also takes more than two runs', async () => {
    const html = join(root, 'compare.html');
    const { code, stdout } = await tinyllava('compare', first, second, first, '--html', html, '--json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject([
      { task: 'vqa', run: second, samples: 6, better: ['1', '4'], worse: ['2'] },
      { task: 'vqa', run: first, better: [], worse: [] },
    ]);
    expect(statSync(html).size).toBeGreaterThan(5000);
    expect(readFileSync(html, 'utf8')).toContain('3 evaluations side by side');
    const unwritable = await tinyllava('compare', first, second, '--html', join(root, 'none/page.html'));
    expect([unwritable.code, unwritable.stderr]).toEqual([1, expect.stringContaining('none/page.html: cannot be written: ENOENT')]);
    expect(await tinyllava('compare', first)).toMatchObject({ code: 2, stderr: expect.stringContaining('alone is nothing to compare') });
    const again = join(root, 'again', 'first');
    rmSync(join(again, 'results.json'));
    const [line = ''] = readFileSync(join(again, 'samples_vqa.jsonl'), 'utf8').split('\n');
    writeFileSync(join(again, 'samples_vqa.jsonl'), `${line}\n`);
    expect((await tinyllava('compare', first, again)).stderr).toBe(
      `error: vqa of ${first} and ${again}: sample 1 is in the first run only\n  fix: go on with ${again}, which is not finished, by \`eval --resume\`\n`,
    );
    expect((await tinyllava('compare', first, join(root, 'again', 'first'), '--html', html)).stderr).toContain('results.json: ENOENT');
  });

  test('shows a Markdown table as one of HTML', () => {
    expect(markdownTable(`${markdownRow(['model', 'A'])}\n| --- | ---: |\n${markdownRow(['a|b', '1.0'])}`).text).toContain(
      '<th scope="row">a|b</th><td class="number">1.0</td>',
    );
    expect(markdownTable('| model | A |\n| --- | ---: |\n| **this <run>** | 1.0 |\n\n[1] source').text.replace(/\n/g, '')).toBe(
      '<div class="wide"><table><thead><tr><th scope="col">model</th><th scope="col" class="number">A</th></tr></thead><tbody><tr><th scope="row"><strong>this &lt;run&gt;</strong></th><td class="number">1.0</td></tr></tbody></table></div><p class="muted">[1] source</p>',
    );
  });
});

describe.skipIf(chromium === undefined)('in a browser (skipped where neither chromium nor google-chrome is found)', () => {
  /** The page as the browser has made it, and what its script complained of. */
  async function opened(page: string): Promise<{ dom: string; complaints: readonly string[] }> {
    await using shown = await Page.open(`file://${page}`);
    return { dom: await shown.value('document.documentElement.outerHTML'), complaints: shown.complaints };
  }

  test('the page lists the questions that its address asks for', async () => {
    const page = join(root, 'browser.html');
    await writePage(page, [first, second]);
    const { dom, complaints } = await opened(`${page}#change=worse&run=1`);
    expect(complaints).toEqual([]);
    expect(dom).toContain('>1 question.<');
    expect(dom.match(/class="sample"/g)).toHaveLength(1);
    expect(dom).toContain('vqa · early · 2');
    expect(dom).toMatch(/class="said">b</);
    const all = (await opened(page)).dom;
    expect(all).toContain('>6 questions.<');
    expect(all).toContain('is it red? &lt;/script&gt;&lt;b&gt;');
    expect(all.match(/class="pictures"><a href="data\/\d.png"><img src="data:image\/webp/g)).toHaveLength(6);
    expect((await opened(`${page}#text=nowhere`)).dom).toContain('No question fits.');
    const refused = join(root, 'refused');
    cpSync(first, refused, { recursive: true });
    const samples = join(refused, 'samples_vqa.jsonl');
    writeFileSync(samples, readFileSync(samples, 'utf8').replace('"score":1', '"score":0,"error":"the judge does not grade it"'));
    await writePage(page, [refused]);
    expect((await opened(`${page}#text=the+judge`)).dom).toMatch(/! failed<.*class="said">a<.*class="muted">the judge does not grade it</);
  }, 60_000);
});
