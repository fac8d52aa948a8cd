export { type Conversion, type ConvertOptions, convert, formats } from './convert.ts';
