/**
 * All sources that the configuration names: started together, stopped together, one status. A kind of which there is none is
 * not loaded: the MQTT client alone keeps 7 MB of memory.
 */
import { z } from 'zod';
import { folderSourceSchema } from './folder-settings.ts';
import type { FolderSourceStatus } from './folder-source.ts';
import type { MqttSourceStatus, SourceOptions } from './mqtt-source.ts';
import { mqttSourceSchema } from './mqtt-settings.ts';

const SOURCES_MAX = 16;

export const sourcesSchema = z
  .strictObject({
    mqtt: z.array(mqttSourceSchema).max(SOURCES_MAX).default([]).describe('MQTT brokers to take messages from (docs/sources.md)'),
    folders: z
      .array(folderSourceSchema)
      .max(SOURCES_MAX)
      .default([])
      .describe('Directories to take CSV and NDJSON files from (docs/sources.md)'),
  })
  .superRefine(({ mqtt, folders }, context) => {
    const names = [...mqtt, ...folders].map(({ name }) => name);
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice !== undefined) context.addIssue({ code: 'custom', message: `two sources are named ${JSON.stringify(twice)}` });
  })
  .prefault({});
export type SourcesSettings = z.infer<typeof sourcesSchema>;

export type SourceStatus = MqttSourceStatus | FolderSourceStatus;

export interface Sources {
  status(): SourceStatus[];
  stop(deadlineMs: number): Promise<void>;
}

export async function startSources(settings: SourcesSettings, packetBytesMax: number, options: SourceOptions): Promise<Sources> {
  // Both before the first is started: one that runs while the other cannot be loaded would belong to nobody.
  const mqtt = settings.mqtt.length === 0 ? null : await import('./mqtt-source.ts');
  const folder = settings.folders.length === 0 ? null : await import('./folder-source.ts');
  const sources = [
    ...(mqtt === null ? [] : settings.mqtt.map((own) => new mqtt.MqttSource({ ...options, settings: own, packetBytesMax }))),
    ...(folder === null ? [] : settings.folders.map((own) => new folder.FolderSource({ ...options, settings: own }))),
  ];
  return {
    status: () => sources.map((source) => source.status()),
    stop: async (deadlineMs) => {
      await Promise.all(sources.map((source) => source.stop(deadlineMs)));
    },
  };
}
