/**
 * What an answer lacks, said in the header `Sluice-Warning`: CSV, Arrow and Parquet have no place of their own for it.
 *
 * A dictionary of RFC 9651: `unreadable_files=2, overlay_incomplete`. It is absent where nothing is missing. A reader that
 * knows none of the words still knows that something is.
 */

export interface Warnings {
  /** Files of the range that are damaged or gone. */
  readonly unreadableFiles?: number;
  /** Memory was short: some received readings show only once they are committed. */
  readonly isOverlayIncomplete?: boolean;
  /** A later page: the version that the first one was of is no longer known, this one is of the newest. */
  readonly isVersionMoved?: boolean;
  /** There are more series than the hub lists. */
  readonly isTruncated?: boolean;
}

export const WARNING_HEADER = 'sluice-warning';

/** null: nothing is missing. */
export function warningText({
  unreadableFiles = 0,
  isOverlayIncomplete = false,
  isVersionMoved = false,
  isTruncated = false,
}: Warnings): string | null {
  const members = [
    ...(unreadableFiles > 0 ? [`unreadable_files=${unreadableFiles}`] : []),
    ...(isOverlayIncomplete ? ['overlay_incomplete'] : []),
    ...(isVersionMoved ? ['version_moved'] : []),
    ...(isTruncated ? ['truncated'] : []),
  ];
  return members.length === 0 ? null : members.join(', ');
}

const schema = { type: 'string' } as const;

/** Of a 200 that may lack something, for the OpenAPI document. */
export const WARNING_HEADERS = {
  'Sluice-Warning': {
    description:
      'Absent: nothing is missing. A dictionary (RFC 9651) of unreadable_files=N (files of the range that are damaged or gone: their rows are missing), overlay_incomplete (some received readings show only once they are committed), version_moved (the version of the first page is no longer known here, this page is of the newest one), truncated (there are more series than the hub lists)',
    schema,
    example: 'unreadable_files=1',
  },
};

/** Of a page of rows, besides. */
export const PAGE_HEADERS = {
  ...WARNING_HEADERS,
  ETag: { description: 'Of what the rows were made from; for If-None-Match', schema },
  Link: { description: 'The next page, where there is one: <?…&cursor=…>; rel="next"', schema },
};
