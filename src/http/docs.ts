import { swaggerUI } from "@hono/swagger-ui";
import type { OpenAPIHono } from "@hono/zod-openapi";
import swaggerStyle from "swagger-ui-dist/swagger-ui.css" with { type: "file" };
import swaggerBundle from "swagger-ui-dist/swagger-ui-bundle.js" with { type: "file" };
import { stringify } from "yaml";
import type { HttpEnv } from "./router.ts";

export const DOCS_PATH = "/docs";

const CACHE_A_DAY = "public, max-age=86400";

/** `/openapi.json`, `/openapi.yaml` and `/docs`, whose assets are files embedded in the binary. */
export function addDocs(app: OpenAPIHono<HttpEnv>, version: string): void {
  let document: object | undefined;
  const openApiDocument = () => {
    app.openAPIRegistry.registerComponent("securitySchemes", "bearer", {
      type: "http",
      scheme: "bearer",
      bearerFormat: "JWT",
    });
    app.openAPIRegistry.registerComponent("securitySchemes", "apiKey", {
      type: "apiKey",
      in: "header",
      name: "X-Api-Key",
    });
    document ??= app.getOpenAPI31Document({
      openapi: "3.1.0",
      info: {
        title: "Footfall",
        version,
        description:
          "Self-hosted product analytics for online shops. Every route is served at the root and under /api. Errors are RFC 9457 problem details.",
      },
      servers: [{ url: "/" }],
      tags: [
        { name: "Events", description: "What visitors and customers do" },
        { name: "Analytics", description: "Answers from the rollups" },
        { name: "Identity", description: "Accounts, tenants, members, API keys" },
        { name: "Orders", description: "Purchases and orders" },
        { name: "Queue", description: "What waits for workers, and what they gave up" },
        { name: "System", description: "Health, metrics" },
      ],
    });
    return document;
  };

  app.get("/openapi.json", (c) => c.json(openApiDocument()));
  app.get("/openapi.yaml", (c) =>
    c.body(stringify(openApiDocument()), 200, { "content-type": "application/yaml" }),
  );
  app.get(
    DOCS_PATH,
    swaggerUI({ url: "/openapi.json", title: "Footfall API", manuallySwaggerUIHtml: docsPage }),
  );
  app.get("/docs/swagger-ui.css", (c) =>
    c.body(Bun.file(swaggerStyle).stream(), 200, {
      "content-type": "text/css",
      "cache-control": CACHE_A_DAY,
    }),
  );
  app.get("/docs/swagger-ui.js", (c) =>
    c.body(Bun.file(swaggerBundle).stream(), 200, {
      "content-type": "text/javascript",
      "cache-control": CACHE_A_DAY,
    }),
  );
}

function docsPage(): string {
  return `<div id="swagger-ui"></div>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<script src="/docs/swagger-ui.js"></script>
<script>
  window.ui = SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, persistAuthorization: true });
</script>`;
}
