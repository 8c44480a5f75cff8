export { createOrderHandling, type OrderHandling } from "./handling.ts";
export { createPurchasesService, type PurchasesService } from "./purchases.ts";
export { createOrderQueue, HEARTBEAT_MS, type OrderQueue } from "./queue.ts";
export { createOrdersService, type OrdersService } from "./service.ts";
export { whySaleIsKept } from "./sold-here.ts";
