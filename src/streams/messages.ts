import { isUuid } from "../core/ids.ts";

/**
 * "Batch b of tenant t is committed; its events are between two instants (ms)". The range is
 * carried so that a redelivered message can delete the cache tags again after the ledger row was
 * pruned. A new field must be optional: during a rolling deploy old producers and new consumers
 * meet.
 */
export interface BatchAnnouncement {
  tenantId: string;
  batchId: string;
  /** Null when the batch stored no event (all duplicates or rejected). */
  minMs: number | null;
  maxMs: number | null;
}

export function encodeAnnouncement(batch: BatchAnnouncement): string[] {
  return [
    "v",
    "1",
    "t",
    batch.tenantId,
    "b",
    batch.batchId,
    "min",
    String(batch.minMs ?? ""),
    "max",
    String(batch.maxMs ?? ""),
  ];
}

/** Null for a message that is not an announcement this program understands. */
export function decodeAnnouncement(fields: Readonly<Record<string, string>>): BatchAnnouncement | null {
  const { v, t, b, min, max } = fields;
  if (v !== "1" || !t || !b || !isUuid(t) || !isUuid(b)) return null;
  const minMs = min ? Number(min) : null;
  const maxMs = max ? Number(max) : null;
  if (!isTime(minMs) || !isTime(maxMs)) return null;
  return { tenantId: t, batchId: b, minMs, maxMs };
}

/** Beyond year 9999 there are no calendar months for tags, and no events. */
const LATEST_MS = Date.UTC(9999, 11, 31);

function isTime(timeMs: number | null): boolean {
  return timeMs === null || (timeMs >= 0 && timeMs <= LATEST_MS);
}

/**
 * "Domain events of tenant t wait in the outbox for their consumers." `id` is one of them: a
 * process of an older version handles that one only.
 */
export interface DomainAnnouncement {
  tenantId: string;
  id: string;
}

export function encodeDomainAnnouncement({ tenantId, id }: DomainAnnouncement): string[] {
  return ["v", "1", "t", tenantId, "e", id];
}

/** The tenant; null for a message that this program does not understand. */
export function decodeDomainAnnouncement({ v, t }: Readonly<Record<string, string>>): string | null {
  return v === "1" && t && isUuid(t) ? t : null;
}

/** "Group g of tenant t has a command that waits". Several of them mean the same as one. */
export interface OrderAnnouncement {
  tenantId: string;
  groupId: string;
}

export function encodeOrderAnnouncement({ tenantId, groupId }: OrderAnnouncement): string[] {
  return ["v", "1", "t", tenantId, "g", groupId];
}

/** Null for a message that is not an announcement this program understands. */
export function decodeOrderAnnouncement(fields: Readonly<Record<string, string>>): OrderAnnouncement | null {
  const { v, t, g } = fields;
  return v === "1" && t && g && isUuid(t) ? { tenantId: t, groupId: g } : null;
}
