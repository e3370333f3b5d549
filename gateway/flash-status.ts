/** The flash budget as `/v1/status` tells of it. */
import type { FlashFigures } from './flash.ts';

export function flashDocument(figures: FlashFigures): Record<string, unknown> {
  return {
    device: figures.device,
    disk: figures.disk,
    is_card: figures.isCard,
    worn_ratio: figures.wornShare,
    written_bytes: figures.writtenBytes,
    process_written_bytes: figures.processBytes,
    bytes_per_reading: figures.bytesPerReading,
    bytes_per_day: figures.bytesPerDay,
    disk_bytes_per_day: figures.diskBytesPerDay,
    endurance_bytes: figures.enduranceBytes,
    life_years: figures.lifeYears,
    bytes_per_day_max: figures.bytesPerDayMax,
    budget_bytes: figures.budgetBytes,
    delay_ms: figures.delayMs,
  };
}
