import type { Sample } from '../../src/evaluate/task.ts';
import type { Draw } from './answers.ts';

/** One prediction: our sample and the row of lmms-eval's data set that it stands for. */
export interface Case {
  readonly sample: Sample & Readonly<Record<string, unknown>>;
  readonly doc: Readonly<Record<string, unknown>>;
  readonly answer: string;
}

type Maker = (draw: Draw, index: number) => Case;

const base = (index: number, targets: readonly string[], category = 'all') => ({
  id: String(index),
  question: 'q',
  images: [],
  targets,
  category,
});

const shortWords = [
  'cat',
  'The dog',
  '2',
  'two',
  "it's",
  'red and white',
  '1,000',
  '3.5',
  'U.S.A.',
  'Coca Cola',
  'a/b',
  'stop',
  '$5.00',
  'İstanbul',
  'straße',
  'no',
  'yes',
  'None',
  "don't know",
  '12:30',
  'x-ray',
  '½',
  '中国',
];

/** Ten people's answers, most of them alike. */
function people(draw: Draw): string[] {
  const common = draw.of(shortWords);
  return Array.from({ length: 10 }, () => (draw.chance(60) ? common : draw.chance(50) ? draw.dressed(common) : draw.of(shortWords)));
}

const vqa =
  (answers: (people: readonly string[]) => unknown): Maker =>
  (draw, index) => {
    const said = people(draw);
    return {
      sample: base(index, said),
      doc: { question_id: index, answers: answers(said) },
      answer: draw.answer([...said, ...shortWords]),
    };
  };

const plain = (said: readonly string[]): unknown => said;
const withIds = (said: readonly string[]): unknown => said.map((answer, i) => ({ answer, answer_id: i + 1 }));

function options(draw: Draw, least: number, most: number): Record<string, string> {
  const texts = ['a cat', 'The dog', '12', 'Apple', 'ice cream', 'İstanbul', 'A', 'none of these', 'bc', '3.5 m', '中国', 'Blue'];
  return Object.fromEntries(draw.some(least, most, () => draw.of(texts)).map((text, i) => ['ABCDEFGH'[i] ?? '', text]));
}

const around = (letter: string): string[] => [
  letter,
  `${letter}.`,
  `(${letter})`,
  `${letter})`,
  `${letter}:`,
  letter.toLowerCase(),
  `The answer is ${letter}.`,
  `Answer: ${letter}`,
  `option ${letter}`,
  `${letter}. Because`,
  `I choose ${letter} because A is wrong`,
];
const lettered = (choices: Readonly<Record<string, string>>): string[] => [
  ...Object.keys(choices).flatMap(around),
  ...Object.values(choices),
];

const choice =
  (
    make: (choices: Record<string, string>, right: string, index: number) => Omit<Case, 'answer'>,
    [least, most]: readonly [number, number] = [2, 4],
  ): Maker =>
  (draw, index) => {
    const choices = options(draw, least, most);
    const right = draw.of(Object.keys(choices));
    return { ...make(choices, right, index), answer: draw.answer(lettered(choices), draw.of(around(right))) };
  };

const yesNo = [
  'yes',
  'no',
  'Yes',
  'No',
  'Yes.',
  'No, it is not',
  'y',
  'N',
  'YES',
  'yes, no',
  'I think yes',
  ' no',
  'n.o',
  'unknown',
  'Yes, there is.',
];

const box = (draw: Draw): number[] => Array.from({ length: 4 }, () => draw.below(1001) / 1000);

