export { createPriceLookUp } from "./price-look-up.ts";
export {
  BLANK_PRODUCT,
  isLowStockCrossing,
  isSameProduct,
  lowStockEvents,
  type ProductFields,
  productEvent,
} from "./product.ts";
export type { ProductTarget } from "./product-writes.ts";
export { NewProductId, Product, ProductInput, ProductReplacement } from "./schema.ts";
export { createProductsService, type ProductsService } from "./service.ts";
export { lockShelves, lowStockEvent, moveStock, type Shelf } from "./stock.ts";
export { visibilityOf } from "./visibility.ts";
