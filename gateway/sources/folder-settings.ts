import { z } from 'zod';
import { rowMappingSchema } from '../decode/table-rows.ts';
import { sourceNameSchema } from './mqtt-settings.ts';

export const folderSourceSchema = z.strictObject({
  name: sourceNameSchema.describe('Name of the source; which content it has read goes by it'),
  directory: z.string().min(1).max(4_096).describe('Directory to watch; done/ and failed/ are made in it'),
  files: z.string().min(1).max(256).default('*').describe('Names of the files, * for any characters; those that begin with . never count'),
  format: z.enum(['auto', 'csv', 'ndjson']).default('auto').describe('auto: .ndjson, .jsonl and .json are NDJSON, all others CSV'),
  delimiter: z
    .string()
    .length(1)
    .refine((text) => !/["\r\n]/.test(text), { message: 'neither a quote nor a line end' })
    .default(',')
    .describe('CSV: what stands between fields'),
  encoding: z.enum(['utf8', 'latin1']).default('utf8').describe('Encoding of the text'),
  columns: z
    .array(z.string().max(256))
    .min(1)
    .max(4_096)
    .nullable()
    .default(null)
    .describe('CSV: names of the columns; null: the first row has them'),
  ...rowMappingSchema.shape,
  settleMs: z.int().min(0).max(3_600_000).default(2_000).describe('A file that has not changed for so long is complete'),
  pollIntervalMs: z.int().min(100).max(3_600_000).default(1_000).describe('How often the directory is looked at'),
  fileBytesMax: z
    .int()
    .min(1_024)
    .max(2 ** 40)
    .default(2 ** 30)
    .describe('Larger files fail'),
});
export type FolderSettings = z.infer<typeof folderSourceSchema>;
