import { z } from "@hono/zod-openapi";
import { json, jsonBody } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext } from "../../http/router.ts";
import type { ProductsService, ProductTarget } from "./index.ts";
import {
  Categories,
  Product,
  ProductChange,
  ProductId,
  ProductInput,
  ProductList,
  ProductListQuery,
  ProductReplacement,
} from "./schema.ts";

const tags = ["Products"];
const params = z.object({ id: ProductId });

type Router = ReturnType<typeof createRouter>;

export function createProductRoutes(products: ProductsService) {
  const router = createRouter();
  addReads(router, products);
  addCreation(router, products);
  addChanges(router, products);
  addDeletion(router, products);
  return router;
}

function addReads(router: Router, products: ProductsService): void {
  const listProducts = defineRoute({
    operationId: "listProducts",
    method: "get",
    path: "/products",
    tags,
    summary: "List and search products",
    description:
      "By cursor, or by page. Sellers see their own products, customers the active ones. Ties are broken by id.",
    request: { query: ProductListQuery },
    responses: { 200: json(ProductList, "A page") },
  });
  router.openapi(listProducts, async (c) =>
    c.json(await products.listProducts(requestContext(c), c.req.valid("query")), 200),
  );

  // Before the product's own route, which would take the word for an id.
  const listCategories = defineRoute({
    operationId: "listCategories",
    method: "get",
    path: "/products/categories",
    tags,
    summary: "The categories and how many products each has",
    etag: true,
    responses: { 200: json(Categories, "The largest first, at most 1,000") },
  });
  router.openapi(listCategories, async (c) => c.json(await products.listCategories(requestContext(c)), 200));

  const getProduct = defineRoute({
    operationId: "getProduct",
    method: "get",
    path: "/products/{id}",
    tags,
    summary: "Read one product",
    description: "Ids are percent-encoded in paths: `A/1` is `A%2F1`.",
    etag: true,
    request: { params },
    responses: { 200: json(Product, "The product, its version in the ETag") },
    problems: [404],
  });
  router.openapi(getProduct, async (c) => {
    const product = await products.getProduct(requestContext(c), c.req.valid("param").id);
    c.header("etag", etagOf(product));
    return c.json(product, 200);
  });
}

function addCreation(router: Router, products: ProductsService): void {
  const createProduct = defineRoute({
    operationId: "createProduct",
    method: "post",
    path: "/products",
    tags,
    summary: "Create a product, with an id of your own or without",
    description: "Acting for a seller, the product is the seller's. An id stays taken by a deleted product.",
    idempotent: true,
    request: jsonBody(ProductInput),
    responses: { 201: json(Product, "The product; Location names it") },
    headers: ["Location", "ETag"],
  });
  router.openapi(createProduct, async (c) => {
    const key = c.req.header("idempotency-key");
    const { product, replayed } = await products.createProduct(requestContext(c), c.req.valid("json"), key);
    if (replayed) c.header("idempotent-replayed", "true");
    c.header("location", `/products/${encodeURIComponent(product.id)}`);
    c.header("etag", etagOf(product));
    return c.json(product, 201);
  });
}

function addChanges(router: Router, products: ProductsService): void {
  const replaceProduct = defineRoute({
    operationId: "replaceProduct",
    method: "put",
    path: "/products/{id}",
    tags,
    summary: "Replace a product; what is left out becomes null",
    ifMatch: true,
    request: { params, ...jsonBody(ProductReplacement) },
    responses: { 200: json(Product, "The product as it is now") },
    problems: [404, 409],
    headers: ["ETag"],
  });
  router.openapi(replaceProduct, async (c) => {
    const product = await products.replaceProduct(
      requestContext(c),
      targetOf(c.req.valid("param").id, c.req.header("if-match")),
      c.req.valid("json"),
    );
    c.header("etag", etagOf(product));
    return c.json(product, 200);
  });

  const updateProduct = defineRoute({
    operationId: "updateProduct",
    method: "patch",
    path: "/products/{id}",
    tags,
    summary: "Change parts of a product; null clears",
    description: "What changes nothing makes no new version.",
    ifMatch: true,
    request: { params, ...jsonBody(ProductChange) },
    responses: { 200: json(Product, "The product as it is now") },
    problems: [404, 409],
    headers: ["ETag"],
  });
  router.openapi(updateProduct, async (c) => {
    const product = await products.updateProduct(
      requestContext(c),
      targetOf(c.req.valid("param").id, c.req.header("if-match")),
      c.req.valid("json"),
    );
    c.header("etag", etagOf(product));
    return c.json(product, 200);
  });
}

function addDeletion(router: Router, products: ProductsService): void {
  const deleteProduct = defineRoute({
    operationId: "deleteProduct",
    method: "delete",
    path: "/products/{id}",
    tags,
    summary: "Delete a product; it can be restored",
    ifMatch: true,
    request: { params },
    responses: { 204: { description: "Gone from reads, its sku free for others" } },
    problems: [404],
  });
  router.openapi(deleteProduct, async (c) => {
    await products.deleteProduct(
      requestContext(c),
      targetOf(c.req.valid("param").id, c.req.header("if-match")),
    );
    return c.body(null, 204);
  });

  const restoreProduct = defineRoute({
    operationId: "restoreProduct",
    method: "post",
    path: "/products/{id}/restore",
    tags,
    summary: "Bring a deleted product back",
    description: "A deletion counts as a version, too. A product that is not deleted stays as it is.",
    ifMatch: true,
    request: { params },
    responses: { 200: json(Product, "The product as it is now") },
    problems: [404, 409],
    headers: ["ETag"],
  });
  router.openapi(restoreProduct, async (c) => {
    const product = await products.restoreProduct(
      requestContext(c),
      targetOf(c.req.valid("param").id, c.req.header("if-match")),
    );
    c.header("etag", etagOf(product));
    return c.json(product, 200);
  });
}

/** The currency is no part of the row, but of what is sent. */
function etagOf({ version, currency }: Product): string {
  return `"${version}-${currency}"`;
}

/**
 * If-Match compares the version; the currency may be left out. A weak ETag counts as well: proxies
 * that compress weaken ours, and clients send them back.
 */
function targetOf(id: string, header: string | undefined): ProductTarget {
  if (header === undefined || header.trim() === "*") return { id };
  const versions = [...header.matchAll(/"(\d+)(?:-[A-Z]{3})?"/g)].map(([, version]) => Number(version));
  return { id, versions };
}
