import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { mentionedObjects } from '../../../src/evaluate/coco-objects.ts';
import { inProfile } from '../../../src/evaluate/task.ts';
import { amberDiscriminative, amberGenerative } from '../../../src/evaluate/tasks/amber.ts';
import { chair } from '../../../src/evaluate/tasks/chair.ts';
import { hallusionBench } from '../../../src/evaluate/tasks/hallusion-bench.ts';
import { mmHalBench } from '../../../src/evaluate/tasks/mm-hal-bench.ts';
import { asked, samplesOf, score, writeFiles } from './open-answers.ts';

const root = mkdtempSync(join(tmpdir(), 'tinyllava-hallucination-'));
afterAll(() => rmSync(root, { recursive: true }));

describe("COCO's objects in a caption", () => {
  test.each([
    ['Two men and three children ride bikes past the buses.', ['person', 'person', 'bicycle', 'bus']],
    ['A baby elephant beside an adult giraffe', ['elephant', 'giraffe']],
    ['wine glasses, knives and a hot dog on the dining table', ['wine glass', 'knife', 'hot dog', 'dining table']],
    ['A toilet seat in the bathroom; the seat is up', ['toilet']],
    ['the seats of the bus', ['chair', 'bus']],
    ['a passenger train on a train track', ['train']],
    ['A man with a bow tie', ['person', 'tie']],
    ["The dog's bowls", ['dog', 'bowl']],
    ['Nobody cares or copes, boxes and axes aside', []],
    ['Grandchildren, policemen and collies', ['person', 'person', 'dog']],
    ['couches, dishes, loaves, calves, oxen, mice and geese', ['couch', 'cow', 'cow', 'mouse', 'bird']],
    ['a baby, zebras; a baby zebra', ['person', 'zebra', 'zebra']],
    ['Nothing of interest.', []],
  ])('%j are %j', (caption, objects) => expect(mentionedObjects(caption)).toEqual(objects));
});

describe('CHAIR', () => {
  const folder = writeFiles(join(root, 'chair'), {
    'annotations/instances_val2014.json': {
      images: [1, 2, 3].map((id) => ({ id, file_name: `COCO_val2014_${id}.jpg` })),
      annotations: [
        { image_id: 1, category_id: 18 },
        { image_id: 2, category_id: 1 },
      ],
      categories: [
        { id: 18, name: 'dog' },
        { id: 1, name: 'person' },
      ],
    },
    'annotations/captions_val2014.json': { annotations: [{ image_id: 1, caption: 'a puppy on a couch' }] },
    'chair_images.txt': '1\n2\n',
  });

  test('counts captions and mentions with made-up objects, objects that are found, and words', async () => {
    expect((await samplesOf(chair, folder)).map(({ id, targets }) => [id, targets])).toEqual([
      ['1', ['couch', 'dog']],
      ['2', ['person']],
    ]);
    const { scores } = await score('chair', folder, { 1: 'Two dogs and a cat on a sofa, another dog.', 2: 'A man.' });
    expect(scores).toEqual({ CHAIR_s: 50, CHAIR_i: 20, recall: 100, 'words a caption': 6 });
  });

  test('counts a caption that is missing as one with made-up objects that finds nothing', async () => {
    const { scores, metrics } = await score('chair', folder, { 2: 'A man.' });
    expect(scores).toEqual({ CHAIR_s: 50, CHAIR_i: 0, recall: (1 / 3) * 100, 'words a caption': 2 });
    expect(metrics.map(({ count }) => count)).toEqual([2, 2, 2, 1]);
  });

  test('asks with a longer answer in the profile of lmms-eval, and never ends it at an empty line', () => {
    const { maxNewTokens, stop } = inProfile(chair, 'lmms-eval');
    expect([chair.maxNewTokens, maxNewTokens, stop]).toEqual([512, 2048, []]);
  });
});

