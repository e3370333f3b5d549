/** What happens at the bound of the buffer (buffer-bound.ts). */
export const BUFFER_POLICIES = ['thin', 'drop-oldest', 'reject'] as const;
export type BufferPolicy = (typeof BUFFER_POLICIES)[number];
