import type { OpenAPIHono } from "@hono/zod-openapi";
import { METHOD_NAME_ALL } from "hono/router";
import type { HttpEnv } from "./router.ts";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/** The methods that some route of the app takes at this path: what a 405 says in `Allow`. */
export function allowedMethods(app: OpenAPIHono<HttpEnv>, path: string): string[] {
  const middleware = new Set(
    app.routes.filter((route) => route.method === METHOD_NAME_ALL).map((route) => route.handler),
  );
  return METHODS.filter((method) => {
    const [matches] = app.router.match(method, path);
    return matches.some(([[handler]]) => !middleware.has(handler as never));
  });
}
