import { ORDERS_TAG, orderTag, PRODUCTS_TAG, productTag } from "../../cache/tags.ts";
import type { ToldEvent } from "./repository.ts";

/** The cache tags of what an event is about. */
export function tagsOf({ topic, subjectId }: ToldEvent): string[] {
  if (topic.startsWith("product.")) return [productTag(subjectId), PRODUCTS_TAG];
  return topic.startsWith("order.") ? [orderTag(subjectId), ORDERS_TAG] : [];
}
