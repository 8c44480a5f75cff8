import { isOfTheShop, type Principal } from "../../core/principal.ts";

/**
 * A used messageId stores nothing any more. So possible strangers have messageIds of their own: all
 * publishable keys together, and each customer. Otherwise they could guess those of the shop's
 * server (`order-17`) and keep its events out. The shop's own are stored as they are.
 */
export type MessageSpace = string;

export const SHOP_MESSAGES: MessageSpace = "";
const PAGE_MESSAGES: MessageSpace = "page";

/** Stands in no name of a space, so that no two spaces share a key. */
const MARK = "\u0001";

export function messageSpaceOf(principal: Principal): MessageSpace {
  if (isOfTheShop(principal)) return SHOP_MESSAGES;
  return principal.kind === "user" ? principal.userId : PAGE_MESSAGES;
}

/** The deduplication key of a message; null where it is the messageId itself. */
export function messageKeyOf(messageId: string, space: MessageSpace): string | null {
  if (space === SHOP_MESSAGES && !messageId.startsWith(MARK)) return null;
  return `${MARK}${space}${MARK}${messageId}`;
}
