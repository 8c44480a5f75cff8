import { z } from "@hono/zod-openapi";
import type { Downloads } from "../../http/download.ts";
import { json, PageQuery } from "../../http/responses.ts";
import { createRouter, defineRoute, requestContext, routeWithOwnBody } from "../../http/router.ts";
import { openUpload } from "../../http/upload.ts";
import type { CatalogueImportService } from "./index.ts";
import { ExportQuery, ImportAccepted, ProductImportPage, ProductImportReport } from "./schema.ts";

const CSV = "text/csv";
const FILE_EXAMPLE = 'sku,name,price,quantity,category\nTEA-100,"Green tea, 100 g",4.95,25,tea\n';
const tags = ["Products"];
const params = z.object({ id: z.string() });
const csvFile = (name: string) => ({ name, mediaType: `${CSV}; charset=utf-8` });
const csvAnswer = (description: string) => ({ description, content: { [CSV]: { schema: z.string() } } });

export function createCatalogueImportRoutes(
  service: CatalogueImportService,
  downloads: Downloads,
  limits: { importMaxBytes: number },
) {
  const router = createRouter();

  const importProducts = defineRoute({
    operationId: "importProducts",
    method: "post",
    path: "/products/import",
    tags,
    summary: "Import products from a CSV file",
    description:
      "The file as the body (text/csv), or as the one part `file` of a form. The first row names the columns, of id, sku, name, description, price, quantity, category, imageUrl, status, sellerId; name and price are needed. A row updates the product with its id, else the live one with its sku, else it makes a new one; empty cells clear, absent columns keep. The answer means: the file is committed; a worker imports it. Each upload counts against the rate limit of imports, also one that is refused.",
    request: {
      body: {
        required: true,
        content: {
          [CSV]: { schema: z.string(), example: FILE_EXAMPLE },
          "multipart/form-data": {
            schema: z.object({ file: z.string().openapi({ format: "binary" }) }),
            example: { file: FILE_EXAMPLE },
          },
        },
      },
    },
    responses: { 202: json(ImportAccepted, "The file is stored and waits for a worker") },
    problems: [409],
  });
  routeWithOwnBody(router, importProducts, async (c) => {
    const file = openUpload(c.req.raw, { mediaType: CSV, part: "file", maxBytes: limits.importMaxBytes });
    const { importId } = await service.receiveImport(requestContext(c), file);
    return c.json({ importId, status: "queued" as const }, 202);
  });

  const listProductImports = defineRoute({
    operationId: "listProductImports",
    method: "get",
    path: "/products/imports",
    tags,
    summary: "List imports, newest first",
    request: { query: PageQuery },
    responses: { 200: json(ProductImportPage, "A page") },
  });
  router.openapi(listProductImports, async (c) =>
    c.json(await service.listImports(requestContext(c), c.req.valid("query")), 200),
  );

  const getProductImport = defineRoute({
    operationId: "getProductImport",
    method: "get",
    path: "/products/imports/{id}",
    tags,
    summary: "How an import stands, and its first 100 refused rows",
    etag: true,
    request: { params },
    responses: { 200: json(ProductImportReport, "The report") },
    problems: [404],
  });
  router.openapi(getProductImport, async (c) =>
    c.json(await service.getImport(requestContext(c), c.req.valid("param").id), 200),
  );

  const getProductImportErrors = defineRoute({
    operationId: "getProductImportErrors",
    method: "get",
    path: "/products/imports/{id}/errors",
    tags,
    summary: "The refused rows of an import as CSV",
    headers: ["Content-Disposition"],
    request: { params },
    responses: { 200: csvAnswer("line, path and message of each, at most 100,000 rows") },
    problems: [404],
  });
  router.openapi(getProductImportErrors, async (c) => {
    const ctx = requestContext(c);
    const { id } = c.req.valid("param");
    return downloads.send(c, csvFile(`import-${id}-errors.csv`), () => service.exportErrors(ctx, id));
  });

  const exportProducts = defineRoute({
    operationId: "exportProducts",
    method: "get",
    path: "/products/export",
    tags,
    summary: "Export products as CSV",
    headers: ["Content-Disposition"],
    description:
      "The columns of an import. A cell that a spreadsheet would take for a formula begins with an apostrophe, which an import takes off again. Few exports run at once (503 above that), and one whose client stops reading is cut off.",
    request: { query: ExportQuery },
    responses: { 200: csvAnswer("Every live product, in the order in which they were made") },
  });
  router.openapi(exportProducts, (c) => {
    const [ctx, query] = [requestContext(c), c.req.valid("query")];
    return downloads.send(c, csvFile("products.csv"), () => service.exportProducts(ctx, query));
  });

  return router;
}
