import type { Task } from '../task.ts';
import { ai2d } from './ai2d.ts';
import { amberDiscriminative, amberGenerative } from './amber.ts';
import { cocoCaption, flickr30k, noCaps } from './captions.ts';
import { chair } from './chair.ts';
import { chartQa } from './chart-qa.ts';
import { docVqa, infoVqa } from './doc-vqa.ts';
import { easyVqa } from './easy-vqa.ts';
import { gqa } from './gqa.ts';
import { hallusionBench } from './hallusion-bench.ts';
import { llavaBench } from './llava-bench.ts';
import { mmBenchCn, mmBenchEn } from './mm-bench.ts';
import { mmHalBench } from './mm-hal-bench.ts';
import { mmStar } from './mm-star.ts';
import { mmVet } from './mm-vet.ts';
import { mme } from './mme.ts';
import { mmmu } from './mmmu.ts';
import { ocrBench } from './ocr-bench.ts';
import { okVqa } from './ok-vqa.ts';
import { pope } from './pope.ts';
import { realWorldQa } from './real-world-qa.ts';
import { refCoco, refCocoG, refCocoPlus } from './ref-coco.ts';
import { scienceQa } from './science-qa.ts';
import { seedBench, seedBenchLikelihood } from './seed-bench.ts';
import { textVqa, textVqaOcr } from './text-vqa.ts';
import { vizWiz } from './viz-wiz.ts';
import { vqa } from './vqa.ts';
import { vqaV2 } from './vqa-v2.ts';

/** Keeps the names, and hides what each task's samples have beyond others'. */
const named = <Name extends string>(all: Readonly<Record<Name, Task>>): Readonly<Record<Name, Task>> => all;

/** Benchmarks by name. */
export const tasks = named({
  'easy-vqa': easyVqa,
  vqa,
  vqav2: vqaV2,
  gqa,
  scienceqa: scienceQa,
  textvqa: textVqa,
  'textvqa-ocr': textVqaOcr,
  pope,
  mme,
  'mm-vet': mmVet,
  'llava-bench': llavaBench,
  'mmbench-en': mmBenchEn,
  'mmbench-cn': mmBenchCn,
  mmmu,
  vizwiz: vizWiz,
  'ok-vqa': okVqa,
  mmstar: mmStar,
  ai2d,
  chartqa: chartQa,
  docvqa: docVqa,
  infovqa: infoVqa,
  ocrbench: ocrBench,
  'seed-bench': seedBench,
  'seed-bench-likelihood': seedBenchLikelihood,
  realworldqa: realWorldQa,
  refcoco: refCoco,
  'refcoco+': refCocoPlus,
  refcocog: refCocoG,
  'coco-caption': cocoCaption,
  flickr30k,
  nocaps: noCaps,
  chair,
  'amber-generative': amberGenerative,
  'amber-discriminative': amberDiscriminative,
  'hallusion-bench': hallusionBench,
  'mmhal-bench': mmHalBench,
});
