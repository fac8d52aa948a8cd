import { extname } from 'node:path';

const endings: ReadonlySet<string> = new Set(['.jpg', '.jpeg', '.png', '.webp', '.gif', '.tif', '.tiff', '.avif']);

/** Whether a file's name ends as that of an image that can be decoded. */
export const isImageName = (path: string): boolean => endings.has(extname(path).toLowerCase());
