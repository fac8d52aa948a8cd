import { isAbsolute, join } from 'node:path';
import { isWebAddress } from '../processor/image-decode.ts';

/** Where an image of a row is: addresses (`data:` and of the web) and absolute paths as they are, others in the folder. */
export const placeOf = (image: string, folder: string): string =>
  image.startsWith('data:') || isWebAddress(image) || isAbsolute(image) ? image : join(folder, image);