/** How predictions of each task are made. */
export const makers: Readonly<Record<string, Maker>> = {
  vqav2: vqa(withIds),
  vizwiz: vqa(plain),
  textvqa: vqa(plain),
  'ok-vqa': vqa(plain),

  gqa(draw, index) {
    const right = draw.of(shortWords);
    return { sample: base(index, [right]), doc: { answer: right }, answer: draw.answer([right, ...shortWords]) };
  },

  scienceqa: choice(
    (choices, right, index) => ({
      sample: { ...base(index, [right]), options: Object.keys(choices).length, hinted: false },
      doc: { choices: Object.values(choices), answer: 'ABCDEFGH'.indexOf(right) },
    }),
    [2, 5],
  ),

  pope(draw, index) {
    const right = draw.of(['yes', 'no']);
    return {
      sample: { ...base(index, [right]), splits: ['random'] },
      doc: { question_id: index, answer: right },
      answer: draw.answer(yesNo, right),
    };
  },

  mme(draw, index) {
    const right = draw.of(['yes', 'no']);
    // Two questions an image.
    const pair = Math.floor(index / 2);
    const category = ['existence', 'OCR', 'code_reasoning'][pair % 3] ?? '';
    return {
      sample: { ...base(index, [right], category), pair: String(pair) },
      doc: { question_id: pair, answer: draw.of(['Yes', 'yes', 'YES.']).replace(/yes/i, right), category },
      answer: draw.answer(yesNo, right),
    };
  },

  'mmbench-en': choice((choices, right, index) => ({
    sample: { ...base(index, [right]), options: choices, base: String(index) },
    doc: { index, answer: right, category: 'c', ...choices },
  })),

  mmmu(draw, index) {
    const id = `validation_Accounting_${index}`;
    if (draw.chance(60)) {
      const choices = options(draw, 2, 5);
      const right = draw.of(Object.keys(choices));
      return {
        sample: { ...base(index, [right]), options: choices, domain: 'Business', cell: right },
        doc: { id, question_type: 'multiple-choice', options: Object.values(choices), answer: right },
        answer: draw.answer(lettered(choices), draw.of(around(right))),
      };
    }
    const right = draw.of(['12', '1,000', '3.14', 'Newton', 'b', "['24/7', '3.429']", 'the mean', '-5', '2.675', '1e3', 'İ', 'é', '0']);
    return {
      sample: { ...base(index, [right]), options: undefined, domain: 'Business', cell: right },
      doc: { id, question_type: 'open', options: [], answer: right },
      answer: draw.answer([right, `The answer is ${right}.`, `so it is ${right}\nthus ${right}`, `x = ${right}`, `about ${right} or 7`]),
    };
  },

  mmstar: choice(
    (_, right, index) => ({
      sample: { ...base(index, [right]), axis: 'a' },
      doc: { index, answer: right, category: 'math', l2_category: 'a' },
    }),
    [4, 4],
  ),

  ai2d: choice(
    (choices, right, index) => ({
      sample: { ...base(index, [right]), options: choices },
      doc: { options: Object.values(choices), answer: right },
    }),
    [4, 4],
  ),

  realworldqa(draw, index) {
    const right = draw.of(['A', 'B', 'C', 'D', '3', 'Yes', 'Left', '10 mph']);
    return { sample: base(index, [right]), doc: { question: 'q', answer: right }, answer: draw.answer([...around(right), ...around('B')]) };
  },

  'seed-bench': choice(
    (_, right, index) => ({
      sample: { ...base(index, [right], 'image'), options: [], bare: '' },
      doc: { question_id: index, answer: right, data_type: 'image' },
    }),
    [4, 4],
  ),

  chartqa(draw, index) {
    const right = draw.of([
      '100',
      '0',
      '5%',
      '0.05',
      '-3.2',
      '1,000',
      'Asia',
      'inf',
      '1_000',
      '٣',
      '0.0',
      '1e3',
      ' 12',
      'nan',
      '50%%',
      'Yes',
    ]);
    const near = Number.parseFloat(right);
    return {
      sample: base(index, [right], 'human'),
      doc: { type: 'human_test', answer: right },
      answer: draw.answer([
        right,
        `${near * 1.05}`,
        `${near * 1.0501}`,
        `${near * 0.95}`,
        `${near}%`,
        `${near / 100}`,
        `${near}.0`,
        ...shortWords,
      ]),
    };
  },

  docvqa(draw, index) {
    const truths = draw.some(1, 4, () => draw.of([...shortWords, 'abcd', 'straße', 'The University of California', '']));
    const [first = ''] = truths;
    return {
      sample: base(index, truths),
      doc: { answers: truths },
      answer: draw.answer([...truths, `${first}xy`, first.slice(1), first.replace(/a/g, 'b'), `  ${first}  ${first}`]),
    };
  },

  ocrbench(draw, index) {
    const source = draw.of(['HME100k', 'IIIT5K', 'DocVQA']);
    const truths = draw.some(1, 3, () => draw.of(['STOP', 'x ^ { 2 } + 1', 'Ａｂｃ', '12:30', 'two words', 'İ', 'line\nbreak', '中国']));
    const kind = draw.of(['Regular Text Recognition', 'Doc-oriented VQA']);
    const sample = { ...base(index, truths, kind), source };
    return {
      sample,
      doc: { dataset: source, answer: truths, question_type: kind },
      answer: draw.answer([...truths, ...truths.map((truth) => `It says ${truth}!`)]),
    };
  },

  refcoco(draw, index) {
    const truth = draw.chance(90) ? box(draw) : [0.1, 0.1, 0.1, 0.1];
    const said = draw.chance(50) ? truth.map((side) => Math.max(0, side + (draw.below(200) - 100) / 1000)) : box(draw);
    const texts = [
      JSON.stringify(said),
      `[${said.join(',\u00a0')}]`,
      `The box is [${said.map((side) => side.toFixed(2)).join(', ')}].`,
      '[0.1, 0.2, 0.3]',
      '[٠.١, 0, 1, 1]',
      `[${said.join(`,${draw.of(['\u0085', '\ufeff', '\u001c', '\u2003', '\n', '\u200b'])}`)}\u00a0]`,
      '[.1, 0, 1, 1]',
      '[1, 2, 3, 4',
      '[-0.1,0,1e0,1]',
    ];
    return {
      sample: { ...base(index, []), box: truth },
      doc: { question_id: index, answer: 'a cat', bbox: truth },
      answer: draw.answer(texts),
    };
  },

  'mm-vet': (draw, index) => ({
    sample: { ...base(index, ['x'], index % 2 ? 'rec' : 'ocr_rec'), abilities: index % 2 ? ['rec'] : ['ocr', 'rec'] },
    doc: { capabilities: index % 2 ? 'rec' : 'ocr,rec' },
    answer: draw.answer(['0.5', '1.0', '0', '1', '0.7 because', '1.1', '-0.1', '0.5\n', '.5', 'Correctness: 0.5', 'nan', '0,5']),
  }),

  'llava-bench': (draw, index) => ({
    sample: { ...base(index, ['x']), context: '', reference: '' },
    doc: {},
    answer: draw.answer([
      '8 7',
      '8, 7\nAssistant 1',
      '8;7',
      '9 6.5',
      '8',
      '8 7 6',
      '-1 -1',
      '8/10 7/10',
      'Scores: 8 7',
      '\n8 7',
      '٨ ٧',
      '10 0',
    ]),
  }),

  'hallusion-bench': (draw, index) => {
    const right = draw.of(['yes', 'no']);
    // Three figures and three questions a set, so that no two are the same.
    const place = { set_id: String(Math.floor(index / 9)), figure_id: String(Math.floor(index / 3) % 3), question_id: String(index % 3) };
    return {
      sample: {
        ...base(index, [right], 'VD'),
        subcategory: 'video',
        set: place.set_id,
        figure: place.figure_id,
        number: place.question_id,
        visualInput: '1',
        details: '',
      },
      doc: { category: 'VD', subcategory: 'video', ...place, gt_answer: right === 'yes' ? '1' : '0' },
      answer: draw.answer(yesNo, right),
    };
  },

  // Captions of known objects: what is compared is how mentions are counted.
  chair(draw, index) {
    const objects = ['dog', 'cat', 'person', 'chair', 'wine glass', 'hot dog'];
    const truths = [...new Set(draw.some(1, 3, () => draw.of(objects)))];
    const said = draw.some(0, 5, () => draw.of(objects));
    return { sample: base(index, truths), doc: { gt_object: truths, pred: said }, answer: said.join(' and ') };
  },
};
