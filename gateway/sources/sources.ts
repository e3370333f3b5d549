/** All sources that the configuration names: started together, stopped together, one status. */
import { z } from 'zod';
import { folderSourceSchema } from './folder-settings.ts';
import { FolderSource, type FolderSourceStatus } from './folder-source.ts';
import { MqttSource, type MqttSourceStatus, type SourceOptions } from './mqtt-source.ts';
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

export function startSources(settings: SourcesSettings, packetBytesMax: number, options: SourceOptions): Sources {
  const sources = [
    ...settings.mqtt.map((own) => new MqttSource({ ...options, settings: own, packetBytesMax })),
    ...settings.folders.map((own) => new FolderSource({ ...options, settings: own })),
  ];
  return {
    status: () => sources.map((source) => source.status()),
    stop: async (deadlineMs) => {
      await Promise.all(sources.map((source) => source.stop(deadlineMs)));
    },
  };
}
