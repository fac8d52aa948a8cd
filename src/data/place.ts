import { isAbsolute, join } from 'node:path';

/** Where an image of a row is: data: URLs and absolute paths as they are, others in the folder. */
export const placeOf = (image: string, folder: string): string =>
  image.startsWith('data:') || isAbsolute(image) ? image : join(folder, image);
