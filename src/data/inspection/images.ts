import { DataError } from '../../errors.ts';
import { decodeImage, isWebAddress } from '../../processor/image-decode.ts';
import type { ImageSource } from '../../processor/message.ts';
import type { Processor } from '../../processor/processor.ts';
import { statOf } from '../../read-error.ts';
import type { Flaw } from '../report.ts';

/** Images that are longer than this many times their width, or the other way round, are put through all of the preprocessing, which may refuse them. */
const slim = 20;

/** Decodes an image as training does. Throws DataError where it would. */
export async function checkImage(source: ImageSource, processor: Processor | undefined): Promise<void> {
  const { height, width } = await decodeImage(source);
  if (!processor || Math.max(height, width) <= slim * Math.min(height, width)) return;
  const [layout] = await processor.image.layouts([{ source, whole: false }]);
  await processor.image.loadBytes(source, layout);
}

/** An image or video file to look at. */
export interface FileLook {
  readonly path: string;
  readonly decode: boolean;
}

/** What is found of a file. */
export interface FileFacts {
  readonly decoded: boolean;
  readonly flaw?: Flaw;
}

/** Looks for a file. Throws what is no DataError. */
export async function lookAtFile({ path, decode }: FileLook, processor: Processor | undefined): Promise<FileFacts> {
  if (isWebAddress(path)) {
    return { decoded: false, flaw: { kind: 'missing image', message: 'is a web address', hint: 'download the image and give its path' } };
  }
  const found = await statOf(path);
  if (!found?.isFile()) {
    const message = found ? 'is not a file' : 'does not exist';
    return { decoded: false, flaw: { kind: 'missing image', message, hint: 'check the image folder' } };
  }
  if (!decode) return { decoded: false };
  try {
    await checkImage(path, processor);
    return { decoded: true };
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    return { decoded: true, flaw: { kind: 'unreadable image', message: error.message.replace(`${path} `, ''), hint: error.hint } };
  }
}