describe('AMBER', () => {
  const folder = writeFiles(join(root, 'amber'), {
    'data/query/query_all.json': [
      { id: 1, image: 'AMBER_1.jpg', query: 'Describe this image.' },
      { id: 2, image: 'AMBER_1.jpg', query: 'Is there a dog?' },
      { id: 3, image: 'AMBER_1.jpg', query: 'Is the sky green?' },
      { id: 4, image: 'AMBER_1.jpg', query: 'Is there contact?' },
    ],
    'data/annotations.json': [
      { id: 1, type: 'generative', truth: ['tree', 'sky'], hallu: ['person', 'cloud'] },
      { id: 2, type: 'discriminative-hallucination', truth: 'no' },
      { id: 3, type: 'discriminative-attribute-state', truth: 'no' },
      { id: 4, type: 'relation', truth: 'yes' },
    ],
    'data/relation.json': { tree: ['oak'], sky: [], person: ['man'], cloud: [], car: ['vehicle'], view: [] },
    'data/safe_words.txt': 'view\nimage\n',
  });

  test('knows what a description makes up, and what it covers', async () => {
    const { scores } = await score('amber-generative', folder, { 1: 'A view of oaks, a man and two cars. Leaves fall.' });
    // Nouns of the vocabulary: view (harmless), oak, man and car; one of two things is covered, one of two temptations fallen for.
    expect(scores).toEqual({ CHAIR: 50, cover: 50, 'hallucinating answers': 100, cognition: 50 });
    expect((await samplesOf(amberGenerative, folder))[0]?.images).toEqual([join(folder, 'image/AMBER_1.jpg')]);
  });

  test("takes a word for one tempting thing, as AMBER's own script does: for that which it goes with before that which it names", () => {
    const sample = {
      ...{ id: '1', question: '', images: [], targets: ['sky'], category: 'generative' },
      ...{ present: [['sky']], tempting: [['man'], ['person', 'man', 'boy']] },
      ...{ vocabulary: new Set(['sky', 'man', 'person', 'boy']), safe: new Set<string>() },
    };
    const of = (answer: string) => amberGenerative.aggregate([{ sample, answer, ...amberGenerative.score(sample, answer) }]).at(-1)?.value;
    expect([of('A man.'), of('A man and a boy.'), of('The sky.')]).toEqual([50, 50, 0]);
  });

  test('counts a description that is missing as one that makes things up and covers nothing', () => {
    const thing = (present: string, tempting: string) => ({
      ...{ question: '', images: [], targets: [present], category: 'generative' },
      ...{ present: [[present]], tempting: [[tempting]], vocabulary: new Set(['tree', 'sky', 'man']), safe: new Set<string>() },
    });
    const metrics = amberGenerative.aggregate([
      { sample: { id: '1', ...thing('tree', 'man') }, answer: 'A tree and a man.', parsed: 'man', score: 0 },
      { sample: { id: '2', ...thing('sky', 'man') }, error: 'no image', parsed: '', score: 0 },
    ]);
    const scores = Object.fromEntries(metrics.map(({ name, value }) => [name, value]));
    expect(scores).toEqual({ CHAIR: 50, cover: 50, 'hallucinating answers': 100, cognition: 99.9 });
  });

  test('wants Yes or No and nothing else, and computes F1 for saying no', async () => {
    const { scores, unparsed } = await score('amber-discriminative', folder, { 2: 'No', 3: 'No.', 4: 'Yes' });
    expect(scores).toMatchObject({
      accuracy: 66.6,
      precision: 99.9,
      recall: 50,
      F1: 66.6,
      'existence accuracy': 99.9,
      'attribute accuracy': 0,
      'relation accuracy': 99.9,
      'state recall': 0,
    });
    expect(unparsed).toBe(1);
    // Three counters that begin at 0.001 each.
    const both = await score('amber-discriminative', folder, { 2: 'No', 3: 'No', 4: 'Yes' });
    expect(both.scores).toMatchObject({ 'attribute precision': 99.7, 'state precision': 99.9 });
    expect((await score('amber-discriminative', folder, { 2: 'No' }, 'lmms-eval')).notes).toEqual([
      'amber-discriminative is not in the profile lmms-eval: prompts, settings and scores are its own',
    ]);
    const [first] = await samplesOf(amberDiscriminative, folder);
    expect(first && asked(amberDiscriminative, first).text).toBe('Is there a dog?\nPlease answer yes or no.');
  });
});

