import { swaggerUI } from "@hono/swagger-ui";
import type { OpenAPIHono } from "@hono/zod-openapi";
import swaggerStyle from "swagger-ui-dist/swagger-ui.css" with { type: "file" };
import swaggerBundle from "swagger-ui-dist/swagger-ui-bundle.js" with { type: "file" };
import { stringify } from "yaml";
import { ProblemSchema } from "./problem.ts";
import type { HttpEnv } from "./router.ts";
import { HEADERS, PARAMETERS, responseParts } from "./shared-parts.ts";
import { tidyDocument } from "./tidy-document.ts";

export const DOCS_PATH = "/docs";
const BOOT_PATH = "/docs/boot.js";
/** A file of its own, so that the page's policy allows no inline script. */
const BOOT = `window.ui = SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, persistAuthorization: true });
`;

const CACHE_A_DAY = "public, max-age=86400";

/** `/openapi.json`, `/openapi.yaml` and `/docs`, whose assets are files embedded in the binary. */
export function addDocs(app: OpenAPIHono<HttpEnv>, version: string): void {
  const registry = app.openAPIRegistry;
  registry.registerComponent("securitySchemes", "bearer", {
    type: "http",
    scheme: "bearer",
    bearerFormat: "JWT",
  });
  registry.registerComponent("securitySchemes", "apiKey", {
    type: "apiKey",
    in: "header",
    name: "X-Api-Key",
  });

  registry.register("Problem", ProblemSchema);
  for (const [name, part] of Object.entries(PARAMETERS)) registry.registerComponent("parameters", name, part);
  for (const [name, part] of Object.entries(HEADERS)) registry.registerComponent("headers", name, part);
  for (const [name, part] of Object.entries(responseParts()))
    registry.registerComponent("responses", name, part);

  // Made on the first request, when all routes are there. Each text is made once.
  let document: object | undefined;
  const openApiDocument = () => {
    document ??= tidyDocument(app.getOpenAPI31Document(describe(version)));
    return document;
  };
  let json: string | undefined;
  let yaml: string | undefined;
  app.get("/openapi.json", (c) => {
    json ??= JSON.stringify(openApiDocument());
    return c.body(json, 200, { "content-type": "application/json" });
  });
  app.get("/openapi.yaml", (c) => {
    yaml ??= stringify(openApiDocument());
    return c.body(yaml, 200, { "content-type": "application/yaml" });
  });
  app.get(
    DOCS_PATH,
    swaggerUI({ url: "/openapi.json", title: "Footfall API", manuallySwaggerUIHtml: docsPage }),
  );
  app.get(BOOT_PATH, (c) => c.body(BOOT, 200, { "content-type": "text/javascript" }));
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

function describe(version: string) {
  return {
    openapi: "3.1.0",
    info: {
      title: "Footfall",
      version,
      license: { name: "MIT", identifier: "MIT" },
      description:
        "Self-hosted product analytics for online shops. Every route is served at the root and under /api. Begin with POST /auth/register, whose tenantName makes a shop, and POST /api-keys; send the token or the key as Authorization: Bearer. Errors are RFC 9457 problem details: `code` says what is wrong, and where it is invalid_input, the `code` of each of `errors`.",
    },
    servers: [{ url: "/" }],
    tags: [
      { name: "Events", description: "What visitors and customers do" },
      { name: "Products", description: "The catalogue" },
      { name: "Orders", description: "Purchases and orders" },
      { name: "Analytics", description: "Answers from the rollups" },
      { name: "Notifications", description: "What happened to products and orders" },
      { name: "Webhooks", description: "The same, sent to servers" },
      { name: "Identity", description: "Accounts, tenants, members, API keys" },
      { name: "Cache", description: "What is remembered of the answers" },
      { name: "Queue", description: "Commands and batches that wait, and those that were given up" },
      { name: "System", description: "Health, metrics" },
    ],
  };
}

function docsPage(): string {
  return `<div id="swagger-ui"></div>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<script src="/docs/swagger-ui.js"></script>
<script src="${BOOT_PATH}"></script>`;
}
