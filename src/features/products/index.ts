export { lockShelves, lowStockEvent, moveStock, type Shelf } from "./stock.ts";
