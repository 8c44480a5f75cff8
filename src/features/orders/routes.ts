import { z } from "@hono/zod-openapi";
import { json, jsonBody } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type { OrdersService, PurchasesService } from "./index.ts";
import {
  CommandQueued,
  Order,
  OrderInput,
  OrderListQuery,
  OrderPage,
  OrderQueued,
  Purchase,
  PurchaseInput,
  PurchaseList,
  PurchaseListQuery,
  StatusInput,
} from "./schema.ts";

const tags = ["Orders"];
const IdParam = z.object({ id: z.string() });

type Router = ReturnType<typeof createRouter>;

export function createOrderRoutes({
  orders,
  purchases,
}: {
  orders: OrdersService;
  purchases: PurchasesService;
}) {
  const router = createRouter();
  addPurchaseRoutes(router, purchases);
  addReadRoutes(router, orders);

  const createOrder = defineRoute({
    operationId: "createOrder",
    method: "post",
    path: "/orders",
    tags,
    summary: "Place an order",
    description:
      "The answer means: queued in Postgres. Orders of a group are handled strictly in order; whether it was accepted (`pending`) or rejected shows when the order is read.",
    idempotent: true,
    request: jsonBody(OrderInput),
    responses: { 202: json(OrderQueued, "Queued; `deduplicated` tells that it is an earlier order") },
  });
  router.openapi(createOrder, async (c) => {
    const key = c.req.header("idempotency-key");
    const { queued, replayed } = await orders.createOrder(requestContext(c), c.req.valid("json"), key);
    if (replayed) c.header("idempotent-replayed", "true");
    return c.json(queued, 202);
  });

  const updateOrderStatus = defineRoute({
    operationId: "updateOrderStatus",
    method: "put",
    path: "/orders/{id}/status",
    tags,
    summary: "Move an order to its next state",
    description:
      "Queued behind the earlier commands of its group. What is illegal now is a 409; what has become illegal when its turn comes is refused, which the order's history tells under this messageId.",
    request: { params: IdParam, ...jsonBody(StatusInput) },
    responses: { 202: json(CommandQueued, "Queued") },
    problems: [404, 409],
  });
  router.openapi(updateOrderStatus, async (c) => {
    const { status } = c.req.valid("json");
    return c.json(await orders.updateOrderStatus(requestContext(c), c.req.valid("param").id, status), 202);
  });

  const cancelOrder = defineRoute({
    operationId: "cancelOrder",
    method: "delete",
    path: "/orders/{id}",
    tags,
    summary: "Cancel an order and hide it",
    description:
      "Queued like a change of status. Once cancelled, its stock is given back and it is gone from lists and reads (404).",
    request: { params: IdParam },
    responses: { 202: json(CommandQueued, "Queued") },
    problems: [404, 409],
  });
  router.openapi(cancelOrder, async (c) =>
    c.json(await orders.cancelOrder(requestContext(c), c.req.valid("param").id), 202),
  );

  return router;
}

function addPurchaseRoutes(router: Router, purchases: PurchasesService): void {
  const createPurchase = defineRoute({
    operationId: "createPurchase",
    method: "post",
    path: "/purchases",
    tags,
    summary: "Buy a product at once, at the store's price",
    idempotent: true,
    request: jsonBody(PurchaseInput),
    responses: { 201: json(Purchase, "Bought; the stock is taken") },
    problems: [404],
  });
  router.openapi(createPurchase, async (c) => {
    const key = c.req.header("idempotency-key");
    const { purchase, replayed } = await purchases.createPurchase(
      requestContext(c),
      c.req.valid("json"),
      key,
    );
    if (replayed) c.header("idempotent-replayed", "true");
    return c.json(purchase, 201);
  });

  const listMyPurchases = defineRoute({
    operationId: "listMyPurchases",
    method: "get",
    path: "/purchases/me",
    tags,
    summary: "List my purchases, newest first",
    request: { query: PurchaseListQuery },
    responses: { 200: json(PurchaseList, "By cursor, or by page with the total") },
  });
  router.openapi(listMyPurchases, async (c) =>
    c.json(await purchases.listMyPurchases(requestContext(c), c.req.valid("query")), 200),
  );
}

function addReadRoutes(router: Router, orders: OrdersService): void {
  const listOrders = defineRoute({
    operationId: "listOrders",
    method: "get",
    path: "/orders",
    tags,
    summary: "List orders, newest first; a customer's own",
    request: { query: OrderListQuery },
    responses: { 200: json(OrderPage, "A page") },
  });
  router.openapi(listOrders, async (c) =>
    c.json(await orders.listOrders(requestContext(c), c.req.valid("query")), 200),
  );

  const getOrder = defineRoute({
    operationId: "getOrder",
    method: "get",
    path: "/orders/{id}",
    tags,
    summary: "Read one order, with its history and where it may go",
    etag: true,
    request: { params: IdParam },
    responses: { 200: json(Order, "The order") },
    problems: [404],
  });
  router.openapi(getOrder, async (c) =>
    c.json(await orders.getOrder(requestContext(c), c.req.valid("param").id), 200),
  );
}
