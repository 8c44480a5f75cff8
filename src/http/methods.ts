import type { OpenAPIHono } from "@hono/zod-openapi";
import { METHOD_NAME_ALL } from "hono/router";
import type { HttpEnv } from "./router.ts";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/**
 * The methods that some route takes at this path, for the `Allow` of a 405. Where a route names the
 * path itself, routes with a parameter in its place don't count: /events/bulk is no event's id.
 */
export function allowedMethods(app: OpenAPIHono<HttpEnv>, path: string): string[] {
  const middleware = new Set(
    app.routes.filter((route) => route.method === METHOD_NAME_ALL).map((route) => route.handler),
  );
  const routes = METHODS.flatMap((method) => {
    const [matches] = app.router.match(method, path);
    return matches
      .filter(([[handler]]) => !middleware.has(handler as never))
      .map(([[, route]]) => ({ method, named: route.path === path }));
  });
  const own = routes.filter(({ named }) => named);
  const taken = new Set((own.length > 0 ? own : routes).map(({ method }) => method));
  return METHODS.filter((method) => taken.has(method));
}