describe('HallusionBench', () => {
  const row = (category: string, figure: number, question: number, answer: number, visual = 1) => ({
    ...{
      category,
      subcategory: 'chart',
      visual_input: String(visual),
      set_id: '0',
      figure_id: String(figure),
      question_id: String(question),
    },
    ...{
      question: 'Is it?',
      gt_answer: String(answer),
      gt_answer_details: 'It is.',
      filename: visual === 0 ? null : `./${category}/chart/0_${figure}.png`,
    },
  });
  const folder = writeFiles(join(root, 'hallusion-bench'), {
    'HallusionBench.json': [
      row('VS', 0, 0, 1, 0),
      row('VS', 1, 0, 1),
      row('VS', 1, 1, 0),
      row('VS', 2, 0, 0, 2),
      row('VD', 0, 0, 1),
      row('VD', 1, 0, 0, 2),
    ],
  });
  const id = (category: string, figure: number, question: number): string => `${category}_chart_0_${figure}_${question}`;

  test('counts questions, figures and questions over all figures; not to know without an image is right', async () => {
    const said = {
      [id('VS', 0, 0)]: 'I cannot tell.',
      [id('VS', 1, 0)]: 'Yes, it is.',
      [id('VS', 1, 1)]: 'no',
      [id('VS', 2, 0)]: 'Yes',
      [id('VD', 0, 0)]: 'Yes',
      [id('VD', 1, 0)]: 'No.',
    };
    const { scores, counts } = await score('hallusion-bench', folder, said);
    // One of six is wrong, and says yes where it is no: four of six are yes instead of three.
    expect(counts).toEqual({ 'yes bias': expect.closeTo(1 / 6, 9), 'false positives of wrong': 1 });
    // Figures: VS 1 right, VS 2 wrong, VD 0 and 1 right; VS 0 has no figure. Questions: VS 0 wrong for figure 2, VS 1 and VD 0 right.
    expect(scores).toEqual({
      ...{ aAcc: (5 / 6) * 100, fAcc: 75, qAcc: (2 / 3) * 100 },
      ...{ 'easy questions': 100, 'hard questions': 50, 'VD questions': 100, 'VS questions': 75 },
    });
    const lmms = await score('hallusion-bench', folder, said, 'lmms-eval');
    expect(lmms.scores).toMatchObject({ aAcc: (4 / 6) * 100, fAcc: 60 });
  });

  test('shows no image where there is none', async () => {
    const samples = await samplesOf(hallusionBench, folder);
    expect(samples.map(({ images }) => images.length)).toEqual([0, 1, 1, 1, 1, 1]);
    expect(samples[1]?.images).toEqual([join(folder, 'hallusion_bench/VS/chart/0_1.png')]);
  });

  test('takes what a judge says for right, wrong or unclear', () => {
    const sample = {
      id: '1',
      question: 'Is it?',
      images: [],
      targets: ['yes'],
      category: 'VS',
      subcategory: 'chart',
      set: '0',
      figure: '0',
      number: '0',
      visualInput: '0',
      details: 'It is.',
    };
    expect(['Incorrect', 'correct', 'unclear'].map((reply) => hallusionBench.judge?.verdict(sample, reply))).toEqual([
      { parsed: 'incorrect', score: 0 },
      { parsed: 'correct', score: 1 },
      { parsed: 'unclear', score: 1 },
    ]);
    expect(hallusionBench.judge?.verdict({ ...sample, figure: '1' }, 'unclear')?.score).toBe(0);
  });
});

describe('MMHal-Bench', () => {
  const folder = writeFiles(join(root, 'mmhal-bench'), {
    'response_template.json': ['attribute', 'adversarial'].map((question_type) => ({
      ...{ question_type, question_topic: 't', image_id: 'i', image_src: 'https://x.org/a/1.jpg', image_content: ['Cat', 'Mat'] },
      ...{ question: 'What?', gt_answer: 'A cat.', model_answer: '' },
    })),
    'eval_gpt4.py': "import openai\ntemplate = '''Judge.\nContents: {}\nQ: {}\nTruth: {}\nAnswer: {}\nRating?'''\n",
  });

  test("tells the judge what the benchmark's script says", async () => {
    const [sample] = await mmHalBench.open(folder, { images: false }).then(({ samples }) => samples);
    expect(sample && mmHalBench.judge?.call(sample, 'A dog.', 0).messages[0]?.content).toBe(
      'Judge.\nContents: Cat, Mat\nQ: What?\nTruth: A cat.\nAnswer: A dog.\nRating?',
    );
    expect(sample && mmHalBench.judge?.verdict(sample, 'Because.\nRating: 5')).toEqual({ parsed: '5', score: 5 / 6 });
    expect(sample && mmHalBench.judge?.verdict(sample, 'Rating: 5 or Rating: 3')).toBeUndefined();
  });

  test('averages grades, below three of which are hallucinations', async () => {
    const replies = ['Rating: 4', 'Rating: 1'].map((content) => ({ choices: [{ message: { content } }] }));
    writeFiles(folder, { 'graded.json': replies });
    const { scoreAnswers } = await import('../../../src/evaluate/score-answers.ts');
    const { scores } = await scoreAnswers('mmhal-bench', { answers: join(folder, 'graded.json'), data: folder });
    expect(scores).toEqual({ 'average score': 2.5, 'hallucination rate': 0.5, attribute: 4, adversarial: 1 });
  });

  test('says without a judge too that it is the same in both profiles', async () => {
    const note = 'mmhal-bench is not in the profile lmms-eval: prompts, settings and scores are its own';
    const { scores, unscored, notes } = await score('mmhal-bench', folder, { 0: 'A cat.', 1: 'A dog.' }, 'lmms-eval');
    expect([scores, unscored, notes]).toEqual([{}, expect.stringContaining('needs a judge'), [note]]);
    expect((await score('mmhal-bench', folder, { 0: 'A cat.', 1: 'A dog.' })).notes).toBeUndefined();
  });
});
